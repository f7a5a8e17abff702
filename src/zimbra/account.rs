//! Accounts: who, where, and what their status means for mail.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::zimbra::entry::Entry;
use crate::zimbra::ids::{Address, Host, ZimbraId};

/// `zimbraAccountStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// Works.
    Active,
    /// No login after too many wrong passwords; mail is delivered.
    Lockout,
    /// No login; mail is delivered.
    Locked,
    /// No login; mail is deferred by the sender. The status of a frozen mailbox.
    Maintenance,
    /// No login, not yet in use; mail bounces.
    Pending,
    /// No login; mail bounces. Setting it takes the account out of every distribution list, so that no move
    /// ever passes through it.
    Closed,
}

/// What becomes of mail for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// LMTP takes it.
    Delivered,
    /// LMTP answers 4xx; the MTA keeps it and tries again.
    Deferred,
    /// LMTP answers 5xx; the sender gets it back.
    Bounced,
}

impl AccountStatus {
    const ALL: [Self; 6] = [Self::Active, Self::Lockout, Self::Locked, Self::Maintenance, Self::Pending, Self::Closed];

    /// The value in the directory.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Lockout => "lockout",
            Self::Locked => "locked",
            Self::Maintenance => "maintenance",
            Self::Pending => "pending",
            Self::Closed => "closed",
        }
    }

    /// Whether the user can log in.
    pub fn allows_login(self) -> bool {
        self == Self::Active
    }

    /// What Zimbra makes of `zimbraMailStatus` when it sets this status, whatever the request says; nothing: what it says.
    pub fn forced_mail_status(self) -> Option<&'static str> {
        matches!(self, Self::Pending | Self::Closed).then_some("disabled")
    }

    /// What becomes of mail.
    pub fn mail(self) -> Mail {
        match self {
            Self::Active | Self::Lockout | Self::Locked => Mail::Delivered,
            Self::Maintenance => Mail::Deferred,
            Self::Pending | Self::Closed => Mail::Bounced,
        }
    }
}

impl FromStr for AccountStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|status| text.eq_ignore_ascii_case(status.word())).ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            Error::new(Kind::Data, format!("account status '{}': is none of {words}", text.escape_default()))
        })
    }
}

impl fmt::Display for AccountStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What Zimbra changes along with `zimbraAccountStatus`, past what the request says: `closed` and `pending` disable mail,
/// and who becomes active was never locked out nor, since 10.0, suspended.
pub const FOLLOW_STATUS: &[&str] = &[
    "zimbraMailStatus",
    "zimbraPasswordLockoutFailureTime",
    "zimbraPasswordLockoutLockedTime",
    "zimbraAccountSuspensionReason",
];

/// An account or calendar resource as the directory has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Entry", into = "Entry")]
pub struct Account {
    /// `zimbraId`: what everything else keys on, since addresses change.
    pub id: ZimbraId,
    /// Its primary address.
    pub address: Address,
    /// `zimbraMailAlias`, as written in the directory.
    pub aliases: Vec<String>,
    /// `zimbraMailHost`; none before the first login on some installations.
    pub mail_host: Option<Host>,
    /// `zimbraMailTransport`.
    pub transport: Option<String>,
    /// `zimbraAccountStatus`. A domain's status can override it.
    pub status: AccountStatus,
    /// `zimbraMailStatus`; saved and set again by whoever changes the status, which resets it.
    pub mail_status: Option<String>,
    /// `zimbraCOSId`, when it is set on the account itself.
    pub cos: Option<ZimbraId>,
    /// Whether it is a calendar resource.
    pub is_resource: bool,
    /// Every attribute that was read, but for secrets.
    pub entry: Entry,
}

impl Account {
    /// Reads an account out of its entry; fails with [`Kind::Data`] when the entry is none.
    pub fn from_entry(entry: Entry) -> Result<Self> {
        let broken = || format!("{}: reading the account", entry.dn());
        let parse = |name: &str| entry.required(name);
        let address = entry.get("zimbraMailDeliveryAddress").or_else(|| entry.get("mail"));
        let address = address.ok_or_else(|| Error::new(Kind::Data, format!("{}: has no address", entry.dn())))?;
        Ok(Self {
            id: parse("zimbraId")?.parse().context(Kind::Data, broken)?,
            address: address.parse().context(Kind::Data, broken)?,
            aliases: entry.all("zimbraMailAlias").to_vec(),
            mail_host: entry.get("zimbraMailHost").map(str::parse).transpose().context(Kind::Data, broken)?,
            transport: entry.get("zimbraMailTransport").map(str::to_owned),
            status: parse("zimbraAccountStatus")?.parse().context(Kind::Data, broken)?,
            mail_status: entry.get("zimbraMailStatus").map(str::to_owned),
            cos: entry.get("zimbraCOSId").map(str::parse).transpose().context(Kind::Data, broken)?,
            is_resource: entry.has("objectClass", "zimbraCalendarResource"),
            entry,
        })
    }

    /// The domain of the primary address.
    pub fn domain(&self) -> &str {
        self.address.domain()
    }

    /// Fails with [`Kind::Refused`] unless the transport is that of the account's own store, whose
    /// `zimbraServiceHostname` is `host`, written as in the directory: Zimbra refuses to change `zimbraMailHost` else. It
    /// minds the host's case and not the port, and takes an account without any transport.
    pub fn check_transport(&self, host: &str) -> Result<()> {
        let Some(shown) = self.transport.as_deref() else { return Ok(()) };
        if lmtp_host(shown) == Some(host) {
            return Ok(());
        }
        let message = format!("{}: zimbraMailTransport is {shown}, not lmtp:{host}:PORT", self.address);
        let hint = "zimbraMailHost cannot be changed while the transport is a custom one; set it to the store's first";
        Err(Error::new(Kind::Refused, message).hint(hint))
    }
}

impl TryFrom<Entry> for Account {
    type Error = Error;

    fn try_from(entry: Entry) -> Result<Self> {
        Self::from_entry(entry)
    }
}

impl From<Account> for Entry {
    fn from(account: Account) -> Self {
        account.entry
    }
}

/// The `zimbraMailTransport` of an account that lives on `host`; `port` is the store's `zimbraLmtpBindPort`.
pub fn transport(host: &Host, port: u16) -> String {
    format!("lmtp:{host}:{port}")
}

/// Whether `transport` is LMTP to `host`, on whatever port.
pub fn is_transport_of(transport: &str, host: &Host) -> bool {
    lmtp_host(transport).is_some_and(|to| to.eq_ignore_ascii_case(host.as_str()))
}

/// The host of `lmtp:HOST:PORT`, as Zimbra reads it: what stands for the port is not looked at.
fn lmtp_host(transport: &str) -> Option<&str> {
    match transport.split(':').collect::<Vec<_>>()[..] {
        [protocol, host, port] if protocol.eq_ignore_ascii_case("lmtp") && !port.is_empty() => Some(host),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(attributes: &[(&str, &str)]) -> Entry {
        let mut entry = Entry::new("uid=anna,ou=people,dc=lab,dc=test");
        for (name, value) in attributes {
            entry.add(name, *value);
        }
        entry
    }

    const ANNA: &[(&str, &str)] = &[
        ("objectClass", "zimbraAccount"),
        ("zimbraId", "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b"),
        ("zimbraMailDeliveryAddress", "anna@lab.test"),
        ("zimbraMailHost", "store1.lab.test"),
        ("zimbraMailTransport", "lmtp:store1.lab.test:7025"),
        ("zimbraAccountStatus", "active"),
        ("userPassword", "{SSHA}x"),
    ];

    #[test]
    fn reads_an_account_without_its_password() {
        let anna = Account::from_entry(entry(ANNA)).unwrap();
        assert_eq!((anna.domain(), anna.status, anna.is_resource), ("lab.test", AccountStatus::Active, false));
        assert!(anna.check_transport("store1.lab.test").is_ok());
        assert!(!format!("{anna:?}").contains("SSHA"));
        assert!(Account::from_entry(entry(&ANNA[..5])).is_err());
    }

    #[test]
    fn a_transport_belongs_to_one_host() {
        let host: Host = "store1.lab.test".parse().unwrap();
        assert_eq!(transport(&host, 7025), "lmtp:store1.lab.test:7025");
        assert!(is_transport_of("lmtp:store1.lab.test:1", &host));
        assert!(is_transport_of("LMTP:Store1.lab.test:smtp", &host));
        for other in [
            "lmtp:store2.lab.test:7025",
            "smtp:store1.lab.test:25",
            "lmtp:store1.lab.test",
            "lmtp:store1.lab.test:",
            "lmtp:store1.lab.test:7025:x",
            "",
        ] {
            assert!(!is_transport_of(other, &host), "{other}");
        }
    }

    #[test]
    fn a_transport_is_that_of_the_store_by_the_rule_of_zimbra() {
        let with = |transport: Option<&str>| {
            let mut attributes: Vec<_> =
                ANNA.iter().copied().filter(|(name, _)| *name != "zimbraMailTransport").collect();
            attributes.extend(transport.map(|transport| ("zimbraMailTransport", transport)));
            Account::from_entry(entry(&attributes)).unwrap()
        };
        for good in [None, Some("lmtp:Store1.lab.test:7025"), Some("LMTP:Store1.lab.test:x")] {
            assert!(with(good).check_transport("Store1.lab.test").is_ok(), "{good:?}");
        }
        for bad in ["lmtp:store1.lab.test:7025", "lmtp:Store1.lab.test", "smtp:Store1.lab.test:25"] {
            let error = with(Some(bad)).check_transport("Store1.lab.test").unwrap_err();
            assert!(error.message().ends_with(&format!("is {bad}, not lmtp:Store1.lab.test:PORT")), "{error}");
        }
    }

    #[test]
    fn every_status_has_its_word() {
        for status in AccountStatus::ALL {
            assert_eq!(status.word().parse::<AccountStatus>().unwrap(), status);
        }
        assert!("enabled".parse::<AccountStatus>().is_err());
        assert_eq!(AccountStatus::Maintenance.mail(), Mail::Deferred);
        assert_eq!(AccountStatus::Closed.mail(), Mail::Bounced);
    }
}
