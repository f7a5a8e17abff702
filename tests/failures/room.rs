//! A copy leaves room for users while they work: it keeps its limits, and waits while a store is busy or full.

use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::run::Running;
use crate::site::{Mailbox, Site, site};

/// Writes settings for a run on store1; gives their path there.
fn settings(site: &Site, text: &str) -> &'static str {
    let dir = &site.host("store1").unwrap().dir;
    std::fs::write(dir.join("tmp/throttle.toml"), text).unwrap();
    "/var/tmp/throttle.toml"
}

/// Starts a move that waits before its first copy, with settings.
fn paused_before_copy(site: &Site, mailbox: &Mailbox, throttle: &str) -> Running {
    let settings = settings(site, throttle);
    let mut zlm = site.start_paused_move_with(mailbox, "step(\"pre-copy\"", &["--config", settings]);
    zlm.wait_for("paused");
    zlm
}

/// Sessions on a store that sleep for some seconds.
fn sleepers(site: &Site, store: &str, count: usize, seconds: u32) -> Vec<thread::JoinHandle<()>> {
    let sessions: Vec<_> = (0..count).map(|_| site.host(store).unwrap().mysql().unwrap()).collect();
    sessions
        .into_iter()
        .map(|mut session| thread::spawn(move || session.query_drop(format!("SELECT SLEEP({seconds})")).unwrap()))
        .collect()
}

#[test]
fn rows_go_no_faster_than_they_may() {
    let site = site();
    let mailbox = site.mailbox_of(400, &[]);
    let settings = settings(&site, "[throttle]\nrows_per_second = 60\n");
    let email = mailbox.email.as_str();
    let words = ["--config", settings, "run", "move", "--email", email, "--dest", "store2.lab.test", "--short", "120"];
    let ended = site.zlm("store1", &words);
    ended.assert(0, &[]);
    site.assert_moved(&mailbox);
    let number = |before: &str, after: &str| -> f64 {
        let (head, _) = ended.err.split_once(after).unwrap();
        head.rsplit_once(before).unwrap().1.parse().unwrap()
    };
    let (rows, seconds) = (number(": ", " rows, "), number("pre-copy done in ", " s\n"));
    let least = rows / 60.0;
    assert!(rows > 300.0 && seconds > least * 0.8, "{rows} rows in {seconds} s");
    assert!(seconds < least * 1.5 + 10.0, "{rows} rows in {seconds} s");
}

#[test]
fn busy_destination_is_waited_for() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = paused_before_copy(&site, &mailbox, "[throttle]\nthreads_running = 8\n");
    let sleepers = sleepers(&site, "store2", 12, 6);
    thread::sleep(Duration::from_millis(500));
    site.go_on();
    zlm.wait_for("the copy waits: MariaDB of store2.lab.test has ");
    assert!(sleepers.iter().all(|sleeper| !sleeper.is_finished()), "it waits while they are at work");
    let ended = zlm.end();
    ended.assert(0, &[" threads running, more than 8", "the copy goes on after "]);
    assert_eq!(ended.err.matches("the copy waits").count(), 1, "said once: {}", ended.err);
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    site.assert_moved(&mailbox);
}

#[test]
fn source_that_stays_busy_is_not_waited_for_without_end() {
    let site = site();
    let mailbox = site.mailbox();
    let zlm = paused_before_copy(&site, &mailbox, "[throttle]\nthreads_running = 8\npatience = 2\n");
    let sleepers = sleepers(&site, "store1", 12, 8);
    thread::sleep(Duration::from_millis(500));
    site.go_on();
    let ended = zlm.end();
    ended.assert(1, &["the copy waits: MariaDB of store1.lab.test has ", " threads running, more than 8, for 2 s"]);
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    site.assert_rolled_back(&mailbox);
}

#[test]
fn full_server_is_waited_for() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = paused_before_copy(&site, &mailbox, "");
    let store = site.host("store2").unwrap();
    let mut taken: Vec<_> = (0..16).map(|_| store.mysql().unwrap()).collect();
    taken[0].query_drop("SET GLOBAL max_connections = 10").unwrap();
    site.go_on();
    zlm.wait_for("the copy waits: MariaDB of store2.lab.test has no connection left");
    thread::sleep(Duration::from_secs(1));
    taken[0].query_drop("SET GLOBAL max_connections = 110").unwrap();
    drop(taken);
    zlm.end().assert(0, &["the copy goes on after "]);
    site.assert_moved(&mailbox);
}
