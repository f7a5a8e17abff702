//! The user that local children run as.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Kind, Result};

/// A user of this host.
///
/// Zimbra's files are writable by the user `zimbra`, who could plant a link in them; children that touch
/// them therefore never run as root, and what they create belongs to `zimbra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

impl User {
    /// Looks a user up in `/etc/passwd`.
    ///
    /// Fails with [`Kind::NotFound`] when there is none of that name.
    pub fn lookup(name: &str) -> Result<Self> {
        let text = std::fs::read_to_string("/etc/passwd").context(Kind::Io, || "/etc/passwd: reading".into())?;
        find(&text, name).ok_or_else(|| Error::new(Kind::NotFound, format!("user {name}: not in /etc/passwd")))
    }
}

impl User {
    /// Who started this process, for others to read: whoever became root by sudo, or the user itself.
    pub fn whoever() -> String {
        if let Ok(user) = std::env::var("SUDO_USER") {
            return user;
        }
        let uid = rustix::process::geteuid().as_raw();
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
        });
        name.unwrap_or_else(|| format!("uid {uid}"))
    }
}

fn find(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.into();
        Some(User { name: name.to_owned(), uid, gid, home })
    })
}

/// A command with a clean environment, no terminal and a process group of its own: Ctrl-C reaches zlm, which
/// decides what ends when; its children do not hear it.
pub(crate) fn command(program: &str, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null());
    match user {
        Some(user) => {
            command.uid(user.uid).gid(user.gid);
            command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
        }
        None => {
            for name in ["HOME", "USER", "LOGNAME"] {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_is_read_by_exact_name() {
        let text = "root:x:0:0:root:/root:/bin/bash\nzimbra2:x:1:1::/x:/bin/sh\nzimbra:x:7900:7901:Zimbra:/opt/zimbra:/bin/bash\n";
        let user = find(text, "zimbra").unwrap();
        assert_eq!((user.uid, user.gid, user.home), (7900, 7901, PathBuf::from("/opt/zimbra")));
        assert!(find(text, "zim").is_none());
        assert!(find("zimbra:x:seven:1::/x:", "zimbra").is_none());
    }

    #[test]
    fn a_child_sees_a_clean_environment() {
        let out = command("env", None).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains("LC_ALL=C\n") && !text.contains("CARGO"), "{text}");
    }
}
