//! Runs that are killed where it matters most, taken up again or undone.

use zlm_lab::Service;

use crate::site::site;

#[test]
fn staged_and_taken_up() {
    let site = site();
    let mailbox = site.mailbox();
    let next = site.next_number();
    site.kill_move_at(&mailbox, "stage.after=kill");
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_moved(&mailbox);
    assert_eq!(site.next_number(), next + 1, "one mailbox takes one number");
}

#[test]
fn staged_and_undone() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "stage.after=kill");
    site.zlm("store1", &["rollback", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn destination_forgets_what_a_killed_run_had_proved() {
    let site = site();
    let mailbox = site.mailbox();
    site.make_forgetful("store2");
    // That the proof was given is kept together with the beginning of the switch.
    site.kill_move_at(&mailbox, "switch_to.before=kill");
    site.crash_mariadb("store2");
    let ended = site.zlm("store1", &["resume", &site.run_of(&mailbox)]);
    ended.assert(1, &["was started again since the copies were compared"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn destination_forgets_that_a_copy_was_taken_away() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "verify.after=kill");
    // A server that drops the table of claims writes everything to disk; with another account's claim it does not.
    site.sql(
        "store2",
        "INSERT INTO zlm.claim (account_id, run, role, epoch, host, user, since, subject) \
         SELECT 'another', run, role, epoch, host, user, since, subject FROM zlm.claim",
    );
    site.make_forgetful("store2");
    site.zlm("store1", &["rollback", &site.run_of(&mailbox)]).assert(0, &[]);
    site.crash_mariadb("store2");
    site.sql("store2", "DROP DATABASE zlm");
    site.assert_rolled_back(&mailbox);
}

#[test]
fn about_to_switch_and_undone() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "switch_to:4.before=kill");
    site.zlm("store1", &["rollback", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn switched_and_taken_up() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "switch_to:4.after=kill");
    assert_eq!(site.attribute(&mailbox.local, "zimbraMailHost").unwrap(), "store2.lab.test");
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_moved(&mailbox);
}

#[test]
fn switched_and_not_undone() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "switch_to:4.after=kill");
    let ended = site.zlm("store1", &["rollback", &site.run_of(&mailbox)]);
    ended.assert(3, &["the move has switched and only goes forward"]);
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    site.assert_moved(&mailbox);
}

#[test]
fn switched_and_taken_up_while_the_new_home_is_down() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "switch_to:4.after=kill");
    site.stop("store2", Service::Mariadb).unwrap();
    let ended = site.zlm("store1", &["resume", &site.run_of(&mailbox)]);
    site.start("store2", Service::Mariadb).unwrap();
    ended.assert(4, &["next: zlm resume "]);
    site.run_next(&ended).assert(0, &[]);
    site.assert_moved(&mailbox);
}

/// The run knows of its switch from the start, and not only once its script comes by there.
#[test]
fn switched_and_failed_before_it_came_by_there_again() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "switch_to:4.after=kill");
    let ended = site.start_zlm_with("store1", &["resume", &site.run_of(&mailbox)], "switch_to.before=error").end();
    ended.assert(4, &["failpoint", "next: zlm resume "]);
    site.run_next(&ended).assert(0, &[]);
    site.assert_moved(&mailbox);
}

#[test]
fn unlocked_before_it_was_taken_up_to_switch() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "switch_to:4.before=kill");
    site.tell("store1", "restart");
    site.rest("store1");
    let ended = site.zlm("store1", &["resume", &site.run_of(&mailbox)]);
    ended.assert(1, &["was not locked any more", "status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn new_mail_before_it_was_taken_up_to_sweep() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "sweep_blobs.before=kill");
    let mail = site.start_deliveries(&[&mailbox.local], 20.0).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let journal = mail.end().unwrap();
    assert!(!journal.messages.is_empty());
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    let report = site.check_moved(&mailbox.before, "store1", "store2", Some(&journal), false).unwrap();
    assert!(report.is_clean(), "{report}");
}

/// The user waits since the first process closed the account.
#[test]
fn frozen_since_before_it_died() {
    let site = site();
    let mailbox = site.mailbox();
    site.kill_move_at(&mailbox, "verify.before=kill");
    std::thread::sleep(std::time::Duration::from_secs(6));
    let told: serde_json::Value =
        serde_json::from_str(&site.told("store1", &["resume", &site.run_of(&mailbox), "--json"])).unwrap();
    assert!(told["frozen_s"].as_f64() > Some(6.0) && told["value"]["frozen_s"].as_f64() > Some(6.0), "{told}");
}
