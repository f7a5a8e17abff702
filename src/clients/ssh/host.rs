//! Names that go on a command line.

use crate::error::{Error, Kind, Result};

/// Accepts a host name or an address that cannot be read as an option, a user or a token of `ssh`.
///
/// Fails with [`Kind::Config`]: a name is letters, digits, `.`, `-` and `_`, starts with a letter or digit and
/// has at most 253 bytes; or it is an IPv6 address without a zone.
pub fn check_host(host: &str) -> Result<()> {
    let named = host.len() <= 253
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    if named || host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(());
    }
    Err(Error::new(Kind::Config, format!("host name {host:?} is not one")))
}

/// Accepts a user name as `useradd` does: no option, no `@`, nothing that a shell would expand.
pub(super) fn check_user(user: &str) -> Result<()> {
    let fine = user.len() <= 32
        && user.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && user.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    if fine { Ok(()) } else { Err(Error::new(Kind::Config, format!("user name {user:?} is not one"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pass_and_options_do_not() {
        for host in ["store1.lab.test", "127.0.0.1", "::1", "fe80::1", "3com", "a_b"] {
            assert!(check_host(host).is_ok(), "{host}");
        }
        for host in ["", "-oProxyCommand=x", "a b", "a;b", "root@a", "a\nb", "$(id)", "fe80::1%eth0", ".a", "a/b", "ä"]
        {
            assert_eq!(check_host(host).unwrap_err().kind(), Kind::Config, "{host}");
        }
        assert!(check_user("zimbra").is_ok());
        for user in ["", "-l", "a@b", "a b", "%u", "a\n"] {
            assert!(check_user(user).is_err(), "{user}");
        }
    }
}
