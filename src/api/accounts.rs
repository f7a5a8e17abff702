//! The directory and admin SOAP.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map};

use super::handles::Account;
use super::options::{self, FlushCaches, SoapModify, decode};
use super::{Scripted, array, attempt, encode, run};
use crate::error::{Error, Kind, Result};
use crate::ops;

#[export_module]
pub mod accounts {
    /// Reads one account from the directory's master, by its address or an alias.
    ///
    /// Arguments: the address. Returns an `Account`. Fails with `not_found` when no account has the address,
    /// `data` when more than one has, `unreachable`, and `denied` for a certificate or password that is not
    /// accepted.
    ///
    /// In a plan: it reads.
    ///
    /// Example: `let who = ldap_get("alice@example.com"); print(who.host);`
    #[rhai_fn(volatile, return_raw, name = "ldap_get")]
    pub fn ldap_get(ctx: NativeCallContext, address: &str) -> Scripted<Account> {
        attempt(&ctx, |run| {
            let operation = ops::ldap_get::GetAccount { site: run.site.clone(), address: address.to_owned() };
            Ok(Account(Arc::new(run.gate.pass(&operation)?)))
        })
    }

    /// Reads entries of the directory that match an LDAP filter.
    ///
    /// Arguments: the filter; the names of the attributes. Write values into a filter with `ldap_escape`.
    /// Returns an array of maps, one an entry: `dn`, and each attribute with an array of its values. Fails with
    /// `peer` for a filter that is wrong, `data` when there are more than 10,000 entries, `unreachable`,
    /// `denied`.
    ///
    /// In a plan: it reads.
    ///
    /// Example: `ldap_get("(&(objectClass=zimbraAccount)(zimbraMailHost=store1.example.com))", ["mail"])`
    #[rhai_fn(volatile, return_raw, name = "ldap_get")]
    pub fn ldap_get_entries(ctx: NativeCallContext, filter: &str, attributes: Array) -> RhaiResult {
        let entries = attempt(&ctx, |run| {
            let operation = ops::ldap_get::GetEntries {
                site: run.site.clone(),
                filter: filter.to_owned(),
                attributes: texts("ldap_get", attributes)?,
            };
            run.gate.pass(&operation)
        })?;
        encode(&ctx, &entries)
    }

    /// A text as it may stand in an LDAP filter.
    ///
    /// Example: `ldap_get("(displayName=" + ldap_escape(args.name) + ")", ["mail"])`
    pub fn ldap_escape(text: &str) -> String {
        crate::clients::ldap::escape(text).into_owned()
    }

    /// The names of the servers that run a service: `mailbox`, `memcached`, `proxy`, `mta`.
    ///
    /// Returns an array of names. Fails as `ldap_get` does.
    ///
    /// In a plan: it reads.
    ///
    /// Example: `flush_caches(who, #{ stores: servers("mailbox"), memcached: servers("memcached") });`
    #[rhai_fn(volatile, return_raw)]
    pub fn servers(ctx: NativeCallContext, service: &str) -> Scripted<Array> {
        attempt(&ctx, |run| {
            let operation = ops::ldap_get::Servers { site: run.site.clone(), service: service.to_owned() };
            Ok(array(run.gate.pass(&operation)?))
        })
    }

    /// Sets attributes of an account by admin SOAP, on the store the account is on, and reads them back from
    /// the directory's master.
    ///
    /// Arguments: the account; a map of attribute names and values: a text, or an array of texts for several.
    /// An empty text removes the attribute. A status is set together with the zimbraMailStatus the account has,
    /// since Zimbra would otherwise choose one.
    ///
    /// Fails with `refused` for `zimbraMailHost` and `zimbraMailTransport`, which only `switch_to` sets, after a
    /// proof; with `peer` and the fault's `code`; `unreachable`; `unequal` when the directory does not show the new values in time.
    /// What it changed is set back when the run fails before the switch.
    ///
    /// In a plan: each attribute with its value now and then.
    ///
    /// Example: `soap_modify(who, #{ zimbraAccountStatus: "maintenance" });`
    #[rhai_fn(volatile, return_raw, name = "soap_modify")]
    pub fn soap_modify(ctx: NativeCallContext, account: Account, attributes: Map) -> Scripted<()> {
        modify(&ctx, account, attributes, Map::new())
    }

    /// The same with options: `unverified: true` lets `zimbraMailHost` be set though nobody proved that the copy
    /// there is complete; the report says so. From there on a run only goes forward, as behind `switch_to`.
    ///
    /// Example: `soap_modify(who, #{ zimbraMailHost: "store2.example.com" }, #{ unverified: true });`
    #[rhai_fn(volatile, return_raw, name = "soap_modify")]
    pub fn soap_modify_options(
        ctx: NativeCallContext,
        account: Account,
        attributes: Map,
        options: Map,
    ) -> Scripted<()> {
        modify(&ctx, account, attributes, options)
    }

    /// Makes every mailboxd and memcached named forget what it knows of an account: its attributes, the routes of
    /// all its addresses, its folders. Nobody else's entries are touched.
    ///
    /// Options: `stores`, `memcached`: arrays of server names. Each server is asked for itself, all at once, and
    /// the answer is looked at: after it, each store was seen to know the account's present host and status.
    /// Servers that the run leaves out are told nothing. Behind the switch a mailboxd where nobody listens, other than the
    /// account's home, is waited for 15 seconds: it has nothing cached. Fails with the first server's error (`unreachable`,
    /// `peer`, `unequal`), naming all that failed.
    ///
    /// In a plan: each server, and each key.
    ///
    /// Example: `flush_caches(who, #{ stores: servers("mailbox"), memcached: servers("memcached") });`
    #[rhai_fn(volatile, return_raw)]
    pub fn flush_caches(ctx: NativeCallContext, account: Account, options: Map) -> Scripted<()> {
        let run = run(&ctx)?;
        attempt(&ctx, |_| {
            let FlushCaches { stores, memcached } = decode("flush_caches", &options)?;
            ops::flush_caches::all(&run, &account.0, &stores, &memcached)
        })
    }
}

fn modify(ctx: &NativeCallContext<'_>, account: Account, attributes: Map, options: Map) -> Scripted<()> {
    attempt(ctx, |run| {
        let SoapModify { unverified } = options::decode("soap_modify", &options)?;
        let mut changes = Vec::new();
        for (name, value) in attributes {
            let values = match value.try_cast_result::<Array>() {
                Ok(values) => texts("soap_modify", values)?,
                Err(value) => vec![value.to_string()],
            };
            changes.push((name.to_string(), values));
        }
        ops::soap_modify::modify(run, &account.0, changes, unverified)
    })
}

fn texts(function: &str, values: Array) -> Result<Vec<String>> {
    values
        .into_iter()
        .map(|v| {
            v.into_string().map_err(|t| Error::new(Kind::Usage, format!("{function}: a text was expected, not {t}")))
        })
        .collect()
}
