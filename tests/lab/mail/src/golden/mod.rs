//! Mailboxes that Zimbra's own classes wrote, kept as archives in `tests/lab/golden`: unpacked, loaded into a store, and
//! compared with what has become of them.

mod load;
mod picture;
mod rows;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Error, Result};
pub use load::Loaded;
pub use picture::Picture;

/// Which of the archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// One of each thing.
    Small,
    /// Thousands of items.
    Large,
}

impl Archive {
    /// Both.
    pub const ALL: [Archive; 2] = [Archive::Small, Archive::Large];
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "golden-small",
            Self::Large => "golden-large",
        })
    }
}

impl FromStr for Archive {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "small" => Ok(Self::Small),
            "large" => Ok(Self::Large),
            other => Err(format!("{other}: the golden mailboxes are small and large")),
        }
    }
}

/// What an archive says about itself, as far as it is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The archive's name, which is also the local part of the account's address.
    pub name: String,
    /// The account's address.
    pub email: String,
    /// The account's `zimbraId`. It stands in metadata too.
    pub account_id: String,
    /// The number that the mailbox was written under.
    pub mailbox: u32,
    /// The group that it was written in.
    pub group: u32,
    /// The highest item id in use.
    pub last_item_id: u32,
    /// How many rows each table has, by the name of its file without the extension.
    pub rows: BTreeMap<String, u64>,
    volumes: BTreeMap<String, Origin>,
}

/// The volume that something was written on.
#[derive(Clone, Debug, Deserialize)]
struct Origin {
    id: u8,
}

/// An unpacked archive.
#[derive(Clone, Debug)]
pub struct Golden {
    /// What it says about itself.
    pub manifest: Manifest,
    dir: PathBuf,
}

impl Golden {
    /// Unpacks an archive into a directory, which is made; one that was unpacked there before is read as it is.
    ///
    /// # Errors
    /// No archive, or `tar` cannot read it, or it is not as it must be.
    pub fn unpack(archive: Archive, into: &Path) -> Result<Self> {
        let dir = into.join(archive.to_string());
        if !dir.join("manifest.json").exists() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../golden/{archive}.tar.gz"));
            fs::create_dir_all(into)?;
            let out = Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(into).output()?;
            if !out.status.success() {
                let told = String::from_utf8_lossy(&out.stderr);
                return Err(Error::refused(format!("{}: tar: {}", file.display(), told.trim())));
            }
        }
        let path = dir.join("manifest.json");
        let manifest = serde_json::from_slice(&fs::read(&path)?)
            .map_err(|e| Error::refused(format!("{}: {e}", path.display())))?;
        Ok(Self { manifest, dir })
    }

    /// The attributes of the account, as `LOCAL@lab.test` with its mailbox on `store` (`store1.lab.test`).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account(&self, local: &str, store: &str) -> Result<Vec<(String, String)>> {
        const NAMES: [&str; 7] =
            ["uid", "cn", "sn", "displayName", "mail", "zimbraMailAlias", "zimbraMailDeliveryAddress"];
        let text = fs::read_to_string(self.dir.join("account.ldif"))?;
        let attributes = text.lines().filter_map(attribute).filter(|(name, _)| name != "dn");
        Ok(attributes
            .map(|(name, value)| {
                let value = match NAMES.contains(&name.as_str()) {
                    true => value.replacen(&self.manifest.name, local, 1),
                    false => value.replace("${STORE}", store),
                };
                (name, value)
            })
            .collect())
    }
}

/// A line of LDIF: `name: value`, or `name:: base64`.
fn attribute(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let value = match value.strip_prefix(':') {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?,
        None => value.trim_start().to_owned(),
    };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_plain_and_encoded() {
        let found = |line: &str| attribute(line).unwrap();
        assert_eq!(found("a: b: c"), ("a".into(), "b: c".into()));
        assert_eq!(found("a:: w6Q="), ("a".into(), "\u{e4}".into()));
        assert_eq!(attribute(""), None);
    }

    #[test]
    fn an_account_gets_its_name_and_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let golden = Golden::unpack(Archive::Small, dir.path()).unwrap();
        let account = golden.account("gia", "store2.lab.test").unwrap();
        for pair in [
            ("uid", "gia"),
            ("mail", "gia-alias@lab.test"),
            ("zimbraMailTransport", "lmtp:store2.lab.test:7025"),
            ("zimbraPrefFromDisplay", "G\u{f6}ldner Klein"),
        ] {
            assert!(account.contains(&(pair.0.into(), pair.1.into())), "{pair:?} in {account:#?}");
        }
    }
}
