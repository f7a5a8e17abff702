//! Runs that die, and runs that meet.

use rustix::process::Signal;

use crate::site::site;
use crate::snapshot::assert_text;

#[test]
fn killed_while_the_user_works() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    zlm.signal(Signal::KILL);
    zlm.end();
    site.wait_unheld(&mailbox);
    let ended = site.move_it(&mailbox);
    ended.assert(3, &["by a run that died", "zlm rollback"]);
    assert_text("left-by-a-dead-run", &mailbox, &ended);
    let (_, command) = ended.err.split_once("died: `zlm ").unwrap();
    let words: Vec<&str> = command.split('`').next().unwrap().split_whitespace().collect();
    site.zlm("store1", &words).assert(0, &[]);
    site.forget_run_dirs();
    site.assert_taken_away(&mailbox);
    site.move_it(&mailbox).assert(0, &[]);
    site.assert_moved(&mailbox);
}

#[test]
fn killed_while_the_user_waits() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    zlm.signal(Signal::KILL);
    zlm.end();
    site.wait_unheld(&mailbox);
    let run = site.run_of(&mailbox);
    let ended = site.move_it(&mailbox);
    ended.assert(3, &["by a run that died", &format!("zlm reconcile {}", mailbox.email)]);
    let words =
        ["run", "scripts/undo.rhai", "--email", &mailbox.email, "--dest", "store2.lab.test", "--status", "active"];
    site.zlm("store1", &words).assert(0, &[]);
    site.forget_run_dirs();
    site.assert_taken_away(&mailbox);
    // Its own journal learns that when it is asked next.
    site.zlm("store1", &["resume", &run]).assert(3, &["had ended, and holds the account no more"]);
    site.zlm("store1", &["rollback", &run]).assert(0, &["has ended already: rolled_back"]);
}

#[test]
fn claims_that_somebody_removed_end_nothing() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    zlm.signal(Signal::KILL);
    zlm.end();
    site.wait_unheld(&mailbox);
    let run = site.run_of(&mailbox);
    ["store1", "store2"].iter().for_each(|store| site.sql(store, "DROP DATABASE zlm"));
    for word in ["rollback", "resume"] {
        let ended = site.zlm("store1", &[word, &run]);
        ended.assert(5, &["its claims are gone, and it has not ended", "status maintenance", "zlm reconcile"]);
    }
    let words =
        ["run", "scripts/undo.rhai", "--email", &mailbox.email, "--dest", "store2.lab.test", "--status", "active"];
    site.zlm("store1", &words).assert(0, &[]);
    site.forget_run_dirs();
    site.assert_taken_away(&mailbox);
    site.zlm("store1", &["rollback", &run]).assert(0, &["had ended, and holds the account no more"]);
}

#[test]
fn ended_without_room_to_say_so() {
    let site = site();
    let journal = "/opt/zimbra/data/zlm";
    site.shell(
        "store1",
        &format!("mkdir -p {journal}; chown zimbra: {journal}; mount -t tmpfs -o size=1m,mode=700,uid=7900,gid=7900 tmpfs {journal}"),
    );
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    site.shell("store1", &format!("cat /dev/zero > {journal}/filler 2> /dev/null || true"));
    site.go_on();
    zlm.end().assert(1, &["journal"]);
    site.shell("store1", &format!("rm {journal}/filler"));
    site.assert_taken_away(&mailbox);
    let run = site.run_of(&mailbox);
    site.zlm("store1", &["rollback", &run]).assert(0, &["had ended, and holds the account no more"]);
    site.zlm("store1", &["rollback", &run]).assert(0, &["has ended already: rolled_back"]);
    site.shell("store1", &format!("umount {journal}"));
}

#[test]
fn two_runs_of_one_account() {
    let site = site();
    let mailbox = site.mailbox();
    for line in ["step(\"pre-copy\"", "switch_to("] {
        let mailbox = if line.starts_with("switch") { site.mailbox() } else { site.again(&mailbox) };
        let mut first = site.start_paused_move(&mailbox, line);
        first.wait_for("paused");
        let second = site.move_it(&mailbox);
        second.assert(5, &["is being moved by another run"]);
        if line.starts_with("switch") {
            assert_text("held", &mailbox, &second);
        }
        site.go_on();
        first.end().assert(0, &[]);
        site.assert_moved(&mailbox);
    }
}

#[test]
fn two_runs_started_together() {
    let site = site();
    let mailbox = site.mailbox();
    let runs = [site.start_move(&mailbox), site.start_move(&mailbox)];
    let mut codes = runs.map(|run| run.end().code);
    codes.sort();
    assert_eq!(codes, [Some(0), Some(5)]);
    site.assert_moved(&mailbox);
}
