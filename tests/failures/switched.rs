//! Failures after the switch: the account has its new home, and only the way forward is left.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::Signal;
use zlm_lab::Mail;
use zlm_lab::lab_mail::journal::Journal;

use crate::site::site;
use crate::snapshot::assert_text;

#[test]
fn store_that_cannot_be_told() {
    let site = site();
    let mailbox = site.mailbox();
    std::fs::write(site.host("store1").unwrap().dir.join("tmp/soon.toml"), "[retry]\npatience = 6\n").unwrap();
    let more = ["--config", "/var/tmp/soon.toml"];
    let mut zlm = site.start_paused_move_with(&mailbox, "step(\"open\"", &more);
    zlm.wait_for("paused");
    site.fault("store1", "FlushCacheRequest fail service.FAILURE");
    let journal = site.dir().join("journal");
    let writer = site
        .start_writer(
            Mail {
                recipients: vec![mailbox.email.clone()],
                rate: 10.0,
                count: Some(5),
                size: 2000,
                journal: journal.clone(),
                drain: Duration::from_secs(30),
            },
            Arc::new(AtomicBool::new(false)),
        )
        .unwrap();
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["store1.lab.test", "status maintenance", "next: zlm resume "]);
    assert_text("store-not-told", &mailbox, &ended);
    assert_eq!(site.attribute(&mailbox.local, "zimbraMailHost").unwrap(), "store2.lab.test");
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap(), "maintenance");
    site.fault("store1", "clear");
    site.run_next(&ended).assert(0, &[]);
    let sums = writer.join().unwrap();
    assert_eq!(sums.undelivered, 0, "{sums:?}");
    let journal = Journal::read(&journal).unwrap();
    let report = site.check_moved(&mailbox.before, "store1", "store2", Some(&journal), false).unwrap();
    assert!(report.is_clean(), "{report}");
    site.assert_let_go(&mailbox);
}

#[test]
fn stop_request_after_the_switch() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"open\"");
    zlm.wait_for("paused");
    zlm.signal(Signal::INT);
    zlm.wait_for("stopping");
    site.go_on();
    zlm.end().assert(0, &[]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

#[test]
fn two_stop_requests_after_the_switch() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"open\"");
    zlm.wait_for("paused");
    zlm.signal(Signal::INT);
    zlm.wait_for("stopping");
    zlm.signal(Signal::INT);
    let ended = zlm.end();
    ended.assert(4, &["next: zlm resume ", "on store2.lab.test"]);
    assert_text("stopped-after-switch", &mailbox, &ended);
    site.go_on();
    site.run_next(&ended).assert(0, &[]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}
