//! What others do while a move is under way.

use mysql::prelude::Queryable;
use zlm_lab::account_dn;

use crate::site::site;
use crate::snapshot::assert_text;

/// Changes a row at the source past mailboxd while a move is paused before a line, and back after it.
fn written_past_mailboxd(line: &str) -> (crate::site::Mailbox, crate::run::Ended) {
    let site = site();
    let mailbox = site.mailbox();
    let table = format!("mboxgroup{}.mail_item", (mailbox.number - 1) % 100 + 1);
    let mut zlm = site.start_paused_move(&mailbox, line);
    zlm.wait_for("paused");
    let mut source = site.host("store1").unwrap().mysql().unwrap();
    let of = mailbox.number;
    let (item, unread): (u32, Option<u32>) = source
        .query_first(format!("SELECT id, unread FROM {table} WHERE mailbox_id = {of} AND type = 5 ORDER BY id LIMIT 1"))
        .unwrap()
        .unwrap();
    source
        .query_drop(format!(
            "UPDATE {table} SET unread = 9, mod_metadata = mod_metadata + 1 WHERE mailbox_id = {of} AND id = {item}"
        ))
        .unwrap();
    site.go_on();
    let ended = zlm.end();
    let unread = unread.map_or("NULL".to_owned(), |n| n.to_string());
    source
        .query_drop(format!("UPDATE {table} SET unread = {unread}, mod_metadata = mod_metadata - 1 WHERE mailbox_id = {of} AND id = {item}"))
        .unwrap();
    site.assert_rolled_back(&mailbox);
    (mailbox, ended)
}

#[test]
fn written_between_copy_and_proof() {
    let (_, ended) = written_past_mailboxd("let proof");
    ended.assert(1, &["status active"]);
}

#[test]
fn written_between_proof_and_switch() {
    let (mailbox, ended) = written_past_mailboxd("switch_to(");
    ended.assert(1, &["changed although it is frozen", "something writes past mailboxd"]);
    assert_text("written-while-frozen", &mailbox, &ended);
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
