//! A store's MariaDB: few connections, each checked to be the server it should be, each with our own session
//! settings, and errors that never carry a row's contents or the password.

mod fault;
mod fence;
mod gauge;
mod pool;
mod session;
mod sql;
mod target;
mod wire;

pub use fence::{Fence, Fences};
pub use gauge::{Gauge, Load};
pub use pool::{Lease, Pool, pair};
pub use session::{Done, Identity, Raw, Session};
pub use sql::{Value, Word, literal, name, numbers};
pub(crate) use sql::{bind, hex};
pub use target::{Address, Target};
