//! Forgetting what is believed.

use super::Call;
use super::account::by;
use crate::client;
use crate::fault::{Fault, Outcome};
use crate::soap::Envelope;
use crate::xml::Element;

/// Kinds that the real server knows and that hold nothing here.
const EMPTY: [&str; 14] = [
    "acl",
    "locale",
    "skin",
    "uistrings",
    "license",
    "globalgrant",
    "cos",
    "galgroup",
    "group",
    "mime",
    "alwaysOnCluster",
    "zimlet",
    "reverseproxylookup",
    "groups",
];

/// `FlushCacheRequest`. With `allServers`, the others are told too, and whether that worked is nowhere to
/// be seen in the answer.
pub fn flush(call: &Call<'_>) -> Outcome<Element> {
    let cache = call.child("cache")?;
    let kinds = cache.get("type").ok_or_else(|| Fault::invalid_request("missing type of <cache>"))?;
    let entries: Vec<&Element> = cache.children.iter().filter(|c| c.name == "entry").collect();
    for kind in kinds.split(',').map(str::trim) {
        flush_kind(call, kind, &entries)?;
    }
    if matches!(cache.get("allServers"), Some("1" | "true")) {
        for server in call.store.directory.servers()?.iter().filter(|s| s.runs("service")) {
            if !server.service_host().eq_ignore_ascii_case(&call.store.host) {
                // Logged and forgotten, as the real server does.
                if let Err(fault) = send(call, server.service_host(), cache) {
                    eprintln!("lab-mailboxd: flush on {}: {fault}", server.service_host());
                }
            }
        }
    }
    Ok(Element::admin("FlushCacheResponse"))
}

fn flush_kind(call: &Call<'_>, kind: &str, entries: &[&Element]) -> Outcome<()> {
    let directory = &call.store.directory;
    match kind {
        "all" if !entries.is_empty() => Err(Fault::invalid_request("cannot specify entry for all")),
        "account" if !entries.is_empty() => {
            entries.iter().try_for_each(|e| by(e).map(|by| directory.flush_account(by, e.text.trim())))
        }
        "all" | "account" | "domain" | "server" | "config" => {
            directory.flush(kind);
            Ok(())
        }
        kind if EMPTY.contains(&kind) => Ok(()),
        other => Err(Fault::invalid_request(format!("unknown cache type: {other}"))),
    }
}

/// Tells one server to forget one entry, by id.
pub fn tell(call: &Call<'_>, host: &str, kind: &str, id: &str) -> Outcome<()> {
    let entry = Element::new("entry").attr("by", "id").text(id);
    send(call, host, &Element::new("cache").attr("type", kind).child(entry))
}

fn send(call: &Call<'_>, host: &str, cache: &Element) -> Outcome<()> {
    let server = call.store.directory.server_of(host)?.ok_or_else(|| Fault::no_such_server(host))?;
    let mut cache = cache.clone();
    cache.attrs.retain(|(name, _)| name != "allServers");
    let body = Element::admin("FlushCacheRequest").child(cache);
    let envelope =
        Envelope { token: call.envelope.token.clone(), target: Some(server.id().to_string()), hops: 0, body };
    let port = server.port("zimbraAdminPort", 7071);
    match client::post(&call.store.tls, host, port, &envelope.to_xml()) {
        Ok((200, _)) => Ok(()),
        Ok((status, _)) => Err(Fault::failure(format!("{host} answered {status}"))),
        Err(e) => Err(Fault::proxy_error(format!("{host}: {e}"))),
    }
}
