//! The directory's view: attributes of accounts, before and after.

use std::collections::{BTreeMap, BTreeSet};

use super::Before;
use super::report::Report;

/// Attributes of accounts: by `zimbraId`, then by name.
pub type Ldap = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Attributes that the directory itself keeps.
const ITS_OWN: [&str; 4] = ["modifyTimestamp", "modifiersName", "entryCSN", "contextCSN"];

/// Attributes that a move changes.
const MOVED: [&str; 2] = ["zimbraMailHost", "zimbraMailTransport"];

pub(super) fn check_moved(report: &mut Report, before: &Before, host: &str, after: &Ldap) {
    check(report, before, after, &MOVED);
    let account = after.get(&before.account_id);
    let values = |name| account.and_then(|account| account.get(name)).cloned().unwrap_or_default();
    if values("zimbraMailHost") != [host] {
        report.differ(format!("I1 zimbraMailHost: {:?}, not {host}", values("zimbraMailHost")));
    }
    if values("zimbraMailTransport") != [format!("lmtp:{host}:7025")] {
        report.differ(format!("I1 zimbraMailTransport: {:?}", values("zimbraMailTransport")));
    }
}

pub(super) fn check_same(report: &mut Report, before: &Before, after: &Ldap) {
    check(report, before, after, &[]);
}

fn check(report: &mut Report, before: &Before, after: &Ldap, except: &[&str]) {
    let none = BTreeMap::new();
    for (id, old) in &before.ldap {
        let own = *id == before.account_id;
        if !own && before.moving.contains(id) {
            continue;
        }
        let new = after.get(id).unwrap_or(&none);
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let ignored = ITS_OWN.contains(&name.as_str());
            if ignored || (own && except.contains(&name.as_str())) {
                continue;
            }
            let (was, is) = (sorted(old.get(name)), sorted(new.get(name)));
            if was != is {
                let rule = if own { "I4" } else { "I6" };
                report.differ(format!("{rule} account {id} {name}: {was:?} became {is:?}"));
            }
        }
    }
}

fn sorted(values: Option<&Vec<String>>) -> Vec<&String> {
    let mut all: Vec<&String> = values.into_iter().flatten().collect();
    all.sort_unstable();
    all
}
