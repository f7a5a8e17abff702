//! However a script ends: before its switch everything is undone, behind it a command ends the move, and only a run that
//! left its account open says that it is done.

use crate::run::Ended;
use crate::site::{Mailbox, Site, site};

const IMPORTS: &str = r#"
    const OPTIONS = [#{ name: "email", required: true, help: "who" }];
    import "account" as account; import "mailbox" as mailbox; import "cutover" as cutover;
    let who = account::find(args.email);
    let mv = mailbox::prepare(who, "store2.lab.test", #{});
    mailbox::precopy(mv, 10.0, ());
"#;
const PROOF: &str = "account::close(who); let frozen = freeze(mv); cutover::delta(frozen); let proof = verify(frozen);";

/// Runs a script of a move, up to its pre-copy and on as `rest` says.
fn play(site: &Site, mailbox: &Mailbox, rest: &str) -> Ended {
    let dir = site.host("store1").unwrap().dir.join("tmp");
    std::fs::write(dir.join(format!("{}.rhai", mailbox.local)), format!("{IMPORTS}{rest}")).unwrap();
    site.zlm("store1", &["run", &format!("/var/tmp/{}.rhai", mailbox.local), "--email", &mailbox.email])
}

/// Nobody is locked out, nothing is left, and the message says which step is missing.
#[track_caller]
fn is_undone(rest: &str, says: &str) {
    let site = site();
    let mailbox = site.mailbox();
    let ended = play(&site, &mailbox, rest);
    site.assert_rolled_back(&mailbox);
    ended.assert(1, &[says, "undone: ", "status active: the user can log in"]);
}

/// The command that it names behind the switch ends it.
#[track_caller]
fn is_finished(rest: &str, says: &str) {
    let site = site();
    let mailbox = site.mailbox();
    let ended = play(&site, &mailbox, rest);
    ended.assert(4, &[says, "next: zlm finish "]);
    site.run_next(&ended).assert(0, &[]);
    site.assert_moved(&mailbox);
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").as_deref(), Some("active"));
    // Once more it does no harm.
    site.run_next(&ended).assert(0, &["has ended already"]);
    site.assert_moved(&mailbox);
}

#[test]
fn ends_with_a_copy() {
    is_undone("", "a copy that is not the account's: `switch_to` is missing");
}

#[test]
fn ends_in_maintenance() {
    is_undone("account::close(who);", "ended while it was in maintenance");
}

#[test]
fn ends_while_locked() {
    is_undone(PROOF, "ended while the mailbox was locked: `switch_to` is missing");
}

#[test]
fn ends_after_a_switch_that_was_refused() {
    let rest = format!("{PROOF} try {{ switch_to(mv.source, proof); }} catch {{}} account::reopen(who);");
    is_undone(&rest, "`switch_to` is missing");
}

#[test]
fn ends_behind_the_switch() {
    is_finished(&format!("{PROOF} switch_to(mv.dest, proof);"), "`open_mailbox`, `account::reopen` is missing");
}

#[test]
fn tells_nobody_of_the_new_home() {
    let rest = format!("{PROOF} switch_to(mv.dest, proof); open_mailbox(mv); account::reopen(who);");
    is_finished(&rest, "`flush_caches` of memcached of ");
}

#[test]
fn a_typo_behind_the_switch() {
    is_finished(&format!("{PROOF} switch_to(mv.dest, proof); args.emial + 1; cutover::open(mv, who);"), "at: ");
}

#[test]
fn throws_behind_the_switch() {
    let rest = format!("{PROOF} switch_to(mv.dest, proof); cutover::arrive(mv, who); throw `no report`;");
    is_finished(&rest, "no report");
}

#[test]
fn a_status_of_its_own_is_left_alone() {
    let site = site();
    let mailbox = site.mailbox();
    let status = r#"soap_modify(who, #{ zimbraAccountStatus: "locked" });"#;
    let rest = format!("{PROOF} switch_to(mv.dest, proof); {status} throw `no report`;");
    let ended = play(&site, &mailbox, &rest);
    ended.assert(4, &["next: zlm finish "]);
    site.run_next(&ended).assert(0, &[]);
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").as_deref(), Some("locked"));
}
