//! curl as the buyer: each fetch is one run of it, its counts are taken from its own report.
use super::Outcome;
use super::children::program;
use super::setup::NODE;
use crate::lab::clock::mono_ms;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The buyer's settings in a file of curl's own form, so that no token stands in a process list.
pub struct Curl {
    file: PathBuf,
    scratch: PathBuf,
}

/// What a buyer needs to know.
pub struct Access<'a> {
    /// The node's listener.
    pub proxy: SocketAddr,
    /// `sha256//…` of the node's TLS key, vouched for by its registration.
    pub pin: &'a str,
    /// The session.
    pub session: &'a str,
    /// Its token.
    pub token: &'a str,
    /// The CA that signs for the node and for the lab's origin.
    pub ca: &'a Path,
}

/// How a run of curl ended.
#[derive(Debug, Default)]
pub struct Fetched {
    /// curl's exit status.
    pub exit: i32,
    /// The proxy's status: of the CONNECT, or of a plain request.
    pub connect: u16,
    /// The origin's status.
    pub status: u16,
    /// Content bytes downloaded.
    pub download: u64,
    /// Content bytes uploaded.
    pub upload: u64,
    /// `details` of `Proxy-Status`.
    pub slug: String,
    /// From start to end.
    pub ms: u64,
}

impl Curl {
    /// Writes the file.
    pub fn new(file: PathBuf, access: &Access) -> Outcome<Curl> {
        let (proxy, port) = (access.proxy, access.proxy.port());
        let (pin, session, token, ca) = (access.pin, access.session, access.token, access.ca.display());
        // The certificate is checked besides the pinned key: curl 7.88 takes --proxy-pinnedpubkey and ignores it.
        let text = format!(
            "proxy = \"https://{NODE}:{port}\"\nresolve = \"{NODE}:{port}:{}\"\nproxy-cacert = \"{ca}\"\n\
             proxy-pinnedpubkey = \"{pin}\"\nproxy-user = \"{session}:{token}\"\ncacert = \"{ca}\"\n",
            proxy.ip()
        );
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        let scratch = file.with_extension("headers");
        Ok(Curl { file, scratch })
    }

    /// Fetches, calling `seen(bytes, ms)` with all content so far.
    pub fn get(&self, url: &str, mut seen: impl FnMut(u64, u64)) -> Outcome<Fetched> {
        let start = mono_ms();
        let mut child = self.command(url).stdout(Stdio::piped()).spawn().map_err(|e| format!("curl: {e}"))?;
        let mut out = child.stdout.take().ok_or("curl has no output")?;
        let mut buffer = vec![0; 1 << 18];
        let mut total = 0;
        loop {
            match out.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => total += n as u64,
                Err(e) => return Err(format!("curl: {e}")),
            }
            seen(total, mono_ms() - start);
        }
        let fetched = self.finish(child, start)?;
        if fetched.connect == 200 && fetched.download != total {
            return Err(format!("curl says {} bytes, its output has {total}", fetched.download));
        }
        Ok(fetched)
    }

    /// Starts an upload that trickles on until it is cut: `(child, the pipe to feed)`. `-T .`: with `-` curl would sit in a
    /// blocking read and not notice the end of its connection.
    pub fn upload(&self, url: &str) -> Outcome<(Child, std::process::ChildStdin)> {
        let mut command = self.command(url);
        command
            .args(["--no-buffer", "-X", "POST", "-T", ".", "-H", "Expect:"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("curl: {e}"))?;
        let pipe = child.stdin.take().ok_or("curl has no input")?;
        Ok((child, pipe))
    }

    /// Waits for its end and reads its report.
    pub fn finish(&self, child: Child, start: u64) -> Outcome<Fetched> {
        let output = child.wait_with_output().map_err(|e| format!("curl: {e}"))?;
        let ms = mono_ms() - start;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = text.lines().rev().find_map(|line| line.strip_prefix("report "));
        let numbers: Vec<u64> = report
            .ok_or_else(|| format!("curl: {text}"))?
            .split(' ')
            .filter_map(|n| n.parse().ok())
            .collect();
        let &[connect, status, download, upload] = numbers.as_slice() else {
            return Err(format!("curl: {text}"));
        };
        let small = |n: u64| u16::try_from(n).unwrap_or(0);
        let connect = if connect == 0 { status } else { connect };
        Ok(Fetched {
            exit: output.status.code().unwrap_or(-1),
            connect: small(connect),
            status: small(status),
            download,
            upload,
            slug: self.slug(),
            ms,
        })
    }

    fn command(&self, url: &str) -> Command {
        std::fs::remove_file(&self.scratch).ok();
        let mut command = program("curl");
        command.arg("--disable").arg("-K").arg(&self.file).arg("-D").arg(&self.scratch).args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--max-time",
            "120",
            "--write-out",
            "%{stderr}\nreport %{http_connect} %{http_code} %{size_download} %{size_upload}\n",
            url,
        ]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn slug(&self) -> String {
        let head = std::fs::read_to_string(&self.scratch).unwrap_or_default();
        let field = head.lines().find(|line| line.to_ascii_lowercase().starts_with("proxy-status:"));
        let details =
            field.and_then(|line| line.split_once("details=\"")).and_then(|(_, rest)| rest.split_once('"'));
        details.map(|(slug, _)| slug.to_owned()).unwrap_or_default()
    }
}

/// Writes so many bytes into an upload; the pipe of a cut one is broken, which is no fault here.
pub fn feed(pipe: &mut std::process::ChildStdin, bytes: usize) -> bool {
    pipe.write_all(&vec![b'.'; bytes]).and_then(|()| pipe.flush()).is_ok()
}
