//! Accounts of every status, by every name, and on the way back.

use std::fs;

use mysql::prelude::Queryable;
use zlm_lab::{SOURCE, Service, THIRD, assert_clean};

use crate::bench::Bench;

#[test]
fn every_status_is_what_it_was() {
    let bench = Bench::take();
    let statuses = ["locked", "lockout", "pending", "closed", "maintenance"];
    for (mailbox, status) in (401..).zip(statuses) {
        let local = format!("was-{status}");
        bench.small(&local, mailbox, &[("zimbraAccountStatus", status)]);
        let before = bench.before_move(&local).unwrap();
        bench.moves(SOURCE, &local, &[]);
        bench.judge(&before);
        assert_eq!(bench.account_value(&local, "zimbraAccountStatus").unwrap().as_deref(), Some(status));
    }
}

#[test]
fn an_alias_is_as_good_as_the_address() {
    let bench = Bench::take();
    bench.small("lea", 411, &[("zimbraMailAlias", "leah@lab.test")]);
    let before = bench.before_move("lea").unwrap();
    let ended = bench.moves(THIRD, "leah", &[]);
    assert!(ended.stdout.contains("lea@lab.test"), "{}", ended.told());
    bench.judge(&before);
}

#[test]
fn an_account_without_mail_service_moves() {
    let bench = Bench::take();
    bench.small("max", 412, &[("zimbraMailStatus", "disabled")]);
    let before = bench.before_move("max").unwrap();
    bench.moves(SOURCE, "max", &[]);
    bench.judge(&before);
}

/// Takes the copy away that a move leaves at its source: rows and files, as an operator would.
pub fn purge(bench: &Bench, store: &str, account_id: &str) {
    let id = bench.mailbox_of(store, account_id).unwrap();
    let host = bench.host(store).unwrap();
    let mut connection = host.mysql().unwrap();
    connection.query_drop("SET foreign_key_checks = 0").unwrap();
    let tables: Vec<(String, String)> = connection
        .query(
            "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'mailbox_id' \
             AND (table_schema = 'zimbra' OR table_schema LIKE 'mboxgroup%')",
        )
        .unwrap();
    let group = connection.query_first::<u32, _>(format!("SELECT group_id FROM zimbra.mailbox WHERE id = {id}"));
    let group = format!("mboxgroup{}", group.unwrap().unwrap());
    for (schema, table) in tables.iter().filter(|(schema, _)| *schema == group || schema == "zimbra") {
        connection.query_drop(format!("DELETE FROM {schema}.{table} WHERE mailbox_id = {id}")).unwrap();
    }
    connection.query_drop(format!("DELETE FROM zimbra.mailbox WHERE id = {id}")).unwrap();
    for volume in ["store", "index", "hsm", "hsm2"] {
        let Ok(buckets) = fs::read_dir(host.zimbra_path(volume)) else { continue };
        for bucket in buckets {
            let dir = bucket.unwrap().path().join(id.to_string());
            if dir.exists() {
                fs::remove_dir_all(dir).unwrap();
            }
        }
    }
}

fn restart_mailboxd(bench: &Bench, store: &str) {
    bench.stop(store, Service::Mailboxd).unwrap();
    bench.start(store, Service::Mailboxd).unwrap();
    bench.rest().unwrap();
}

#[test]
fn a_mailbox_goes_home_again_once_its_old_copy_is_forgotten() {
    let bench = Bench::take();
    let id = bench.small("nan", 413, &[]);
    // The user is logged in: mailboxd has the mailbox in its memory.
    assert_eq!(bench.host("store1").unwrap().mailboxd_control("act nan@lab.test 5 1").unwrap(), "ok 5");
    let before = bench.before_move("nan").unwrap();
    bench.moves(THIRD, "nan", &[]);
    bench.judge(&before);

    let refused = |why: &str| {
        let before = bench.before(&id, "store2", "store1", &[]).unwrap();
        let ended = bench.zlm().run_move(THIRD, "nan", "store1", &[]).unwrap().expect(3);
        assert!(ended.stderr.contains(why), "{}", ended.told());
        assert_clean(&bench.check_rolled_back(&before, "store2", "store1", None, false).unwrap());
    };
    refused("earlier stay");
    purge(&bench, "store1", &id);
    refused("restart");

    restart_mailboxd(&bench, "store1");
    let before = bench.before(&id, "store2", "store1", &[]).unwrap();
    bench.zlm().run_move(THIRD, "nan", "store1", &[]).unwrap().expect(0);
    assert_clean(&bench.check_moved(&before, "store2", "store1", None, false).unwrap());
    assert_eq!(bench.host("store1").unwrap().mailboxd_control("act nan@lab.test 5 2").unwrap(), "ok 5");
}

#[test]
fn the_destination_makes_its_next_mailbox_as_ever() {
    let bench = Bench::take();
    let moved = bench.small("ola", 415, &[]);
    let before = bench.before_move("ola").unwrap();
    bench.moves(SOURCE, "ola", &[]);
    bench.judge(&before);
    let new = bench.add_account("pam", "store2", &[]).unwrap();
    assert_eq!(bench.host("store2").unwrap().mailboxd_control("act pam@lab.test 3 1").unwrap(), "ok 3");
    let (moved, new) = (bench.mailbox_of("store2", &moved).unwrap(), bench.mailbox_of("store2", &new).unwrap());
    assert!(new > moved, "{new} after {moved}");
}
