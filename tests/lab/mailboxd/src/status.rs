//! What the status of an account allows.

use crate::entry::Entry;
use crate::fault::{Fault, Outcome};

/// The status in force: the account's own, unless its domain says something stricter.
pub fn in_force<'a>(account: &'a Entry, domain: Option<&Entry>) -> &'a str {
    match domain.and_then(|d| d.get("zimbraDomainStatus")) {
        Some("suspended" | "shutdown" | "maintenance") => "maintenance",
        Some("closed") => "closed",
        Some("locked") if own(account) != "maintenance" && own(account) != "closed" => "locked",
        _ => own(account),
    }
}

fn own(account: &Entry) -> &str {
    account.get("zimbraAccountStatus").unwrap_or("")
}

/// Whether somebody with the right password may log in.
///
/// # Errors
/// `account.MAINTENANCE_MODE`, or `account.ACCOUNT_INACTIVE`.
pub fn check_login(status: &str, name: &str) -> Outcome<()> {
    match status {
        "active" => Ok(()),
        "maintenance" => Err(Fault::maintenance_mode()),
        _ => Err(Fault::account_inactive(name)),
    }
}

/// What LMTP says to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// 250.
    Accepted,
    /// 450: the sender keeps the message and tries again.
    TryAgain,
    /// 550: the sender bounces.
    Refused,
}

/// What a status means for new mail.
pub fn recipient(status: &str) -> Recipient {
    match status {
        "active" | "lockout" | "locked" => Recipient::Accepted,
        "maintenance" => Recipient::TryAgain,
        _ => Recipient::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: &str) -> Entry {
        Entry::new("x", [(name.to_string(), vec![value.to_string()])])
    }

    #[test]
    fn the_domain_can_override() {
        let table = [
            ("active", None, "active"),
            ("active", Some("active"), "active"),
            ("active", Some("suspended"), "maintenance"),
            ("active", Some("shutdown"), "maintenance"),
            ("locked", Some("maintenance"), "maintenance"),
            ("active", Some("locked"), "locked"),
            ("closed", Some("locked"), "closed"),
            ("active", Some("closed"), "closed"),
        ];
        for (own, domain, expected) in table {
            let domain = domain.map(|d| entry("zimbraDomainStatus", d));
            assert_eq!(in_force(&entry("zimbraAccountStatus", own), domain.as_ref()), expected, "{own}");
        }
    }

    #[test]
    fn mail_and_login_by_status() {
        let table = [
            ("active", true, Recipient::Accepted),
            ("lockout", false, Recipient::Accepted),
            ("locked", false, Recipient::Accepted),
            ("maintenance", false, Recipient::TryAgain),
            ("pending", false, Recipient::Refused),
            ("closed", false, Recipient::Refused),
            ("", false, Recipient::Refused),
        ];
        for (status, login, mail) in table {
            assert_eq!(check_login(status, "x").is_ok(), login, "{status}");
            assert_eq!(recipient(status), mail, "{status}");
        }
        assert_eq!(check_login("maintenance", "x").unwrap_err().code, "account.MAINTENANCE_MODE");
        assert_eq!(check_login("locked", "x").unwrap_err().code, "account.ACCOUNT_INACTIVE");
    }
}
