//! One error for the whole program: what was attempted on what, the cause, what to do.
//!
//! A message is a lower-case fragment with its object first (`mailbox 1407 on store2.lab.test: id is
//! taken`), so that it reads well behind any prefix. What state a mailbox is left in is not known where an
//! error is made; whoever ends the run adds it.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a class that callers and scripts decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A command line, an option or a script that cannot be run as it stands.
    Usage,
    /// Configuration that is missing, wrong or readable by others.
    Config,
    /// Preflight found reasons against it; nothing was changed.
    Refused,
    /// Somebody else holds it.
    Held,
    /// It is not there.
    NotFound,
    /// A peer cannot be reached, or the connection broke.
    Unreachable,
    /// A peer said no: credentials, rights, a host key or a certificate.
    Denied,
    /// A peer answered with an error of its own.
    Peer,
    /// Data that would not survive: truncation, charset, duplicate, an unmapped id.
    Data,
    /// Two copies that must be equal are not.
    Unequal,
    /// The run was asked to stop.
    Cancelled,
    /// It took, or would take, longer than it may.
    Late,
    /// A file or process of this host.
    Io,
    /// Of several runs, some failed.
    Partial,
    /// A script threw it.
    Script,
}

impl Kind {
    /// The kind that scripts call `word`; [`Kind::Script`] where there is none.
    pub fn from_word(word: &str) -> Self {
        serde_json::from_value(serde_json::Value::String(word.to_owned())).unwrap_or(Kind::Script)
    }

    /// The exit status of a program that fails with it and has begun nothing.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage | Kind::Config => 2,
            Kind::Refused => 3,
            Kind::Held => 5,
            Kind::Partial => 6,
            Kind::Cancelled => 130,
            _ => 1,
        }
    }

    /// The word scripts compare `e.kind` with.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Config => "config",
            Kind::Refused => "refused",
            Kind::Held => "held",
            Kind::NotFound => "not_found",
            Kind::Unreachable => "unreachable",
            Kind::Denied => "denied",
            Kind::Peer => "peer",
            Kind::Data => "data",
            Kind::Unequal => "unequal",
            Kind::Cancelled => "cancelled",
            Kind::Late => "late",
            Kind::Io => "io",
            Kind::Partial => "partial",
            Kind::Script => "script",
        }
    }
}

/// Code of an error after which a run must touch nothing: it holds its account no more.
const LOST: &str = "claim_lost";

/// Code of an error of a switch of which nobody knows whether it happened.
const UNSETTLED: &str = "switch_unsettled";

/// Code of an error of work that was stopped because other work beside it failed.
const BESIDE: &str = "stopped_beside";

/// An error with its cause and advice.
pub struct Error {
    kind: Kind,
    message: String,
    code: Option<String>,
    hint: Option<String>,
    retryable: bool,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what was attempted on what.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, hint: None, retryable: false, cause: None }
    }

    /// The error of a run that holds its account no more: another one may have taken it over.
    pub fn lost(message: impl Into<String>) -> Self {
        Self::new(Kind::Held, message)
            .code(LOST)
            .hint("nothing more was changed; `zlm reconcile EMAIL` says where the account stands")
    }

    /// Whether it is one of those: no script can catch it, and nothing may be undone after it.
    pub fn is_lost(&self) -> bool {
        self.kind == Kind::Held && self.peer_code() == Some(LOST)
    }

    /// The error of work that is of no use any more, because what was done beside it failed.
    pub(crate) fn stopped_beside() -> Self {
        Self::new(Kind::Cancelled, "stopped, since what was done beside it failed").code(BESIDE)
    }

    /// Whether it is one of those: the other failure is the one to tell.
    pub(crate) fn is_stopped_beside(&self) -> bool {
        self.kind == Kind::Cancelled && self.peer_code() == Some(BESIDE)
    }

    /// Marks it as one after which nobody knows whether the run has switched.
    pub fn unsettled(self) -> Self {
        self.code(UNSETTLED)
    }

    /// Whether it is one of those: no script can catch it, since nothing that it would do next can be known to be right.
    pub fn is_unsettled(&self) -> bool {
        self.peer_code() == Some(UNSETTLED)
    }

    /// Attaches the error that caused this one.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Attaches what the operator can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Attaches the peer's own code: a SOAP fault code, a MariaDB errno, an LDAP result, an exit status.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Marks it as one that may pass when tried again.
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The error as it is kept in the journal: without its causes' types, with their texts.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "kind": self.kind,
            "message": self.to_string(),
            "code": self.code,
            "hint": self.hint,
            "retryable": self.retryable,
        })
        .to_string()
    }

    /// An error that was kept.
    pub fn from_json(text: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let word = |name: &str| value.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let kind = word("kind").map_or(Kind::Script, |word| Kind::from_word(&word));
        Self {
            kind,
            message: word("message").unwrap_or_else(|| "an error that the journal has no text of".to_owned()),
            code: word("code"),
            hint: word("hint"),
            retryable: value.get("retryable").and_then(serde_json::Value::as_bool).unwrap_or(false),
            cause: None,
        }
    }

    /// Its class.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was attempted on what, without cause and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the operator can do about it, if anything is known.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The peer's own code, if there is one.
    pub fn peer_code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether nobody listens where it was to connect to.
    pub fn is_connection_refused(&self) -> bool {
        let mut cause = self.source();
        while let Some(e) = cause {
            if let Some(io) = e.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::ConnectionRefused
            {
                return true;
            }
            cause = e.source();
        }
        false
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for Error {
    /// The message, then each cause, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source();
        while let Some(e) = cause {
            // Many libraries repeat their cause in their own text; say each thing once.
            let text = e.to_string();
            if !self.message.contains(&text) {
                write!(f, ": {text}")?;
            }
            cause = if e.is::<Error>() { None } else { e.source() };
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.kind.word())?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().map(|c| c.as_ref() as &(dyn StdError + 'static))
    }
}

/// Adds what was attempted to an error that only knows what happened.
pub trait Context<T> {
    /// Wraps the error; `message` says what was attempted on what.
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(kind, message()).because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_message_then_causes_once() {
        let io = std::io::Error::other("connection refused");
        let inner = Error::new(Kind::Unreachable, "store1:7306").because(io);
        let outer = Error::new(Kind::Peer, "mailbox 7: reading rows").because(inner);
        assert_eq!(outer.to_string(), "mailbox 7: reading rows: store1:7306: connection refused");
    }
}
