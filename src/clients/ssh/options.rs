//! How to reach one host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::host::{check_host, check_user};
use super::run_dir::RunDir;
use crate::error::{Error, Kind, Result};

/// How to reach one host. The operator's own `ssh` configuration is read too (jump hosts, ciphers); what is
/// set here, and every rule about keys and forwarding, wins over it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, as it stands in the known hosts.
    pub host: String,
    /// The port of sshd there; `None` leaves it to the configuration, then 22.
    pub port: Option<u16>,
    /// The user there.
    pub user: String,
    /// The private key, an absolute path; `None` leaves it to the configuration.
    pub identity: Option<PathBuf>,
    /// The only file of known hosts, an absolute path; `None` means the user's and the system's.
    pub known_hosts: Option<PathBuf>,
    /// For connecting, the handshake included.
    pub connect_timeout: Duration,
    /// Where the sockets are, and which local user holds them.
    pub run_dir: Arc<RunDir>,
    /// How its user logs in from there to other hosts, where that is known.
    pub onward: Option<Onward>,
}

/// How a host's user logs in to other hosts: paths on that host.
#[derive(Clone, Debug)]
pub struct Onward {
    /// The private key.
    pub identity: PathBuf,
    /// The only file of known hosts.
    pub known_hosts: PathBuf,
}

impl Options {
    /// The user `zimbra` on `host`, everything else as configured.
    pub fn new(host: impl Into<String>, run_dir: Arc<RunDir>) -> Self {
        Self {
            host: host.into(),
            port: None,
            user: "zimbra".into(),
            identity: None,
            known_hosts: None,
            connect_timeout: Duration::from_secs(15),
            run_dir,
            onward: None,
        }
    }

    /// The arguments of `ssh` up to, and without, `--` and the host.
    ///
    /// Fails with [`Kind::Config`] on a name or path that `ssh` would read as something else.
    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        check_host(&self.host)?;
        check_user(&self.user)?;
        let mut argv: Vec<String> = vec!["-T".into(), "-x".into(), "-a".into()];
        let mut set = |option: String| argv.extend(["-o".into(), option]);
        for option in FIXED {
            set((*option).into());
        }
        set(format!("ConnectTimeout={}", self.connect_timeout.as_secs().max(1)));
        set(format!("User={}", self.user));
        if let Some(port) = self.port {
            set(format!("Port={port}"));
        }
        if let Some(path) = &self.known_hosts {
            set(format!("UserKnownHostsFile={}", literal(path)?));
            set("GlobalKnownHostsFile=none".into());
        }
        if let Some(path) = &self.identity {
            set(format!("IdentityFile={}", literal(path)?));
            set("IdentityAgent=none".into());
        }
        Ok(argv)
    }
}

/// Host keys are never accepted on sight, nothing is asked, nothing of this host is lent to the other, and a
/// dead peer is noticed within half a minute.
const FIXED: &[&str] = &[
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "NoHostAuthenticationForLocalhost=no",
    "IdentitiesOnly=yes",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "ControlPersist=no",
    "ConnectionAttempts=1",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "StreamLocalBindMask=0177",
    "LogLevel=ERROR",
];

/// A path as `ssh` takes it literally: its percent signs are tokens otherwise.
fn literal(path: &Path) -> Result<String> {
    path.to_str()
        .filter(|text| {
            text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !br#"'"\${}"#.contains(&b))
        })
        .map(|text| text.replace('%', "%%"))
        .ok_or_else(|| {
            Error::new(Kind::Config, format!("{path:?}: not a path that ssh takes"))
                .hint("use an absolute path of plain characters")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_before_what_can_be_chosen() {
        let mut options = Options::new("store1.lab.test", Arc::new(RunDir::new(None).unwrap()));
        options.identity = Some("/keys/100%".into());
        let line = options.arguments().unwrap().join(" ");
        assert!(line.contains("StrictHostKeyChecking=yes") && line.contains("IdentityFile=/keys/100%%"), "{line}");
        options.identity = Some("relative".into());
        assert_eq!(options.arguments().unwrap_err().kind(), Kind::Config);
        options.identity = Some("/a b".into());
        assert!(options.arguments().is_err());
        options.identity = None;
        options.user = "-l".into();
        assert!(options.arguments().is_err());
        options.user = "zimbra".into();
        options.host = "-oProxyCommand=x".into();
        assert!(options.arguments().is_err());
    }
}
