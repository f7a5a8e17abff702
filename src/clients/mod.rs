//! Everything outside: one folder a peer. A client connects, retries what may be retried, and streams. It
//! knows no scripts and prints nothing.

pub mod db;
pub mod ldap;
pub mod lmtp;
pub mod memcached;
pub mod rsync;
pub mod soap;
pub mod ssh;
pub mod tls;
