//! Connections that break while the user works: the copy goes on when they can be made anew.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{Service, poll};

use crate::run::Running;
use crate::site::{Mailbox, Site, site};

/// A copy begins soon, and takes no longer to be in its middle.
const LIMIT: Duration = Duration::from_secs(60);

/// Settings with which copies give up soon, and rows take a while.
const SOON: &str = "[throttle]\nrows_per_second = 100\n[retry]\npatience = 6\n";

/// Starts a move with settings, slow enough to be met in its middle.
fn slow_move(site: &Site, mailbox: &Mailbox, settings: &str) -> Running {
    fs::write(site.host("store1").unwrap().dir.join("tmp/slow.toml"), settings).unwrap();
    let more = ["--config", "/var/tmp/slow.toml", "--bwlimit", "200", "--short", "120"];
    site.start_move_with(mailbox, &more)
}

/// A mailbox whose files take some seconds at the pace of a slow move.
fn mailbox(site: &Site) -> Mailbox {
    site.shaped_mailbox(&[], |spec| Spec { items: 60, blob_bytes: Some(16 << 10), ..spec })
}

/// Waits until files of a mailbox have come to store2, but not all.
fn wait_for_files(site: &Site, number: u64) {
    let dir = site.host("store2").unwrap().zimbra_path(&format!("store/0/{number}/msg/0"));
    let some = || Ok(fs::read_dir(&dir).is_ok_and(|files| files.count() > 2).then_some(()));
    assert!(poll(LIMIT, some).unwrap().is_some(), "no file comes");
}

/// Waits until rows of a mailbox have come to store2, but not all.
fn wait_for_rows(site: &Site, number: u64) {
    let group = format!(
        "SELECT group_id FROM zimbra.mailbox JOIN information_schema.tables \
         ON table_schema = CONCAT('mboxgroup', group_id) AND table_name = 'mail_item' WHERE id = {number}"
    );
    let some = || {
        // The mailbox stands in its group before the group's tables do.
        let Some(group) = site.number("store2", &group) else { return Ok(None) };
        let rows = format!("SELECT COUNT(*) FROM mboxgroup{group}.mail_item WHERE mailbox_id = {number}");
        Ok((site.number("store2", &rows) > Some(20)).then_some(()))
    };
    assert!(poll(LIMIT, some).unwrap().is_some(), "no row comes");
}

#[test]
fn sessions_end_while_files_are_copied() {
    let site = site();
    let mailbox = mailbox(&site);
    let number = site.next_number();
    let zlm = slow_move(&site, &mailbox, "");
    wait_for_files(&site, number);
    site.end_ssh_sessions("store2").unwrap();
    let ended = zlm.end();
    ended.assert(0, &["the connection broke", "; trying again in 1 s"]);
    site.assert_moved(&mailbox);
}

#[test]
fn sessions_end_while_rows_are_copied() {
    let site = site();
    let mailbox = site.mailbox_of(300, &[]);
    let number = site.next_number();
    let zlm = slow_move(&site, &mailbox, "[throttle]\nrows_per_second = 100\n");
    wait_for_rows(&site, number);
    site.end_ssh_sessions("store2").unwrap();
    let ended = zlm.end();
    ended.assert(0, &["; trying again in 1 s"]);
    site.assert_moved(&mailbox);
}

#[test]
fn destination_is_started_again_while_rows_are_copied() {
    let site = site();
    let mailbox = site.mailbox_of(300, &[]);
    let number = site.next_number();
    let zlm = slow_move(&site, &mailbox, "[throttle]\nrows_per_second = 100\n");
    wait_for_rows(&site, number);
    site.settle("store2");
    site.crash_mariadb("store2");
    let ended = zlm.end();
    ended.assert(0, &["; trying again in 1 s"]);
    site.assert_moved(&mailbox);
}

#[test]
fn sessions_that_end_again_and_again_are_given_up() {
    let site = site();
    let mailbox = mailbox(&site);
    let number = site.next_number();
    let mut zlm = slow_move(&site, &mailbox, SOON);
    wait_for_files(&site, number);
    let given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let until = Instant::now() + LIMIT;
            while !given_up.load(Ordering::SeqCst) && Instant::now() < until {
                // Only those that copy: what takes the copy away again gets through.
                if !site.shell("store2", "grep -sx rsync /proc/[0-9]*/comm; true").is_empty() {
                    site.end_ssh_sessions("store2").unwrap();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        zlm.wait_for("given up after ");
        given_up.store(true, Ordering::SeqCst);
    });
    let ended = zlm.end();
    ended.assert(1, &["trying again in 1 s", "trying again in 2 s", "the connection broke", "status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn sshd_that_stays_away_is_given_up() {
    let site = site();
    let mailbox = mailbox(&site);
    let number = site.next_number();
    let zlm = slow_move(&site, &mailbox, SOON);
    wait_for_files(&site, number);
    site.stop("store2", Service::Sshd).unwrap();
    site.end_ssh_sessions("store2").unwrap();
    let began = Instant::now();
    let ended = zlm.end();
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    site.start("store2", Service::Sshd).unwrap();
    // The user works as before; what cannot be reached cannot be taken away yet.
    ended.assert(4, &["trying again in 2 s", "given up after ", "not undone: the copy of", "status active"]);
    site.run_next(&ended).assert(0, &[]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn a_stop_ends_the_wait() {
    let site = site();
    let mailbox = mailbox(&site);
    let number = site.next_number();
    let mut zlm = slow_move(&site, &mailbox, "");
    wait_for_files(&site, number);
    site.stop("store2", Service::Sshd).unwrap();
    site.end_ssh_sessions("store2").unwrap();
    zlm.wait_for("trying again in 8 s");
    site.start("store2", Service::Sshd).unwrap();
    let began = Instant::now();
    zlm.signal(Signal::TERM);
    zlm.end().assert(130, &["stopped on request", "status active"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    site.assert_rolled_back(&mailbox);
}

#[test]
fn a_run_that_died_while_it_waited_is_taken_up() {
    let site = site();
    let mailbox = mailbox(&site);
    let number = site.next_number();
    let mut zlm = slow_move(&site, &mailbox, "");
    wait_for_files(&site, number);
    site.stop("store2", Service::Sshd).unwrap();
    site.end_ssh_sessions("store2").unwrap();
    zlm.wait_for("trying again in 1 s");
    zlm.signal(Signal::KILL);
    zlm.end();
    site.start("store2", Service::Sshd).unwrap();
    site.wait_unheld(&mailbox);
    site.forget_run_dirs();
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_moved(&mailbox);
}
