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
/// `service.INVALID_REQUEST` for a `zimbraMailHost` that cannot be, `account.INVALID_ATTR_VALUE` for a status that is none.
pub fn complete(
    account: &Entry,
    changes: &mut Vec<Change>,
    server: impl Fn(&str) -> Outcome<Option<Entry>>,
) -> Outcome<()> {
    if let Some(host) = value(changes, "zimbraMailHost") {
        mail_host(account, changes, &host, server)?;
    }
    if let Some(status) = value(changes, "zimbraAccountStatus") {
        account_status(account, changes, &status)?;
    }
    Ok(())
}

/// What 10.x does beside that with the reason for which an account was suspended: it goes when the account becomes
/// active, from whatever `status` is in force, and without a status in the same request nobody can set it. Versions before
/// 10 leave it alone.
pub fn suspension_reason(changes: &mut Vec<Change>, status: &str) {
    const REASON: &str = "zimbraAccountSuspensionReason";
    match value(changes, "zimbraAccountStatus") {
        Some(new) if new == "active" && status != "active" => force(changes, REASON, ""),
        Some(_) => {}
        None => changes.retain(|c| !c.name.eq_ignore_ascii_case(REASON)),
    }
}

/// Sets one value, whatever the request says.
fn force(changes: &mut Vec<Change>, name: &str, to: &str) {
    changes.retain(|c| !c.name.eq_ignore_ascii_case(name));
    changes.push(Change::set(name, to));
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
    let wrong =
        |what: &str| Fault::invalid_request(format!("specified zimbraMailHost does not correspond to {what}: {host}"));
    let new = server(host)?.ok_or_else(|| wrong("a valid server service hostname"))?;
    if !new.hosts_mailboxes() {
        return Err(wrong("a mailclient server with service webapp enabled"));
    }
    // Of a home that is no server any more, and of an account without a transport, nothing is asked.
    let old = account.get("zimbraMailHost").map_or(Ok(None), &server)?;
    if let (Some(old), Some(transport)) = (old, account.get("zimbraMailTransport"))
        && !follows(transport, old.service_host())
    {
        return Err(Fault::invalid_request(format!(
            "current value of zimbraMailHost does not match zimbraMailTransport ({transport})"
        )));
    }
    let (host, port) = (new.service_host(), new.port("zimbraLmtpBindPort", 7025));
    changes.push(Change::set("zimbraMailTransport", &format!("lmtp:{host}:{port}")));
    Ok(())
}

/// Whether a transport is LMTP to this host, written as the server writes it; the port may be any, or no number.
fn follows(transport: &str, host: &str) -> bool {
    match transport.split(':').collect::<Vec<_>>()[..] {
        [protocol, to, port] => protocol.eq_ignore_ascii_case("lmtp") && to == host && !port.is_empty(),
        _ => false,
    }
}

fn account_status(account: &Entry, changes: &mut Vec<Change>, status: &str) -> Outcome<()> {
    if !["active", "maintenance", "locked", "closed", "lockout", "pending"].contains(&status) {
        return Err(Fault::invalid_attr_value(format!("zimbraAccountStatus cannot be {status}")));
    }
    if matches!(status, "closed" | "pending") {
        force(changes, "zimbraMailStatus", "disabled");
    } else if value(changes, "zimbraMailStatus").is_none() {
        changes.push(Change::set("zimbraMailStatus", "enabled"));
    }
    if status == "active" {
        for name in ["zimbraPasswordLockoutLockedTime", "zimbraPasswordLockoutFailureTime"] {
            if account.get(name).is_some() {
                force(changes, name, "");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(pairs: &[(&str, &str)]) -> Entry {
        Entry::new("a", pairs.iter().map(|(n, v)| (n.to_string(), vec![v.to_string()])))
    }

    fn servers(name: &str) -> Outcome<Option<Entry>> {
        let entry = |service: &str| {
            account(&[
                ("zimbraServiceHostname", name),
                ("zimbraServiceEnabled", service),
                ("zimbraServerVersion", "10.1.0"),
            ])
        };
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
        for transport in
            ["smtp:filter:25", "lmtp:older:7025", "lmtp:Old:7025", "lmtp:old", "lmtp:old:", "lmtp:old:7025:x"]
        {
            let custom = account(&[("zimbraMailHost", "old"), ("zimbraMailTransport", transport)]);
            assert!(after(&custom, &[("zimbraMailHost", "new")]).is_err(), "{transport}");
        }
    }

    #[test]
    fn hosts_change_where_the_transport_is_of_the_old_one_or_none() {
        for transport in ["lmtp:old:9", "LMTP:old:x"] {
            let account = account(&[("zimbraMailHost", "old"), ("zimbraMailTransport", transport)]);
            assert!(after(&account, &[("zimbraMailHost", "new")]).is_ok(), "{transport}");
        }
        let without = account(&[("zimbraMailHost", "old")]);
        assert!(after(&without, &[("zimbraMailHost", "new")]).is_ok());
        let homeless = account(&[("zimbraMailHost", "retired"), ("zimbraMailTransport", "lmtp:x:1")]);
        assert!(after(&homeless, &[("zimbraMailHost", "new")]).is_ok());
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
        // Whatever the request says.
        let all = after(&home(), &[("zimbraAccountStatus", "closed"), ("zimbraMailStatus", "enabled")]).unwrap();
        assert_eq!(all[1], Change::set("zimbraMailStatus", "disabled"));
    }

    #[test]
    fn a_status_that_is_none_is_refused() {
        let fault = after(&home(), &[("zimbraAccountStatus", "enabled")]).unwrap_err();
        assert_eq!(fault.code, "account.INVALID_ATTR_VALUE");
    }

    #[test]
    fn becoming_active_clears_lockout_times_and_the_reason() {
        let held = account(&[("zimbraPasswordLockoutLockedTime", "1")]);
        let names = |old, new| {
            let mut all = after(&held, &[("zimbraAccountStatus", new)]).unwrap();
            suspension_reason(&mut all, old);
            all.into_iter().filter(|c| c.values.is_empty()).map(|c| c.name).collect::<Vec<_>>()
        };
        assert_eq!(names("active", "maintenance"), [""; 0]);
        assert_eq!(names("active", "active"), ["zimbraPasswordLockoutLockedTime"]);
        assert_eq!(names("locked", "active"), ["zimbraPasswordLockoutLockedTime", "zimbraAccountSuspensionReason"]);
        let mut alone = changes([("zimbraAccountSuspensionReason", "unpaid")]);
        suspension_reason(&mut alone, "locked");
        assert!(alone.is_empty());
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
