//! What others do while a move is under way.

use zlm_lab::account_dn;

use crate::run::Ended;
use crate::site::{Mailbox, Site, site};
use crate::snapshot::assert_text;

/// A message of a mailbox that something writes to past mailboxd.
struct Written {
    site: Site,
    mailbox: Mailbox,
    item: u64,
    unread: u64,
}

impl Written {
    /// Changes a row at the source while a move is paused before a line, and lets the move end.
    fn during_a_move(items: u32, line: &str) -> (Self, Ended) {
        let site = site();
        let mailbox = site.mailbox_of(items, &[]);
        let mut zlm = site.start_paused_move(&mailbox, line);
        zlm.wait_for("paused");
        let of = format!("FROM {} WHERE mailbox_id = {}", items_of(mailbox.number), mailbox.number);
        let item = site.number("store1", &format!("SELECT MIN(id) {of} AND type = 5 AND unread IS NOT NULL")).unwrap();
        let unread = site.number("store1", &format!("SELECT unread {of} AND id = {item}")).unwrap();
        let written = Self { site, mailbox, item, unread };
        written.set("store1", written.mailbox.number, "unread = 9, mod_metadata = mod_metadata + 1");
        written.site.go_on();
        (written, zlm.end())
    }

    fn set(&self, store: &str, mailbox: u32, values: &str) {
        let (table, item) = (items_of(mailbox), self.item);
        self.site.sql(store, &format!("UPDATE {table} SET {values} WHERE mailbox_id = {mailbox} AND id = {item}"));
    }

    /// Makes the row what it was.
    fn put_back(&self, store: &str, mailbox: u32) {
        self.set(store, mailbox, &format!("unread = {}, mod_metadata = mod_metadata - 1", self.unread));
    }

    fn assert_rolled_back(&self) {
        self.put_back("store1", self.mailbox.number);
        self.site.assert_rolled_back(&self.mailbox);
    }
}

/// The table of a mailbox's items.
fn items_of(mailbox: u32) -> String {
    format!("mboxgroup{}.mail_item", (mailbox - 1) % 100 + 1)
}

/// Items that make a table long: it is marked by the reading that compares it.
const MANY: u32 = zlm::rows::LONG as u32 + 1000;

#[test]
fn written_between_copy_and_proof() {
    let (written, ended) = Written::during_a_move(60, "let proof");
    written.assert_rolled_back();
    ended.assert(1, &["changed although it is frozen", "status active"]);
}

#[test]
fn written_between_proof_and_switch() {
    let (written, ended) = Written::during_a_move(60, "switch_to(");
    written.assert_rolled_back();
    ended.assert(1, &["changed although it is frozen", "something writes past mailboxd"]);
    assert_text("written-while-frozen", &written.mailbox, &ended);
}

/// The destination was read before: what is written there afterwards is not what was proved.
#[test]
fn copy_written_between_proof_and_switch() {
    let site = site();
    let mailbox = site.mailbox();
    let to = u32::try_from(site.next_number()).unwrap();
    let mut zlm = site.start_paused_move(&mailbox, "switch_to(");
    zlm.wait_for("paused");
    let table = items_of(to);
    site.sql("store2", &format!("UPDATE {table} SET flags = flags + 1 WHERE mailbox_id = {to} AND type = 5 LIMIT 1"));
    site.go_on();
    let ended = zlm.end();
    site.assert_rolled_back(&mailbox);
    ended.assert(1, &["changed since it was compared: ", "mail_item", "something else writes to the copy"]);
}

#[test]
fn long_table_written_between_copy_and_proof() {
    let (written, ended) = Written::during_a_move(MANY, "let proof");
    written.assert_rolled_back();
    ended.assert(1, &["mail_item: changed, ", "something writes past mailboxd"]);
}

#[test]
fn long_table_written_between_lock_and_reading() {
    let (written, ended) = Written::during_a_move(MANY, "step(\"delta\"");
    ended.assert(0, &[]);
    let Written { site, mailbox, item, .. } = &written;
    let sql = format!("SELECT id FROM zimbra.mailbox WHERE account_id = '{}'", mailbox.id);
    let to = u32::try_from(site.number("store2", &sql).unwrap()).unwrap();
    let sql = format!("SELECT unread FROM {} WHERE mailbox_id = {to} AND id = {item}", items_of(to));
    assert_eq!(site.number("store2", &sql), Some(9), "what was written is copied");
    written.put_back("store1", mailbox.number);
    written.put_back("store2", to);
    site.assert_moved(mailbox);
}

#[test]
fn account_deleted() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    site.ldap().unwrap().delete(&account_dn(&mailbox.local)).unwrap().success().unwrap();
    site.go_on();
    let ended = zlm.end();
    ended.assert(1, &["is not in the directory any more"]);
    assert_text("account-deleted", &mailbox, &ended);
    site.assert_untouched(&mailbox);
}

#[test]
fn account_renamed() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    let new = format!("new{}@lab.test", mailbox.local);
    site.ldap_modify(&account_dn(&mailbox.local), &[("zimbraMailDeliveryAddress", &[&new]), ("mail", &[&new])])
        .unwrap();
    site.go_on();
    // An account is its zimbraId, whatever its name.
    zlm.end().assert(0, &[]);
    assert_eq!(site.attribute(&mailbox.local, "zimbraMailHost").unwrap(), "store2.lab.test");
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap(), "active");
    assert_eq!(site.attribute(&mailbox.local, "zimbraMailDeliveryAddress").unwrap(), new);
}

#[test]
fn account_given_another_home() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "switch_to(");
    zlm.wait_for("paused");
    let set = |host: &str| site.ldap_modify(&account_dn(&mailbox.local), &[("zimbraMailHost", &[host])]).unwrap();
    set("proxy1.lab.test");
    site.go_on();
    let ended = zlm.end();
    set("store1.lab.test");
    ended.assert(1, &["is on proxy1.lab.test now, not on store1.lab.test any more"]);
    site.assert_rolled_back(&mailbox);
}
