//! Entries of the directory: accounts, servers, domains, the global configuration.

use std::collections::BTreeMap;

/// One entry. Attribute names are compared without case, as the directory does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its distinguished name.
    pub dn: String,
    attrs: BTreeMap<String, (String, Vec<String>)>,
}

impl Entry {
    /// An entry with these attributes.
    pub fn new(dn: &str, attrs: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let attrs = attrs.into_iter().filter(|(_, values)| !values.is_empty());
        let attrs = attrs.map(|(name, values)| (name.to_lowercase(), (name, values))).collect();
        Self { dn: dn.into(), attrs }
    }

    /// The first value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// All values of an attribute.
    pub fn all(&self, name: &str) -> &[String] {
        self.attrs.get(&name.to_lowercase()).map_or(&[], |(_, values)| values)
    }

    /// Whether an attribute is `TRUE`.
    pub fn is(&self, name: &str) -> bool {
        self.get(name) == Some("TRUE")
    }

    /// All attributes with their values.
    pub fn attrs(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.attrs.values().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// The zimbraId; of the directory's own administrator, who may have none, his name in the tree.
    pub fn id(&self) -> &str {
        self.get("zimbraId").unwrap_or(&self.dn)
    }

    /// The primary address of an account; of an administrator without one, his uid.
    pub fn address(&self) -> &str {
        let names = ["zimbraMailDeliveryAddress", "mail", "uid"];
        names.iter().find_map(|n| self.get(n)).unwrap_or(&self.dn)
    }

    /// Whether an account answers to this address.
    pub fn has_address(&self, address: &str) -> bool {
        let mut names = ["zimbraMailDeliveryAddress", "mail", "zimbraMailAlias"].into_iter().flat_map(|n| self.all(n));
        names.any(|n| n.eq_ignore_ascii_case(address))
    }

    /// The name of a server in `zimbraMailHost`.
    pub fn service_host(&self) -> &str {
        self.get("zimbraServiceHostname").or_else(|| self.get("cn")).unwrap_or("")
    }

    /// Whether a server runs a service.
    pub fn runs(&self, service: &str) -> bool {
        self.all("zimbraServiceEnabled").iter().any(|s| s == service)
    }

    /// Whether mailboxes can live on a server: servers that state no version are of the time when
    /// `mailbox` was the only service of mailboxd.
    pub fn hosts_mailboxes(&self) -> bool {
        self.runs("service") || (self.get("zimbraServerVersion").is_none() && self.runs("mailbox"))
    }

    /// A port, by attribute.
    pub fn port(&self, name: &str, absent: u16) -> u16 {
        self.get(name).and_then(|v| v.parse().ok()).unwrap_or(absent)
    }
}

/// A duration as the directory writes it: a number with `ms`, `s` (the default), `m`, `h` or `d`.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(std::time::Duration::from_millis(number.checked_mul(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_no_case_and_no_empty_values() {
        let e = Entry::new("x", [("zimbraId".into(), vec!["1".into()]), ("none".into(), vec![])]);
        assert_eq!(e.get("ZIMBRAID"), Some("1"));
        assert_eq!(e.attrs().count(), 1);
        assert_eq!(e.id(), "1");
    }

    #[test]
    fn addresses_and_aliases_have_no_case() {
        let e = Entry::new("x", [("mail".into(), vec!["a@b".into(), "Alias@b".into()])]);
        assert!(e.has_address("A@B") && e.has_address("alias@b") && !e.has_address("c@b"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("12h").unwrap().as_secs(), 43200);
        assert_eq!(duration("5").unwrap().as_secs(), 5);
        assert_eq!(duration("1500ms").unwrap().as_millis(), 1500);
        assert_eq!(duration("x"), None);
        assert_eq!(duration("5w"), None);
    }
}
