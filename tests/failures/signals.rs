//! Requests to stop, in every phase: what was done is undone, and the exit status says so.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::site::site;
use crate::snapshot::assert_text;

/// Stops a move before a line of the shipped script.
fn stopped(line: &str, signal: Signal) {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, line);
    zlm.wait_for("paused");
    zlm.signal(signal);
    zlm.end().assert(130, &["stopped on request"]);
    site.assert_rolled_back(&mailbox);
}

macro_rules! stopped {
    ($($name:ident: $line:literal $signal:ident;)*) => {
        $(
            #[test]
            fn $name() {
                stopped($line, Signal::$signal);
            }
        )*
    };
}

stopped! {
    int_before_anything: "let mv" INT;
    hup_when_staged: "step(\"pre-copy\"" HUP;
    term_when_copied: "step(\"freeze\"" TERM;
    int_in_maintenance: "let frozen" INT;
    hup_when_frozen: "step(\"delta\"" HUP;
    term_before_the_proof: "let proof" TERM;
    int_before_the_switch: "switch_to(" INT;
}

#[test]
fn asked_twice() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    zlm.signal(Signal::INT);
    zlm.wait_for("undone");
    // It may have ended by now, which is well.
    zlm.signal_if_running(Signal::INT);
    zlm.signal_if_running(Signal::TERM);
    let ended = zlm.end();
    ended.assert(130, &["stopped on request", "status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn asked_twice_stops_the_way_back_too() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    site.fault("store1", "LockoutMailboxRequest hang 60");
    zlm.signal(Signal::INT);
    zlm.wait_for("stopping");
    let request = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    zlm.signal(Signal::INT);
    zlm.end().assert(4, &["stopping at once"]);
    assert!(request.elapsed() < Duration::from_secs(20), "{:?}", request.elapsed());
    site.fault("store1", "clear");
    let run = site.run_of(&mailbox);
    site.wait_unheld(&mailbox);
    site.zlm("store1", &["rollback", &run]).assert(0, &["status active"]);
    site.forget_run_dirs();
    site.assert_rolled_back(&mailbox);
}

/// What was undone in part is not gone on with: the journal would take what was undone for done.
#[test]
fn undone_in_part_is_not_taken_up() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    site.fault("store1", "ModifyAccountRequest fail service.FAILURE");
    zlm.signal(Signal::INT);
    zlm.end().assert(4, &["unlocked", "next: zlm rollback "]);
    site.fault("store1", "clear");
    let run = site.run_of(&mailbox);
    site.zlm("store1", &["resume", &run]).assert(3, &["undone in part", "zlm rollback "]);
    site.zlm("store1", &["rollback", &run]).assert(0, &["status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn ctrl_c_reaches_every_child() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    zlm.signal_all(Signal::INT);
    let ended = zlm.end();
    ended.assert(130, &["stopped on request", "status active"]);
    assert_text("stopped", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn within_a_copy_of_files() {
    let site = site();
    let mailbox = site.mailbox_of(200, &[]);
    let words = ["run", "move", "--email", &mailbox.email, "--dest", "store2.lab.test", "--bwlimit", "1"];
    let mut zlm = site.start_zlm("store1", &words);
    zlm.wait_for("pre-copy");
    // A file on its way shows that rsync runs.
    let number = site.next_number() - 1;
    let seen = zlm_lab::poll(std::time::Duration::from_secs(10), || {
        let dir = site.host("store2")?.zimbra_path(&format!("store/0/{number}/msg"));
        Ok(dir.exists().then_some(()))
    });
    assert!(seen.unwrap().is_some());
    zlm.signal_all(Signal::INT);
    zlm.end().assert(130, &["stopped on request", "status active"]);
    site.assert_rolled_back(&mailbox);
}
