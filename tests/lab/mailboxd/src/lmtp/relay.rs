//! Handing a message to the store where the recipient's mailbox is.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);

/// Sends one message to one recipient; gives the last answer, good or bad.
///
/// # Errors
/// The other store cannot be reached, or breaks off.
pub fn send(host: &str, port: u16, from: &str, to: &str, message: &[u8]) -> io::Result<String> {
    let address = (host, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    let stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut connection = BufReader::new(stream);
    let mut last = answer(&mut connection)?;
    let commands =
        ["LHLO mailboxd".into(), format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".to_string()];
    for command in commands {
        if !last.starts_with(['2', '3']) {
            return Ok(last);
        }
        connection.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        last = answer(&mut connection)?;
    }
    if !last.starts_with('3') {
        return Ok(last);
    }
    connection.get_mut().write_all(&stuffed(message))?;
    last = answer(&mut connection)?;
    // The message has its answer; the farewell is a courtesy.
    let _ = connection.get_mut().write_all(b"QUIT\r\n");
    Ok(last)
}

/// The last line of an answer.
fn answer(connection: &mut impl BufRead) -> io::Result<String> {
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the connection ended"));
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.trim_end().to_string());
        }
    }
}

/// A message as it travels: lines that begin with a dot get another, and a lone dot ends it.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b"), b"a\r\n..\r\n...b\r\n.\r\n");
    }

    #[test]
    fn the_last_line_counts() {
        assert_eq!(answer(&mut &b"250-a\r\n250 b\r\n"[..]).unwrap(), "250 b");
        assert!(answer(&mut &b"250-a\r\n"[..]).is_err());
    }
}
