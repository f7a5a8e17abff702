//! Runs that stand still until another operator has ended them, and wake: they change nothing any more.

use zlm_lab::account_dn;

use crate::run::Running;
use crate::site::{Mailbox, Site, site};

/// A move of a new mailbox that stands still where its failpoint says.
fn still(site: &Site, failpoint: &str) -> (Mailbox, Running) {
    let mailbox = site.mailbox();
    let mut zlm = site.start_move_at(&mailbox, failpoint);
    zlm.wait_until_still();
    (mailbox, zlm)
}

#[test]
fn wakes_to_write_rows() {
    let site = site();
    let (mailbox, zlm) = still(&site, "inject:1.before=pause");
    site.take_away(&mailbox);
    // The number of the copy that was taken away may be this one's now.
    let words = ["run", "move", "--email", &mailbox.email, "--dest", "store2.lab.test"];
    site.zlm("store2", &words).assert(0, &[]);
    zlm.wake();
    let ended = zlm.end();
    site.assert_moved(&mailbox);
    ended.assert(5, &["holds it no more", "zlm reconcile"]);
}

/// The copy that it finds where it wanted to go is the mailbox by then: nobody may be told to remove it.
#[test]
fn wakes_to_look_when_another_has_moved_it() {
    let site = site();
    let (mailbox, zlm) = still(&site, "look.before=pause");
    site.move_it(&mailbox).assert(0, &[]);
    zlm.wake();
    let ended = zlm.end();
    ended.assert(3, &["it is on store2.lab.test by now, and not on store1.lab.test any more"]);
    assert!(!ended.err.contains("earlier stay"), "{}", ended.err);
    site.assert_moved(&mailbox);
}

/// A claim that is lost ends a script, whatever it catches.
#[test]
fn cannot_be_caught() {
    let site = site();
    for effect in ["freeze(mv)", "parallel([|| freeze(mv)])", "retry(|| step(\"s\", || freeze(mv)))"] {
        let mailbox = site.mailbox();
        let deaf = format!("try {{ {effect}; }} catch {{ print(\"caught\"); }} print(\"went on\"); return 1;");
        let mut zlm = site.start_edited_move(&mailbox, "let copy", &format!("{} {deaf}", site.pause()));
        zlm.wait_for("paused");
        site.take_away(&mailbox);
        site.go_on();
        let ended = zlm.end();
        ended.assert(5, &["holds it no more"]);
        assert!(!ended.err.contains("caught") && !ended.err.contains("went on"), "{effect}: {}", ended.err);
        site.assert_rolled_back(&mailbox);
    }
}

#[test]
fn wakes_to_undo() {
    let site = site();
    let (mailbox, zlm) = still(&site, "verify.before=error,undo2.before=pause");
    site.take_away(&mailbox);
    // What it would still give back is not what is right by now.
    let locked = [("zimbraAccountStatus", &["locked"][..])];
    site.ldap_modify(&account_dn(&mailbox.local), &locked).unwrap();
    let mailbox = site.again(&mailbox);
    zlm.wake();
    let ended = zlm.end();
    site.assert_rolled_back(&mailbox);
    ended.assert(5, &["holds it no more"]);
}

#[test]
fn wakes_to_switch() {
    let site = site();
    let (mailbox, zlm) = still(&site, "switch_to:4.before=pause");
    site.take_away(&mailbox);
    zlm.wake();
    let ended = zlm.end();
    site.assert_rolled_back(&mailbox);
    ended.assert(5, &["holds it no more", "zlm reconcile"]);
}

#[test]
fn wakes_when_all_is_done() {
    let site = site();
    let (mailbox, zlm) = still(&site, "sweep_blobs.after=pause");
    site.reconcile_at_store2(&mailbox);
    site.zlm("store2", &["finish", &site.run_of(&mailbox)]).assert(0, &[]);
    zlm.wake();
    let ended = zlm.end();
    ended.assert(5, &["holds it no more", "zlm reconcile"]);
    site.assert_moved(&mailbox);
}
