//! The memcached keys that name an account: routes of the proxy, and what mailboxd itself keeps there.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::zimbra::account::Account;
use crate::zimbra::ids::ZimbraId;

const PROTOCOLS: [&str; 6] = ["http", "httpssl", "imap", "imapssl", "pop3", "pop3ssl"];

/// What an account's routes are made of.
#[derive(Clone, Debug)]
pub struct RouteFacts {
    /// The account.
    pub id: ZimbraId,
    /// Its uid: what stands before the `@` of its address.
    pub user: String,
    /// Its domain.
    pub domain: String,
    /// Its full aliases (`zimbraMailAlias`), of whatever domain.
    pub aliases: Vec<String>,
    /// `zimbraVirtualIPAddress` of the domain.
    pub virtual_ips: Vec<String>,
    /// `zimbraVirtualHostname` of the domain.
    pub virtual_hosts: Vec<String>,
    /// The alias domains of the domain.
    pub alias_domains: Vec<String>,
}

impl RouteFacts {
    /// The facts of an account whose domain has no virtual hosts, virtual addresses or alias domains; the
    /// caller adds those.
    pub fn new(account: &Account) -> Self {
        Self {
            id: account.id.clone(),
            user: account.address.local().to_owned(),
            domain: account.domain().to_owned(),
            aliases: account.aliases.clone(),
            virtual_ips: Vec::new(),
            virtual_hosts: Vec::new(),
            alias_domains: Vec::new(),
        }
    }

    /// What stands before the `@` of the aliases that `fits` takes by their domain.
    fn alias_users(&self, fits: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        self.aliases
            .iter()
            .filter_map(|alias| alias.rsplit_once('@'))
            .filter(move |(_, d)| fits(d))
            .map(|(user, _)| user)
    }

    /// Every name that the account can log in with.
    fn logins(&self) -> Vec<String> {
        let mut logins = vec![self.user.clone(), format!("{}@{}", self.user, self.domain)];
        logins.extend(self.aliases.iter().cloned());
        let own = self.alias_users(|domain| domain.eq_ignore_ascii_case(&self.domain));
        for user in own.chain([self.user.as_str()]) {
            logins.extend(self.alias_domains.iter().map(|domain| format!("{user}@{domain}")));
        }
        for user in self.alias_users(|_| true).chain([self.user.as_str()]) {
            logins.extend(self.virtual_ips.iter().map(|ip| format!("{user}@{ip}")));
        }
        logins
    }
}

/// Every key under which the proxy may have cached a route of the account, sorted, each once. Keys hold the
/// login as it was typed, which cannot be known; the spelling of the directory and lower case are covered.
pub fn route_keys(facts: &RouteFacts) -> Vec<String> {
    let mut keys = BTreeSet::new();
    for login in facts.logins() {
        for login in [login.to_lowercase(), login] {
            keys.extend(PROTOCOLS.map(|protocol| format!("route:proto={protocol};user={login}")));
        }
    }
    for id in ["http;", "httpssl;", "httpssl;admin=1;", "http;zx=1;", "https;zx=1;", "httpssl;zx=1;"] {
        keys.insert(format!("route:proto={id}id={}", facts.id));
    }
    for user in facts.alias_users(|_| true).chain([facts.user.as_str()]) {
        for user in [user.to_lowercase(), user.to_owned()] {
            let addresses = facts.virtual_ips.iter().chain(&facts.alias_domains).chain([&facts.domain]);
            keys.extend(addresses.map(|ip| format!("alias:user={user};ip={ip}")));
            keys.extend(facts.virtual_hosts.iter().map(|host| format!("alias:user={user};vhost={host}")));
        }
    }
    keys.into_iter().filter(|key| is_key(key)).collect()
}

/// The keys under which every mailboxd shares what it knows of an account, for these folders. The folders and
/// tags are read back without a version check when a mailbox is opened, so that a stale value would give the
/// destination wrong folders.
///
/// Up to patch 24 of version 9 they stand as they are, since then as their SHA-256: both, since a site may run both.
pub fn mailboxd_keys(account: &ZimbraId, folders: &[u32]) -> Vec<String> {
    let mut keys: Vec<_> = ["zmFldrsTags", "zmCalsList"].map(|kind| format!("{kind}:{account}")).into();
    for folder in folders {
        keys.extend(["zmEffFolderACL", "zmCalSumry", "zmCtagInfo"].map(|kind| format!("{kind}:{account}:{folder}")));
    }
    let hashed: Vec<String> = keys.iter().map(|key| format!("{:x}", Sha256::digest(key))).collect();
    keys.extend(hashed);
    keys
}

/// Whether memcached can hold a key of this name; what it cannot hold need not be deleted.
pub fn is_key(key: &str) -> bool {
    (1..=250).contains(&key.len()) && key.chars().all(|c| !c.is_control() && c != ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> RouteFacts {
        RouteFacts {
            id: "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b".parse().unwrap(),
            user: "anna".into(),
            domain: "lab.test".into(),
            aliases: vec!["Ann@lab.test".into(), "info@other.test".into()],
            virtual_ips: vec!["10.77.0.31".into()],
            virtual_hosts: vec!["webmail.lab.test".into()],
            alias_domains: vec!["lab.example".into()],
        }
    }

    #[test]
    fn every_kind_of_key() {
        let keys = route_keys(&facts());
        for key in [
            "route:proto=imapssl;user=anna",
            "route:proto=http;user=anna@lab.test",
            "route:proto=pop3;user=Ann@lab.test",
            "route:proto=pop3;user=ann@lab.test",
            "route:proto=imap;user=info@other.test",
            "route:proto=imap;user=anna@10.77.0.31",
            "route:proto=imap;user=ann@10.77.0.31",
            "route:proto=imap;user=anna@lab.example",
            "route:proto=imap;user=ann@lab.example",
            "route:proto=http;id=4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b",
            "route:proto=httpssl;admin=1;id=4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b",
            "route:proto=http;zx=1;id=4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b",
            "alias:user=anna;ip=lab.test",
            "alias:user=ann;ip=10.77.0.31",
            "alias:user=Ann;vhost=webmail.lab.test",
            "alias:user=anna;ip=lab.example",
        ] {
            assert!(keys.iter().any(|k| k == key), "{key} not in {keys:#?}");
        }
        // An alias of another domain gives nobody a name in this domain's alias domains.
        assert!(!keys.iter().any(|k| k.contains("info@lab.example")));
    }

    #[test]
    fn keys_of_mailboxd() {
        let keys = mailboxd_keys(&facts().id, &[2, 10]);
        assert_eq!(keys.len(), 2 * (2 + 2 * 3));
        assert!(keys.contains(&"zmEffFolderACL:4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b:10".to_owned()));
        // printf zmFldrsTags:4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b | sha256sum
        assert!(
            keys.contains(&"9e82546a4455af631e90c04ab1b4dd9688d409ef9007004a3db9644ee65f417f".to_owned()),
            "{keys:?}"
        );
        assert!(keys.iter().all(|key| is_key(key)));
    }

    proptest! {
        #[test]
        fn keys_are_valid_sorted_and_name_the_account(
            user in "[a-zA-Z.]{1,60}", alias in "[ -~]{0,80}@[a-z.]{1,250}", ips in proptest::collection::vec("[0-9.]{1,15}", 0..3)
        ) {
            let facts = RouteFacts { user: user.clone(), aliases: vec![alias], virtual_ips: ips, ..facts() };
            let keys = route_keys(&facts);
            prop_assert!(keys.iter().all(|key| is_key(key)));
            prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
            let login = format!("route:proto=imap;user={}", user.to_lowercase());
            prop_assert!(keys.contains(&login));
        }
    }
}
