//! MariaDB that says no, or dies.

use zlm_lab::Service;

use crate::site::{Mailbox, Site, site};
use crate::snapshot::assert_text;

#[test]
fn password_that_is_refused() {
    let site = site();
    let mailbox = site.mailbox();
    let password = site.secret("store2.zimbra_mysql_password").unwrap();
    for host in ["localhost", "127.0.0.1"] {
        site.sql("store2", &format!("SET PASSWORD FOR zimbra@'{host}' = PASSWORD('other')"));
    }
    let ended = site.move_it(&mailbox);
    for host in ["localhost", "127.0.0.1"] {
        site.sql("store2", &format!("SET PASSWORD FOR zimbra@'{host}' = PASSWORD('{password}')"));
    }
    ended.assert(1, &["store2.lab.test", "Access denied"]);
    assert_text("mariadb-refused", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn destination_is_down() {
    let site = site();
    let mailbox = site.mailbox();
    site.stop("store2", Service::Mariadb).unwrap();
    let ended = site.move_it(&mailbox);
    site.start("store2", Service::Mariadb).unwrap();
    ended.assert(1, &["store2.lab.test", "MariaDB"]);
    site.assert_rolled_back(&mailbox);
}

/// Pauses a move when rows and blobs are copied and the account is in maintenance, and kills a MariaDB.
fn killed(site: &Site, mailbox: &Mailbox, store: &str) -> crate::run::Running {
    site.settle("store1");
    let mut zlm = site.start_paused_move(mailbox, "let frozen");
    zlm.wait_for("paused");
    site.settle("store1");
    site.kill(store, Service::Mariadb).unwrap();
    zlm
}

/// A move whose destination dies and stays dead, so that its copy cannot be taken away.
fn left_behind(site: &Site) -> (Mailbox, crate::run::Ended) {
    let mailbox = site.mailbox();
    let zlm = killed(site, &mailbox, "store2");
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["not undone: the copy of", "status active"]);
    site.start("store2", Service::Mariadb).unwrap();
    (mailbox, ended)
}

#[test]
fn destination_dies_and_stays_dead() {
    let site = site();
    let (mailbox, ended) = left_behind(&site);
    assert_text("mariadb-dead", &mailbox, &ended);
    site.run_next(&ended).assert(0, &[]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn what_a_dead_destination_kept_is_taken_away_without_a_journal() {
    let site = site();
    let (mailbox, _) = left_behind(&site);
    let words =
        ["run", "scripts/undo.rhai", "--email", &mailbox.email, "--dest", "store2.lab.test", "--status", "active"];
    site.zlm("store1", &words).assert(0, &[]);
    site.assert_taken_away(&mailbox);
    // Once more does no harm.
    site.zlm("store1", &words).assert(0, &[]);
    site.assert_taken_away(&mailbox);
}

#[test]
fn destination_dies_and_comes_back() {
    let site = site();
    let mailbox = site.mailbox();
    let zlm = killed(&site, &mailbox, "store2");
    site.start("store2", Service::Mariadb).unwrap();
    site.go_on();
    let ended = zlm.end();
    // What the dead server forgot, the last difference brings, and the proof sees.
    match ended.code {
        Some(0) => site.assert_moved(&mailbox),
        _ => {
            ended.assert(1, &["status active"]);
            site.assert_rolled_back(&mailbox);
        }
    }
}

#[test]
fn source_dies_and_stays_dead() {
    let site = site();
    let mailbox = site.mailbox();
    let zlm = killed(&site, &mailbox, "store1");
    site.go_on();
    let ended = zlm.end();
    site.start("store1", Service::Mariadb).unwrap();
    ended.assert(4, &["store1.lab.test", "status active", "not undone: claim on store1.lab.test"]);
    assert_text("mariadb-source-dead", &mailbox, &ended);
    site.run_next(&ended).assert(0, &[]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn source_dies_and_comes_back() {
    let site = site();
    let mailbox = site.mailbox();
    let zlm = killed(&site, &mailbox, "store1");
    site.start("store1", Service::Mariadb).unwrap();
    site.go_on();
    let ended = zlm.end();
    match ended.code {
        Some(0) => site.assert_moved(&mailbox),
        _ => {
            ended.assert(1, &["status active"]);
            site.assert_rolled_back(&mailbox);
        }
    }
}

/// Lets a move wait before a line of the script, where the destination's MariaDB dies, forgets what nobody made it keep,
/// and comes back.
fn forgetful(site: &Site, mailbox: &Mailbox, line: &str) -> crate::run::Ended {
    site.make_forgetful("store2");
    let mut zlm = site.start_paused_move(mailbox, line);
    zlm.wait_for("paused");
    site.crash_mariadb("store2");
    site.go_on();
    zlm.end()
}

#[test]
fn destination_forgets_what_was_proved() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = forgetful(&site, &mailbox, "switch_to(");
    ended.assert(1, &["was started again since the copies were compared", "status active"]);
    assert_text("mariadb-forgetful", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn destination_forgets_what_was_copied_under_the_freeze() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = forgetful(&site, &mailbox, "let proof");
    ended.assert(1, &["status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn destination_dies_right_after_the_switch() {
    let site = site();
    let mailbox = site.mailbox();
    forgetful(&site, &mailbox, "step(\"open\"").assert(0, &[]);
    site.assert_moved(&mailbox);
}
