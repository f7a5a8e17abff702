//! LMTP, as far as delivering one message takes it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Context, Error, Kind, Result};

/// The longest answer line that is read, in bytes.
const MAX_LINE: u64 = 4096;

/// Delivers `message` (headers and body, lines ending in LF) to one recipient; returns the server's answer.
///
/// Fails with [`Kind::Unreachable`], or with [`Kind::Peer`] and the answer's number as code, retryable for 4xx.
pub fn deliver(host: &str, port: u16, from: &str, to: &str, message: &str, timeout: Duration) -> Result<()> {
    let at = || format!("{host}:{port}: delivering to {to}");
    let address = (host, port)
        .to_socket_addrs()
        .context(Kind::Unreachable, at)?
        .next()
        .ok_or_else(|| Error::new(Kind::Unreachable, format!("{host}: has no address")))?;
    let stream = TcpStream::connect_timeout(&address, timeout).context(Kind::Unreachable, at)?;
    stream.set_read_timeout(Some(timeout)).context(Kind::Unreachable, at)?;
    stream.set_write_timeout(Some(timeout)).context(Kind::Unreachable, at)?;
    let mut dialogue = Dialogue { reader: BufReader::new(&stream), stream: &stream, host };
    dialogue.expect("greeting", 220)?;
    dialogue.say("LHLO", &format!("LHLO {}\r\n", "zlm"), 250)?;
    dialogue.say("MAIL FROM", &format!("MAIL FROM:<{from}>\r\n"), 250)?;
    dialogue.say("RCPT TO", &format!("RCPT TO:<{to}>\r\n"), 250)?;
    dialogue.say("DATA", "DATA\r\n", 354)?;
    let mut body = String::with_capacity(message.len() + 64);
    for line in message.lines() {
        // A line that is a dot alone would end the message.
        if line.starts_with('.') {
            body.push('.');
        }
        body.push_str(line);
        body.push_str("\r\n");
    }
    body.push_str(".\r\n");
    dialogue.say("message", &body, 250)?;
    // Delivered already; how the farewell goes does not matter.
    let _ = dialogue.say("QUIT", "QUIT\r\n", 221);
    Ok(())
}

struct Dialogue<'a> {
    reader: BufReader<&'a TcpStream>,
    stream: &'a TcpStream,
    host: &'a str,
}

impl Dialogue<'_> {
    fn say(&mut self, what: &str, text: &str, expected: u16) -> Result<()> {
        self.stream.write_all(text.as_bytes()).context(Kind::Unreachable, || format!("{}: {what}", self.host))?;
        self.expect(what, expected)
    }

    fn expect(&mut self, what: &str, expected: u16) -> Result<()> {
        loop {
            let mut line = String::new();
            (&mut self.reader)
                .take(MAX_LINE)
                .read_line(&mut line)
                .context(Kind::Unreachable, || format!("{}: {what}", self.host))?;
            let code: u16 = line.get(..3).and_then(|c| c.parse().ok()).unwrap_or(0);
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            if code == expected {
                return Ok(());
            }
            let error =
                Error::new(Kind::Peer, format!("{}: {what}: {}", self.host, line.trim_end())).code(code.to_string());
            return Err(if code / 100 == 4 { error.retryable() } else { error });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn server(answers: &'static [&'static str]) -> (u16, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = String::new();
            for answer in answers {
                stream.write_all(answer.as_bytes()).unwrap();
                let mut buffer = [0; 4096];
                let n = stream.read(&mut buffer).unwrap_or(0);
                heard.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
            heard
        });
        (port, thread)
    }

    #[test]
    fn a_message_is_delivered_with_its_dots_kept() {
        let (port, thread) = server(&[
            "220 hi\r\n",
            "250-a\r\n250 b\r\n",
            "250 ok\r\n",
            "250 ok\r\n",
            "354 go\r\n",
            "250 ok\r\n",
            "221 bye\r\n",
        ]);
        deliver("127.0.0.1", port, "", "a@x.test", "Subject: x\n\n.dot\n", Duration::from_secs(5)).unwrap();
        assert!(thread.join().unwrap().contains("\r\n..dot\r\n.\r\n"));
    }

    #[test]
    fn a_4xx_may_pass_when_tried_again() {
        let (port, thread) = server(&["220 hi\r\n", "250 b\r\n", "250 ok\r\n", "450 4.2.1 later\r\n"]);
        let error = deliver("127.0.0.1", port, "", "a@x.test", "x", Duration::from_secs(5)).unwrap_err();
        assert!(error.is_retryable());
        assert_eq!(error.peer_code(), Some("450"));
        drop(thread);
    }
}
