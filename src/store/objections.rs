//! Why two stores' databases do not fit together for a move.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Facts, MailboxRow};

/// The version of mailboxes that every release since 8.7 writes; a newer one cannot be opened by these.
const MAILBOX_VERSION: (u32, u32) = (2, 7);

/// Every reason against moving a mailbox between two stores, as far as their settings tell.
pub fn objections(source: &Facts, dest: &Facts, mailbox: &MailboxRow) -> Vec<String> {
    let mut reasons = Vec::new();
    if source.server.hostname == dest.server.hostname && source.server.datadir == dest.server.datadir {
        reasons.push("both stores are one MariaDB server: a tunnel or a name leads to the wrong place".to_owned());
    }
    if source.db_version > dest.db_version {
        let (here, there) = (source.db_version, dest.db_version);
        reasons.push(format!("the destination has the older schema: db.version {there}, and the source {here}"));
    }
    if let Some((here, there)) = source.zone.difference(&dest.zone, now()) {
        let (ours, theirs) = (&source.server.time_zone, &dest.server.time_zone);
        reasons.push(format!(
            "the hosts have different time zones ({ours} and {theirs}): when the source's clock shows {here}, the destination's shows {there}: appointments would shift"
        ));
    }
    if dest.max_allowed_packet < source.max_allowed_packet {
        let (here, there) = (source.max_allowed_packet, dest.max_allowed_packet);
        reasons.push(format!(
            "the destination takes rows of {there} bytes at most (max_allowed_packet), the source {here}"
        ));
    }
    if let Some(version) = mailbox.get("version")
        && parse(version).is_none_or(|v| v > MAILBOX_VERSION)
        && source.db_version != dest.db_version
    {
        reasons.push(format!("the mailbox has version {version}, which the destination may not open"));
    }
    reasons
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse("2.10").unwrap() > MAILBOX_VERSION);
        assert_eq!(parse("2.7"), Some(MAILBOX_VERSION));
        assert_eq!(parse("x"), None);
    }
}
