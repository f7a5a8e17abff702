//! Tells whether a move lost, changed or left behind anything. It shares no code with zlm.
//!
//! [`Before::take`] captures an account's mailbox and everything around it before a move;
//! [`check_moved`] and [`check_rolled_back`] compare with what is there afterwards, by the invariants
//!
//! - I1: exactly one home, and that store has the full copy
//! - I2: every message that a store accepted is there once
//! - I3: rows are equal but for mapped columns; blobs and index are equal
//! - I4: the account's status is what it was
//! - I6: other accounts' rows, files and attributes are unchanged
//! - I7: after a rollback the destination has no trace
//! - I8: no secret anywhere
//! - I10: `next_mailbox_id` is above all mailbox ids
//!
//! Servers go on with their own work: items that wait for the index get indexed, mail joins conversations,
//! folders count. What such work explains is no difference; what it cannot is. Nothing else may write to
//! the stores while a check runs, and the mail writer has ended.

mod blobs;
mod compare;
mod directory;
mod files;
mod mailbox;
mod messages;
mod report;
mod secrets;
mod surroundings;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use crate::journal::Journal;
use crate::volume::Volumes;
use crate::{Error, Result, seed};
use compare::Mail;
pub use directory::Ldap;
use mailbox::{Home, Mailbox, highest};
pub use report::Report;
pub use secrets::no_secrets;
use surroundings::Surroundings;
use tables::{Row, Table};

/// A store as the oracle reaches it.
pub struct Store<'a> {
    /// Its name, as `zimbraMailHost` has it.
    pub name: &'a str,
    /// A connection with all rights.
    pub conn: &'a mut mysql::Conn,
    /// The directory that is `/opt/zimbra` to the store.
    pub home: &'a Path,
    /// Directories for temporary files, whose new entries that name zlm are leftovers.
    pub temp: &'a [PathBuf],
}

/// An account and all that surrounds it, before a move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Before {
    account_id: String,
    moving: BTreeSet<String>,
    ldap: Ldap,
    source: Surroundings,
    dest: Surroundings,
    mailbox: Mailbox,
    highest: (u64, u64),
}

/// What the checks need to know of the time after.
#[derive(Clone, Copy, Debug)]
pub struct After<'a> {
    /// The same attributes of the same accounts as before.
    pub ldap: &'a Ldap,
    /// The journal of the mail writer that ran since, if one did: rows that its mail explains may differ.
    pub journal: Option<&'a Journal>,
    /// Whether something other than mail changed items at the source since: then the source is not
    /// compared with what it was before.
    pub items_changed: bool,
}

impl Before {
    /// Captures the mailbox of an account on `source`, and everything else on both stores. Accounts in
    /// `moving` are on the move at the same time and do not count as neighbours. `ldap` has the
    /// attributes of accounts by `zimbraId`: of the account itself, and of all that must not change.
    ///
    /// # Errors
    /// The account has no mailbox on `source` or no attributes in `ldap`; what a server or file refuses.
    pub fn take(
        account_id: &str,
        source: &mut Store<'_>,
        dest: &mut Store<'_>,
        ldap: &Ldap,
        moving: &[String],
    ) -> Result<Self> {
        if !ldap.contains_key(account_id) {
            return Err(Error::refused(format!("account {account_id}: no attributes given")));
        }
        let moving: BTreeSet<String> = moving.iter().cloned().chain([account_id.to_owned()]).collect();
        let volumes = open(source)?;
        let dest_volumes = open(dest)?;
        let mailbox = Mailbox::read(source, &volumes, account_id)?;
        Ok(Self {
            account_id: account_id.into(),
            ldap: ldap.clone(),
            highest: highest(source.conn, &mailbox.home)?,
            mailbox,
            source: Surroundings::read(source, &volumes, &moving)?,
            dest: Surroundings::read(dest, &dest_volumes, &moving)?,
            moving,
        })
    }
}

/// Checks that the account's mailbox is on `dest` now, whole, and that nothing else changed. The copy
/// that stays on `source` is what `dest` must equal; where it was purged, `before` is.
///
/// # Errors
/// A server or a file cannot be read; differences are no errors.
pub fn check_moved(before: &Before, source: &mut Store<'_>, dest: &mut Store<'_>, after: &After<'_>) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report::new("moved");
    let (from, to) = (open(source)?, open(dest)?);
    directory::check_moved(&mut report, before, dest.name, after.ldap);
    surroundings::check(&mut report, before, source, &from, &before.source)?;
    surroundings::check(&mut report, before, dest, &to, &before.dest)?;
    surroundings::check_claims(&mut report, source, &before.source)?;
    surroundings::check_claims(&mut report, dest, &before.dest)?;
    let old = home(&mut report, source, &before.account_id)?;
    match (&old, home(&mut report, dest, &before.account_id)?) {
        (_, None) => report.differ(format!("I1 {}: no mailbox of the account", dest.name)),
        (Some(old), Some(new)) => {
            let rows = all_rows(source, &from, old, after.journal.is_some())?;
            source_kept(&mut report, before, source, &from, after, old, &rows)?;
            moved_from_copy(&mut report, source, dest, (&from, &to), (old, &new), &rows, after)?;
            dest_content(&mut report, before, dest, &to, &new, after)?;
            strays(&mut report, source, dest, (&from, &to), (old, &new))?;
        }
        (None, Some(new)) => {
            report.note(format!("{}: the source copy is gone; compared with before", source.name));
            moved_from_before(&mut report, before, dest, &to, &new, after)?;
            dest_content(&mut report, before, dest, &to, &new, after)?;
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Checks that the account's mailbox is on `source` as it was, but for mail that came since, and that
/// `dest` has no trace of it.
///
/// # Errors
/// A server or a file cannot be read; differences are no errors.
pub fn check_rolled_back(
    before: &Before,
    source: &mut Store<'_>,
    dest: &mut Store<'_>,
    after: &After<'_>,
) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report::new("rolled back");
    let (from, to) = (open(source)?, open(dest)?);
    directory::check_same(&mut report, before, after.ldap);
    surroundings::check(&mut report, before, source, &from, &before.source)?;
    surroundings::check(&mut report, before, dest, &to, &before.dest)?;
    surroundings::check_claims(&mut report, source, &before.source)?;
    surroundings::check_claims(&mut report, dest, &before.dest)?;
    if let Some(home) = Home::find(dest.conn, &before.account_id)?
        && before.dest.mailbox_of(&before.account_id) != Some(home.id)
    {
        report.differ(format!("I7 {}: mailbox {} of the account", dest.name, home.id));
    }
    match home(&mut report, source, &before.account_id)? {
        None => report.differ(format!("I1 {}: no mailbox of the account", source.name)),
        Some(home) => {
            let rows = all_rows(source, &from, &home, after.journal.is_some())?;
            source_kept(&mut report, before, source, &from, after, &home, &rows)?;
            let named = blobs::named(source.conn, &home)?;
            blobs::check_moved(&mut report, &from, home.id, &named, &before.mailbox.blobs)?;
            messages::check(&mut report, before, source, &from, &home, after)?;
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Prepares a session and reads the volumes.
fn open(store: &mut Store<'_>) -> Result<Volumes> {
    store.conn.query_drop("SET NAMES utf8mb4")?;
    store.conn.query_drop("SET SESSION time_zone = '+00:00', sql_mode = ''")?;
    Ok(Volumes::read(store.conn, store.home)?)
}

/// The account's mailbox on a store, if there is one and its group has a database.
fn home(report: &mut Report, store: &mut Store<'_>, account_id: &str) -> Result<Option<Home>> {
    let found = Home::find(store.conn, account_id)?;
    match found {
        Some(home) if !home.has_database(store.conn)? => {
            report.differ(format!("I3 {} mailbox {}: group {} has no database", store.name, home.id, home.group));
            Ok(None)
        }
        found => Ok(found),
    }
}

type AllRows = Vec<(Table, Vec<Row>)>;

/// All rows of a mailbox, read once because they are compared twice.
fn all_rows(store: &mut Store<'_>, volumes: &Volumes, home: &Home, mail: bool) -> Result<AllRows> {
    let tables = home.tables(store.conn)?;
    tables
        .into_iter()
        .map(|table| {
            let rows = table.rows(store.conn, home.id, &table.column_names(), volumes, mail)?;
            Ok((table, rows))
        })
        .collect()
}

/// The source's copy against what it was before: rows may have been added by mail only.
fn source_kept(
    report: &mut Report,
    before: &Before,
    source: &mut Store<'_>,
    volumes: &Volumes,
    after: &After<'_>,
    home: &Home,
    rows: &AllRows,
) -> Result<()> {
    if home.id != before.mailbox.home.id || home.group != before.mailbox.home.group {
        report.differ(format!("I3 {}: the mailbox has other ids than before", source.name));
        return Ok(());
    }
    if !after.items_changed {
        blobs::check_kept(report, volumes, home.id, &before.mailbox.blobs);
        let mail = Mail::since(source.conn, home, before.highest.0, after.journal.is_some())?;
        let what = format!("{} against before: ", source.name);
        for (table, rows) in rows {
            let old = before.mailbox.tables.get(&table.title()).map_or(&[][..], Vec::as_slice);
            let changed = compare::rows(report, &what, table, old, rows, &mail);
            if table.name == "mail_item" {
                compare::adopted(report, &what, (source.conn, home), &changed, &mail)?;
            }
        }
        compare::kept_row(report, &what, &before.mailbox.home, home, &mail);
    }
    Ok(())
}

/// The destination against the copy at the source, table by table.
fn moved_from_copy(
    report: &mut Report,
    source: &mut Store<'_>,
    dest: &mut Store<'_>,
    (from, to): (&Volumes, &Volumes),
    (old, new): (&Home, &Home),
    rows: &AllRows,
    after: &After<'_>,
) -> Result<()> {
    let used = highest(source.conn, old)?;
    let mail = Mail::since(dest.conn, new, used.0, after.journal.is_some())?;
    compare::moved_row(report, old, new, used, &mail);
    let dest_tables = new.tables(dest.conn)?;
    for (table, rows) in rows {
        let Some(other) = dest_tables.iter().find(|other| other.title() == table.title()) else {
            if !rows.is_empty() {
                report.differ(format!("I3 {}: no such table at the destination", table.title()));
            }
            continue;
        };
        let common: Vec<String> =
            table.column_names().into_iter().filter(|column| other.column_names().contains(column)).collect();
        for column in table.column_names().iter().filter(|column| !common.contains(column)) {
            report.note(format!("{}.{column}: no such column at the destination", table.title()));
        }
        let new_rows = other.rows(dest.conn, new.id, &common, to, !mail.is_empty())?;
        let changed = if common == table.column_names() {
            compare::rows(report, "", table, rows, &new_rows, &mail)
        } else {
            let old_rows = table.rows(source.conn, old.id, &common, from, !mail.is_empty())?;
            compare::rows(report, "", table, &old_rows, &new_rows, &mail)
        };
        if table.name == "mail_item" {
            compare::adopted(report, "", (dest.conn, new), &changed, &mail)?;
        }
    }
    if !mail.is_empty() {
        compare::sums(report, (source.conn, old), (dest.conn, new))?;
    }
    files::compare_index(report, &index_dir(from, old), &index_dir(to, new))
}

fn moved_from_before(
    report: &mut Report,
    before: &Before,
    dest: &mut Store<'_>,
    to: &Volumes,
    new: &Home,
    after: &After<'_>,
) -> Result<()> {
    let mail = Mail::since(dest.conn, new, before.highest.0, after.journal.is_some())?;
    compare::moved_row(report, &before.mailbox.home, new, before.highest, &mail);
    for table in new.tables(dest.conn)? {
        let rows = table.rows(dest.conn, new.id, &table.column_names(), to, !mail.is_empty())?;
        let old = before.mailbox.tables.get(&table.title()).map_or(&[][..], Vec::as_slice);
        compare::rows(report, "", &table, old, &rows, &mail);
    }
    Ok(())
}

/// What must hold of the destination's mailbox by itself: ids, volumes, blobs, mail.
fn dest_content(
    report: &mut Report,
    before: &Before,
    dest: &mut Store<'_>,
    volumes: &Volumes,
    home: &Home,
    after: &After<'_>,
) -> Result<()> {
    if home.group != seed::group_of(home.id) {
        report.differ(format!("I3 mailbox {}: group {} is not its own", home.id, home.group));
    }
    if home.number("index_volume_id") != u64::from(volumes.index) {
        report.differ(format!("I3 mailbox {}: index volume is not the current one", home.id));
    }
    let leftover: Option<u64> =
        dest.conn.exec_first("SELECT COUNT(*) FROM zimbra.volume_blobs WHERE mailbox_id = ?", (home.id,))?;
    if leftover.unwrap_or(0) > 0 {
        report.differ("I3 zimbra.volume_blobs: rows of the mailbox were copied");
    }
    let named = blobs::named(dest.conn, home)?;
    blobs::check_moved(report, volumes, home.id, &named, &before.mailbox.blobs)?;
    for volume in &volumes.all {
        files::check_dirs(report, &volume.mailbox_dir(home.id))?;
    }
    messages::check(report, before, dest, volumes, home, after)
}

/// Files at the destination that no row names; those that the source has too are only worth a note.
fn strays(
    report: &mut Report,
    source: &mut Store<'_>,
    dest: &mut Store<'_>,
    (from, to): (&Volumes, &Volumes),
    (old, new): (&Home, &Home),
) -> Result<()> {
    let at_source = blobs::unnamed(from, old.id, &blobs::named(source.conn, old)?)?;
    let known: BTreeSet<&String> = at_source.iter().map(|(name, _)| name).collect();
    for (name, path) in blobs::unnamed(to, new.id, &blobs::named(dest.conn, new)?)? {
        if known.contains(&name) {
            report.note(format!("file {}: no row names it, nor at the source", path.display()));
        } else {
            report.differ(format!("I3 file {}: no row names it", path.display()));
        }
    }
    Ok(())
}

fn index_dir(volumes: &Volumes, home: &Home) -> PathBuf {
    let id = u8::try_from(home.number("index_volume_id")).unwrap_or(0);
    volumes.get(id).unwrap_or(volumes.current_index()).index_dir(home.id)
}
