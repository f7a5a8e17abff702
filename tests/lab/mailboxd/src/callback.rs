//! What the directory layer adds to a modification of an account, or refuses.

use crate::entry::Entry;
use crate::fault::{Fault, Outcome};

/// How the values of an attribute change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// These values and no others; no values unset the attribute.
    Set,
    /// These values in addition.
    Add,
    /// These values no more.
    Remove,
}

/// One attribute of a modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The attribute.
    pub name: String,
    /// How its values change.
    pub how: How,
    /// The values.
    pub values: Vec<String>,
}

impl Change {
    /// Sets one value; an empty one unsets.
    pub fn set(name: &str, value: &str) -> Self {
        let values = if value.is_empty() { Vec::new() } else { vec![value.to_string()] };
        Self { name: name.into(), how: How::Set, values }
    }
}

/// The changes of a request: `(n, value)` pairs, where `n` may start with `+` or `-`, and repeating it
/// gives several values.
pub fn changes<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for (name, value) in pairs {
        let (how, name) = match name.split_at_checked(1) {
            Some(("+", rest)) => (How::Add, rest),
            Some(("-", rest)) => (How::Remove, rest),
            _ => (How::Set, name),
        };
        match all.iter_mut().find(|c| c.how == how && c.name.eq_ignore_ascii_case(name)) {
            Some(change) if !value.is_empty() => change.values.push(value.to_string()),
            Some(_) => {}
            None => all.push(Change { how, ..Change::set(name, value) }),
        }
    }
    all
}

/// Adds to `changes` what follows from them.
///
/// `account` is the entry as this server believes it to be, and `server` finds one by service host name.
///
/// # Errors
/// `service.INVALID_REQUEST` for a `zimbraMailHost` that cannot be.
pub fn complete(
    account: &Entry,
    changes: &mut Vec<Change>,
    server: impl Fn(&str) -> Outcome<Option<Entry>>,
) -> Outcome<()> {
    if let Some(host) = value(changes, "zimbraMailHost") {
        mail_host(account, changes, &host, server)?;
    }
    if let Some(status) = value(changes, "zimbraAccountStatus") {
        account_status(account, changes, &status);
    }
    Ok(())
}

fn value(changes: &[Change], name: &str) -> Option<String> {
    let change = changes.iter().find(|c| c.name.eq_ignore_ascii_case(name))?;
    Some(change.values.first().cloned().unwrap_or_default())
}

/// The transport follows the host, in the same modification; so the host may change only while the
/// transport is the one that followed from the old host.
fn mail_host(
    account: &Entry,
    changes: &mut Vec<Change>,
    host: &str,
    server: impl Fn(&str) -> Outcome<Option<Entry>>,
) -> Outcome<()> {
    if value(changes, "zimbraMailTransport").is_some() {
        return Err(Fault::invalid_request("setting both zimbraMailHost and zimbraMailTransport is not allowed"));
    }
    if host.is_empty() {
        return Ok(());
    }
    if let (Some(old), Some(transport)) = (account.get("zimbraMailHost"), account.get("zimbraMailTransport"))
        && !follows(transport, old)
    {
        return Err(Fault::invalid_request(format!(
            "current value of zimbraMailHost ({old}) does not match zimbraMailTransport ({transport})"
        )));
    }
    let new = server(host)?.filter(Entry::hosts_mailboxes).ok_or_else(|| {
        Fault::invalid_request(format!(
            "specified zimbraMailHost does not correspond to a valid mailbox server: {host}"
        ))
    })?;
    let port = new.port("zimbraLmtpBindPort", 7025);
    changes.push(Change::set("zimbraMailTransport", &format!("lmtp:{host}:{port}")));
    Ok(())
}

/// Whether a transport is LMTP to this host, on whatever port.
fn follows(transport: &str, host: &str) -> bool {
    let rest = transport.strip_prefix("lmtp:").and_then(|r| r.strip_prefix(host)).and_then(|r| r.strip_prefix(':'));
    rest.is_some_and(|port| port.parse::<u16>().is_ok())
}

fn account_status(account: &Entry, changes: &mut Vec<Change>, status: &str) {
    if value(changes, "zimbraMailStatus").is_none() {
        let mail = if matches!(status, "closed" | "pending") { "disabled" } else { "enabled" };
        changes.push(Change::set("zimbraMailStatus", mail));
    }
    let mut unset = vec!["zimbraAccountSuspensionReason"];
    if status == "active" {
        unset.extend(["zimbraPasswordLockoutLockedTime", "zimbraPasswordLockoutFailureTime"]);
    }
    for name in unset {
        if account.get(name).is_some() && value(changes, name).is_none() {
            changes.push(Change::set(name, ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(pairs: &[(&str, &str)]) -> Entry {
        Entry::new("a", pairs.iter().map(|(n, v)| (n.to_string(), vec![v.to_string()])))
    }

    fn servers(name: &str) -> Outcome<Option<Entry>> {
        let entry = |service: &str| account(&[("zimbraServiceEnabled", service), ("zimbraServerVersion", "10.1.0")]);
        Ok(match name {
            "new" | "old" => Some(entry("service")),
            "proxy" => Some(entry("proxy")),
            _ => None,
        })
    }

    fn home() -> Entry {
        account(&[("zimbraMailHost", "old"), ("zimbraMailTransport", "lmtp:old:7025")])
    }

    fn after(account: &Entry, pairs: &[(&str, &str)]) -> Outcome<Vec<Change>> {
        let mut all = changes(pairs.iter().copied());
        complete(account, &mut all, servers).map(|()| all)
    }

    #[test]
    fn the_transport_follows_the_host() {
        let all = after(&home(), &[("zimbraMailHost", "new")]).unwrap();
        assert_eq!(all[1], Change::set("zimbraMailTransport", "lmtp:new:7025"));
    }

    #[test]
    fn hosts_that_cannot_be_are_refused() {
        let both = [("zimbraMailHost", "new"), ("zimbraMailTransport", "lmtp:new:7025")];
        assert_eq!(after(&home(), &both).unwrap_err().code, "service.INVALID_REQUEST");
        for host in ["nowhere", "proxy"] {
            assert_eq!(after(&home(), &[("zimbraMailHost", host)]).unwrap_err().code, "service.INVALID_REQUEST");
        }
        for transport in ["smtp:filter:25", "lmtp:older:7025", "lmtp:old", "lmtp:old:x"] {
            let custom = account(&[("zimbraMailHost", "old"), ("zimbraMailTransport", transport)]);
            assert!(after(&custom, &[("zimbraMailHost", "new")]).is_err(), "{transport}");
        }
        let other_port = account(&[("zimbraMailHost", "old"), ("zimbraMailTransport", "lmtp:old:9")]);
        assert!(after(&other_port, &[("zimbraMailHost", "new")]).is_ok());
    }

    #[test]
    fn the_mail_status_follows_the_status_unless_given() {
        for (status, mail) in
            [("maintenance", "enabled"), ("active", "enabled"), ("closed", "disabled"), ("pending", "disabled")]
        {
            let all = after(&home(), &[("zimbraAccountStatus", status)]).unwrap();
            assert_eq!(all[1], Change::set("zimbraMailStatus", mail), "{status}");
        }
        let all = after(&home(), &[("zimbraAccountStatus", "active"), ("zimbraMailStatus", "disabled")]).unwrap();
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_status_clears_reasons_and_lockout_times() {
        let held = account(&[("zimbraAccountSuspensionReason", "unpaid"), ("zimbraPasswordLockoutLockedTime", "1")]);
        let names = |status| {
            let all = after(&held, &[("zimbraAccountStatus", status)]).unwrap();
            all.into_iter().filter(|c| c.values.is_empty()).map(|c| c.name).collect::<Vec<_>>()
        };
        assert_eq!(names("maintenance"), ["zimbraAccountSuspensionReason"]);
        assert_eq!(names("active"), ["zimbraAccountSuspensionReason", "zimbraPasswordLockoutLockedTime"]);
    }

    #[test]
    fn repeated_names_are_several_values() {
        let all = changes([("a", "1"), ("A", "2"), ("+b", "3"), ("-b", "4"), ("c", "")]);
        let plain: Vec<_> = all.iter().map(|c| (c.name.as_str(), c.how, c.values.join(","))).collect();
        assert_eq!(
            plain,
            [
                ("a", How::Set, "1,2".to_string()),
                ("b", How::Add, "3".to_string()),
                ("b", How::Remove, "4".to_string()),
                ("c", How::Set, String::new()),
            ]
        );
    }
}
