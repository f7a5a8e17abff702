//! One delivery by LMTP.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a store may take to accept a connection, and for each answer.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(15);

/// The longest answer that is read.
const LONGEST: u64 = 64 << 10;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 250 after the message.
    Accepted(String),
    /// 5xx: never.
    Refused(String),
    /// 4xx, or no connection: not now, and not accepted.
    Later(String),
    /// The message was sent whole and no answer came: perhaps accepted.
    Lost(String),
}

enum Failure {
    Said(u16, String),
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Broken(e)
    }
}

/// Delivers one message to one recipient at `host:port`.
pub(crate) fn deliver(target: &str, rcpt: &str, body: &[u8]) -> Answer {
    let mut sent = false;
    match dialogue(target, rcpt, body, &mut sent) {
        Ok(reply) => Answer::Accepted(reply),
        Err(Failure::Said(500.., reply)) => Answer::Refused(reply),
        Err(Failure::Said(_, reply)) => Answer::Later(reply),
        Err(Failure::Broken(e)) if sent => Answer::Lost(e.to_string()),
        Err(Failure::Broken(e)) => Answer::Later(e.to_string()),
    }
}

fn dialogue(target: &str, rcpt: &str, body: &[u8], sent: &mut bool) -> Result<String, Failure> {
    let mut server = Connection::open(target)?;
    server.expect("", 220)?;
    server.expect("LHLO writer.lab.test\r\n", 250)?;
    server.expect("MAIL FROM:<writer@writer.lab.test>\r\n", 250)?;
    server.expect(&format!("RCPT TO:<{rcpt}>\r\n"), 250)?;
    server.expect("DATA\r\n", 354)?;
    let stream = server.reader.get_mut();
    // From the last byte on the store may have the message, whatever is heard of it.
    let (last, first) = stuffed(body).split_last().map(|(l, f)| (*l, f.to_vec())).unwrap_or_default();
    stream.write_all(&first)?;
    *sent = true;
    stream.write_all(&[last])?;
    let reply = server.expect("", 250)?;
    // The message is delivered: how the connection ends is of no interest.
    let _ = server.reader.get_mut().write_all(b"QUIT\r\n");
    Ok(reply)
}

struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(target: &str) -> io::Result<Self> {
        let address =
            target.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{target}: no address")))?;
        let stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends a command, if any, and reads the answer, which must have this code.
    fn expect(&mut self, command: &str, code: u16) -> Result<String, Failure> {
        self.reader.get_mut().write_all(command.as_bytes())?;
        loop {
            let mut line = String::new();
            let mut limited = Read::take(&mut self.reader, LONGEST);
            if limited.read_line(&mut line)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            let line = line.trim_end().to_owned();
            let said = line.get(..3).and_then(|digits| digits.parse().ok());
            return match said {
                Some(said) if said == code => Ok(line),
                Some(said) => Err(Failure::Said(said, line)),
                None => Err(io::Error::other(format!("no LMTP answer: {line:?}")).into()),
            };
        }
    }
}

/// The message as it is sent: a dot added to lines that begin with one, and the final dot.
fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 16);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
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
        assert_eq!(stuffed(b"a\r\n.b\r\nc"), b"a\r\n..b\r\nc\r\n.\r\n");
    }
}
