//! Behind the switch there is no way back: what time mends needs no operator.

use std::time::Duration;

use rustix::process::Signal;
use zlm_lab::Service;

use crate::run::{Ended, Running};
use crate::site::{Mailbox, Site, site};
use Trouble::{Away, Fault};

/// Settings under which a run gives up soon.
const SOON: &str = "[retry]\npatience = 6\n";

/// Whoever is away is away for so long, once a run was seen to wait for it.
const AWAY: Duration = Duration::from_secs(4);

/// What goes wrong behind the switch.
#[derive(Clone, Copy)]
enum Trouble {
    /// Requests to a store that go wrong: which, how, and how often.
    Fault(&'static str, &'static str),
    /// A server of a host that is away for a while.
    Away(&'static str, Service),
}

/// A move that waits right behind its switch.
fn switched(site: &Site, settings: &str) -> (Mailbox, Running) {
    let mailbox = site.mailbox();
    std::fs::write(site.host("store1").unwrap().dir.join("tmp/onward.toml"), settings).unwrap();
    let more = ["--config", "/var/tmp/onward.toml"];
    let mut zlm = site.start_paused_move_with(&mailbox, "step(\"open\"", &more);
    zlm.wait_for("paused");
    (mailbox, zlm)
}

/// Takes a server away for as long as a run, which goes on meanwhile, needs to see it, and some seconds.
fn away(site: &Site, zlm: &mut Running, host: &str, service: Service) {
    site.kill(host, service).unwrap();
    site.go_on();
    zlm.wait_for("trying again in 1 s");
    std::thread::sleep(AWAY);
    match service {
        Service::Mailboxd => site.mailboxd_again(host),
        _ => site.start(host, service).unwrap(),
    }
}

/// A move meets the trouble behind its switch, and ends well.
fn mended(trouble: Trouble, reason: &str) {
    let site = site();
    let (mailbox, mut zlm) = switched(&site, "");
    match trouble {
        Fault(store, fault) => {
            site.fault(store, fault);
            site.go_on();
        }
        Away(host, service) => away(&site, &mut zlm, host, service),
    }
    let ended = zlm.end();
    if let Fault(store, _) = trouble {
        site.fault(store, "clear");
    }
    ended.assert(0, &["; trying again in 1 s", reason]);
    assert_told(&ended);
    site.assert_moved(&mailbox);
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").as_deref(), Some("active"));
    site.assert_let_go(&mailbox);
}

/// Each try says why it is made.
#[track_caller]
fn assert_told(ended: &Ended) {
    assert!(!ended.err.contains("zlm::"), "a name of Rust: {}", ended.err);
    for line in ended.err.lines().filter(|line| line.contains("trying again")) {
        assert!(line.contains(".lab.test"), "no peer is named: {line}");
    }
}

macro_rules! mended {
    ($($name:ident: $trouble:expr, $reason:literal;)*) => {
        $(
            #[test]
            fn $name() {
                mended($trouble, $reason);
            }
        )*
    };
}

mended! {
    new_home_is_not_told_once: Fault("store2", "FlushCacheRequest fail service.FAILURE 1"), "FlushCacheRequest to store2";
    new_home_is_not_told_twice: Fault("store2", "FlushCacheRequest fail service.FAILURE 2"), "trying again in 2 s";
    old_home_is_not_told_once: Fault("store1", "FlushCacheRequest fail service.FAILURE 1"), "FlushCacheRequest to store1";
    old_home_is_not_told_twice: Fault("store1", "FlushCacheRequest fail service.FAILURE 2"), "trying again in 2 s";
    mailbox_is_not_opened_once: Fault("store2", "GetMailboxRequest fail service.FAILURE 1"), "GetMailboxRequest to store2";
    mailbox_is_not_opened_twice: Fault("store2", "GetMailboxRequest fail service.FAILURE 2"), "trying again in 2 s";
    mailbox_that_hangs: Fault("store2", "GetMailboxRequest drop-before 3"), "GetMailboxRequest to store2";
    account_is_not_opened_once: Fault("store2", "ModifyAccountRequest fail service.FAILURE 1"), "ModifyAccountRequest to store2";
    account_is_not_opened_twice: Fault("store2", "ModifyAccountRequest fail service.FAILURE 2"), "trying again in 2 s";
    everything_fails_for_a_moment: Fault("store2", "* fail service.FAILURE 5"), "service.FAILURE";
    new_home_is_away: Away("store2", Service::Mailboxd), "store2.lab.test: connecting";
    old_home_is_away: Away("store1", Service::Mailboxd), "store1.lab.test: connecting";
    memcached_is_away: Away("proxy1", Service::Memcached), "memcached proxy1.lab.test:11211: connecting";
    new_database_is_away: Away("store2", Service::Mariadb), "store2.lab.test";
    old_database_is_away: Away("store1", Service::Mariadb), "store1.lab.test";
    directory_is_away: Away("ldap1", Service::Slapd), "ldap1.lab.test";
}

/// What is away when a run begins to let go of the account: its end is waited for as well.
#[test]
fn claim_that_cannot_be_let_go_at_once() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "cutover::report");
    zlm.wait_for("paused");
    away(&site, &mut zlm, "store2", Service::Mariadb);
    zlm.end().assert(0, &["store2.lab.test", "; trying again in 1 s"]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

/// A run that gives up says how to go on, and whoever takes it up again is patient as well.
#[test]
fn run_that_gave_up_is_taken_up_and_waits_too() {
    let site = site();
    let (mailbox, zlm) = switched(&site, SOON);
    site.stop("proxy1", Service::Memcached).unwrap();
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["memcached proxy1", "given up after ", "status maintenance", "next: zlm resume "]);
    assert_told(&ended);
    let mut resumed = site.start_zlm("store1", &ended.next());
    away(&site, &mut resumed, "store2", Service::Mariadb);
    site.start("proxy1", Service::Memcached).unwrap();
    let resumed = resumed.end();
    resumed.assert(0, &["; trying again in 1 s"]);
    assert_told(&resumed);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

/// A request of another kind of failure is not made again: it would fail for ever.
#[test]
fn refusal_is_not_waited_for() {
    let site = site();
    let (mailbox, zlm) = switched(&site, "");
    site.fault("store2", "ModifyAccountRequest fail service.PERM_DENIED 1");
    site.go_on();
    let ended = zlm.end();
    ended.assert(4, &["service.PERM_DENIED", "next: zlm resume "]);
    assert!(!ended.err.contains("trying again"), "{}", ended.err);
    site.run_next(&ended).assert(0, &[]);
    site.assert_moved(&mailbox);
}

/// Stops a run twice, once it has opened the mailbox.
fn stop_at_once(mut zlm: Running) -> Ended {
    zlm.wait_for("opened");
    zlm.signal(Signal::INT);
    zlm.wait_for("stopping at the next");
    zlm.signal(Signal::INT);
    let ended = zlm.end();
    ended.assert(4, &["next: zlm resume "]);
    ended
}

/// Failures that a script met before it went on have been waited for: a run that is taken up again does not wait, or
/// warn, once more.
#[test]
fn old_failures_are_not_waited_for_again() {
    let site = site();
    let mailbox = site.mailbox();
    std::fs::write(site.host("store1").unwrap().dir.join("tmp/onward.toml"), "[retry]\npatience = 0\n").unwrap();
    let opened = "retry(|| open_mailbox(mv), #{ times: 3, wait: 1.0 }); print(\"opened\"); sleep(600);";
    let code = format!("{}\n{opened}", site.pause());
    let more = ["--config", "/var/tmp/onward.toml"];
    let mut zlm = site.start_edited_move_with(&mailbox, "cutover::report", &code, &more);
    zlm.wait_for("paused");
    site.fault("store2", "GetMailboxRequest fail service.FAILURE 2");
    site.go_on();
    zlm.wait_for("trying again in 2");
    // A run that is stopped writes down what it met; one that is killed may not have.
    let ended = stop_at_once(zlm);
    let resumed = stop_at_once(site.start_zlm("store1", &ended.next()));
    assert!(!resumed.err.contains("trying again"), "{}", resumed.err);
}
