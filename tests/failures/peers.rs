//! Servers that must be told of a move and do not answer: known before anybody is frozen, left out where they are retired,
//! and no reason to leave a user shut out.

use std::fs;

use zlm_lab::Service;

use crate::site::{Mailbox, Site, site};

const PROXY: &str = "proxy1.lab.test";

/// A move to store2 while a server of a host is down; gives how it ended.
fn moved_without(site: &Site, mailbox: &Mailbox, host: &str, service: Service, more: &[&str]) -> crate::run::Ended {
    site.stop(host, service).unwrap();
    let ended = site.start_move_with(mailbox, more).end();
    match service {
        Service::Mailboxd => site.mailboxd_again(host),
        _ => site.start(host, service).unwrap(),
    }
    ended
}

#[test]
fn each_is_asked_before_anything_is_changed() {
    let site = site();
    let mailbox = site.mailbox();
    let memcached =
        ["memcached of proxy1.lab.test does not answer: ", "or leave it out with --without proxy1.lab.test"];
    moved_without(&site, &mailbox, "proxy1", Service::Memcached, &[]).assert(3, &memcached);
    for store in ["store1", "store2"] {
        let silent = format!("mailboxd of {store}.lab.test does not answer: ");
        let ended = moved_without(&site, &mailbox, store, Service::Mailboxd, &[]);
        ended.assert(3, &[&silent, ": start it first", "status active"]);
    }
    site.assert_rolled_back(&mailbox);
}

#[test]
fn one_that_does_not_answer_is_left_out() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = moved_without(&site, &mailbox, "proxy1", Service::Memcached, &["--without", PROXY]);
    ended.assert(0, &["memcached of proxy1.lab.test is left out, and is not told: "]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

#[test]
fn one_that_answers_is_not_left_out() {
    let site = site();
    let mailbox = site.mailbox();
    for (host, why) in [
        (PROXY, "memcached answers there, and must be told"),
        ("store9.lab.test", "the directory knows no server of that name"),
        ("store2.lab.test", "--without store2.lab.test: "),
    ] {
        site.start_move_with(&mailbox, &["--without", host]).end().assert(3, &[why]);
    }
    // Its memcached may be left out, its mailboxd not.
    site.stop("store2", Service::Mailboxd).unwrap();
    let ended = moved_without(&site, &mailbox, "store2", Service::Memcached, &["--without", "store2.lab.test"]);
    site.mailboxd_again("store2");
    ended.assert(3, &["mailboxd of store2.lab.test does not answer: "]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn batch_leaves_it_out_for_each() {
    let site = site();
    let mailbox = site.mailbox();
    fs::write(site.host("store1").unwrap().dir.join("tmp/list"), format!("{}\n", mailbox.email)).unwrap();
    site.stop("proxy1", Service::Memcached).unwrap();
    let batch = ["run", "batch", "--list", "/var/tmp/list", "--dest", "store2.lab.test"];
    site.zlm("store1", &batch).assert(6, &["--without proxy1.lab.test"]);
    let ended = site.zlm("store1", &[&batch[..], &["--without", PROXY]].concat());
    site.start("proxy1", Service::Memcached).unwrap();
    ended.assert(0, &["is left out, and is not told"]);
    site.assert_moved(&mailbox);
}

#[test]
fn one_that_stays_away_is_left_out_of_what_is_taken_up() {
    let site = site();
    let mailbox = site.mailbox();
    fs::write(site.host("store1").unwrap().dir.join("tmp/soon.toml"), "[retry]\npatience = 3\n").unwrap();
    let more = ["--config", "/var/tmp/soon.toml"];
    let mut zlm = site.start_paused_move_with(&mailbox, "step(\"open\"", &more);
    zlm.wait_for("paused");
    site.stop("proxy1", Service::Memcached).unwrap();
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["memcached proxy1.lab.test", "next: zlm resume "]);
    let next = ended.next();
    let with = |host: &'static str| site.zlm("store1", &[&next[..], &["--without", host]].concat());
    with("store2.lab.test").assert(3, &["store2.lab.test"]);
    with(PROXY).assert(0, &[]);
    site.start("proxy1", Service::Memcached).unwrap();
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

/// The account and the copy are as they were: whoever could not be told forgets by itself.
#[test]
fn undo_ends_though_a_store_is_not_told() {
    let site = site();
    let mailbox = site.mailbox();
    let code = format!("{}\nthrow \"not today\";", site.pause());
    let mut zlm = site.start_edited_move(&mailbox, "step(\"delta\"", &code);
    zlm.wait_for("paused");
    site.fault("store2", "FlushCacheRequest fail service.FAILURE");
    site.go_on();
    let ended = zlm.end();
    site.fault("store2", "clear");
    let told = "mailboxd of store2.lab.test is not told that the account is as it was: FlushCacheRequest";
    ended.assert(1, &["not today", told, "within 15 minutes", "status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn undo_tells_a_store_that_fails_once() {
    let site = site();
    let mailbox = site.mailbox();
    let code = format!("{}\nthrow \"not today\";", site.pause());
    let mut zlm = site.start_edited_move(&mailbox, "step(\"delta\"", &code);
    zlm.wait_for("paused");
    site.fault("store2", "FlushCacheRequest fail service.FAILURE 1");
    site.go_on();
    let ended = zlm.end();
    ended.assert(1, &["not today", "status active"]);
    assert!(!ended.err.contains("is not told"), "{}", ended.err);
    site.assert_rolled_back(&mailbox);
}

/// Before the switch there is a way back from a new home that cannot open the mailbox.
#[test]
fn new_home_that_is_dead_is_seen_before_the_switch() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "switch_to(");
    zlm.wait_for("paused");
    site.kill("store2", Service::Mailboxd).unwrap();
    site.go_on();
    let ended = zlm.end();
    site.mailboxd_again("store2");
    ended.assert(1, &["mailboxd of store2.lab.test", "right before the switch", "status active"]);
    site.assert_rolled_back(&mailbox);
}

/// A process that has ended has nothing cached.
#[test]
fn old_home_that_stays_dead_keeps_nobody_waiting() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"open\"");
    zlm.wait_for("paused");
    site.kill("store1", Service::Mailboxd).unwrap();
    site.go_on();
    let ended = zlm.end();
    site.mailboxd_again("store1");
    ended.assert(0, &["mailboxd of store1.lab.test does not run, and has nothing to forget"]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}
