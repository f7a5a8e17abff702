//! HTTP/1.1 over TLS, just enough for SOAP: kept connections, a thread for each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

const IDLE: Duration = Duration::from_secs(300);
const MAX_HEAD: u64 = 16 << 10;
const MAX_BODY: u64 = 10 << 20;

/// What to do with the connection after a request.
pub enum Reply {
    /// Answer with this status and body.
    Answer(u16, String),
    /// End the connection without an answer.
    Drop,
}

/// Serves connections for as long as the process lives. `admit` may turn a connection away before TLS.
pub fn serve<H, A>(listener: &TcpListener, tls: &Arc<ServerConfig>, admit: A, handle: H)
where
    H: Fn(&str) -> Reply + Send + Sync + 'static,
    A: Fn() -> bool,
{
    let handle = Arc::new(handle);
    for stream in listener.incoming() {
        // A connection that ended before it was accepted is the client's business.
        let Ok(stream) = stream else { continue };
        if !admit() {
            continue;
        }
        let (tls, handle) = (Arc::clone(tls), Arc::clone(&handle));
        // Clients come and go; an error on their connection ends only that.
        std::thread::spawn(move || drop(converse(stream, tls, handle.as_ref())));
    }
}

fn converse(stream: TcpStream, tls: Arc<ServerConfig>, handle: &dyn Fn(&str) -> Reply) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let session = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut connection = BufReader::new(StreamOwned::new(session, stream));
    while let Some(head) = read_head(&mut connection)? {
        if head.expects_continue {
            connection.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let reply = match head.length {
            None => Reply::Answer(411, String::new()),
            Some(length) if length > MAX_BODY => Reply::Answer(413, String::new()),
            Some(length) => {
                let mut body = String::new();
                (&mut connection).take(length).read_to_string(&mut body)?;
                match body.len() as u64 == length && head.is_post {
                    true => handle(&body),
                    false => Reply::Answer(405, String::new()),
                }
            }
        };
        let Reply::Answer(status, body) = reply else {
            // Not even a notice that TLS ends: the peer sees the connection cut.
            return connection.get_mut().sock.shutdown(std::net::Shutdown::Both);
        };
        let keep = head.keep && (status < 400 || status == 500);
        let connection_header = if keep { "keep-alive" } else { "close" };
        let answer = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/soap+xml; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection_header}\r\n\r\n{body}",
            if status == 200 { "OK" } else { "Error" },
            body.len(),
        );
        let stream = connection.get_mut();
        stream.write_all(answer.as_bytes())?;
        stream.flush()?;
        if !keep {
            stream.conn.send_close_notify();
            return stream.flush();
        }
    }
    Ok(())
}

/// The part of a request before its body, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    is_post: bool,
    length: Option<u64>,
    keep: bool,
    expects_continue: bool,
}

/// Reads the head of the next request; nothing when the client has gone.
fn read_head(connection: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut input = connection.take(MAX_HEAD);
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut head = Head {
        is_post: line.starts_with("POST "),
        length: None,
        keep: line.trim_end().ends_with("HTTP/1.1"),
        expects_continue: false,
    };
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Err(io::Error::other("head too long, or cut"));
        }
        let Some((name, value)) = line.split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().ok(),
            "connection" => head.keep = !value.eq_ignore_ascii_case("close"),
            "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> io::Result<Option<Head>> {
        read_head(&mut BufReader::new(text.as_bytes()))
    }

    #[test]
    fn heads_are_read() {
        let h = head("POST / HTTP/1.1\r\nContent-Length: 12\r\nEXPECT: 100-continue\r\n\r\n").unwrap().unwrap();
        assert_eq!(h, Head { is_post: true, length: Some(12), keep: true, expects_continue: true });
        let h = head("POST / HTTP/1.1\r\ncontent-length: 1\r\nConnection: close\r\n\r\n").unwrap().unwrap();
        assert!(!h.keep);
        assert_eq!(head("").unwrap(), None);
        assert!(head(&format!("POST / HTTP/1.1\r\nA: {}\r\n", "x".repeat(20_000))).is_err());
        assert!(head("POST / HTTP/1.1\r\nA: b\r\n").is_err());
    }
}
