//! Rows: described, rewritten by column, brought over.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map};

use super::handles::{Dump, Freeze, Move, Store};
use super::options::{self, DumpTable, Inject, decode};
use super::{Scripted, attempt, encode};
use crate::error::{Error, Kind, Result};
use crate::ops;
use crate::rows::InjectOptions;
use crate::run::Run;
use crate::site;

#[export_module]
pub mod rows {
    /// Describes rows of a table on a store; nothing is read yet.
    ///
    /// Arguments: the store; the database; the table; options: `mailbox` only rows of that mailbox, `where` an SQL
    /// condition with `?` for each of `values`. Returns a `Dump`. Fails with `usage` for a name that is no
    /// identifier.
    ///
    /// In a plan: nothing, it is no effect.
    ///
    /// Example: `let rows = dump_table(source, "mboxgroup12", "mail_item", #{ mailbox: 12 });`
    #[rhai_fn(volatile, return_raw)]
    pub fn dump_table(
        ctx: NativeCallContext,
        store: Store,
        database: &str,
        table: &str,
        options: Map,
    ) -> Scripted<Dump> {
        attempt(&ctx, |_| {
            let DumpTable { mailbox, r#where, values } = decode("dump_table", &options)?;
            let dump = ops::dump_table::describe(database, table, mailbox, r#where, values)?;
            Ok(Dump { source: store.0, dump })
        })
    }

    /// Says which columns of a dump get other values: by column, never by text.
    ///
    /// Arguments: the dump; a map of column names with a number for every row, or a map of texts from old to new;
    /// `database` names the database at the destination. A value that such a map does not know is an error when
    /// it is met. Columns that the table does not have are left aside, so that one map serves all tables.
    /// Returns a `Dump`.
    ///
    /// In a plan: nothing, it is no effect.
    ///
    /// Example: `rewrite_ids(rows, #{ mailbox_id: 1407, locator: #{ "1": "3" }, database: "mboxgroup7" })`
    #[rhai_fn(volatile, return_raw)]
    pub fn rewrite_ids(ctx: NativeCallContext, dump: Dump, ids: Map) -> Scripted<Dump> {
        attempt(&ctx, |run| {
            let ids: ops::dump_table::Ids = options::decode("rewrite_ids", &ids)?;
            let Dump { source, dump } = dump;
            // It looks at the table's columns, between copies that take hours.
            let dump = run.gate.again(|| ops::dump_table::rewrite(&source, dump.clone(), ids.clone()))?;
            Ok(Dump { source, dump })
        })
    }

    /// Makes a store's rows equal to a dump's: what is missing is inserted, what differs is replaced, what is gone
    /// at the source is deleted. Doing it again changes nothing, so it is the first copy, each later pass and the
    /// last difference.
    ///
    /// Arguments: the store; the dump. Returns a map of `read`, `inserted`, `deleted`, `unchanged`, `bytes`,
    /// `seconds`. Fails with `data` for a row that would not survive (truncation, charset, a duplicate, an
    /// unmapped id), `unreachable`, `peer` with MariaDB's error number; what a failed run inserted is
    /// deleted with the mailbox's row. While the user works it is tried again before it fails where a connection broke,
    /// for as long as `[retry]` of zlm.toml says.
    ///
    /// In a plan: the SELECT, the LOAD DATA, and how many rows and bytes they are for.
    ///
    /// Example: `inject(dest, rewrite_ids(dump_table(source, "mboxgroup12", "tag", #{ mailbox: 12 }), ids));`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject(ctx: NativeCallContext, store: Store, dump: Dump) -> RhaiResult {
        inject_options(ctx, store, dump, Map::new())
    }

    /// The same with options: `writers` is how many connections write at once (2); `rows_per_second` and
    /// `bytes_per_second` are the most that goes into the store, together with all that others copy there, in place of
    /// what `[throttle]` of zlm.toml says. While MariaDB of either store is busier than allowed there, it waits, and
    /// says why. Under a freeze nothing waits.
    ///
    /// Example: `inject(mv.dest, rows, #{ rows_per_second: 2000 });`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_options(ctx: NativeCallContext, store: Store, dump: Dump, options: Map) -> RhaiResult {
        let injected = attempt(&ctx, |run| {
            let (options, limits) = how(run, &options)?;
            let Dump { source, dump } = dump;
            run.gate.pass(&ops::inject::Inject { source, dest: run.own(store.0), dump, options, limits })
        })?;
        encode(&ctx, &injected)
    }

    /// The same for an array of dumps of one store, two tables at a time; the largest should come first.
    ///
    /// Example: `inject(mv.dest, mv.tables.map(|table| ...));`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_array(ctx: NativeCallContext, store: Store, dumps: Array) -> RhaiResult {
        inject_array_options(ctx, store, dumps, Map::new())
    }

    /// The same for an array of dumps with options.
    ///
    /// Example: `inject(mv.dest, dumps, #{ bytes_per_second: 4000000 });`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_array_options(ctx: NativeCallContext, store: Store, dumps: Array, options: Map) -> RhaiResult {
        let injected = attempt(&ctx, |run| {
            let (options, limits) = how(run, &options)?;
            let (source, dumps) = of_one_store(dumps)?;
            let Some(source) = source else { return Ok(Default::default()) };
            let (dest, remember) = (run.own(store.0), ops::inject::Remember::Nothing);
            run.gate.pass(&ops::inject::InjectAll { source, dest, dumps, options, limits, remember })
        })?;
        encode(&ctx, &injected)
    }

    /// The same into the destination of a move: what its tables hold then is remembered, so that under the freeze only
    /// the source is read to compare them.
    ///
    /// Example: `inject(mv, mv.tables.map(|table| ...));`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_move_array(ctx: NativeCallContext, mv: Move, dumps: Array) -> RhaiResult {
        inject_move_array_options(ctx, mv, dumps, Map::new())
    }

    /// The same with options.
    ///
    /// Example: `inject(mv, dumps, #{ rows_per_second: 2000 });`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_move_array_options(ctx: NativeCallContext, mv: Move, dumps: Array, options: Map) -> RhaiResult {
        let injected = attempt(&ctx, |run| {
            let (options, limits) = how(run, &options)?;
            let (_, dumps) = of_one_store(dumps)?;
            mv.0.inject(&run.gate, dumps, options, limits)
        })?;
        encode(&ctx, &injected)
    }

    /// The same into the destination of a frozen move; the blobs that the rows name are remembered for
    /// `copy_blobs`, and what was compared for `verify`.
    ///
    /// Example: `inject(frozen, rewrite_ids(rows, frozen.move.ids));`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_frozen(ctx: NativeCallContext, freeze: Freeze, dump: Dump) -> RhaiResult {
        inject_frozen_array(ctx, freeze, vec![Dynamic::from(dump)])
    }

    /// The same for an array of dumps.
    ///
    /// Example: `inject(frozen, frozen.move.tables.map(|table| ...));`
    #[rhai_fn(volatile, return_raw, name = "inject")]
    pub fn inject_frozen_array(ctx: NativeCallContext, freeze: Freeze, dumps: Array) -> RhaiResult {
        let injected = attempt(&ctx, |run| {
            let (_, dumps) = of_one_store(dumps)?;
            freeze.0.inject(&run.gate, dumps)
        })?;
        encode(&ctx, &injected)
    }

    /// Writes a dump as SQL for a person to read; the file is readable by its owner alone.
    ///
    /// Fails with `io` when the file exists or cannot be written. In a plan: the path and the rows.
    ///
    /// Example: `dump_table(source, "mboxgroup12", "tag", #{ mailbox: 12 }).save("/root/tag.sql");`
    #[rhai_fn(volatile, return_raw)]
    pub fn save(ctx: NativeCallContext, dump: Dump, path: &str) -> Scripted<i64> {
        attempt(&ctx, |run| {
            let Dump { source, dump } = dump;
            let rows = run.gate.pass(&ops::dump_table::Save { source, dump, path: path.into() })?;
            Ok(rows as i64)
        })
    }

    /// How many rows a dump has and what they weigh: a map of `rows` and `bytes`.
    ///
    /// In a plan: it reads.
    #[rhai_fn(volatile, return_raw)]
    pub fn count(ctx: NativeCallContext, dump: Dump) -> RhaiResult {
        let size = attempt(&ctx, |run| {
            let Dump { source, dump } = dump;
            run.gate.pass(&ops::dump_table::CountRows { source, dump })
        })?;
        encode(&ctx, &size)
    }
}

/// How rows are brought over, and what limits them, by the options of `inject`.
fn how(run: &Run, options: &Map) -> Result<(InjectOptions, Option<site::Throttle>)> {
    let Inject { writers, rows_per_second, bytes_per_second } = decode("inject", options)?;
    let limits = ops::pace::limits(run, rows_per_second, bytes_per_second);
    Ok((ops::inject::options(writers, limits.as_ref()), limits))
}

/// The store and the dumps of an array.
fn of_one_store(dumps: Array) -> Result<(Option<Arc<site::Store>>, Vec<crate::rows::Dump>)> {
    let mut source: Option<Arc<site::Store>> = None;
    let mut plain = Vec::with_capacity(dumps.len());
    for dump in dumps {
        let Some(dump) = dump.try_cast::<Dump>() else {
            return Err(Error::new(Kind::Usage, "inject: an array of dumps was expected"));
        };
        let first = source.get_or_insert_with(|| dump.source.clone());
        if !Arc::ptr_eq(first, &dump.source) {
            let message = format!("inject: dumps of {} and of {}", first.name(), dump.source.name());
            return Err(Error::new(Kind::Usage, message));
        }
        plain.push(dump.dump);
    }
    Ok((source, plain))
}
