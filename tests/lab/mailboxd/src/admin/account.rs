//! Accounts: what this server believes of them, and changes.

use std::sync::Arc;

use super::{Call, flush};
use crate::callback::{self, changes};
use crate::directory::By;
use crate::entry::Entry;
use crate::fault::{Fault, Outcome};
use crate::xml::Element;

/// The account in `<account by="name|id">`, as this server believes it to be.
pub fn selected(call: &Call<'_>, selector: &Element) -> Outcome<Option<Arc<Entry>>> {
    call.store.directory.account(by(selector)?, selector.text.trim())
}

/// How a selector names its account.
pub fn by(selector: &Element) -> Outcome<By> {
    match selector.get("by") {
        Some("id") => Ok(By::Id),
        Some("name") => Ok(By::Name),
        other => Err(Fault::invalid_request(format!("unknown value of by: {other:?}"))),
    }
}

/// `GetAccountRequest`.
pub fn get(call: &Call<'_>) -> Outcome<Element> {
    let selector = call.child("account")?;
    let account = selected(call, selector)?.ok_or_else(|| Fault::no_such_account(&selector.text))?;
    Ok(Element::admin("GetAccountResponse").child(element(&account, call.body().get("attrs"))))
}

fn element(account: &Entry, wanted: Option<&str>) -> Element {
    let wanted: Option<Vec<&str>> = wanted.map(|w| w.split(',').map(str::trim).collect());
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|w| w.iter().any(|n| n.eq_ignore_ascii_case(name)));
    Element::new("account")
        .attr("id", account.id())
        .attr("name", account.address())
        .children(attributes(account).filter(|a| is_wanted(a.get("n").unwrap_or_default())))
}

/// The attributes of an entry as `<a n="name">value</a>`; passwords never leave the server.
pub fn attributes(entry: &Entry) -> impl Iterator<Item = Element> {
    let all = entry.attrs().filter(|(name, _)| !name.eq_ignore_ascii_case("userPassword"));
    all.flat_map(|(name, values)| values.iter().map(move |v| Element::new("a").attr("n", name).text(v)))
}

/// `ModifyAccountRequest`: into the directory, then into this server's cache; and if the account moved,
/// its new home is told to forget what it knows.
pub fn modify(call: &Call<'_>) -> Outcome<Element> {
    let directory = &call.store.directory;
    let id = call.body().value("id").ok_or_else(|| Fault::invalid_request("missing id"))?;
    let account = directory.the_account(By::Id, id)?;
    let pairs = call.body().children.iter().filter(|c| c.name == "a");
    let mut all = changes(pairs.filter_map(|a| Some((a.get("n")?, a.text.as_str()))));
    let is_set = |name: &str, all: &[callback::Change]| {
        all.iter().find(|c| c.name.eq_ignore_ascii_case(name)).and_then(|c| c.values.first()).cloned()
    };
    if let Some(host) = is_set("zimbraMailHost", &all)
        && directory.server_named(&host)?.is_none()
    {
        return Err(Fault::no_such_server(&host));
    }
    callback::suspension_reason(&mut all, &directory.status(&account)?);
    callback::complete(&account, &mut all, |host| directory.server_of(host))?;
    if all.is_empty() {
        return Err(Fault::invalid_request("nothing to modify"));
    }
    directory.modify(&account.dn, &all)?;
    if is_set("zimbraAccountStatus", &all).as_deref() == Some("closed") {
        directory.leave_lists(account.address())?;
    }
    let fresh = directory.reload(id)?;
    if let Some(host) = is_set("zimbraMailHost", &all)
        && !host.eq_ignore_ascii_case(&call.store.host)
    {
        // The new home may be away; then it goes on believing what it believed.
        let _ = flush::tell(call, &host, "account", id);
    }
    Ok(Element::admin("ModifyAccountResponse").child(element(&fresh, None)))
}
