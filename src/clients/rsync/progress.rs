//! What rsync prints: progress lines, and numbers at its end.

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files transferred so far.
    pub bytes: u64,
    /// Percent of what is known so far; falls when more is found.
    pub percent: u8,
}

/// What a transfer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Transferred {
    /// Regular files written at the destination.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Files and directories that were not there before.
    pub created: u64,
    /// Files and directories removed at the destination.
    pub deleted: u64,
    /// Links, devices and other things that are not files, left out.
    pub skipped: u64,
    /// From start to end.
    pub seconds: f64,
}

/// Reads rsync's output piece by piece.
#[derive(Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    pub done: Transferred,
}

/// Longer lines are names; nothing that is read here is one.
const LINE: usize = 4096;

impl Reader {
    /// Takes a piece in; gives every progress line to `each`.
    pub fn take(&mut self, chunk: &[u8], each: &mut dyn FnMut(Progress)) {
        for &byte in chunk {
            if byte == b'\n' || byte == b'\r' {
                let line = String::from_utf8_lossy(&self.line).trim().to_owned();
                self.line.clear();
                match progress(&line) {
                    Some(progress) => each(progress),
                    None => self.count(&line),
                }
            } else if self.line.len() < LINE {
                self.line.push(byte);
            }
        }
    }

    fn count(&mut self, line: &str) {
        if line.starts_with("skipping non-regular file ") {
            self.done.skipped += 1;
        }
        let Some((name, value)) = line.split_once(": ") else { return };
        let Some(value) = value.split_whitespace().next().and_then(|word| word.parse().ok()) else { return };
        match name {
            "Number of regular files transferred" => self.done.files = value,
            "Total transferred file size" => self.done.bytes = value,
            "Number of created files" => self.done.created = value,
            "Number of deleted files" => self.done.deleted = value,
            _ => {}
        }
    }
}

/// `1234  56%  1.23MB/s  0:00:01 (xfr#1, to-chk=0/3)`
fn progress(line: &str) -> Option<Progress> {
    let mut words = line.split_whitespace();
    let bytes = words.next()?.parse().ok()?;
    let percent = words.next()?.strip_suffix('%')?.parse().ok()?;
    words.next()?.contains("/s").then_some(Progress { bytes, percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_read_whatever_the_pieces() {
        let text = "skipping non-regular file \"0/link\"\n\r              0   0%    0.00kB/s    0:00:00 (xfr#0, to-chk=0/3)\r          1,2\r         30 100%   29.30kB/s    0:00:00 (xfr#2, to-chk=0/3)  \n\nNumber of files: 3 (reg: 2, dir: 1)\nNumber of created files: 2 (reg: 2)\nNumber of deleted files: 1 (reg: 1)\nNumber of regular files transferred: 2\nTotal file size: 30 bytes\nTotal transferred file size: 30 bytes\n";
        for size in [1, 7, 1000] {
            let (mut reader, mut seen) = (Reader::default(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                reader.take(chunk, &mut |p| seen.push((p.bytes, p.percent)));
            }
            assert_eq!(seen, [(0, 0), (30, 100)]);
            let expected = Transferred { files: 2, bytes: 30, created: 2, deleted: 1, skipped: 1, seconds: 0.0 };
            assert_eq!(reader.done, expected);
        }
    }
}
