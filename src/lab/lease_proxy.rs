//! A local CONNECT proxy on top of leases, so that any client uses them unchanged.
use super::http::Executor;
use super::json::{Members, canonical, object, text};
use super::lease::{Answer, Leases};
use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use hyper::StatusCode;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// Longest head of a request to the local proxy.
const MAX_HEAD: usize = 16_384;

/// Serves CONNECT by leases, for ever.
pub async fn serve(executor: &Executor, listener: Async<TcpListener>, leases: Rc<Leases>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let leases = Rc::clone(&leases);
        executor
            .spawn(async move {
                if let Err(error) = carry(stream, &leases).await {
                    eprintln!("echomesh-lab: a client's connection: {error}");
                }
            })
            .detach();
    }
}

async fn carry(mut client: Async<TcpStream>, leases: &Rc<Leases>) -> io::Result<()> {
    client.get_ref().set_nodelay(true)?;
    let (head, early) = read_head(&mut client).await?;
    let mut words = head.split(' ');
    let (Some("CONNECT"), Some(authority)) = (words.next(), words.next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
    };
    let mut target = match leases.dial(authority).await {
        Ok(Ok(target)) => target,
        Ok(Err(refused)) => return refuse(&mut client, &refused).await,
        Err(error) => {
            let detail = object([("type", text("lease-connection")), ("detail", text(error.to_string()))]);
            return refuse(&mut client, &Answer { status: 502, body: detail }).await;
        }
    };
    target.get_ref().set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    target.write_all(&early).await?;
    let number = leases.connection();
    let passed = async {
        let (up, down) = future::zip(pass(&client, &target), pass(&target, &client)).await;
        up.and(down)
    };
    let cut = async {
        leases.over(number).await;
        // Nobody else tells a side that only waits.
        for stream in [&client, &target] {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
        }
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "its lease has ended"))
    };
    future::or(passed, cut).await
}

/// One direction, its end included. After an error both are cut.
async fn pass(from: &Async<TcpStream>, to: &Async<TcpStream>) -> io::Result<()> {
    let copied = futures_lite::io::copy(from, to).await;
    let how = if copied.is_ok() { std::net::Shutdown::Write } else { std::net::Shutdown::Both };
    // It can only be over already.
    let _ = to.get_ref().shutdown(how);
    if copied.is_err() {
        let _ = from.get_ref().shutdown(how);
    }
    copied.map(drop)
}

async fn refuse(client: &mut Async<TcpStream>, answer: &Answer) -> io::Result<()> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let (body, slug) = (canonical(&answer.body), answer.body.str("type").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 {status}\r\nProxy-Status: echomesh; details=\"{slug}\"\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await
}

async fn read_head(client: &mut Async<TcpStream>) -> io::Result<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let early = seen.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&seen).into_owned(), early));
        }
        let n = client.read(&mut piece).await?;
        if n == 0 || seen.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no request"));
        }
        seen.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::args::Buyer;
    use crate::lab::buyer::Plan;
    use crate::lab::clock::{instant, unix_ms};
    use crate::lab::http;
    use crate::lab::lease::timely;
    use async_io::Timer;
    use std::cell::RefCell;
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    /// A node that gives leases of an echo for two seconds, for `good.test`, and for `brief.test`, for which it closes the connection
    /// at once; what it was asked.
    fn node(executor: &Executor, echo: SocketAddr, asked: &Rc<RefCell<Vec<String>>>) -> SocketAddr {
        let (listener, address) = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let asked = Rc::clone(asked);
        http::serve(executor, listener, None, move |request, _| {
            let asked = Rc::clone(&asked);
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let credentials = request.headers().get("authorization").is_some_and(|v| v == "Basic czp0");
                assert!(credentials, "{line}");
                let body = http::read_body(request.into_body(), 4096).await.unwrap();
                asked.borrow_mut().push(line.clone());
                let is_for = |host: &str| body.ends_with(format!("\"{host}\",\"port\":443}}").as_bytes());
                if line == "POST /leases" && !is_for("good.test") && !is_for("brief.test") {
                    return Ok(http::problem(403, "domain-blocked", "no"));
                }
                let lease = object([
                    ("leaseId", text("ab")),
                    ("endpoint", text(echo.to_string())),
                    ("host", text("good.test")),
                    ("expiresAt", text(instant(unix_ms() + 2000))),
                ]);
                let mut answer = http::answer(if line.ends_with("renew") { 200 } else { 201 }, &lease);
                if is_for("brief.test") {
                    answer.headers_mut().insert("connection", "close".parse().unwrap());
                }
                Ok(answer)
            }
        });
        address
    }

    fn shim(executor: &Executor, node: SocketAddr) -> (Rc<Leases>, SocketAddr) {
        let proxy = format!("http://{node}");
        let credentials = Some(("s".to_owned(), "t".to_owned()));
        let plan = Plan::new(Buyer { proxy, credentials, ..Buyer::default() }).unwrap();
        let leases = Leases::new(executor, Rc::new(plan));
        let (listener, address) = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (spawner, serving) = (Rc::clone(executor), Rc::clone(&leases));
        executor.spawn(async move { serve(&spawner, listener, serving).await.unwrap() }).detach();
        (leases, address)
    }

    /// What a client reads until the end, which it has announced.
    async fn client(to: SocketAddr, request: String) -> String {
        let mut stream = Async::<TcpStream>::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn a_local_proxy_asks_once_renews_and_passes_refusals_on() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let echo_address = echo.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in echo.incoming() {
                let mut stream = stream.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
            }
        });
        let executor: Executor = Rc::default();
        let asked = Rc::default();
        let node = node(&executor, echo_address, &asked);
        let (leases, local) = shim(&executor, node);
        let ask = move |host: &str| client(local, format!("CONNECT {host}:443 HTTP/1.1\r\n\r\nearly"));
        async_io::block_on(executor.run(async {
            for _ in 0..2 {
                let answer = ask("good.test").await;
                assert!(answer.ends_with("established\r\n\r\nearly"), "{answer}");
            }
            let refused = ask("bad.test").await;
            assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
            assert!(refused.contains("domain-blocked"), "{refused}");
            Timer::after(Duration::from_millis(1300)).await;
            let lines = asked.borrow().clone();
            assert_eq!(lines[..2], ["POST /leases", "POST /leases"]);
            assert_eq!(lines[2], "POST /leases/ab/renew");
            assert!(matches!(leases.end("good.test:443").await, Ok(201)), "as this node answers");
            assert!(matches!(leases.end("good.test:443").await, Ok(404)));
            assert_eq!(asked.borrow().last().unwrap(), "DELETE /leases/ab");
            // What only waits is reset when the connection has ended on which its lease was asked for.
            let mut waiting = Async::<TcpStream>::connect(local).await.unwrap();
            waiting.write_all(b"CONNECT brief.test:443 HTTP/1.1\r\n\r\n").await.unwrap();
            let ended = timely(waiting.read_to_end(&mut Vec::new())).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }));
    }
}
