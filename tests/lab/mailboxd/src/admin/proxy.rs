//! Requests that belong to another store: pinned by the client, or about an account whose home is
//! elsewhere as far as this server's cache knows.

use super::Call;
use super::account::selected;
use crate::client;
use crate::directory::By;
use crate::entry::Entry;
use crate::fault::{Fault, Outcome};
use crate::soap::Envelope;

const MAX_HOPS: u32 = 5;

/// The server that should answer, when it is not this one.
///
/// A pinned request is executed where it is pinned to, wherever the account's home is.
pub fn target(call: &Call<'_>, name: &str) -> Outcome<Option<Entry>> {
    let (store, envelope) = (call.store, call.envelope);
    if envelope.hops > MAX_HOPS {
        return Err(Fault::too_many_hops());
    }
    let server = match &envelope.target {
        Some(id) => {
            let found = store.directory.server(|s| s.id() == id)?;
            found.ok_or_else(|| Fault::no_such_server(id))?
        }
        None => match home(call, name)? {
            Some(server) => server,
            None => return Ok(None),
        },
    };
    Ok((!server.service_host().eq_ignore_ascii_case(&store.host)).then_some(server))
}

/// The home of the account a request is about, for the requests that follow it.
fn home(call: &Call<'_>, name: &str) -> Outcome<Option<Entry>> {
    let directory = &call.store.directory;
    let account = match name {
        "GetAccountRequest" => match call.body().find("account") {
            Some(account) => selected(call, account)?,
            None => None,
        },
        "ModifyAccountRequest" => directory.account(By::Id, call.body().value("id").unwrap_or_default())?,
        "GetMailboxRequest" | "DeleteMailboxRequest" | "ReIndexRequest" | "RecalculateMailboxCountsRequest" => {
            directory.account(By::Id, call.mbox()?)?
        }
        _ => None,
    };
    match account.as_deref().and_then(|a| a.get("zimbraMailHost")) {
        Some(host) => directory.server_of(host),
        None => Ok(None),
    }
}

/// Sends a request on, unpinned: the server that a client pinned it to sends it on in turn to the account's home.
pub fn pass_on(call: &Call<'_>, server: &Entry) -> Outcome<(u16, String)> {
    let hops = call.envelope.hops + 1;
    if hops > MAX_HOPS {
        return Err(Fault::too_many_hops());
    }
    let Envelope { token, body, .. } = call.envelope;
    let envelope = Envelope { token: token.clone(), target: None, hops, body: body.clone() };
    let (host, port) = (server.service_host(), server.port("zimbraAdminPort", 7071));
    client::post(&call.store.tls, host, port, &envelope.to_xml())
        .map_err(|e| Fault::proxy_error(format!("error while proxying request to target server {host}: {e}")))
}
