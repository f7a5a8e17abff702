//! What is refused before anything is changed.

use zlm_lab::Service;

use crate::site::{Mailbox, Site, site};
use crate::snapshot::assert_text;

/// Runs a move to a host that must be refused.
fn refused_to(site: &Site, mailbox: &Mailbox, dest: &str, texts: &[&str]) -> crate::run::Ended {
    let ended = site.zlm("store1", &["run", "move", "--email", &mailbox.email, "--dest", dest]);
    ended.assert(3, texts);
    site.assert_rolled_back(mailbox);
    ended
}

#[test]
fn destination_is_the_source() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = refused_to(&site, &mailbox, "store1.lab.test", &["it is on store1.lab.test already"]);
    assert_text("destination-is-source", &mailbox, &ended);
}

#[test]
fn destination_is_not_in_the_directory() {
    let site = site();
    let mailbox = site.mailbox();
    let texts = ["the directory knows no such server", "the mail stores are store1.lab.test, store2.lab.test"];
    let ended = refused_to(&site, &mailbox, "store9.lab.test", &texts);
    assert_text("destination-unknown", &mailbox, &ended);
}

#[test]
fn destination_is_no_mail_store() {
    let site = site();
    refused_to(&site, &site.mailbox(), "proxy1.lab.test", &["proxy1.lab.test is not a mail store"]);
}

#[test]
fn source_that_cannot_be_reached_is_named() {
    let site = site();
    let mailbox = site.mailbox();
    site.stop("store1", Service::Sshd).unwrap();
    let ended = site.zlm("store2", &["run", "move", "--email", &mailbox.email, "--dest", "store2.lab.test"]);
    site.start("store1", Service::Sshd).unwrap();
    ended.assert(1, &["run zlm on store1.lab.test", "cannot be reached from this host"]);
    assert_text("wrong-store", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

/// Zimbra minds the case of the host in a transport, and would refuse the switch.
#[test]
fn transport_that_names_its_host_in_another_case() {
    let site = site();
    let mailbox = site.mailbox_of(10, &[("zimbraMailTransport", "lmtp:Store1.lab.test:7025")]);
    refused_to(
        &site,
        &mailbox,
        "store2.lab.test",
        &["zimbraMailTransport is lmtp:Store1.lab.test:7025, not lmtp:store1.lab.test:PORT"],
    );
}

#[test]
fn unknown_account() {
    let site = site();
    let ended = site.zlm("store1", &["run", "move", "--email", "nobody@lab.test", "--dest", "store2.lab.test"]);
    ended.assert(1, &["nobody@lab.test"]);
}

#[test]
fn account_without_a_mailbox() {
    let site = site();
    let id = site.add_account("empty", "store1", &[]).unwrap();
    let databases = site.databases("store2");
    let ended = site.zlm("store1", &["run", "move", "--email", "empty@lab.test", "--dest", "store2.lab.test"]);
    ended.assert(3, &["it has no mailbox on store1.lab.test", "set zimbraMailHost, nothing has to be copied"]);
    site.assert_no_trace(&id, &databases);
}

#[test]
fn alias_stands_for_its_account() {
    let site = site();
    let mailbox = site.mailbox_of(20, &[("zimbraMailAlias", "other.name@lab.test")]);
    let ended = site.zlm("store1", &["run", "move", "--email", "other.name@lab.test", "--dest", "store2.lab.test"]);
    ended.assert(0, &[]);
    site.assert_moved(&mailbox);
}

/// A row of another account's mailbox on store2.
fn foreign_row(site: &Site, number: u64, account: &str) {
    site.sql(
        "store2",
        &format!(
            "INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id, item_id_checkpoint, change_checkpoint) \
             VALUES ({number}, {}, '{account}', 2, 300, 300)",
            (number - 1) % 100 + 1
        ),
    );
}

#[test]
fn number_that_is_taken_is_passed_over() {
    let site = site();
    let taken = site.next_number();
    foreign_row(&site, taken, "11111111-2222-3333-4444-555555555555");
    let mailbox = site.mailbox();
    site.move_it(&mailbox).assert(0, &[]);
    let report = site.number("store2", &format!("SELECT id FROM zimbra.mailbox WHERE account_id = '{}'", mailbox.id));
    site.sql("store2", &format!("DELETE FROM zimbra.mailbox WHERE id = {taken}"));
    assert!(report.is_some_and(|number| number > taken), "{report:?}");
    assert_eq!(site.attribute(&mailbox.local, "zimbraMailHost").unwrap(), "store2.lab.test");
}

#[test]
fn rows_left_under_the_number() {
    let site = site();
    // Of a group that exists.
    let number = site.next_number().next_multiple_of(100) + 3;
    site.sql("store2", &format!("UPDATE zimbra.current_volumes SET next_mailbox_id = {number}"));
    let row = format!("INSERT INTO mboxgroup3.tombstone (mailbox_id, sequence, date, type) VALUES ({number}, 1, 1, 5)");
    site.sql("store2", &row);
    let mailbox = site.mailbox();
    let ended = site.move_it(&mailbox);
    ended.assert(1, &["rows of an earlier one lie in mboxgroup3.tombstone"]);
    assert_text("rows-left-over", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
    site.sql("store2", &format!("DELETE FROM mboxgroup3.tombstone WHERE mailbox_id = {number}"));
}

#[test]
fn directory_left_under_the_number() {
    let site = site();
    let number = site.next_number();
    let dir = format!("/opt/zimbra/store/0/{number}");
    site.shell("store2", &format!("mkdir -p {dir}/msg && touch {dir}/msg/keep && chown -R zimbra: {dir}/.."));
    let mailbox = site.mailbox();
    let ended = site.move_it(&mailbox);
    ended.assert(1, &[&format!("{dir} is there already"), "move it away"]);
    site.assert_rolled_back(&mailbox);
    site.shell("store2", &format!("test -e {dir}/msg/keep && rm -r {dir}"));
}

#[test]
fn link_in_place_of_the_directory() {
    let site = site();
    let number = site.next_number();
    let dir = format!("/opt/zimbra/store/0/{number}");
    site.shell("store2", &format!("install -d -o zimbra -g zimbra /opt/zimbra/store/0; ln -s /opt/zimbra/conf {dir}"));
    let mailbox = site.mailbox();
    site.move_it(&mailbox).assert(1, &["not a directory, but a link or a file"]);
    site.assert_rolled_back(&mailbox);
    site.shell("store2", &format!("test -e {dir}/localconfig.xml && rm {dir}"));
}

#[test]
fn row_of_an_earlier_stay() {
    let site = site();
    let mailbox = site.mailbox();
    let number = site.next_number();
    site.sql("store2", "UPDATE zimbra.current_volumes SET next_mailbox_id = next_mailbox_id + 1");
    foreign_row(&site, number, &mailbox.id);
    let mailbox = site.again(&mailbox);
    let ended = site.move_it(&mailbox);
    ended.assert(3, &[&format!("has a mailbox row of an earlier stay, number {number}")]);
    site.assert_rolled_back(&mailbox);
    site.sql("store2", &format!("DELETE FROM zimbra.mailbox WHERE id = {number}"));
}

#[test]
fn mailboxd_remembers_an_earlier_stay() {
    let site = site();
    let mailbox = site.mailbox();
    let number = site.next_number() + 500;
    foreign_row(&site, number, &mailbox.id);
    site.tell("store2", "restart");
    site.sql("store2", &format!("DELETE FROM zimbra.mailbox WHERE id = {number}"));
    assert_eq!(site.tell("store2", &format!("map {}", mailbox.id)), number.to_string());
    let ended = site.move_it(&mailbox);
    ended.assert(3, &[&format!("remembers mailbox {number} of an earlier stay"), "restart it first"]);
    site.tell("store2", "restart");
    site.rest("store2");
    site.assert_rolled_back(&mailbox);
}

#[test]
fn column_that_the_destination_lacks() {
    let site = site();
    let mailbox = site.mailbox();
    let table = format!("mboxgroup{}.mail_item", (mailbox.number - 1) % 100 + 1);
    site.sql("store1", &format!("ALTER TABLE {table} ADD COLUMN newer INT"));
    site.sql("store1", &format!("UPDATE {table} SET newer = 7"));
    let ended = site.move_it(&mailbox);
    site.sql("store1", &format!("ALTER TABLE {table} DROP COLUMN newer"));
    ended.assert(3, &["newer"]);
    assert_text("column-missing", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn older_schema_at_the_destination() {
    let site = site();
    let mailbox = site.mailbox();
    site.sql("store2", "UPDATE zimbra.config SET value = '117' WHERE name = 'db.version'");
    let ended = site.move_it(&mailbox);
    site.sql("store2", "UPDATE zimbra.config SET value = '118' WHERE name = 'db.version'");
    ended.assert(3, &["117", "118"]);
    assert_text("older-schema", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn address_in_a_domain_that_the_directory_does_not_know() {
    let site = site();
    let mailbox = site.mailbox_of(20, &[("zimbraMailDeliveryAddress", "s01@internal.test")]);
    site.move_it(&mailbox).assert(0, &[]);
    site.assert_moved(&mailbox);
}

#[test]
fn audit_leaves_nobody_out_and_says_what_to_do() {
    let site = site();
    let mailbox = site.mailbox_of(20, &[("zimbraMailDeliveryAddress", "")]);
    let audit = |dest: &str| site.zlm("store1", &["run", "audit", "--store", "store1.lab.test", "--dest", dest]);
    site.shell("store2", "chown root: /opt/zimbra/store");
    let ended = audit("store2.lab.test");
    site.shell("store2", "chown zimbra: /opt/zimbra/store");
    ended.assert(6, &[&format!("{}: store2.lab.test: zimbra cannot write to /opt/zimbra/store", mailbox.email)]);
    site.stop("store2", zlm_lab::Service::Sshd).unwrap();
    let ended = site.zlm("store1", &["run", "audit", "--email", &mailbox.email, "--dest", "store2.lab.test"]);
    site.start("store2", zlm_lab::Service::Sshd).unwrap();
    ended.assert(6, &[&mailbox.email, "ssh could not connect"]);
}
