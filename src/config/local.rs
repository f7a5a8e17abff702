//! `localconfig.xml`: what a Zimbra host knows of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Context, Error, Kind, Result};
use crate::secret::Secret;
use crate::xml::Element;
use crate::zimbra::ids::GroupCount;

const MAX_FILE: usize = 1 << 20;
const MAX_VALUE: usize = 1 << 16;
const MAX_DEPTH: usize = 16;

/// What Zimbra assumes of a key that is not set.
const DEFAULTS: &[(&str, &str)] = &[
    ("zimbra_home", "/opt/zimbra"),
    ("zimbra_server_hostname", "localhost"),
    ("zimbra_tmp_directory", "${zimbra_home}/data/tmp"),
    ("zimbra_mailbox_groups", "100"),
    ("zimbra_admin_service_port", "7071"),
    ("zimbra_ldap_user", "zimbra"),
    ("zimbra_ldap_userdn", "uid=zimbra,cn=admins,cn=zimbra"),
    ("zimbra_require_interprocess_security", "1"),
    ("zimbra_zmprov_default_soap_server", "localhost"),
    ("zimbra_mysql_user", "zimbra"),
    ("zimbra_relative_volume_path", "false"),
    ("mailboxd_directory", "${zimbra_home}/mailboxd"),
    ("calendar_cache_directory", "${zimbra_tmp_directory}/calcache"),
    ("mysql_bind_address", "127.0.0.1"),
    ("mysql_port", "7306"),
    ("mysql_socket", "${zimbra_home}/data/tmp/mysql/mysql.sock"),
    ("ldap_port", "389"),
    ("ldap_starttls_supported", "0"),
    ("ldap_starttls_required", "true"),
    ("ldap_cache_account_maxage", "15"),
];

/// The keys of a `localconfig.xml` over Zimbra's defaults, with `${key}` replaced. It holds passwords, so that
/// a formatter shows nothing of it.
#[derive(Clone)]
pub struct LocalConfig(BTreeMap<String, String>);

impl LocalConfig {
    /// Reads the text of a `localconfig.xml`; fails with [`Kind::Config`]. References to unknown keys stay as
    /// they are.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let parsing = || "localconfig.xml: parsing".to_owned();
        let root = Element::parse(bytes, MAX_FILE).context(Kind::Config, parsing)?;
        if root.name() != "localconfig" {
            return Err(Error::new(
                Kind::Config,
                format!("localconfig.xml: holds <{}>, not <localconfig>", root.name()),
            ));
        }
        let mut raw: BTreeMap<&str, &str> = DEFAULTS.iter().copied().collect();
        for key in root.iter().filter(|element| element.name() == "key") {
            if let (Some(name), Some(value)) = (key.get("name"), key.first("value")) {
                raw.insert(name, value.content());
            }
        }
        let expand = |(key, value): (&&str, &&str)| Ok((key.to_string(), expand(&raw, key, value, 0)?));
        raw.iter().map(expand).collect::<Result<_>>().map(Self)
    }

    /// This host's, if it is a Zimbra host; fails with [`Kind::Config`] when it is there and cannot be read.
    pub fn of_this_host(home: &Path) -> Result<Option<Self>> {
        let path = home.join("conf/localconfig.xml");
        let reading = || format!("{}: reading", path.display());
        let file = match fs::File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            // Whoever may not read it works as on any other host, with what zlm.toml says.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                log::warn!("{}: not readable by this user", path.display());
                return Ok(None);
            }
            file => file.context(Kind::Config, reading)?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).context(Kind::Config, reading)?;
        Self::parse(&bytes).map(Some)
    }

    /// The value of a key, or Zimbra's default for it; an empty value is none.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a key that is a password.
    pub fn secret(&self, key: &str) -> Option<Secret> {
        self.get(key).map(Secret::new)
    }

    /// Whether a key is on, as Zimbra reads it.
    pub fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// The value of a key that is a port; fails with [`Kind::Config`] when it is none.
    pub fn port(&self, key: &str) -> Result<Option<u16>> {
        let port = |value: &str| match value.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Error::new(Kind::Config, format!("localconfig.xml: {key} is not a port"))),
        };
        self.get(key).map(port).transpose()
    }

    /// `zimbra_mailbox_groups`; fails with [`Kind::Config`] when it is no number of groups.
    pub fn groups(&self) -> Result<GroupCount> {
        let value = self.get("zimbra_mailbox_groups").unwrap_or("100");
        let number = value
            .parse()
            .map_err(|_| Error::new(Kind::Config, "localconfig.xml: zimbra_mailbox_groups is not a number"))?;
        GroupCount::new(number)
    }
}

impl fmt::Debug for LocalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalConfig({} keys)", self.0.len())
    }
}

fn expand(raw: &BTreeMap<&str, &str>, key: &str, value: &str, depth: usize) -> Result<String> {
    let refuse = |why: &str| Err(Error::new(Kind::Config, format!("localconfig.xml: {key} {why}")));
    if depth > MAX_DEPTH {
        return refuse("refers to itself");
    }
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            rest = &rest[before.len()..];
            break;
        };
        match raw.get(name) {
            Some(value) => out.push_str(&expand(raw, key, value, depth + 1)?),
            None => out.push_str(&format!("${{{name}}}")),
        }
        rest = behind;
        // Bounds what references that double at each level would grow to.
        if out.len() > MAX_VALUE {
            return refuse("is too long");
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local(keys: &[(&str, &str)]) -> Result<LocalConfig> {
        let keys = keys
            .iter()
            .map(|(name, value)| Element::new("key").attr("name", *name).child(Element::new("value").text(*value)));
        LocalConfig::parse(Element::new("localconfig").children(keys).to_xml().unwrap().as_bytes())
    }

    #[test]
    fn defaults_are_expanded() {
        let config = local(&[("zimbra_home", "/srv/z"), ("ldap_url", ""), ("a", "x${nothing}y${")]).unwrap();
        assert_eq!(config.get("mysql_socket"), Some("/srv/z/data/tmp/mysql/mysql.sock"));
        assert_eq!(config.get("calendar_cache_directory"), Some("/srv/z/data/tmp/calcache"));
        assert_eq!(config.get("ldap_url"), None);
        assert_eq!(config.get("a"), Some("x${nothing}y${"));
        assert_eq!(config.port("mysql_port").unwrap(), Some(7306));
        assert!(config.is_on("ldap_starttls_required") && !config.is_on("ldap_starttls_supported"));
    }

    #[test]
    fn loops_and_growth_end() {
        assert!(local(&[("a", "${b}"), ("b", "${a}")]).is_err());
        let names: Vec<_> = (0..12).map(|n| format!("k{n}")).collect();
        let values: Vec<_> = (0..12).map(|n| format!("${{k{}}}", n + 1).repeat(40)).collect();
        let bomb: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        let with_end: Vec<_> = bomb.into_iter().chain([("k12", "boom")]).collect();
        assert!(local(&with_end).is_err());
        assert!(local(&[("mysql_port", "x")]).unwrap().port("mysql_port").is_err());
    }

    #[test]
    fn shows_no_password() {
        let config = local(&[("zimbra_mysql_password", "hunter2")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.secret("zimbra_mysql_password").unwrap().expose(), "hunter2");
    }

    #[test]
    fn only_a_localconfig() {
        assert!(LocalConfig::parse(b"<other/>").is_err());
        assert!(LocalConfig::parse(b"<!DOCTYPE x><localconfig/>").is_err());
    }

    proptest! {
        #[test]
        fn expanding_ends(values in proptest::collection::vec("[a-c${}]{0,12}", 3)) {
            let _ = local(&[("a", &values[0]), ("b", &values[1]), ("c", &values[2])]);
        }
    }
}
