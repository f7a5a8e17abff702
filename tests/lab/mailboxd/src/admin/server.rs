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
        Some("name") => directory.server_named(value)?,
        Some("serviceHostname") => directory.server_of(value)?,
        other => return Err(Fault::invalid_request(format!("unknown value of by: {other:?}"))),
    };
    let server = found.ok_or_else(|| Fault::no_such_server(value))?;
    Ok(Element::admin("GetServerResponse").child(element(&server)))
}

/// `GetAllServersRequest`: all, or those with a service.
pub fn get_all(call: &Call<'_>) -> Outcome<Element> {
    let service = call.body().get("service");
    let servers = call.store.directory.servers()?;
    let wanted = servers.iter().filter(|s| service.is_none_or(|service| s.runs(service)));
    Ok(Element::admin("GetAllServersResponse").children(wanted.map(element)))
}

/// `GetVersionInfoRequest`.
pub fn version(call: &Call<'_>) -> Outcome<Element> {
    let server = call.store.server()?;
    let version = server.get("zimbraServerVersion").unwrap_or("8.8.15");
    let mut info = Element::new("info").attr("version", version).attr("release", "lab").attr("buildDate", "0");
    for (name, part) in ["majorversion", "minorversion", "microversion"].into_iter().zip(version.split('.')) {
        info = info.attr(name, part);
    }
    let info = info.attr("host", &call.store.host).attr("platform", "DEBIAN12_64");
    Ok(Element::admin("GetVersionInfoResponse").child(info))
}

/// `GetServiceStatusRequest`: every service of every server, all of them well.
pub fn status(call: &Call<'_>) -> Outcome<Element> {
    let zone = Element::new("timezone").attr("id", "UTC").attr("displayName", "Coordinated Universal Time");
    let mut answer = Element::admin("GetServiceStatusResponse").child(zone);
    for server in call.store.directory.servers()?.iter() {
        for service in server.all("zimbraServiceEnabled") {
            let status = Element::new("status").attr("server", server.service_host()).attr("service", service);
            answer = answer.child(status.attr("t", crate::mailbox::tx::now()).text("1"));
        }
    }
    Ok(answer)
}

fn element(server: &Entry) -> Element {
    Element::new("server")
        .attr("name", server.get("cn").unwrap_or_default())
        .attr("id", server.id())
        .children(attributes(server))
}
