//! Where zlm keeps what it must not lose: its journal, and its log.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{Config, guard};

/// Whoever runs zlm.
struct Who {
    is_root: bool,
    is_zimbra: bool,
    /// `$XDG_STATE_HOME`, or its usual place in `$HOME`.
    home: Option<PathBuf>,
}

impl Who {
    fn runs_this(zimbra: &str) -> Self {
        let uid = rustix::process::geteuid();
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        Self {
            is_root: uid.is_root(),
            is_zimbra: guard::uid_of(zimbra) == Some(uid.as_raw()),
            home: dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state"))),
        }
    }

    /// Where its state is kept; on a host with Zimbra below `zimbra`.
    fn state_dir(&self, zimbra: Option<&Path>) -> PathBuf {
        let roots = PathBuf::from("/var/lib/zlm");
        if self.is_root {
            return roots;
        }
        let own = self.home.as_ref().map(|home| home.join("zlm"));
        // Runs that died are in the journal that is there already.
        if let Some(own) = own.as_ref().filter(|own| own.join("journal/journal.db").exists()) {
            return own.clone();
        }
        match zimbra {
            Some(zimbra) if self.is_zimbra => zimbras_dir(zimbra),
            _ => own.unwrap_or(roots),
        }
    }
}

/// Zimbra's user has no home to write in: it is root's. What upgrades keep and nothing cleans up is `data`, which some
/// versions leave to root as well, and `conf`.
fn zimbras_dir(zimbra: &Path) -> PathBuf {
    let places = ["data", "conf"].map(|dir| zimbra.join(dir));
    let made = places.iter().find(|dir| dir.join("zlm").exists());
    let can_write = |dir: &&PathBuf| rustix::fs::access(dir.as_path(), Access::WRITE_OK).is_ok();
    made.or_else(|| places.iter().find(can_write)).unwrap_or(&places[0]).join("zlm")
}

impl Config {
    /// Where this user's state is kept unless something else is set.
    fn state_dir(&self, who: &Who) -> PathBuf {
        who.state_dir(self.local.as_ref().map(|_| self.file.zimbra_home()))
    }

    /// The directory of the journal: for root `/var/lib/zlm`, for Zimbra's user on a host of Zimbra's
    /// `/opt/zimbra/data/zlm/journal`, for anybody else in their home.
    pub fn journal_dir(&self) -> PathBuf {
        let usual = || {
            let who = Who::runs_this(self.zimbra_user());
            let dir = self.state_dir(&who);
            if who.is_root { dir } else { dir.join("journal") }
        };
        self.file.journal.dir.clone().unwrap_or_else(usual)
    }

    /// The log: for root `/var/log/zlm/zlm.log`, for anybody else beside the journal.
    pub fn log_file(&self) -> PathBuf {
        let usual = || {
            let who = Who::runs_this(self.zimbra_user());
            let dir = if who.is_root { PathBuf::from("/var/log/zlm") } else { self.state_dir(&who) };
            dir.join("zlm.log")
        };
        self.file.log.file.clone().unwrap_or_else(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(is_root: bool, is_zimbra: bool, home: Option<&Path>) -> Who {
        Who { is_root, is_zimbra, home: home.map(Path::to_owned) }
    }

    #[test]
    fn everybody_has_a_place_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (home, zimbra) = (dir.path().join("home"), dir.path().join("zimbra"));
        for made in ["data", "conf"] {
            std::fs::create_dir_all(zimbra.join(made)).unwrap();
        }
        assert_eq!(who(true, false, Some(&home)).state_dir(Some(&zimbra)), Path::new("/var/lib/zlm"));
        assert_eq!(who(false, true, Some(&home)).state_dir(Some(&zimbra)), zimbra.join("data/zlm"));
        assert_eq!(who(false, true, Some(&home)).state_dir(None), home.join("zlm"));
        assert_eq!(who(false, false, Some(&home)).state_dir(Some(&zimbra)), home.join("zlm"));
        assert_eq!(who(false, false, None).state_dir(None), Path::new("/var/lib/zlm"));
    }

    #[test]
    fn what_is_there_already_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (home, zimbra) = (dir.path().join("home"), dir.path().join("zimbra"));
        std::fs::create_dir_all(zimbra.join("data")).unwrap();
        std::fs::create_dir_all(zimbra.join("conf/zlm")).unwrap();
        let zimbras = who(false, true, Some(&home));
        assert_eq!(zimbras.state_dir(Some(&zimbra)), zimbra.join("conf/zlm"));
        std::fs::create_dir_all(home.join("zlm/journal")).unwrap();
        std::fs::write(home.join("zlm/journal/journal.db"), "").unwrap();
        assert_eq!(zimbras.state_dir(Some(&zimbra)), home.join("zlm"));
    }
}
