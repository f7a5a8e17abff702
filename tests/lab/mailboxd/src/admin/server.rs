//! Servers.

use super::Call;
use super::account::attributes;
use crate::entry::Entry;
use crate::fault::{Fault, Outcome};
use crate::xml::Element;

/// `GetServerRequest`.
pub fn get(call: &Call<'_>) -> Outcome<Element> {
    let selector = call.child("server")?;
    let value = selector.text.trim();
    let directory = &call.store.directory;
    let found = match selector.get("by") {
        Some("id") => directory.server(|s| s.id() == value)?,
        Some("name") => directory.server(|s| s.get("cn").is_some_and(|cn| cn.eq_ignore_ascii_case(value)))?,
        Some("serviceHostname") => directory.server_of(value)?,
        other => return Err(Fault::invalid_request(format!("unknown value of by: {other:?}"))),
    };
    let server = found.ok_or_else(|| Fault::not_found(format!("no such server: {value}")))?;
    Ok(Element::admin("GetServerResponse").child(element(&server)))
}

/// `GetAllServersRequest`: all, or those with a service.
pub fn get_all(call: &Call<'_>) -> Outcome<Element> {
    let service = call.body().get("service");
    let servers = call.store.directory.servers()?;
    let wanted = servers.iter().filter(|s| service.is_none_or(|service| s.runs(service)));
    Ok(Element::admin("GetAllServersResponse").children(wanted.map(element)))
}

fn element(server: &Entry) -> Element {
    Element::new("server")
        .attr("name", server.get("cn").unwrap_or_default())
        .attr("id", server.id())
        .children(attributes(server))
}
