//! Where a store's MariaDB is and who connects to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysql::OptsBuilder;

use crate::cancel::Cancel;
use crate::clients::ssh::Link;
use crate::error::Result;
use crate::secret::Secret;

/// How the server is reached.
#[derive(Clone, Debug)]
pub enum Address {
    /// A socket of this host.
    Socket(PathBuf),
    /// A socket of this host that a kept ssh connection leads on from.
    Tunnel {
        /// The socket.
        socket: PathBuf,
        /// The connection.
        link: Arc<Link>,
        /// What ends waiting for it.
        cancel: Cancel,
    },
    /// A host and port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port; Zimbra's default is 7306.
        port: u16,
    },
}

/// A MariaDB server and the user to connect as.
#[derive(Clone, Debug)]
pub struct Target {
    /// The store's name, for messages.
    pub store: String,
    /// Where it is.
    pub address: Address,
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// What `@@hostname` must answer, on every connection; `None` asks nothing.
    pub hostname: Option<String>,
}

/// A silent peer counts as gone after this. A fingerprint of millions of rows is silent while it is computed.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(900);
/// And after this where it has nothing to compute.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(60);
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// What the protocol itself can carry: a row may be as large as the server's own limit, which is not known yet.
const CLIENT_PACKET: usize = 1 << 30;

impl Target {
    /// Sees that the way there is open: a tunnel is gone with its ssh connection, which nobody else may need now.
    pub(super) fn open_way(&self) -> Result<()> {
        match &self.address {
            Address::Tunnel { link, cancel, .. } => link.open_again(cancel),
            Address::Socket(_) | Address::Tcp { .. } => Ok(()),
        }
    }

    /// Whether the way there was ending when it was gone.
    pub(super) fn has_lost_way(&self) -> bool {
        match &self.address {
            Address::Tunnel { link, .. } => link.is_ending(),
            Address::Socket(_) | Address::Tcp { .. } => false,
        }
    }

    /// The driver's options, with how long an answer is waited for. The driver would by default leave a TCP connection to a loopback address for the
    /// socket that the server names; behind a tunnel that is the socket of another server, this host's own.
    pub(super) fn options(&self, patience: Duration) -> OptsBuilder {
        let options = OptsBuilder::new()
            .prefer_socket(false)
            .user(Some(&self.user))
            .pass(Some(self.password.expose()))
            .read_timeout(Some(patience))
            .write_timeout(Some(WRITE_TIMEOUT))
            .max_allowed_packet(Some(CLIENT_PACKET));
        match &self.address {
            Address::Socket(socket) | Address::Tunnel { socket, .. } => options.socket(Some(socket.to_string_lossy())),
            Address::Tcp { host, port } => options
                .ip_or_hostname(Some(host.as_str()))
                .tcp_port(*port)
                .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
                .tcp_keepalive_time_ms(Some(30_000))
                .tcp_keepalive_probe_interval_secs(Some(10))
                .tcp_keepalive_probe_count(Some(3))
                .tcp_user_timeout_ms(Some(60_000)),
        }
    }
}
