//! What a request fails with: Zimbra's code, whose fault it is, and arguments.

use std::fmt;

/// The result of anything a client may ask for.
pub type Outcome<T> = Result<T, Fault>;

/// A Zimbra service exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Such as `service.WRONG_HOST`.
    pub code: String,
    /// A sentence for people.
    pub text: String,
    /// Whether the receiver is to blame. Such a request may be sent again later; delivery then answers 4xx.
    pub receiver: bool,
    /// Named arguments with their types, such as the host of `service.WRONG_HOST`, a `STR`.
    pub args: Vec<(&'static str, &'static str, String)>,
}

impl Fault {
    fn new(code: &str, receiver: bool, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into(), receiver, args: Vec::new() }
    }

    fn with(mut self, name: &'static str, kind: &'static str, value: impl ToString) -> Self {
        self.args.push((name, kind, value.to_string()));
        self
    }

    /// A fault with any code, for scripted faults. The receiver is to blame where Zimbra says so.
    pub fn of_code(code: &str) -> Self {
        let receiver =
            matches!(code, "service.FAILURE" | "service.PROXY_ERROR" | "service.NOT_FOUND" | "mail.MAINTENANCE");
        Self::new(code, receiver, format!("scripted fault: {code}"))
    }

    /// The system failed: database, directory, files.
    pub fn failure(text: impl Into<String>) -> Self {
        Self::new("service.FAILURE", true, text)
    }

    /// The request makes no sense.
    pub fn invalid_request(text: impl Into<String>) -> Self {
        Self::new("service.INVALID_REQUEST", false, text)
    }

    /// No handler of that name: among others, all requests of the Network Edition.
    pub fn unknown_document(name: &str) -> Self {
        Self::new("service.UNKNOWN_DOCUMENT", false, format!("unknown document: {name}"))
    }

    /// Something named does not exist. Zimbra blames itself for that.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new("service.NOT_FOUND", true, text)
    }

    /// The account is not in the directory.
    pub fn no_such_account(name: &str) -> Self {
        Self::new("account.NO_SUCH_ACCOUNT", false, format!("no such account: {name}"))
    }

    /// The server is not in the directory.
    pub fn no_such_server(name: &str) -> Self {
        Self::new("account.NO_SUCH_SERVER", false, format!("no such server: {name}"))
    }

    /// The account's home is another server.
    pub fn wrong_host(host: &str) -> Self {
        Self::new("service.WRONG_HOST", false, format!("operation sent to wrong host (you want '{host}')"))
            .with("host", "STR", host)
    }

    /// The mailbox is locked out.
    pub fn maintenance(mailbox: u32) -> Self {
        let text = format!("mailbox in maintenance mode: {mailbox} reason: mailbox locked out for maintenance");
        Self::new("mail.MAINTENANCE", true, text).with("mboxId", "IID", mailbox)
    }

    /// The map names a mailbox that has no row.
    pub fn no_such_mailbox(mailbox: u32) -> Self {
        let text = format!("no such mailbox: {mailbox}");
        Self::new("mail.NO_SUCH_MBOX", false, text).with("mboxId", "IID", mailbox)
    }

    /// A request went round between servers whose caches disagree.
    pub fn too_many_hops() -> Self {
        Self::new("service.TOO_MANY_HOPS", false, "mountpoint or proxy loop detected")
    }

    /// The server that should answer cannot be reached.
    pub fn proxy_error(text: impl Into<String>) -> Self {
        Self::new("service.PROXY_ERROR", true, text)
    }

    /// The token is no longer good, or its account may not log in any more.
    pub fn auth_expired() -> Self {
        Self::new("service.AUTH_EXPIRED", false, "auth credentials have expired")
    }

    /// There is no token, or it is not ours.
    pub fn auth_required() -> Self {
        Self::new("service.AUTH_REQUIRED", false, "no valid authtoken present")
    }

    /// The token is not an administrator's.
    pub fn permission_denied(what: &str) -> Self {
        Self::new("service.PERM_DENIED", false, format!("permission denied: {what}"))
    }

    /// Wrong name or password.
    pub fn auth_failed(name: &str) -> Self {
        Self::new("account.AUTH_FAILED", false, format!("authentication failed for [{name}]"))
    }

    /// No log in while the account is in maintenance.
    pub fn maintenance_mode() -> Self {
        Self::new("account.MAINTENANCE_MODE", false, "account is in maintenance mode")
    }

    /// No log in with a status other than active.
    pub fn account_inactive(name: &str) -> Self {
        Self::new("account.ACCOUNT_INACTIVE", false, format!("account is not active: {name}"))
    }

    /// An attribute cannot have this value.
    pub fn invalid_attr_value(text: impl Into<String>) -> Self {
        Self::new("account.INVALID_ATTR_VALUE", false, text)
    }

    /// The directory does not know an attribute.
    pub fn invalid_attr_name(text: impl Into<String>) -> Self {
        Self::new("account.INVALID_ATTR_NAME", false, text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl From<mysql::Error> for Fault {
    fn from(e: mysql::Error) -> Self {
        Self::failure(format!("database: {e}"))
    }
}

impl From<std::io::Error> for Fault {
    fn from(e: std::io::Error) -> Self {
        Self::failure(format!("files: {e}"))
    }
}

impl From<ldap3::LdapError> for Fault {
    fn from(e: ldap3::LdapError) -> Self {
        Self::failure(format!("directory: {e}"))
    }
}
