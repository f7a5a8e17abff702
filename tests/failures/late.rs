//! Requests that mailboxd carries out long after nobody waits for their answer any more. Whatever happens meanwhile, a store
//! that the directory names has the mailbox, and a user who was let in stays so.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use zlm_lab::{Service, poll};

use crate::run::Running;
use crate::site::{Mailbox, Site, site};

/// A request that takes longer than [`TIMEOUT`] to be carried out.
const LATE: u64 = 14;
const TIMEOUT: u64 = 4;

/// How long a request lives in these tests.
const LIFE: u64 = 45;

/// A move that waits before a line of the shipped script, and gives up on requests soon.
fn paused(site: &Site, line: &str) -> (Mailbox, Running) {
    paused_with(site, line, LIFE)
}

fn paused_with(site: &Site, line: &str, life: u64) -> (Mailbox, Running) {
    edited(site, line, site.pause(), life)
}

fn edited(site: &Site, line: &str, code: &str, life: u64) -> (Mailbox, Running) {
    let mailbox = site.mailbox();
    let settings = format!("[limits]\nsoap_timeout = {TIMEOUT}\nrequest_life = {life}\n");
    // Whatever takes the run up has them as well.
    site.configure("store1", &settings);
    let mut zlm = site.start_edited_move(&mailbox, line, code);
    zlm.wait_for("paused");
    (mailbox, zlm)
}

fn host(site: &Site, mailbox: &Mailbox) -> String {
    site.attribute(&mailbox.local, "zimbraMailHost").unwrap()
}

fn status(site: &Site, mailbox: &Mailbox) -> String {
    site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap()
}

/// Waits until a request that is late was carried out.
#[track_caller]
fn wait_for_home(site: &Site, mailbox: &Mailbox, store: &str) {
    let came = poll(Duration::from_secs(60), || Ok((host(site, mailbox) == store).then_some(())));
    assert!(came.unwrap().is_some(), "{}", host(site, mailbox));
}

/// Mailboxd of store1 dies, with all requests that it has, and is there again.
fn restart(site: &Site) {
    site.kill("store1", Service::Mailboxd).unwrap();
    site.mailboxd_again("store1");
}

/// A run of which nobody knows whether it has switched has ended: the user waits, and the copy and its row are there.
#[track_caller]
fn assert_open(site: &Site, mailbox: &Mailbox) {
    assert_eq!(status(site, mailbox), "maintenance");
    let row = format!("SELECT COUNT(*) FROM zimbra.mailbox WHERE account_id = '{}'", mailbox.id);
    assert_eq!(site.number("store2", &row), Some(1), "the row of the copy");
    assert_eq!(site.tell("store1", &format!("locked {}", mailbox.id)), "yes");
}

#[test]
fn switch_that_is_late_is_waited_for_though_somebody_asks_to_stop() {
    let site = site();
    let (mailbox, mut zlm) = paused(&site, "switch_to(");
    site.fault("store1", &format!("ModifyAccountRequest late {LATE} 1"));
    site.fault("store1", &format!("ModifyAccountRequest then late {LATE} 1"));
    let began = Instant::now();
    site.go_on();
    sleep(Duration::from_secs(2));
    zlm.signal(Signal::INT);
    zlm.wait_for("stopping");
    zlm.end().assert(0, &[]);
    // The second request is carried out after all has ended.
    sleep(Duration::from_secs(2 * LATE).saturating_sub(began.elapsed()));
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

/// A switch whose first request is late and whose second is refused.
fn unsettled(site: &Site, first: &str, life: u64) -> Mailbox {
    let (mailbox, zlm) = paused_with(site, "switch_to(", life);
    site.fault("store1", &format!("ModifyAccountRequest {first} 1"));
    site.fault("store1", "ModifyAccountRequest then fail service.FAILURE 1");
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["service.FAILURE", "nobody knows whether store1.lab.test has done it", "next: zlm resume "]);
    assert_eq!(host(site, &mailbox), "store1.lab.test");
    assert_open(site, &mailbox);
    mailbox
}

#[test]
fn switch_that_is_late_and_refused_comes_and_is_gone_on_from() {
    let site = site();
    let mailbox = unsettled(&site, &format!("late {}", 3 * LATE), 3600);
    let run = site.run_of(&mailbox);
    // Whoever undoes it waits, and finds that it came.
    let ended = site.zlm("store1", &["rollback", &run]);
    ended.assert(3, &["mailboxd of store1.lab.test may still carry out a ModifyAccountRequest", "only goes forward"]);
    wait_for_home(&site, &mailbox, "store2.lab.test");
    assert_open(&site, &mailbox);
    site.zlm("store1", &["resume", &run]).assert(0, &[]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

#[test]
fn switch_that_is_late_and_refused_is_asked_for_again() {
    let site = site();
    let mailbox = unsettled(&site, &format!("late {}", 3 * LATE), 3600);
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_moved(&mailbox);
    sleep(Duration::from_secs(3 * LATE));
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

#[test]
fn switch_that_was_lost_is_undone_once_it_can_come_no_more() {
    let site = site();
    let mailbox = unsettled(&site, "hang 60", LIFE);
    let ended = site.zlm("store1", &["rollback", &site.run_of(&mailbox)]);
    ended.assert(0, &["may still carry out a ModifyAccountRequest", "waiting for up to "]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn switch_that_was_lost_is_undone_once_mailboxd_was_started_again() {
    let site = site();
    let mailbox = unsettled(&site, "late 600", 3600);
    let run = site.run_of(&mailbox);
    let mut waiting = site.start_zlm("store1", &["rollback", &run]);
    waiting.wait_for("may still carry out");
    waiting.signal(Signal::INT);
    waiting.end().assert(4, &["stopped on request", "next: zlm rollback "]);
    assert_open(&site, &mailbox);
    restart(&site);
    site.zlm("store1", &["rollback", &run]).assert(0, &["status active"]);
    site.assert_rolled_back(&mailbox);
}

/// What cannot go on any more either is undone as soon as that is right.
#[test]
fn switch_that_was_lost_with_its_lock_ends_by_the_command_that_is_named() {
    let site = site();
    let mailbox = unsettled(&site, "late 600", 3600);
    restart(&site);
    let ended = site.zlm("store1", &["resume", &site.run_of(&mailbox)]);
    ended.assert(1, &["was not locked any more", "status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn switch_that_is_late_and_whose_run_was_killed_comes() {
    let site = site();
    let (mailbox, zlm) = paused_with(&site, "switch_to(", 3600);
    site.fault("store1", &format!("ModifyAccountRequest late {LATE} 1"));
    site.go_on();
    // It is on its way when it is in the journal; mailboxd says nothing of what it has not done.
    sleep(Duration::from_secs(2));
    zlm.signal(Signal::KILL);
    assert_eq!(zlm.end().code, None);
    site.wait_unheld(&mailbox);
    site.forget_run_dirs();
    assert_eq!(host(&site, &mailbox), "store1.lab.test", "it is late");
    let run = site.run_of(&mailbox);
    site.zlm("store1", &["rollback", &run]).assert(3, &["may still carry out", "only goes forward"]);
    site.zlm("store1", &["resume", &run]).assert(0, &[]);
    site.assert_moved(&mailbox);
}

/// A script that names another store by its own hand is held to the same.
#[test]
fn home_that_a_script_names_by_hand_is_a_switch() {
    let site = site();
    let by_hand = r#"try { soap_modify(who, #{ zimbraMailHost: args.dest }, #{ unverified: true }); } catch {} throw "after it";"#;
    let code = format!("{} {by_hand}", site.pause());
    let (mailbox, zlm) = edited(&site, "switch_to(", &code, 3600);
    site.fault("store1", "ModifyAccountRequest late 600 1");
    site.fault("store1", "ModifyAccountRequest then fail service.FAILURE 1");
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["service.FAILURE", "next: zlm resume "]);
    assert!(!ended.err.contains("after it"), "it went on: {}", ended.err);
    assert_eq!(status(&site, &mailbox), "maintenance");
    restart(&site);
    site.zlm("store1", &["rollback", &site.run_of(&mailbox)]).assert(0, &["status active"]);
    site.assert_rolled_back(&mailbox);
}

/// From a switch that happened nothing leads back, whatever a script does with it.
#[test]
fn second_switch_takes_the_first_one_not_back() {
    for again in ["try { switch_to(mv.dest, proved); } catch {}", "switch_to(mv.dest, proved);"] {
        let site = site();
        let code = format!("{} {again} step(\"open\", || cutover::open(mv, who)); throw \"after it\";", site.pause());
        let (mailbox, zlm) = edited(&site, "step(\"open\"", &code, 3600);
        site.go_on();
        let ended = zlm.end();
        ended.assert(4, &["on store2.lab.test", "next: zlm finish "]);
        assert!(!ended.err.contains("undone"), "{}", ended.err);
        let run = site.run_of(&mailbox);
        site.zlm("store1", &["rollback", &run]).assert(3, &["only goes forward"]);
        assert_eq!(host(&site, &mailbox), "store2.lab.test");
        let is_caught = again.starts_with("try");
        assert_eq!(status(&site, &mailbox), if is_caught { "active" } else { "maintenance" });
        site.wait_unheld(&mailbox);
    }
}

/// Nor does another one, to wherever a script names by hand.
#[test]
fn refused_way_back_takes_the_switch_not_back() {
    let site = site();
    let back =
        "try { soap_modify(who, #{ zimbraMailHost: who.host }, #{ unverified: true }); } catch {} throw \"after it\";";
    let code = format!("{} {back}", site.pause());
    let (mailbox, zlm) = edited(&site, "step(\"open\"", &code, 3600);
    site.fault("store2", "ModifyAccountRequest fail service.PERM_DENIED 1");
    site.go_on();
    zlm.end().assert(4, &["after it", "on store2.lab.test", "next: zlm finish "]);
    site.zlm("store1", &["rollback", &site.run_of(&mailbox)]).assert(3, &["only goes forward"]);
}

/// A status that is late would lock the user out again, wherever the mailbox is by then.
#[test]
fn maintenance_that_is_late_is_seen_out_after_a_move() {
    let site = site();
    let (mailbox, zlm) = paused_with(&site, "step(\"freeze\"", 3600);
    site.fault("store1", &format!("ModifyAccountRequest late {LATE} 1"));
    site.go_on();
    zlm.end().assert(0, &["may still carry out a ModifyAccountRequest"]);
    sleep(Duration::from_secs(LATE));
    assert_eq!(status(&site, &mailbox), "active");
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

#[test]
fn maintenance_that_is_late_is_seen_out_after_an_undo() {
    let site = site();
    let (mailbox, zlm) = paused_with(&site, "step(\"freeze\"", 3600);
    site.fault("store1", &format!("ModifyAccountRequest late {} 1", 3 * LATE));
    site.fault("store1", "ModifyAccountRequest then fail service.FAILURE 1");
    site.go_on();
    zlm.end().assert(1, &["service.FAILURE", "may still carry out a ModifyAccountRequest", "status active"]);
    sleep(Duration::from_secs(LATE));
    site.assert_rolled_back(&mailbox);
}

#[test]
fn lock_that_is_late_is_seen_out_after_an_undo() {
    let site = site();
    let (mailbox, zlm) = paused_with(&site, "let frozen", 3600);
    site.fault("store1", &format!("LockoutMailboxRequest late {LATE} 1"));
    site.fault("store1", "LockoutMailboxRequest then fail service.FAILURE 1");
    site.go_on();
    zlm.end().assert(1, &["service.FAILURE", "may still carry out a LockoutMailboxRequest", "status active"]);
    sleep(Duration::from_secs(LATE));
    site.assert_rolled_back(&mailbox);
}
