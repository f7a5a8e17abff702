//! memcached's own protocol, as far as tests need it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::host::Host;
use crate::process::poll;

/// A connection to the memcached of a host, from inside that host.
pub struct Memcached {
    stream: BufReader<TcpStream>,
}

impl Memcached {
    /// Connects to the host's own memcached.
    pub fn of(host: &Host) -> Result<Self> {
        Ok(Memcached { stream: BufReader::new(host.connect("127.0.0.1:11211")?) })
    }

    /// The version it answers with.
    pub fn version(&mut self) -> Result<String> {
        self.send(b"version\r\n")?;
        self.line()
    }

    /// Keeps a value, without an end in time.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        ensure_key(key)?;
        let mut command = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
        command.extend_from_slice(value);
        command.extend_from_slice(b"\r\n");
        self.send(&command)?;
        let answer = self.line()?;
        ensure!(answer == "STORED", "memcached: set {key}: {answer}");
        Ok(())
    }

    /// The value of a key, if it has one.
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>> {
        ensure_key(key)?;
        self.send(format!("get {key}\r\n").as_bytes())?;
        let head = self.line()?;
        if head == "END" {
            return Ok(None);
        }
        let length: usize = head
            .strip_prefix("VALUE ")
            .and_then(|rest| rest.rsplit(' ').next())
            .and_then(|length| length.parse().ok())
            .with_context(|| format!("memcached: get {key}: {head}"))?;
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value)?;
        value.truncate(length);
        let end = self.line()?;
        ensure!(end == "END", "memcached: get {key}: {end}");
        Ok(Some(value))
    }

    /// Every key and its value.
    pub fn all(&mut self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut all = BTreeMap::new();
        for key in self.keys()? {
            if let Some(value) = self.get(&key)? {
                all.insert(key, value);
            }
        }
        Ok(all)
    }

    fn keys(&mut self) -> Result<Vec<String>> {
        // The crawler serves one at a time. By way of the lists of recent use it misses what moves from one to another.
        let keys = poll(Duration::from_secs(10), || {
            self.send(b"lru_crawler metadump hash\r\n")?;
            let mut keys = Vec::new();
            loop {
                let line = self.line()?;
                match line.strip_prefix("key=") {
                    Some(rest) => keys.push(decode(rest.split(' ').next().unwrap_or_default())?),
                    None if line == "END" => return Ok(Some(keys)),
                    None if line.starts_with("BUSY") => return Ok(None),
                    None => bail!("memcached: metadump: {line}"),
                }
            }
        })?;
        keys.context("memcached: its crawler stays busy")
    }

    fn send(&mut self, command: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(command).context("memcached: does not read")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("memcached: does not answer")?;
        ensure!(line.ends_with('\n'), "memcached: hung up");
        Ok(line.trim_end().to_owned())
    }
}

fn ensure_key(key: &str) -> Result<()> {
    let fit = !key.is_empty() && key.len() <= 250 && key.bytes().all(|byte| byte > b' ' && byte != 127);
    ensure!(fit, "{key:?}: not a key of memcached");
    Ok(())
}

/// Undoes the percent encoding that the dump writes keys in.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
            bytes.push(byte.with_context(|| format!("{text}: not percent encoding"))?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).with_context(|| format!("{text}: not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_dump_are_percent_encoded() {
        assert_eq!(
            decode("route%3Aproto%3Dhttp%3Buser%3Da%40lab.test").expect("valid"),
            "route:proto=http;user=a@lab.test"
        );
        assert!(decode("a%4").is_err());
        assert!(decode("a%zz").is_err());
    }

    #[test]
    fn a_key_has_no_spaces() {
        assert!(ensure_key("a b").is_err());
        assert!(ensure_key("").is_err());
        assert!(ensure_key("a\r\nflush_all").is_err());
        assert!(ensure_key("route:proto=http;user=a@lab.test").is_ok());
    }
}
