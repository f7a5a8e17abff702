//! Accounts of every status, by every name, and on the way back.

use zlm_lab::{SOURCE, THIRD, account_dn, assert_clean};

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

/// Zimbra disables mail with these statuses, and forgets of who becomes active that he was locked out or suspended.
#[test]
fn what_follows_the_status_is_what_it_was() {
    let bench = Bench::take();
    let failed = ("zimbraPasswordLockoutFailureTime", "20261130101112.123Z");
    let locked = ("zimbraPasswordLockoutLockedTime", "20261130101113.123Z");
    let suspended = ("zimbraAccountSuspensionReason", "unpaid");
    let accounts: [&[(&str, &str)]; 5] = [
        &[("zimbraAccountStatus", "closed"), ("zimbraMailStatus", "enabled")],
        &[("zimbraAccountStatus", "pending"), ("zimbraMailStatus", "enabled"), suspended],
        &[("zimbraAccountStatus", "lockout"), ("zimbraMailStatus", "enabled"), failed, locked],
        &[("zimbraAccountStatus", "locked"), ("zimbraMailStatus", "disabled"), suspended],
        &[("zimbraAccountStatus", "active"), ("zimbraMailStatus", "disabled"), failed, locked, suspended],
    ];
    for (number, attributes) in (491..).zip(accounts) {
        let local = &format!("follows-{}", attributes[0].1);
        bench.small(local, number, attributes);
        let before = bench.before_move(local).unwrap();
        bench.moves(SOURCE, local, &[]);
        bench.judge(&before);
        for (name, value) in attributes {
            assert_eq!(bench.account_value(local, name).unwrap().as_deref(), Some(*value), "{local}: {name}");
        }
    }
}

#[test]
fn an_account_without_a_transport_gets_one() {
    let bench = Bench::take();
    bench.small("untransported", 496, &[]);
    bench.ldap_modify(&account_dn("untransported"), &[("zimbraMailTransport", &[])]).unwrap();
    let before = bench.before_move("untransported").unwrap();
    bench.moves(SOURCE, "untransported", &[]);
    bench.judge(&before);
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
    bench.remove_copy("store1", &id).unwrap();
    refused("restart");

    bench.restart_mailboxd("store1").unwrap();
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
