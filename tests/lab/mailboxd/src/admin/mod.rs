//! The admin service: from an envelope to an answer.

mod account;
mod auth;
mod check;
mod flush;
mod mailbox;
mod proxy;
mod server;

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::fault::{Fault, Outcome};
use crate::http::Reply;
use crate::request_log::{self, Line};
use crate::script::Mode;
use crate::soap::{self, Envelope};
use crate::store::Store;
use crate::xml::Element;

/// What a request led to.
enum Done {
    /// The body of the answer.
    Here(Element),
    /// Status and envelope of another store's answer.
    There(u16, String),
}

/// One request, as a handler sees it.
pub struct Call<'a> {
    /// This server.
    pub store: &'a Arc<Store>,
    /// The whole envelope.
    pub envelope: &'a Envelope,
}

impl Call<'_> {
    fn body(&self) -> &Element {
        &self.envelope.body
    }

    /// A child that must be there.
    fn child(&self, name: &str) -> Outcome<&Element> {
        self.body().find(name).ok_or_else(|| Fault::invalid_request(format!("missing <{name}>")))
    }

    /// `id` of `<mbox>`: a zimbraId, or for some requests a mailbox id.
    fn mbox(&self) -> Outcome<&str> {
        self.child("mbox")?.get("id").ok_or_else(|| Fault::invalid_request("missing id of <mbox>"))
    }
}

/// Answers one request.
pub fn serve(store: &Arc<Store>, body: &str) -> Reply {
    let started = Instant::now();
    let envelope = match Envelope::parse(body) {
        Ok(envelope) => envelope,
        Err(e) => return Reply::Answer(500, soap::fault(&Fault::invalid_request(format!("parse error: {e}")))),
    };
    let mut line = Line {
        time: request_log::now(),
        name: envelope.body.name.clone(),
        account: subject(&envelope.body),
        detail: detail(&envelope.body),
        target: envelope.target.clone(),
        hops: envelope.hops,
        ..Line::default()
    };
    let mode = store.script.take(&envelope.body.name);
    let reply = scripted(mode, &mut line, |line| {
        let (outcome, reply) = match perform(store, &envelope, line) {
            Ok(Done::Here(body)) => ("ok".to_string(), Reply::Answer(200, soap::answer(&body))),
            Ok(Done::There(status, xml)) => (soap::fault_code(&xml).unwrap_or("ok".into()), Reply::Answer(status, xml)),
            Err(fault) => (fault.code.clone(), Reply::Answer(500, soap::fault(&fault))),
        };
        line.outcome = outcome;
        reply
    });
    line.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    store.log.write(&line);
    reply
}

/// Does what a script says with a request, and the request itself where the script leaves it alone.
fn scripted(mode: Option<Mode>, line: &mut Line, mut apply: impl FnMut(&mut Line) -> Reply) -> Reply {
    let Some(mode) = mode else { return apply(line) };
    if let Some(fault) = mode.fault() {
        line.outcome = format!("scripted {}", fault.code);
        return Reply::Answer(500, soap::fault(&fault));
    }
    match mode {
        Mode::Late(time) => {
            thread::sleep(time);
            apply(line)
        }
        Mode::Pass => apply(line),
        Mode::Twice => {
            apply(line);
            apply(line)
        }
        Mode::ApplyThenHang(time) => {
            let reply = apply(line);
            thread::sleep(time);
            line.outcome.push_str(", answered late");
            reply
        }
        Mode::ApplyThenDrop => {
            apply(line);
            line.outcome.push_str(", answer dropped");
            Reply::Drop
        }
        Mode::Hang(time) => {
            thread::sleep(time);
            line.outcome = "hung, not done".into();
            Reply::Drop
        }
        Mode::DropBefore | Mode::Unreachable | Mode::Fail(_) | Mode::AuthExpired => {
            line.outcome = "dropped, not done".into();
            Reply::Drop
        }
    }
}

fn perform(store: &Arc<Store>, envelope: &Envelope, line: &mut Line) -> Outcome<Done> {
    let call = Call { store, envelope };
    let name = envelope.body.name.as_str();
    if name == "AuthRequest" {
        return auth::auth(&call).map(Done::Here);
    }
    let handler = handler(name).ok_or_else(|| Fault::unknown_document(name))?;
    auth::check(&call)?;
    if let Some(server) = proxy::target(&call, name)? {
        line.proxied_to = Some(server.service_host().to_string());
        let (status, xml) = proxy::pass_on(&call, &server)?;
        return Ok(Done::There(status, xml));
    }
    handler(&call).map(Done::Here)
}

type Handler = fn(&Call<'_>) -> Outcome<Element>;

/// The requests that the open-source server answers, as far as a move can want them.
fn handler(name: &str) -> Option<Handler> {
    Some(match name {
        "GetAccountRequest" => account::get,
        "ModifyAccountRequest" => account::modify,
        "GetServerRequest" => server::get,
        "GetAllServersRequest" => server::get_all,
        "GetVersionInfoRequest" => server::version,
        "GetServiceStatusRequest" => server::status,
        "GetMailboxRequest" => mailbox::get,
        "GetAllMailboxesRequest" => mailbox::get_all,
        "DeleteMailboxRequest" => mailbox::delete,
        "LockoutMailboxRequest" => mailbox::lockout,
        "ReIndexRequest" => mailbox::reindex,
        "RecalculateMailboxCountsRequest" => mailbox::recalculate,
        "PurgeAccountCalendarCacheRequest" => mailbox::purge_calendar_cache,
        "CheckBlobConsistencyRequest" => check::check,
        "FlushCacheRequest" => flush::flush,
        _ => return None,
    })
}

/// The account that a request names, for the log.
fn subject(body: &Element) -> Option<String> {
    let from = |name: &str| body.find(name);
    let of_mbox = || from("mbox").and_then(|m| m.get("id"));
    let of_account = || from("account").map(|a| a.text.as_str());
    let of_entry = || body.find("cache")?.find("entry").map(|e| e.text.as_str());
    let of_name = || from("name").map(|n| n.text.as_str());
    let id = || body.value("id");
    of_account().or_else(of_mbox).or_else(id).or_else(of_entry).or_else(of_name).map(String::from)
}

/// Names and values of attributes on the request; names alone of modified ones, whose values may be secret.
fn detail(body: &Element) -> Option<String> {
    let mut parts: Vec<String> =
        body.attrs.iter().filter(|(n, _)| n != "xmlns").map(|(n, v)| format!("{n}={v}")).collect();
    parts.extend(body.find("cache").and_then(|c| c.get("type")).map(|t| format!("cache={t}")));
    parts.extend(body.children.iter().filter(|c| c.name == "a").filter_map(|c| c.get("n")).map(String::from));
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_accounts_and_no_secrets() {
        let read = |xml| Element::parse(xml).unwrap();
        let auth = read("<AuthRequest><name>zimbra</name><password>hush</password></AuthRequest>");
        assert_eq!((subject(&auth).as_deref(), detail(&auth)), (Some("zimbra"), None));
        let modify = read("<ModifyAccountRequest><id>Z</id><a n='userPassword'>hush</a></ModifyAccountRequest>");
        assert_eq!((subject(&modify).as_deref(), detail(&modify).as_deref()), (Some("Z"), Some("userPassword")));
        let lock = read("<LockoutMailboxRequest op='start'><account by='id'>Z</account></LockoutMailboxRequest>");
        assert_eq!((subject(&lock).as_deref(), detail(&lock).as_deref()), (Some("Z"), Some("op=start")));
        let flush = read(
            "<FlushCacheRequest><cache type='account' allServers='0'><entry by='id'>Z</entry></cache></FlushCacheRequest>",
        );
        assert_eq!((subject(&flush).as_deref(), detail(&flush).as_deref()), (Some("Z"), Some("cache=account")));
    }

    #[test]
    fn requests_of_the_network_edition_are_unknown() {
        for name in [
            "MoveMailboxRequest",
            "PurgeMovedMailboxRequest",
            "QueryMailboxMoveRequest",
            "UnloadMailboxRequest",
            "RegisterMailboxMoveOutRequest",
            "GetMailboxVolumesRequest",
            "DelegateAuthRequest",
        ] {
            assert!(handler(name).is_none(), "{name}");
        }
    }

    #[test]
    fn scripts_decide_whether_a_request_is_done() {
        let run = |mode| {
            let (mut line, mut done) = (Line::default(), false);
            let reply = scripted(Some(mode), &mut line, |line| {
                done = true;
                line.outcome = "ok".into();
                Reply::Answer(200, String::new())
            });
            (done, matches!(reply, Reply::Drop), line.outcome)
        };
        let soon = std::time::Duration::from_millis(1);
        assert_eq!(run(Mode::DropBefore), (false, true, "dropped, not done".into()));
        assert_eq!(run(Mode::ApplyThenDrop), (true, true, "ok, answer dropped".into()));
        assert_eq!(run(Mode::Hang(soon)), (false, true, "hung, not done".into()));
        assert_eq!(run(Mode::ApplyThenHang(soon)), (true, false, "ok, answered late".into()));
        assert_eq!(run(Mode::Twice), (true, false, "ok".into()));
        assert_eq!(run(Mode::Late(soon)), (true, false, "ok".into()));
        assert_eq!(run(Mode::Fail("service.FAILURE".into())), (false, false, "scripted service.FAILURE".into()));
        assert_eq!(run(Mode::AuthExpired), (false, false, "scripted service.AUTH_EXPIRED".into()));
    }
}
