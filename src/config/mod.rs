//! `zlm.toml`, and what a Zimbra host already knows.
//!
//! Everything may be left out: on a Zimbra host the missing comes from `localconfig.xml`. [`File`] is what was
//! written, [`settings`] what is decided from it.

pub mod file;
pub mod guard;
pub mod local;
mod secrets;
pub mod settings;
mod state;

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};

pub use file::File;
pub use local::LocalConfig;
pub use settings::{LdapSettings, MysqlSettings, SoapSettings, SshSettings, StoreSettings, Throttle, Trust};

/// A complete, commented configuration file.
pub const EXAMPLE: &str = include_str!("zlm.toml");

const MAX_FILE: u64 = 1 << 20;

/// The configuration of a run.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where it was read from; none when no file was found.
    pub path: Option<PathBuf>,
    /// What the file says.
    pub file: File,
    /// This host's own configuration of Zimbra, when it is a Zimbra host.
    pub local: Option<LocalConfig>,
}

impl Config {
    /// Loads the configuration: the file at `path`, else that of `$ZLM_CONFIG`, else the first of `./zlm.toml`,
    /// `/etc/zlm/zlm.toml` and `/opt/zimbra/conf/zlm.toml`. No file at all is fine on a Zimbra host.
    ///
    /// Fails with [`Kind::Config`] when a named file is missing, when it is wrong or others can change it or
    /// read its secrets, and when there is neither a file nor a Zimbra.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let named = path.map(Path::to_owned).or_else(|| env::var_os("ZLM_CONFIG").map(PathBuf::from));
        let path = match named {
            Some(path) => Some(path),
            None => {
                let places = ["./zlm.toml", "/etc/zlm/zlm.toml", "/opt/zimbra/conf/zlm.toml"];
                places.map(PathBuf::from).into_iter().find(|path| path.exists())
            }
        };
        let file = path.as_deref().map(read).transpose()?.unwrap_or_default();
        let local = LocalConfig::of_this_host(file.zimbra_home())?;
        if path.is_none() && local.is_none() {
            let message = "zlm.toml: not found, and this is no Zimbra host";
            return Err(Error::new(Kind::Config, message).hint("name one with --config or $ZLM_CONFIG"));
        }
        Ok(Self { path, file, local })
    }
}

fn read(path: &Path) -> Result<File> {
    let mut opened = guard::open(path)?;
    let mut text = String::new();
    let reading = || format!("{}: reading the configuration", path.display());
    opened.file().take(MAX_FILE).read_to_string(&mut text).context(Kind::Config, reading)?;
    let file = File::parse(&text, path)?;
    if file.holds_secrets() {
        opened.must_be_private()?
    } else {
        opened.must_be_trusted()?
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn load(text: &str, mode: u32) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zlm.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Config::load(Some(&path))
    }

    #[test]
    fn the_example_parses() {
        let file = File::parse(EXAMPLE, Path::new("zlm.toml")).unwrap();
        assert!(file.store.contains_key(&"store1.example.com".parse().unwrap()));
    }

    #[test]
    fn the_example_with_every_line_switched_on_has_known_keys_only() {
        // A commented setting is `#key = ...` or `#[section]`, prose is `# Text`.
        let on: String = EXAMPLE
            .lines()
            .map(|l| l.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(l))
            .map(|l| l.to_owned() + "\n")
            .collect();
        // With every line on, exclusive settings are set together; only that may be wrong with it.
        if let Err(e) = File::parse(&on, Path::new("zlm.toml")) {
            assert!(e.to_string().contains("only one of"), "{e}\n{on}");
        }
    }

    #[test]
    fn secrets_want_a_private_file() {
        let secret = "[soap]\npassword = \"x\"\n";
        assert!(load(secret, 0o600).is_ok());
        let open = load(secret, 0o640).unwrap_err();
        assert_eq!(open.kind(), Kind::Config);
        assert!(open.advice().unwrap().contains("chmod 600"), "{open:?}");
        assert!(load("[log]\nlevel = \"info\"\n", 0o644).is_ok());
        assert!(load("[log]\nlevel = \"info\"\n", 0o666).is_err());
    }

    #[test]
    fn a_named_file_must_exist() {
        assert_eq!(Config::load(Some(Path::new("/nonexistent/zlm.toml"))).unwrap_err().kind(), Kind::Config);
    }
}
