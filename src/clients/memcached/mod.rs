//! memcached by its text protocol: a few keys deleted and looked for, never everything.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Context, Error, Kind, Result};
use crate::zimbra::ids::Host;
use crate::zimbra::route::is_key;

/// Keys of one batch: their answers fit any socket's buffer, so that neither side waits for the other.
const BATCH: usize = 100;
const MAX_LINE: u64 = 2048;
const MAX_VALUE: usize = 1 << 20;

/// What became of keys that were to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Keys that were there.
    pub deleted: usize,
    /// Keys that were not.
    pub missing: usize,
}

/// A connection to one memcached.
#[derive(Debug)]
pub struct Memcached {
    name: String,
    stream: BufReader<TcpStream>,
}

impl Memcached {
    /// Connects; fails with [`Kind::Unreachable`]. `timeout` also bounds every later read and write.
    pub fn connect(host: &Host, port: u16, timeout: Duration) -> Result<Self> {
        let name = format!("memcached {host}:{port}");
        let connecting = || format!("{name}: connecting");
        let unknown = |e| Error::new(Kind::Unreachable, connecting()).because(e).retryable();
        let addresses = (host.as_str(), port).to_socket_addrs().map_err(unknown)?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(timeout)).context(Kind::Io, connecting)?;
                    stream.set_write_timeout(Some(timeout)).context(Kind::Io, connecting)?;
                    stream.set_nodelay(true).context(Kind::Io, connecting)?;
                    return Ok(Self { name, stream: BufReader::new(stream) });
                }
                Err(e) => last = Some(e),
            }
        }
        let error = Error::new(Kind::Unreachable, connecting()).retryable();
        Err(match last {
            Some(e) => error.because(e),
            None => error,
        })
    }

    /// The version it says it is; proves that it answers.
    pub fn version(&mut self) -> Result<String> {
        self.send("version\r\n")?;
        let line = self.line()?;
        line.strip_prefix("VERSION ").map(str::to_owned).ok_or_else(|| self.odd(&line))
    }

    /// Deletes keys; fails with [`Kind::Usage`] before anything is sent when one is no key. Deleting is
    /// repeatable, and its errors are retryable.
    pub fn delete(&mut self, keys: &[String]) -> Result<Deleted> {
        check(keys)?;
        let mut result = Deleted::default();
        for batch in keys.chunks(BATCH) {
            let commands: String = batch.iter().map(|key| format!("delete {key}\r\n")).collect();
            self.send(&commands)?;
            for _ in batch {
                match self.line()?.as_str() {
                    "DELETED" => result.deleted += 1,
                    "NOT_FOUND" => result.missing += 1,
                    other => return Err(self.odd(other)),
                }
            }
        }
        Ok(result)
    }

    /// The values of those keys that are there; fails as [`delete`](Self::delete) does.
    pub fn get(&mut self, keys: &[String]) -> Result<BTreeMap<String, Vec<u8>>> {
        check(keys)?;
        let mut found = BTreeMap::new();
        // A line of memcached has a bound of its own; a command with few keys stays below it.
        for batch in keys.chunks(7) {
            self.send(&format!("get {}\r\n", batch.join(" ")))?;
            loop {
                let line = self.line()?;
                if line == "END" {
                    break;
                }
                let (key, value) = self.value(&line)?;
                found.insert(key, value);
            }
        }
        Ok(found)
    }

    /// What follows a line `VALUE key flags bytes`.
    fn value(&mut self, line: &str) -> Result<(String, Vec<u8>)> {
        let mut words = line.split(' ');
        let (Some("VALUE"), Some(key), Some(_flags), Some(length)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(self.odd(line));
        };
        let length = length.parse().ok().filter(|length| *length <= MAX_VALUE).ok_or_else(|| self.odd(line))?;
        let mut value = vec![0; length + 2];
        let read = self.stream.read_exact(&mut value);
        read.map_err(|e| self.broke(e))?;
        if !value.ends_with(b"\r\n") {
            return Err(self.odd(line));
        }
        value.truncate(length);
        Ok((key.to_owned(), value))
    }

    fn send(&mut self, commands: &str) -> Result<()> {
        let sent = self.stream.get_mut().write_all(commands.as_bytes());
        sent.map_err(|e| self.broke(e))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line);
        read.map_err(|e| self.broke(e))?;
        if line.is_empty() {
            return Err(self.broke(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        text.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| self.odd(&text))
    }

    fn broke(&self, error: std::io::Error) -> Error {
        Error::new(Kind::Unreachable, format!("{}: the connection broke", self.name)).because(error).retryable()
    }

    fn odd(&self, answer: &str) -> Error {
        let answer: String = answer.chars().take(80).flat_map(char::escape_default).collect();
        let error = Error::new(Kind::Peer, format!("{}: answered '{answer}'", self.name));
        // Such as too many connections, or no memory at that moment.
        if answer.starts_with("SERVER_ERROR") { error.retryable() } else { error }
    }
}

/// A key with a line end in it would be a command of its own.
fn check(keys: &[String]) -> Result<()> {
    match keys.iter().find(|key| !is_key(key)) {
        None => Ok(()),
        Some(key) => {
            let shown: String = key.chars().take(80).flat_map(char::escape_default).collect();
            Err(Error::new(
                Kind::Usage,
                format!("memcached key '{shown}': has a space or control character, or not 1 to 250 bytes"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that answers the first bytes it reads with `answer` and closes.
    fn answering(answer: &'static [u8]) -> Memcached {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        Memcached::connect(&"127.0.0.1".parse().unwrap(), port, Duration::from_secs(5)).unwrap()
    }

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| key.to_string()).collect()
    }

    #[test]
    fn counts_what_was_deleted() {
        let deleted = answering(b"DELETED\r\nNOT_FOUND\r\n").delete(&keys(&["a", "b"])).unwrap();
        assert_eq!(deleted, Deleted { deleted: 1, missing: 1 });
    }

    #[test]
    fn says_its_version() {
        assert_eq!(answering(b"VERSION 1.6.18\r\n").version().unwrap(), "1.6.18");
        assert!(answering(b"ERROR\r\n").version().is_err());
        assert!(answering(b"SERVER_ERROR out of memory\r\n").version().unwrap_err().is_retryable());
    }

    #[test]
    fn reads_values_with_line_ends() {
        let found =
            answering(b"VALUE a 0 4\r\nx\r\ny\r\nVALUE b 0 0\r\n\r\nEND\r\n").get(&keys(&["a", "b", "c"])).unwrap();
        assert_eq!(found, BTreeMap::from([("a".into(), b"x\r\ny".to_vec()), ("b".into(), vec![])]));
    }

    #[test]
    fn odd_answers_are_errors() {
        for answer in [
            b"".as_slice(),
            b"SERVER_ERROR out of memory\r\n",
            b"VALUE a 0 99999999999\r\n",
            b"VALUE a 0 3\r\nabcdeEND\r\n",
            b"END",
            &[b'x'; 5000],
        ] {
            let e = answering(answer).get(&keys(&["a"])).unwrap_err();
            assert!(matches!(e.kind(), Kind::Peer | Kind::Unreachable), "{e}");
        }
    }

    #[test]
    fn no_key_is_a_command() {
        let long = "x".repeat(251);
        for key in ["", "a b", "a\r\nflush_all", "a\0", long.as_str()] {
            assert_eq!(answering(b"").delete(&keys(&[key])).unwrap_err().kind(), Kind::Usage, "{key:?}");
        }
    }
}
