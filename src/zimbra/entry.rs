//! An entry of the directory: a name and its attributes, without any secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// An entry as LDAP or admin SOAP gives it. Attribute names compare without regard to case, as LDAP does.
/// Attributes that hold passwords, tokens or keys are left out when it is made, so that nothing that shows,
/// logs or stores an entry can leak one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    dn: String,
    /// By lower-case name: the name as the server wrote it, and the values.
    attributes: BTreeMap<String, (String, Vec<String>)>,
}

impl Entry {
    /// An entry without attributes. Admin SOAP knows no DN; its entries are named by id or name instead.
    pub fn new(dn: impl Into<String>) -> Self {
        Self { dn: dn.into(), attributes: BTreeMap::new() }
    }

    /// Adds a value, unless the attribute is a secret.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        if is_secret(name) {
            return;
        }
        let attribute = self.attributes.entry(name.to_ascii_lowercase());
        attribute.or_insert_with(|| (name.to_owned(), Vec::new())).1.push(value.into());
    }

    /// The distinguished name.
    pub fn dn(&self) -> &str {
        &self.dn
    }

    /// The first value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// Every value of an attribute; none if it is not there.
    pub fn all(&self, name: &str) -> &[String] {
        self.attributes.get(&name.to_ascii_lowercase()).map_or(&[], |(_, values)| values)
    }

    /// Whether an attribute has this value, without regard to case.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).iter().any(|v| v.eq_ignore_ascii_case(value))
    }

    /// Whether an attribute is `TRUE`.
    pub fn is_true(&self, name: &str) -> bool {
        self.has(name, "TRUE")
    }

    /// The first value of an attribute that must be there; fails with [`Kind::Data`].
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::new(Kind::Data, format!("{}: has no {name}", self.dn)))
    }

    /// Every attribute: its name as the server wrote it, and its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.attributes.values().map(|(name, values)| (name.as_str(), values.as_slice()))
    }
}

/// Whether an attribute holds a password, token or key. The rule goes by the end of the name, so that secrets
/// of extensions are caught too; settings about passwords (`zimbraPasswordMinLength`) end otherwise.
pub fn is_secret(attribute: &str) -> bool {
    const ENDS: &[&str] = &[
        "password",
        "passwordhistory",
        "privatekey",
        "tokenkey",
        "preauthkey",
        "secret",
        "scratchcodes",
        "authtokens",
        "csrftokendata",
        "trusteddevices",
        "recoverycode",
        "authtokenvalidityvalue",
        "apikey",
        "datasourceoauthtoken",
    ];
    // An attribute may carry options behind a semicolon.
    let name = attribute.split(';').next().unwrap_or_default().to_ascii_lowercase();
    ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn getters_ignore_case() {
        let mut entry = Entry::new("uid=a,ou=people,dc=lab,dc=test");
        entry.add("zimbraMailAlias", "b@lab.test");
        entry.add("zimbramailalias", "c@lab.test");
        assert_eq!(entry.all("ZIMBRAMAILALIAS"), ["b@lab.test", "c@lab.test"]);
        assert!(entry.has("zimbraMailAlias", "C@lab.test"));
        assert_eq!(entry.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["zimbraMailAlias"]);
        assert!(entry.required("zimbraId").is_err());
    }

    #[test]
    fn secrets_never_enter() {
        let mut entry = Entry::new("x");
        for name in
            ["userPassword", "userPassword;binary", "zimbraAuthTokens", "zimbraPasswordHistory", "zimbraPreAuthKey"]
        {
            entry.add(name, "hunter2");
        }
        assert_eq!(entry, Entry::new("x"));
        entry.add("zimbraPasswordMinLength", "6");
        assert_eq!(entry.get("zimbraPasswordMinLength"), Some("6"));
    }
}
