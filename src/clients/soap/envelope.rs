//! SOAP envelopes: a request with its context, an answer or a fault.

use std::time::Duration;

use crate::error::{Context, Error, Kind, Result};
use crate::secret::Secret;
use crate::xml::Element;
use crate::zimbra::ids::ZimbraId;

pub(super) const MAX_ANSWER: usize = 10 << 20;

/// One admin request.
#[derive(Clone, Debug)]
pub struct Request {
    element: Element,
    target: Option<ZimbraId>,
    timeout: Option<Duration>,
    repeatable: bool,
}

impl Request {
    /// A request of this name, such as `GetAccountRequest`, that changes something.
    pub fn new(name: &str) -> Self {
        let element = Element::new(name).attr("xmlns", "urn:zimbraAdmin");
        Self { element, target: None, timeout: None, repeatable: false }
    }

    /// Says that asking twice does no harm, so that it is sent again when a connection breaks.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Pins the server that executes it, by its `zimbraId`. With the receiving server's own id it is answered
    /// there, from what that server has cached, and never proxied.
    pub fn target(mut self, server: &ZimbraId) -> Self {
        self.target = Some(server.clone());
        self
    }

    /// Waits this long for the answer instead of the usual time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds an attribute.
    pub fn attr(mut self, name: &str, value: impl Into<String>) -> Self {
        self.element = self.element.attr(name, value);
        self
    }

    /// Adds a child.
    pub fn child(mut self, child: Element) -> Self {
        self.element = self.element.child(child);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.element.name()
    }

    /// Whether asking twice does no harm.
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    pub(super) fn wait(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }

    /// The text of the envelope; fails with [`Kind::Data`] when a value holds what XML cannot.
    pub(super) fn envelope(&self, token: Option<&Secret>) -> Result<String> {
        let mut context = Element::new("context").attr("xmlns", "urn:zimbra");
        if let Some(token) = token {
            context = context.child(Element::new("authToken").text(token.expose()));
        }
        context = context.child(Element::new("nosession"));
        if let Some(target) = &self.target {
            context = context.child(Element::new("targetServer").text(target.as_str()));
        }
        let envelope = Element::new("soap:Envelope")
            .attr("xmlns:soap", "http://www.w3.org/2003/05/soap-envelope")
            .child(Element::new("soap:Header").child(context))
            .child(Element::new("soap:Body").child(self.element.clone()));
        envelope.to_xml().context(Kind::Data, || format!("{}: writing it", self.name()))
    }
}

/// What an envelope holds: the answer, or the fault as an error. `what` names the call.
pub(super) fn open(what: &str, status: u16, body: &[u8]) -> Result<Element> {
    let unreadable = |why: &str| {
        let e = Error::new(Kind::Peer, format!("{what}: {why} (http status {status})"));
        // A proxy or a starting server answers with a page of its own, one whose services are not up yet with 404 or 500.
        if matches!(status, 404 | 500 | 502..=504) { e.retryable() } else { e }
    };
    let envelope = match Element::parse(body, MAX_ANSWER) {
        Ok(envelope) => envelope,
        Err(e) => return Err(unreadable("the answer is no SOAP").because(e)),
    };
    let Some(answer) = envelope.first("Body").and_then(|body| body.iter().next()) else {
        return Err(unreadable("the answer has no body"));
    };
    match answer.name() {
        "Fault" => Err(fault(what, answer)),
        _ => Ok(answer.clone()),
    }
}

fn fault(what: &str, fault: &Element) -> Error {
    let text = |path: &[&str]| fault.at(path).map(|element| element.content().trim());
    let detail = fault.at(&["Detail", "Error"]);
    let code = detail.and_then(|detail| detail.value("Code")).unwrap_or("service.FAILURE").trim();
    let reason = text(&["Reason", "Text"]).or_else(|| text(&["faultstring"])).unwrap_or("no reason given");
    let mut message = format!("{what}: {}: {code}", cut(reason));
    for (name, value) in arguments(fault) {
        message.push_str(&format!(", {name}={}", cut(value)));
    }
    let error = Error::new(kind(code), message).code(code);
    let receiver = text(&["Code", "Value"]).or_else(|| text(&["faultcode"])).is_some_and(|v| v.ends_with("Receiver"));
    if receiver { error.retryable() } else { error }
}

/// The arguments of a fault, such as the host of `service.WRONG_HOST`. Those that may repeat what was sent, and
/// with it a secret, are left to the server's log.
fn arguments(fault: &Element) -> impl Iterator<Item = (&str, &str)> {
    const SAFE: &[&str] = &["host", "mboxId", "acctId", "id", "itemId", "url"];
    let detail = fault.at(&["Detail", "Error"]).into_iter().flat_map(Element::iter);
    detail
        .filter(|a| a.name() == "a")
        .filter_map(|a| Some((a.get("n")?, a.content())))
        .filter(|(n, _)| SAFE.contains(n))
}

fn cut(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn kind(code: &str) -> Kind {
    match code {
        "account.AUTH_FAILED" | "service.PERM_DENIED" | "service.AUTH_EXPIRED" | "service.AUTH_REQUIRED" => {
            Kind::Denied
        }
        "service.NOT_FOUND" => Kind::NotFound,
        _ if code.contains(".NO_SUCH_") => Kind::NotFound,
        _ => Kind::Peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: &str = r#"<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Header/><soap:Body><soap:Fault>
        <soap:Code><soap:Value>soap:Receiver</soap:Value></soap:Code><soap:Reason><soap:Text>mailbox in maintenance mode: 7 reason: mailbox locked out for maintenance</soap:Text></soap:Reason>
        <soap:Detail><Error xmlns="urn:zimbra"><Code>mail.MAINTENANCE</Code><Trace>t</Trace><a n="mboxId" t="IID">7</a><a n="password" t="STR">hunter2</a></Error></soap:Detail>
        </soap:Fault></soap:Body></soap:Envelope>"#;

    #[test]
    fn a_fault_becomes_an_error() {
        let e = open("x", 500, FAULT.as_bytes()).unwrap_err();
        assert_eq!((e.kind(), e.peer_code(), e.is_retryable()), (Kind::Peer, Some("mail.MAINTENANCE"), true));
        assert_eq!(
            e.to_string(),
            "x: mailbox in maintenance mode: 7 reason: mailbox locked out for maintenance: mail.MAINTENANCE, mboxId=7"
        );
        let sender = FAULT.replace("Receiver", "Sender").replace("mail.MAINTENANCE", "account.NO_SUCH_ACCOUNT");
        let e = open("x", 500, sender.as_bytes()).unwrap_err();
        assert_eq!((e.kind(), e.is_retryable()), (Kind::NotFound, false));
    }

    #[test]
    fn a_page_is_no_answer() {
        for (status, retryable) in [(400, false), (404, true), (502, true), (200, false)] {
            let e = open("x", status, b"<html><p>Bad gateway</html>").unwrap_err();
            assert_eq!((e.kind(), e.is_retryable()), (Kind::Peer, retryable), "{e}");
        }
        assert!(open("x", 200, b"<Envelope><Body/></Envelope>").is_err());
    }

    #[test]
    fn values_cannot_break_out() {
        let id = "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b".parse().unwrap();
        let request = Request::new("ModifyAccountRequest")
            .target(&id)
            .child(Element::new("a").attr("n", "x\"/>").text("</a><b/>"));
        let text = request.envelope(Some(&Secret::new("T"))).unwrap();
        assert!(text.contains(r#"<a n="x&quot;/&gt;">&lt;/a&gt;&lt;b/&gt;</a>"#), "{text}");
        assert!(text.contains("<authToken>T</authToken><nosession></nosession><targetServer>4c0f6a3e"), "{text}");
    }
}
