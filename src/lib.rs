//! zlm moves Zimbra mailboxes between mail stores while their users work.
//!
//! It is a host for scripts: the migration is a page of [Rhai](https://rhai.rs) that reads like a checklist
//! (`scripts/move.rhai`), and this crate gives it its words: `ldap_get`, `rsync`, `dump_table`, `rewrite_ids`,
//! `inject`, `soap_modify`, `flush_caches`, and what a move needs around them. Every effect of a script goes
//! through one [gate], so any script can be rehearsed, and what a failed run did is undone.
//!
//! The `zlm` program is a thin command line over [`Host`]; another program can embed it just as well:
//!
//! ```
//! use std::collections::BTreeMap;
//! use zlm::{Config, Host, Mode, Script};
//!
//! # fn main() -> zlm::Result<()> {
//! // `Config::load(None)` finds zlm.toml, and on a Zimbra host what is missing in localconfig.xml.
//! let host = Host::new(Config::default());
//!
//! // Compiled whole and checked before anything happens: a typo anywhere is an error here.
//! let script = Script::from_text("hello.rhai", r#"
//!     //! Says hello.
//!     const OPTIONS = [ #{ name: "who", help: "whom to greet", required: true } ];
//!     step("greet", || print(`hello, ${args.who}`));
//!     #{ greeted: args.who }
//! "#);
//! let checked = host.check(&script)?;
//!
//! // A dry run carries out looks and writes effects down; `Mode::Live` has them.
//! let options = BTreeMap::from([("who".to_owned(), "alice".to_owned())]);
//! let outcome = host.run(&checked, &options, Mode::Dry)?;
//! assert_eq!(outcome.exit_code(), 0);
//! assert_eq!(outcome.value["greeted"], "alice");
//! # Ok(())
//! # }
//! ```
//!
//! Events ([`report`]) tell how far a run is; [`Host::reporter`] says who hears them. [`Host::extend`] adds an
//! embedder's own functions.

pub mod api;
pub mod blobs;
pub mod cancel;
pub mod cli;
pub mod clients;
pub mod config;
pub mod error;
pub mod gate;
pub mod host;
pub mod journal;
mod logfile;
pub mod ops;
pub mod parallel;
pub mod report;
pub mod rows;
pub mod run;
pub mod secret;
pub mod site;
pub mod store;
pub mod xml;
pub mod zimbra;

pub use config::Config;
pub use error::{Error, Result};
pub use gate::Mode;
pub use host::{Host, Outcome, Script};
