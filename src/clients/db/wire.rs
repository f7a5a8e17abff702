//! The socket under a connection: a thread that waits for a server's answer cannot look whether it shall stop, so another
//! one breaks its connection.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mysql::Conn;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// A connection's socket, beside the driver that owns it.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// The socket of `conn`; none where the kernel does not give it (before 5.6).
    pub(super) fn of(conn: &Conn) -> Option<Self> {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
        pidfd_getfd(own, conn.as_raw_fd(), PidfdGetfdFlags::empty()).ok().map(Self)
    }

    /// Waits for answers as long as `limit` from now on.
    pub(super) fn set_read_timeout(&self, limit: Duration) {
        if let Err(error) = set_socket_timeout(&self.0, Timeout::Recv, Some(limit)) {
            log::debug!("a connection's time limit: {error}");
        }
    }

    /// Ends the connection: whoever waits for an answer on it fails at once.
    pub(super) fn cut(&self) {
        // It fails where the connection is gone, which is what is wanted.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}
