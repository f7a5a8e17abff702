//! The directory: slapd with Zimbra's tree, and accounts in it. Reached through its local socket, as root of all.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ldap3::{LdapConn, LdapConnSettings, Mod, Scope, SearchEntry};

use crate::host::Host;
use crate::layout::{fqdn, write_zimbra_file};
use crate::process::{output, output_of_input};
use crate::secret::uuid;

/// An entry of the directory: its name and the values of each attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The distinguished name.
    pub dn: String,
    /// Attribute names as the server writes them, values in its order.
    pub attributes: BTreeMap<String, Vec<String>>,
}

impl Entry {
    /// The only value of an attribute; `None` when it has none or several.
    pub fn value(&self, attribute: &str) -> Option<&str> {
        match self.values(attribute) {
            [one] => Some(one),
            _ => None,
        }
    }

    /// All values of an attribute.
    pub fn values(&self, attribute: &str) -> &[String] {
        self.attributes.get(attribute).map_or(&[], Vec::as_slice)
    }
}

/// Writes slapd's configuration and loads the tree of a new lab. `secrets` gives a password by its name.
pub(crate) fn install(host: &Host, secret: impl Fn(&str) -> Result<String>) -> Result<()> {
    let etc = host.dir.join("etc");
    fs::write(etc.join("slapd.conf"), include_str!("etc/slapd.conf"))?;
    fs::write(etc.join("zimbra.schema"), include_str!("../schema/zimbra.schema"))?;
    let ldif = include_str!("../schema/base.ldif")
        .replace("${COS_ID}", COS_ID)
        .replace("${zimbra_ldap_password}", &secret("zimbra_ldap_password")?);
    let mut parts = ldif.split("${ID}");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        filled.push_str(&uuid()?);
        filled.push_str(part);
    }
    let mut slapadd = host.command("zimbra", &["slapadd", "-q", "-f", "/opt/lab/etc/slapd.conf"]);
    output_of_input(&mut slapadd, &filled).map(drop)
}

/// The id of the default class of service, the one Zimbra's own has.
const COS_ID: &str = "e00428a1-0c00-11d9-836a-000d93afea2a";

/// Puts the directory's certificate where slapd looks for it.
pub(crate) fn install_certificate(host: &Host, authority: &Path) -> Result<()> {
    write_zimbra_file(host, "conf/slapd.crt", 0o644, fs::read(authority.join("ldap1.pem"))?)?;
    write_zimbra_file(host, "conf/slapd.key", 0o600, fs::read(authority.join("ldap1.key"))?)
}

/// Connects to the directory of the host with this directory outside.
pub(crate) fn connect(host_dir: &Path) -> Result<LdapConn> {
    let path = host_dir.join("run/ldapi");
    let told = || format!("ldap1: slapd at {}", path.display());
    let url = format!("ldapi://{}", path.to_string_lossy().replace('%', "%25").replace('/', "%2F"));
    let settings = LdapConnSettings::new().set_conn_timeout(Duration::from_secs(5));
    let mut ldap = LdapConn::with_settings(settings, &url).with_context(told)?;
    ldap.with_timeout(Duration::from_secs(10))
        .sasl_external_bind()
        .and_then(|result| result.success())
        .with_context(told)?;
    Ok(ldap)
}

/// What an account is made from; see [`crate::Lab::add_account`].
pub(crate) fn add_account(
    ldap: &mut LdapConn,
    local: &str,
    store: &str,
    password: &str,
    attributes: &[(&str, &str)],
) -> Result<String> {
    let id = uuid()?;
    let address = format!("{local}@lab.test");
    let host = fqdn(store);
    let transport = format!("lmtp:{host}:7025");
    let defaults: &[(&str, &str)] = &[
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "zimbraAccount"),
        ("objectClass", "amavisAccount"),
        ("uid", local),
        ("cn", local),
        ("sn", local),
        ("displayName", local),
        ("mail", &address),
        ("zimbraMailDeliveryAddress", &address),
        ("zimbraId", &id),
        ("zimbraMailHost", &host),
        ("zimbraMailTransport", &transport),
        ("zimbraAccountStatus", "active"),
        ("zimbraMailStatus", "enabled"),
        ("zimbraCOSId", COS_ID),
        ("userPassword", password),
    ];
    let given: HashSet<&str> = attributes.iter().map(|(name, _)| *name).collect();
    let mut entry: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for (name, value) in defaults.iter().filter(|(name, _)| !given.contains(name)).chain(attributes) {
        entry.entry(name).or_default().insert(value);
    }
    // In Zimbra's directory an alias is a value of `mail` too.
    let aliases = entry.get("zimbraMailAlias").cloned().unwrap_or_default();
    entry.entry("mail").or_default().extend(aliases);
    entry.retain(|_, values| !values.contains(""));
    let id = entry.get("zimbraId").and_then(|values| values.iter().next()).context("an account has a zimbraId")?;
    let id = (*id).to_owned();
    ldap.add(&account_dn(local), entry.into_iter().collect())
        .and_then(|result| result.success())
        .with_context(|| format!("{address}: cannot be added"))?;
    Ok(id)
}

/// The name of an account's entry.
pub fn account_dn(local: &str) -> String {
    format!("uid={},ou=people,dc=lab,dc=test", ldap3::dn_escape(local))
}

/// Replaces all values of each attribute; no values at all remove it.
pub(crate) fn modify(ldap: &mut LdapConn, dn: &str, changes: &[(&str, &[&str])]) -> Result<()> {
    let changes = changes.iter().map(|(name, values)| Mod::Replace(*name, values.iter().copied().collect())).collect();
    ldap.modify(dn, changes)
        .and_then(|result| result.success())
        .with_context(|| format!("{dn}: cannot be modified"))?;
    Ok(())
}

/// Entries by filter, which starts with `(`, or the one entry of a name.
pub(crate) fn get(ldap: &mut LdapConn, name_or_filter: &str) -> Result<Vec<Entry>> {
    let (base, scope, filter) = match name_or_filter.starts_with('(') {
        true => ("", Scope::Subtree, name_or_filter),
        false => (name_or_filter, Scope::Base, "(objectClass=*)"),
    };
    let (found, _) = ldap
        .search(base, scope, filter, vec!["*"])
        .and_then(|result| result.success())
        .with_context(|| format!("{name_or_filter}: cannot be read"))?;
    found.into_iter().map(|entry| readable(SearchEntry::construct(entry))).collect()
}

fn readable(found: SearchEntry) -> Result<Entry> {
    ensure!(found.bin_attrs.is_empty(), "{}: has values that are not text", found.dn);
    Ok(Entry { dn: found.dn, attributes: found.attrs.into_iter().collect() })
}

/// The whole directory as LDIF, with the operational attributes, by which even a change to the same value shows.
pub(crate) fn dump(host: &Host) -> Result<String> {
    output(&mut host.command("root", &["slapcat", "-o", "ldif-wrap=no", "-f", "/opt/lab/etc/slapd.conf"]))
}
