//! Who may ask.

use super::Call;
use crate::fault::{Fault, Outcome};
use crate::status;
use crate::store::token_lifetime;
use crate::token::Claim;
use crate::xml::Element;

/// `AuthRequest`: an administrator's name and password for a token.
pub fn auth(call: &Call<'_>) -> Outcome<Element> {
    let body = call.body();
    let name = body.find("name").or_else(|| body.find("account")).map_or("", |n| n.text.trim());
    let password = body.value("password").unwrap_or_default();
    let directory = &call.store.directory;
    let entry = directory.administrator(name)?.ok_or_else(|| Fault::auth_failed(name))?;
    if !directory.check_password(&entry.dn, password)? {
        return Err(Fault::auth_failed(name));
    }
    if name.contains('@') {
        status::check_login(&directory.status(&entry)?, name)?;
        if !entry.is("zimbraIsAdminAccount") {
            return Err(Fault::permission_denied("not an admin account"));
        }
    }
    let lifetime = token_lifetime(directory)?;
    let token = call.store.tokens.issue(entry.id(), lifetime);
    Ok(Element::admin("AuthResponse")
        .child(Element::new("authToken").text(token))
        .child(Element::new("lifetime").text(lifetime.as_millis().to_string())))
}

/// The token of a request: signed, in time, and of an administrator who may still log in.
pub fn check(call: &Call<'_>) -> Outcome<()> {
    let token = call.envelope.token.as_deref().ok_or_else(Fault::auth_required)?;
    let id = match call.store.tokens.check(token).ok_or_else(Fault::auth_required)? {
        Claim::Account(id) => id,
        Claim::Expired => return Err(Fault::auth_expired()),
    };
    let directory = &call.store.directory;
    let entry = directory.administrator_by_id(&id)?.ok_or_else(Fault::auth_expired)?;
    if entry.get("zimbraMailDeliveryAddress").is_some() && directory.status(&entry)? != "active" {
        return Err(Fault::auth_expired());
    }
    Ok(())
}
