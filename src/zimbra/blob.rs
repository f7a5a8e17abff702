//! Blobs: the name of a blob's file, and its digest.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::volume::Bits;

/// A blob, as the rows name it. Its file never changes: who edits an item makes a new `mod_content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName {
    /// The id of the item, of a revision too.
    pub id: u32,
    /// `mod_content` of the item or revision.
    pub mod_content: u32,
}

impl fmt::Display for BlobName {
    /// The name of its file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FileName::from(*self).fmt(f)
    }
}

/// A file in a directory of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The id of the item.
    pub id: u32,
    /// `<id>-<mod_content>.msg`; `None` for `<id>.msg` from before revisions, which is read when there is no file
    /// of the right `mod_content`.
    pub mod_content: Option<u32>,
}

impl From<BlobName> for FileName {
    fn from(name: BlobName) -> Self {
        Self { id: name.id, mod_content: Some(name.mod_content) }
    }
}

impl FileName {
    /// Reads a path relative to the directory of a mailbox's blobs: `group/name`. `None` for whatever is not the
    /// file of a blob at its place: leftovers, or something planted.
    pub fn parse(path: &str, bits: &Bits) -> Option<Self> {
        let (group, name) = path.split_once('/')?;
        let stem = name.strip_suffix(".msg")?;
        let file = match stem.split_once('-') {
            Some((id, mod_content)) => Self { id: number(id)?, mod_content: Some(number(mod_content)?) },
            None => Self { id: number(stem)?, mod_content: None },
        };
        (number(group)? == bits.item_group(file.id)).then_some(file)
    }

    /// Its path, relative to the directory of a mailbox's blobs.
    pub fn path(&self, bits: &Bits) -> String {
        format!("{}/{self}", bits.item_group(self.id))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mod_content {
            Some(mod_content) => write!(f, "{}-{mod_content}.msg", self.id),
            None => write!(f, "{}.msg", self.id),
        }
    }
}

/// A number as Zimbra writes it: no sign, no zero before it.
fn number(text: &str) -> Option<u32> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// The digest in a row: of the uncompressed bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256: 44 characters.
    Sha256([u8; 32]),
    /// SHA-1, of servers before 8.0: 28 characters.
    Sha1([u8; 20]),
}

impl Digest {
    /// Reads `blob_digest`: base64 with `,` for `/`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains('/') {
            return None;
        }
        let bytes = STANDARD.decode(text.replace(',', "/")).ok()?;
        match bytes.len() {
            32 => bytes.try_into().ok().map(Self::Sha256),
            20 => bytes.try_into().ok().map(Self::Sha1),
            _ => None,
        }
    }

    /// The SHA-256 that `sha256sum` prints as 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
        }
        Some(Self::Sha256(bytes))
    }
}

impl fmt::Display for Digest {
    /// As in a row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha1(bytes) => bytes,
        };
        f.write_str(&STANDARD.encode(bytes).replace('/', ","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_read_back(id: u32, mod_content: u32) {
            let (name, bits) = (FileName::from(BlobName { id, mod_content }), Bits::default());
            prop_assert_eq!(FileName::parse(&name.path(&bits), &bits), Some(name));
            prop_assert!(bits.item_group(id) < 256);
        }

        #[test]
        fn what_reads_as_a_name_is_one(path in "[0-9]{1,3}/[0-9]{1,5}(-[0-9]{1,3})?.{0,2}(\\.msg)?|\\PC{0,10}") {
            let bits = Bits::default();
            if let Some(name) = FileName::parse(&path, &bits) {
                prop_assert_eq!(name.path(&bits), path);
            }
        }

        #[test]
        fn digests_read_back(bytes: [u8; 32], old: [u8; 20]) {
            for digest in [Digest::Sha256(bytes), Digest::Sha1(old)] {
                let text = digest.to_string();
                prop_assert!(!text.contains('/'));
                prop_assert_eq!(Digest::parse(&text), Some(digest));
            }
        }
    }

    #[test]
    fn order_is_by_number_and_an_old_file_comes_first() {
        let file = |id, mod_content| FileName { id, mod_content };
        assert!(file(2, Some(9)) < file(10, None));
        assert!(file(10, None) < file(10, Some(1)) && file(10, Some(1)) < file(10, Some(2)));
    }

    #[test]
    fn misplaced_and_odd_files_are_not_blobs() {
        let bits = Bits::default();
        for path in [
            "1/12-3.msg",
            "0/012-3.msg",
            "0/12-3.msg.bak",
            "0/12-+3.msg",
            "0/a.msg",
            "12-3.msg",
            "0/0/12-3.msg",
            "00/12-3.msg",
            "0/12-3.msg\n",
            "0/99999999999-1.msg",
        ] {
            assert_eq!(FileName::parse(path, &bits), None, "{path}");
        }
        assert_eq!(FileName::parse("0/12.msg", &bits), Some(FileName { id: 12, mod_content: None }));
    }

    #[test]
    fn the_digest_of_nothing_is_known() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Digest::from_hex(hex).unwrap();
        assert_eq!(digest.to_string(), "47DEQpj8HBSa+,TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(Digest::parse("2jmj7l5rSw0yVb,vlWAYkK,YBwk=").map(|d| matches!(d, Digest::Sha1(_))), Some(true));
        for bad in ["", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "abcd"] {
            assert!(Digest::parse(bad).is_none());
        }
        assert!(Digest::from_hex(&"é".repeat(32)).is_none());
    }
}
