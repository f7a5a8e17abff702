//! The handles that scripts hold: opaque, cheap to copy, readable by their getters.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map};

use super::{Fault, Scripted, array, encode};
use crate::ops;
use crate::zimbra::account;

/// An account as it was read from the directory; it does not follow later changes.
#[derive(Clone)]
pub struct Account(pub(super) Arc<account::Account>);

/// A mail store: `mailbox` server of the site.
#[derive(Clone)]
pub struct Store(pub(super) Arc<crate::site::Store>);

/// A mailbox on a store, as its row says.
#[derive(Clone)]
pub struct Mailbox(pub(super) Arc<ops::look::Found>);

/// What preflight found out about a move.
#[derive(Clone)]
pub struct Survey(pub(super) Arc<ops::look::Survey>);

/// A move that has its place at the destination.
#[derive(Clone)]
pub struct Move(pub(super) Arc<ops::stage::Move>);

/// A directory on a store.
#[derive(Clone)]
pub struct Place(pub(super) ops::rsync::Place);

/// Rows of a table: a description, not the rows.
#[derive(Clone)]
pub struct Dump {
    pub(super) source: Arc<crate::site::Store>,
    pub(super) dump: crate::rows::Dump,
}

/// The proof that nobody can write to the source mailbox.
#[derive(Clone)]
pub struct Freeze(pub(super) Arc<ops::freeze::Freeze>);

/// The proof that both copies were equal under a freeze.
#[derive(Clone)]
pub struct Verified(pub(super) Arc<ops::verify::Verified>);

#[export_module]
pub mod handles {
    /// The account's primary address.
    #[rhai_fn(get = "email", pure)]
    pub fn account_email(account: &mut Account) -> String {
        account.0.address.to_string()
    }

    /// zimbraId.
    #[rhai_fn(get = "id", pure)]
    pub fn account_id(account: &mut Account) -> String {
        account.0.id.to_string()
    }

    /// zimbraMailHost: the store the account is on; empty where it is not set.
    #[rhai_fn(get = "host", pure)]
    pub fn account_host(account: &mut Account) -> String {
        account.0.mail_host.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// zimbraMailTransport.
    #[rhai_fn(get = "transport", pure)]
    pub fn account_transport(account: &mut Account) -> String {
        account.0.transport.clone().unwrap_or_default()
    }

    /// zimbraAccountStatus.
    #[rhai_fn(get = "status", pure)]
    pub fn account_status(account: &mut Account) -> String {
        account.0.status.to_string()
    }

    /// zimbraMailStatus.
    #[rhai_fn(get = "mail_status", pure)]
    pub fn account_mail_status(account: &mut Account) -> String {
        account.0.mail_status.clone().unwrap_or_default()
    }

    /// The account's aliases.
    #[rhai_fn(get = "aliases", pure)]
    pub fn account_aliases(account: &mut Account) -> Array {
        array(account.0.aliases.iter().cloned())
    }

    /// The values of one attribute, in the directory's order: `who["zimbraCOSId"]`.
    #[rhai_fn(index_get, pure)]
    pub fn account_attribute(account: &mut Account, name: &str) -> Array {
        array(account.0.entry.all(name).iter().cloned())
    }

    /// The account's address.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn account_to_string(account: &mut Account) -> String {
        account.0.address.to_string()
    }

    /// The store's name, as in zimbraMailHost.
    #[rhai_fn(get = "name", pure)]
    pub fn store_name(store: &mut Store) -> String {
        store.0.name().to_owned()
    }

    /// The store's name.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn store_to_string(store: &mut Store) -> String {
        store.0.name().to_owned()
    }

    /// The mailbox's number on its store.
    #[rhai_fn(get = "id", pure)]
    pub fn mailbox_id(mailbox: &mut Mailbox) -> i64 {
        mailbox.0.row.id.into()
    }

    /// The mailbox group.
    #[rhai_fn(get = "group", pure)]
    pub fn mailbox_group(mailbox: &mut Mailbox) -> i64 {
        mailbox.0.row.group_id.into()
    }

    /// The database of the mailbox group.
    #[rhai_fn(get = "database", pure)]
    pub fn mailbox_database(mailbox: &mut Mailbox) -> String {
        mailbox.0.row.group()
    }

    /// The store the mailbox is on.
    #[rhai_fn(get = "store", pure)]
    pub fn mailbox_store(mailbox: &mut Mailbox) -> String {
        mailbox.0.store.clone()
    }

    /// What the mailbox's content weighs, in bytes, as the store counts it.
    #[rhai_fn(get = "size", pure)]
    pub fn mailbox_size(mailbox: &mut Mailbox) -> i64 {
        mailbox.0.row.size().try_into().unwrap_or(i64::MAX)
    }

    /// zimbraId of the mailbox's account.
    #[rhai_fn(get = "account_id", pure)]
    pub fn mailbox_account_id(mailbox: &mut Mailbox) -> String {
        mailbox.0.row.account_id.clone()
    }

    /// The address that the mailbox's row carries as a comment.
    #[rhai_fn(get = "comment", pure)]
    pub fn mailbox_comment(mailbox: &mut Mailbox) -> String {
        mailbox.0.row.get("comment").unwrap_or_default().to_owned()
    }

    /// Why the move cannot be made; empty when it can.
    #[rhai_fn(get = "problems", pure)]
    pub fn survey_problems(survey: &mut Survey) -> Array {
        array(survey.0.problems.iter().cloned())
    }

    /// The command to run instead, where there is one; else `()`.
    #[rhai_fn(get = "hint", pure)]
    pub fn survey_hint(survey: &mut Survey) -> Dynamic {
        survey.0.instead.clone().map_or(Dynamic::UNIT, Into::into)
    }

    /// What should be known before the move is made.
    #[rhai_fn(get = "warnings", pure)]
    pub fn survey_warnings(survey: &mut Survey) -> Array {
        array(survey.0.warnings.iter().cloned())
    }

    /// The mailbox at the source; `()` where the account has none yet.
    #[rhai_fn(get = "mailbox", pure)]
    pub fn survey_mailbox(survey: &mut Survey) -> Dynamic {
        survey.0.mailbox().map_or(Dynamic::UNIT, |found| Dynamic::from(Mailbox(Arc::new(found))))
    }

    /// How many rows the mailbox has in all tables.
    #[rhai_fn(get = "rows", pure)]
    pub fn survey_rows(survey: &mut Survey) -> i64 {
        survey.0.rows() as i64
    }

    /// How many blobs the rows name.
    #[rhai_fn(get = "blobs", pure)]
    pub fn survey_blobs(survey: &mut Survey) -> i64 {
        survey.0.blobs as i64
    }

    /// What the blobs weigh in bytes, as the rows say.
    #[rhai_fn(get = "bytes", pure)]
    pub fn survey_bytes(survey: &mut Survey) -> i64 {
        survey.0.bytes as i64
    }

    /// The account that is moved.
    #[rhai_fn(get = "account", pure)]
    pub fn move_account(mv: &mut Move) -> Account {
        Account(Arc::new(mv.0.survey.account.clone()))
    }

    /// The store it is moved from.
    #[rhai_fn(get = "source", pure)]
    pub fn move_source(mv: &mut Move) -> Store {
        Store(mv.0.source.clone())
    }

    /// The store it is moved to.
    #[rhai_fn(get = "dest", pure)]
    pub fn move_dest(mv: &mut Move) -> Store {
        Store(mv.0.dest.clone())
    }

    /// The mailbox at the source.
    #[rhai_fn(get = "mailbox", pure)]
    pub fn move_mailbox(mv: &mut Move) -> Dynamic {
        mv.0.survey.mailbox().map_or(Dynamic::UNIT, |found| Dynamic::from(Mailbox(Arc::new(found))))
    }

    /// The mailbox's number at the destination.
    #[rhai_fn(get = "id", pure)]
    pub fn move_id(mv: &mut Move) -> i64 {
        mv.0.staged.id.into()
    }

    /// The mailbox group at the destination.
    #[rhai_fn(get = "group", pure)]
    pub fn move_group(mv: &mut Move) -> i64 {
        mv.0.staged.group_id.into()
    }

    /// What `rewrite_ids` needs for this move: mailbox id, locators, database.
    #[rhai_fn(get = "ids", pure, return_raw)]
    pub fn move_ids(ctx: NativeCallContext, mv: &mut Move) -> RhaiResult {
        encode(&ctx, &mv.0.ids())
    }

    /// The tables that hold rows of the mailbox: maps of `database`, `name`, `mailbox`, `rows`.
    #[rhai_fn(get = "tables", pure, return_raw)]
    pub fn move_tables(ctx: NativeCallContext, mv: &mut Move) -> RhaiResult {
        encode(&ctx, &mv.0.survey.tables)
    }

    /// The volumes that hold blobs of the mailbox: maps of `name`, `source` and `dest` places.
    #[rhai_fn(get = "volumes", pure, return_raw)]
    pub fn move_volumes(ctx: NativeCallContext, mv: &mut Move) -> Scripted<Array> {
        let volumes = mv.0.volumes().map_err(|e| Fault::thrown(&ctx, e))?;
        Ok(volumes.into_iter().map(|(name, source, dest)| pair(name, source, dest)).collect())
    }

    /// The index of the mailbox: a map of `name`, `source` and `dest` places.
    #[rhai_fn(get = "index", pure, return_raw)]
    pub fn move_index(ctx: NativeCallContext, mv: &mut Move) -> RhaiResult {
        let (name, source, dest) = mv.0.index().map_err(|e| Fault::thrown(&ctx, e))?;
        Ok(pair(name, source, dest))
    }

    /// What preflight found.
    #[rhai_fn(get = "survey", pure)]
    pub fn move_survey(mv: &mut Move) -> Survey {
        Survey(Arc::new(mv.0.survey.clone()))
    }

    /// The move that is frozen.
    #[rhai_fn(get = "move", pure)]
    pub fn freeze_move(freeze: &mut Freeze) -> Move {
        Move(freeze.0.mv.clone())
    }

    /// Table names, rows and fingerprints that were found equal.
    #[rhai_fn(get = "tables", pure, return_raw)]
    pub fn verified_tables(ctx: NativeCallContext, verified: &mut Verified) -> RhaiResult {
        encode(&ctx, &verified.0.tables)
    }

    /// How many rows were compared.
    #[rhai_fn(get = "rows", pure)]
    pub fn verified_rows(verified: &mut Verified) -> i64 {
        verified.0.rows() as i64
    }

    /// Where the place is: `store:path`.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn place_to_string(place: &mut Place) -> String {
        place.0.to_string()
    }

    /// What the dump describes, in words.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn dump_to_string(dump: &mut Dump) -> String {
        format!("{}:{}", dump.source.name(), dump.dump.name())
    }
}

fn pair(name: String, source: ops::rsync::Place, dest: ops::rsync::Place) -> Dynamic {
    let mut map = Map::new();
    map.insert("name".into(), name.into());
    map.insert("source".into(), Dynamic::from(Place(source)));
    map.insert("dest".into(), Dynamic::from(Place(dest)));
    map.into()
}
