//! A client of the node's API on its Unix socket. It blocks: a command has nothing else to do.
use super::{Exit, Failure, out};
use crate::api::run_dir::RunDir;
use crate::http::head::{self, BodyReader, Headers, Piece};
use crate::json::{self, Value};
use std::ffi::OsStr;
use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest answer that is kept in memory, in bytes; an export is written as it comes.
const MAX_ANSWER: usize = 4 << 20;

/// A running node.
#[derive(Debug)]
pub struct Client {
    dir: RunDir,
    token: String,
}

/// An answer that is no error.
#[derive(Debug)]
pub struct Answer {
    /// Its fields.
    pub headers: Headers,
    /// Its content, unless it went elsewhere.
    pub content: Vec<u8>,
}

impl Client {
    /// Finds the running node: by the owner's choice of run directory, or in the usual places.
    pub fn find(run_dir: Option<&OsStr>) -> Result<Client, Failure> {
        let candidates = RunDir::candidates(run_dir.map(Path::new));
        let names: Vec<String> = candidates.iter().map(|c| c.socket().display().to_string()).collect();
        for dir in candidates {
            match UnixStream::connect(dir.socket()).and_then(|_| std::fs::read_to_string(dir.token())) {
                Ok(token) => return Ok(Client { dir, token: token.trim_end().to_owned() }),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    let place = dir.path().display();
                    let message =
                        format!("{place}: the node belongs to another user; run this command as that user");
                    return Err(Failure::new(Exit::Failed, message));
                }
                Err(_) => {}
            }
        }
        let message =
            format!("no node is running (there is no {}); start one with: echomesh run", names.join(", no "));
        Err(Failure::new(Exit::NotRunning, message))
    }

    /// Asks for a JSON document.
    pub fn json(&self, method: &str, path: &str) -> Result<Value, Failure> {
        let answer = self.request(method, path, "", None)?;
        json::parse(&answer.content).map_err(|e| broken(&format!("its answer is no JSON ({e})")))
    }

    /// One request. `fields` are lines with their ends. A problem becomes a failure with the node's own words.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut content = Vec::new();
        let headers = self.exchange(method, path, fields, body, &mut Bounded(&mut content))?;
        Ok(Answer { headers, content })
    }

    /// A `GET` whose content is written to `sink` as it comes.
    pub fn copy(&self, path: &str, sink: &mut dyn Write) -> Result<(), Failure> {
        self.exchange("GET", path, "", None, sink).map(drop)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: Option<&Value>,
        sink: &mut dyn Write,
    ) -> Result<Headers, Failure> {
        let gone = |e: io::Error| broken(&e.to_string());
        let mut stream = self.send(method, path, fields, body).map_err(gone)?;
        let mut buffer = Vec::new();
        let head = loop {
            if let Some((head, length)) = head::response_head(&buffer).map_err(|e| broken(&e.to_string()))? {
                buffer.drain(..length.min(buffer.len()));
                break head;
            }
            if fill(&mut stream, &mut buffer).map_err(gone)? == 0 {
                return Err(broken("it ended the connection without an answer"));
            }
        };
        let framing = head::response_framing(method, &head).map_err(|e| broken(&e.to_string()))?;
        let mut reader = BodyReader::new(framing);
        if matches!(head.status, 200..=299) {
            copy_body(&mut stream, &mut reader, buffer, sink)?;
            return Ok(head.headers);
        }
        let mut content = Vec::new();
        copy_body(&mut stream, &mut reader, buffer, &mut Bounded(&mut content))?;
        Err(refused(head.status, &content))
    }

    fn send(&self, method: &str, path: &str, fields: &str, body: Option<&Value>) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(self.dir.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(35)))?;
        stream.set_write_timeout(Some(Duration::from_secs(35)))?;
        let content = body.map(Value::canonical).unwrap_or_default();
        let length = match body {
            Some(_) => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", content.len()),
            None => String::new(),
        };
        let (token, close) = (&self.token, "Connection: close\r\n");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{close}{fields}{length}\r\n{content}"
        );
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    }
}

fn copy_body(
    stream: &mut UnixStream,
    reader: &mut BodyReader,
    mut buffer: Vec<u8>,
    sink: &mut dyn Write,
) -> Result<(), Failure> {
    loop {
        let used = match reader.next(&buffer).map_err(|e| broken(&e.to_string()))? {
            Piece::Data(range) => {
                let data = buffer.get(range.clone()).unwrap_or_default();
                sink.write_all(data).map_err(|e| out::lost("the output", &e))?;
                range.end
            }
            Piece::End(_) => return sink.flush().map_err(|e| out::lost("the output", &e)),
            Piece::More(used) => {
                if fill(stream, &mut buffer).map_err(|e| broken(&e.to_string()))? == 0 {
                    return reader.end_of_stream().map_err(|e| broken(&e.to_string()));
                }
                used
            }
        };
        buffer.drain(..used.min(buffer.len()));
    }
}

fn fill(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut part = [0; 16 * 1024];
    let bytes = stream.read(&mut part)?;
    buffer.extend_from_slice(part.get(..bytes).unwrap_or_default());
    Ok(bytes)
}

/// A buffer that takes no more than [`MAX_ANSWER`].
struct Bounded<'a>(&'a mut Vec<u8>);

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_ANSWER - self.0.len() {
            return Err(io::Error::other("the node's answer is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the node does not answer as it should: {what}"))
}

fn refused(status: u16, content: &[u8]) -> Failure {
    let problem = json::parse(content).unwrap_or(Value::Null);
    let member = |name: &str| problem.member(name).and_then(Value::as_str);
    let detail = member("detail").map_or(format!("HTTP status {status}"), str::to_owned);
    let mut message = format!("the node refused: {detail}");
    for error in problem.member("errors").and_then(Value::as_array).unwrap_or_default() {
        message.push_str(&format!("\n  {}", error.as_str().map_or_else(|| error.canonical(), str::to_owned)));
    }
    let exit = match (status, member("type")) {
        (_, Some("config-invalid")) => Exit::Config,
        (500.., _) => Exit::Failed,
        _ => Exit::Refused,
    };
    Failure::new(exit, message)
}
