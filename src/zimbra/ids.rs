//! Names and numbers of Zimbra as types: whoever holds one knows that it was checked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

fn invalid(what: &str, text: &str, why: &str) -> Error {
    // A wrong name may be long or hold control characters; it is shown cut and escaped.
    let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
    Error::new(Kind::Usage, format!("{what} '{shown}': {why}"))
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl $name {
            /// The text, in lower case.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Checks the form and turns it to lower case; fails with [`Kind::Usage`].
            fn from_str(text: &str) -> Result<Self> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_ascii_lowercase())),
                    Err(why) => Err(invalid($what, text, why)),
                }
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// An e-mail address as Zimbra keeps them: an unquoted local part, `@`, a domain.
    Address,
    "address",
    check_address
);
checked_name!(
    /// A `zimbraId`: a UUID.
    ZimbraId,
    "zimbraId",
    check_uuid
);
checked_name!(
    /// The name of a host, such as a server's `zimbraServiceHostname`. It never starts with `-`, so that no
    /// program takes it for an option.
    Host,
    "host",
    check_host
);

impl Address {
    /// What stands before the `@`.
    pub fn local(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

fn check_address(text: &str) -> Result<(), &'static str> {
    let (local, domain) = text.rsplit_once('@').ok_or("has no @")?;
    if local.is_empty() || local.len() > 64 {
        return Err("the part before @ must have 1 to 64 characters");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if !local.chars().all(allowed) {
        return Err("the part before @ holds a character that no address of Zimbra has");
    }
    if local.starts_with('-') {
        return Err("starts with -");
    }
    check_host(domain)
}

fn check_uuid(text: &str) -> Result<(), &'static str> {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, c): (usize, u8)| if dash(at) { c == b'-' } else { c.is_ascii_hexdigit() };
    if text.len() == 36 && text.bytes().enumerate().all(fits) {
        Ok(())
    } else {
        Err("is not 8-4-4-4-12 hexadecimal digits")
    }
}

fn check_host(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 253 {
        return Err("a host or domain must have 1 to 253 characters");
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    if text.split('.').all(label) {
        Ok(())
    } else {
        Err("the host or domain is not labels of a-z, 0-9 and - between dots")
    }
}

/// The id of a mailbox on one store: `mailbox.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(u32);

impl MailboxId {
    /// Checks a number read from a row or an answer; fails with [`Kind::Usage`]. The column is unsigned, but
    /// mailboxd holds the id in a signed 32-bit integer, which is the bound here.
    pub fn new(number: u64) -> Result<Self> {
        match u32::try_from(number) {
            Ok(id) if id > 0 && i32::try_from(id).is_ok() => Ok(Self(id)),
            _ => Err(invalid("mailbox id", &number.to_string(), "is not 1 to 2147483647")),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The mailbox group that a store with `groups` groups (`zimbra_mailbox_groups`) gives this id. What counts
    /// for an existing mailbox is `group_id` of its row.
    pub fn group(self, groups: GroupCount) -> GroupId {
        GroupId((self.0 - 1) % groups.0 + 1)
    }
}

impl FromStr for MailboxId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten() {
            Some(number) => Self::new(number),
            None => Err(invalid("mailbox id", text, "is not a number")),
        }
    }
}

impl fmt::Display for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many mailbox groups a store has: its localconfig's `zimbra_mailbox_groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCount(u32);

impl GroupCount {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Checks the number; fails with [`Kind::Config`].
    pub fn new(number: u32) -> Result<Self> {
        match number {
            1..=100_000 => Ok(Self(number)),
            _ => Err(Error::new(Kind::Config, format!("zimbra_mailbox_groups: {number} is not 1 to 100000"))),
        }
    }
}

impl Default for GroupCount {
    fn default() -> Self {
        Self(100)
    }
}

/// A mailbox group: the number of the database that holds a mailbox's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u32);

impl GroupId {
    /// Checks a number read from `mailbox.group_id`; fails with [`Kind::Usage`].
    pub fn new(number: u64) -> Result<Self> {
        match u32::try_from(number) {
            Ok(id) if id > 0 => Ok(Self(id)),
            _ => Err(invalid("mailbox group", &number.to_string(), "is not a positive number")),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The name of its database.
    pub fn database(self) -> String {
        format!("mboxgroup{}", self.0)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses() {
        let address: Address = "O'Brien+x@Lab.Test".parse().unwrap();
        assert_eq!((address.local(), address.domain()), ("o'brien+x", "lab.test"));
        for wrong in
            ["", "a", "@b", "a@", "a b@c", "a@b c", "a@b@c", "-oProxyCommand=x@b", "a\n@b", "a\0@b", "a\"@b", "a;@b"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn hosts() {
        for right in ["store1.lab.test", "localhost", "10.77.0.21", "a-b.c"] {
            assert!(right.parse::<Host>().is_ok(), "{right}");
        }
        for wrong in ["", "-oProxyCommand=id", "a..b", "a.", "a_b", "a b", "a/b", "a:22", "a-.b", "é.test"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn zimbra_ids() {
        let id: ZimbraId = "4C0F6A3E-1B2D-4E5F-8A9B-0C1D2E3F4A5B".parse().unwrap();
        assert_eq!(id.as_str(), "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b");
        assert!("4c0f6a3e1b2d-4e5f-8a9b-0c1d2e3f4a5b0".parse::<ZimbraId>().is_err());
        assert!("*".parse::<ZimbraId>().is_err());
    }

    #[test]
    fn groups() {
        let group = |id, groups| MailboxId::new(id).unwrap().group(GroupCount::new(groups).unwrap()).get();
        assert_eq!((group(1, 100), group(100, 100), group(101, 100), group(7, 1)), (1, 100, 1, 1));
        assert_eq!(GroupId::new(12).unwrap().database(), "mboxgroup12");
        assert!("+7".parse::<MailboxId>().is_err());
        assert!("0".parse::<MailboxId>().is_err());
        assert!("2147483648".parse::<MailboxId>().is_err());
    }

    proptest! {
        #[test]
        fn a_group_is_within_the_count(id in 1u64..=i32::MAX as u64, groups in 1u32..=100_000) {
            let group = MailboxId::new(id).unwrap().group(GroupCount::new(groups).unwrap()).get();
            prop_assert!((1..=groups).contains(&group));
            prop_assert_eq!(u64::from(group) % u64::from(groups), id % u64::from(groups));
        }

        #[test]
        fn whatever_parses_is_safe_and_parses_to_itself(text in "\\PC{0,20}(@\\PC{0,20})?") {
            if let Ok(address) = text.parse::<Address>() {
                let shown = address.to_string();
                prop_assert_eq!(&shown.parse::<Address>().unwrap(), &address);
                prop_assert!(shown.bytes().all(|c| c.is_ascii_graphic()) && !shown.starts_with('-'));
                prop_assert_eq!(format!("{}@{}", address.local(), address.domain()), shown);
            }
            if let Ok(host) = text.parse::<Host>() {
                prop_assert!(host.as_str().bytes().all(|c| c.is_ascii_alphanumeric() || b".-".contains(&c)));
                prop_assert!(!host.as_str().starts_with('-'));
            }
        }

        #[test]
        fn mailbox_ids_round_trip(id in 1u64..=i32::MAX as u64) {
            let id = MailboxId::new(id).unwrap();
            prop_assert_eq!(id.to_string().parse::<MailboxId>().unwrap(), id);
        }
    }
}
