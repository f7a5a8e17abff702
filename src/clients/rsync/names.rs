//! Names of files on their way to rsync.

use std::io::{Error, ErrorKind, Read, Result};

use crate::clients::ssh::Input;

/// Lets through a list of names, each `file` or `directory/file` of plain characters and a NUL; anything else
/// fails the transfer. Nothing above a directory can be named, no directory but those one level down, nothing hidden, and
/// nothing that a program would take for an option. Lucene's names begin with `_`.
pub(super) fn checked(input: Input) -> Input {
    let inner: Box<dyn Read + Send> = match input {
        Input::None => return Input::None,
        Input::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        Input::From(reader) => reader,
    };
    Input::From(Box::new(Checked { inner, name: Vec::new() }))
}

struct Checked {
    inner: Box<dyn Read + Send>,
    name: Vec<u8>,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(buffer)?;
        for &byte in &buffer[..n] {
            if byte != 0 && self.name.len() < 256 {
                self.name.push(byte);
            } else if byte == 0 && plain(&self.name) {
                self.name.clear();
            } else {
                return Err(odd(&self.name));
            }
        }
        if n == 0 && !buffer.is_empty() && !self.name.is_empty() {
            return Err(odd(&self.name));
        }
        Ok(n)
    }
}

fn odd(name: &[u8]) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("{:?} is not a name of a blob or of an index", String::from_utf8_lossy(name)),
    )
}

fn plain(name: &[u8]) -> bool {
    let parts: Vec<&[u8]> = name.split(|&b| b == b'/').collect();
    parts.len() <= 2
        && parts.iter().all(|part| {
            part.first().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_')
                && part.iter().all(|&b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8]) -> Result<Vec<u8>> {
        let Input::From(mut reader) = checked(Input::Bytes(list.to_vec())) else { panic!("a reader") };
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn only_plain_names_pass() {
        let good = b"0/1-1.msg\x00segments_1\x00255/16777215-9.msg\0";
        assert_eq!(read(good).unwrap(), good);
        assert_eq!(read(b"").unwrap(), b"");
        let lucene = b"_0.cfs\0_1z.fdt\0_1z.nrm\0_4_1.del\0segments.gen\0segments_1a\0write.lock\0";
        assert_eq!(read(lucene).unwrap(), lucene);
        for bad in [
            "../x\0",
            "0/../x\0",
            "/etc/passwd\0",
            "0/1/2\0",
            "0//1\0",
            "\0",
            "-x\0",
            "0/-x\0",
            ".\0",
            ".x\0",
            "0/.x\0",
            "a\nb\0",
            "_\x1b[2J\0",
            "0/1-1.msg",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
