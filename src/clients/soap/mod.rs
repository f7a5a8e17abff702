//! Admin SOAP of the stores.

mod accounts;
mod envelope;
mod servers;
#[cfg(test)]
mod tests;
mod transport;

use std::fmt;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::Agent;
use ureq::unversioned::resolver::DefaultResolver;

use crate::clients::tls;
use crate::config::SoapSettings;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::xml::Element;
use crate::zimbra::ids::Host;

pub use accounts::{MailboxProbe, account_attributes};
use envelope::MAX_ANSWER;
pub use envelope::Request;
pub use servers::BlobReport;
use transport::{NotSent, TlsConnector};

/// The code of an error after which nobody knows whether the server has done what it was asked.
pub const AMBIGUOUS: &str = "ambiguous";

/// Admin SOAP of every store, with one login: Zimbra's tokens hold on all servers.
pub struct Admin {
    settings: SoapSettings,
    agent: Agent,
    token: Mutex<Option<Secret>>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admin({})", self.settings.user)
    }
}

impl Admin {
    /// A client that has not connected yet; fails with [`Kind::Config`] when the trusted authority cannot be
    /// read.
    pub fn new(settings: SoapSettings) -> Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(true)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("zlm/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_resolve(Some(settings.connect_timeout))
            // Servers close idle connections too; the fewer of ours they find, the fewer requests meet a closed one.
            .max_idle_age(Duration::from_secs(15))
            .build();
        let connector = TlsConnector::new(tls::client_config(&settings.trust)?);
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        Ok(Self { settings, agent, token: Mutex::new(None) })
    }

    /// The store to ask what any store can answer; fails with [`Kind::Config`] when none is known.
    pub fn default_store(&self) -> Result<&Host> {
        let missing = || Error::new(Kind::Config, "soap.server: not set, and this is no Zimbra host");
        self.settings.server.as_ref().ok_or_else(missing)
    }

    /// Sends a request to a store and gives the element of the answer, logging in as needed.
    ///
    /// Fails with the fault's code. A connection that breaks when the request may have reached the server gives
    /// the code [`AMBIGUOUS`], unless the request is repeatable: that is sent once more. Connecting in vain is
    /// [`Kind::Unreachable`] without a code, and retryable.
    pub fn call(&self, store: &Host, request: &Request) -> Result<Element> {
        let token = self.token(store, request)?;
        match self.send(store, request, Some(&token)) {
            Err(e) if matches!(e.peer_code(), Some("service.AUTH_EXPIRED" | "service.AUTH_REQUIRED")) => {
                log::debug!("{store}: the admin token has ended, logging in again");
                self.forget(&token);
                let token = self.token(store, request)?;
                self.send(store, request, Some(&token))
            }
            answer => answer,
        }
    }

    /// The token of this login, from a new login if there is none, which may take as long as the request itself.
    fn token(&self, store: &Host, request: &Request) -> Result<Secret> {
        // Held during the login, so that threads that start together log in once.
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*held {
            return Ok(token.clone());
        }
        let login = Request::new("AuthRequest")
            .repeatable()
            .timeout(request.wait(self.settings.timeout).min(self.settings.timeout))
            .child(Element::new("name").text(&self.settings.user))
            .child(Element::new("password").text(self.settings.password.expose()));
        let answer = self.send(store, &login, None).map_err(|e| match e.peer_code() {
            Some("account.AUTH_FAILED") => e.hint("check soap.user and soap.password"),
            _ => e,
        })?;
        let token = answer.first("authToken").map(Element::content).filter(|token| !token.is_empty());
        let token =
            token.ok_or_else(|| Error::new(Kind::Peer, format!("AuthRequest to {store}: no token in the answer")))?;
        Ok(held.insert(Secret::new(token)).clone())
    }

    /// Forgets a token, unless another thread has replaced it already.
    fn forget(&self, ended: &Secret) {
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref() == Some(ended) {
            *held = None;
        }
    }

    fn send(&self, store: &Host, request: &Request, token: Option<&Secret>) -> Result<Element> {
        let what = format!("{} to {store}", request.name());
        let envelope = request.envelope(token)?;
        let mut result = self.post(&what, store, &envelope, request);
        if request.is_repeatable() && result.as_ref().is_err_and(|e| e.peer_code() == Some(AMBIGUOUS)) {
            result = self.post(&what, store, &envelope, request);
        }
        let (status, body) = result?;
        envelope::open(&what, status, &body)
    }

    fn post(&self, what: &str, store: &Host, envelope: &str, request: &Request) -> Result<(u16, Vec<u8>)> {
        let own = self.settings.ports.iter().find(|(host, _)| host == store);
        let port = own.map_or(self.settings.port, |(_, port)| *port);
        let post = self.agent.post(format!("https://{store}:{port}/service/admin/soap/"));
        let post = post.config().timeout_global(Some(request.wait(self.settings.timeout))).build();
        let answer = post.content_type("application/soap+xml; charset=utf-8").send(envelope.as_bytes());
        let mut answer = answer.map_err(|e| failure(what, e))?;
        let mut body = Vec::new();
        let mut reader = answer.body_mut().as_reader().take(MAX_ANSWER as u64 + 1);
        reader.read_to_end(&mut body).map_err(|e| failure(what, ureq::Error::from(e)))?;
        if body.len() > MAX_ANSWER {
            return Err(Error::new(Kind::Peer, format!("{what}: the answer is longer than {MAX_ANSWER} bytes")));
        }
        Ok((answer.status().as_u16(), body))
    }
}

/// What a broken exchange means.
fn failure(what: &str, error: ureq::Error) -> Error {
    let message = |text: &dyn fmt::Display| format!("{what}: {text}");
    match error {
        ureq::Error::Other(other) => match other.downcast::<NotSent>() {
            Ok(not_sent) => not_connected(what, *not_sent),
            Err(other) => {
                Error::new(Kind::Unreachable, message(&"the connection broke")).because(other).code(AMBIGUOUS)
            }
        },
        ureq::Error::HostNotFound => Error::new(Kind::Unreachable, message(&"the host's name is unknown")).retryable(),
        ureq::Error::Timeout(t @ (ureq::Timeout::Resolve | ureq::Timeout::Connect)) => {
            Error::new(Kind::Unreachable, message(&format_args!("no connection in time ({t})"))).retryable()
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Error::new(Kind::Config, message(&"the address is wrong")).because(error)
        }
        ureq::Error::Timeout(t) => {
            Error::new(Kind::Unreachable, message(&format_args!("no answer in time ({t})"))).code(AMBIGUOUS)
        }
        error => Error::new(Kind::Unreachable, message(&"the connection broke")).because(error).code(AMBIGUOUS),
    }
}

fn not_connected(what: &str, error: NotSent) -> Error {
    if let Some((advice, tls)) = tls::refusal(&error) {
        return Error::new(Kind::Denied, format!("{what}: refused to trust the server: {tls}")).hint(advice);
    }
    let failed = Error::new(Kind::Unreachable, format!("{what}: connecting"));
    let failed = match error.0 {
        ureq::Error::Io(io) => failed.because(io),
        _ => failed.because(error),
    };
    failed.retryable()
}

/// Names the call in an error that is not about its exchange.
fn odd<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| Error::new(Kind::Peer, format!("{what}: the answer lacks what it should hold")))
}
