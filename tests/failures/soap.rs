//! Admin SOAP that is down, breaks off, or does not say whether it has done what it was asked.

use zlm_lab::Service;

use crate::run::Ended;
use crate::site::{Mailbox, site};
use crate::snapshot::assert_text;

#[test]
fn down_before_maintenance() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    site.kill("store1", Service::Mailboxd).unwrap();
    site.go_on();
    let ended = zlm.end();
    site.mailboxd_again("store1");
    ended.assert(1, &["store1.lab.test", "status active"]);
    assert_text("mailboxd-down", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn source_dies_while_frozen() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"delta\"");
    zlm.wait_for("paused");
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap(), "maintenance");
    site.kill("store1", Service::Mailboxd).unwrap();
    site.go_on();
    let ended = zlm.end();
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap(), "active");
    site.mailboxd_again("store1");
    ended.assert(1, &["status active"]);
    assert_text("mailboxd-dead-while-frozen", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn both_die_while_frozen() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"delta\"");
    zlm.wait_for("paused");
    site.kill("store1", Service::Mailboxd).unwrap();
    site.kill("store2", Service::Mailboxd).unwrap();
    site.go_on();
    let ended = zlm.end();
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap(), "active");
    site.mailboxd_again("store1");
    site.mailboxd_again("store2");
    ended.assert(1, &["status active"]);
    site.assert_rolled_back(&mailbox);
}

/// Moves with the next request of a name going wrong once, from a line of the script on.
fn with_fault(line: &str, store: &str, fault: &str) -> (Mailbox, Ended) {
    let site = site();
    // What a request that nobody answered may still do is waited for.
    site.configure("store1", "[limits]\nrequest_life = 5\n");
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, line);
    zlm.wait_for("paused");
    site.fault(store, fault);
    site.go_on();
    let ended = zlm.end();
    site.fault(store, "clear");
    match ended.code {
        Some(0) => {
            site.assert_moved(&mailbox);
            site.assert_let_go(&mailbox);
        }
        Some(1) => {
            ended.assert(1, &["status active"]);
            site.assert_rolled_back(&mailbox);
        }
        _ => panic!("{ended:?}"),
    }
    (mailbox, ended)
}

macro_rules! settled {
    ($($name:ident: $line:literal $store:literal $fault:literal;)*) => {
        $(
            #[test]
            fn $name() {
                with_fault($line, $store, $fault).1.assert(0, &[]);
            }
        )*
    };
}

// Each of these is settled by looking at what is there now, and the move goes on.
settled! {
    maintenance_unanswered: "step(\"freeze\"" "store1" "ModifyAccountRequest apply-then-drop 1";
    maintenance_unheard: "step(\"freeze\"" "store1" "ModifyAccountRequest drop-before 1";
    maintenance_hangs: "step(\"freeze\"" "store1" "ModifyAccountRequest hang 3 1";
    maintenance_token_ended: "step(\"freeze\"" "store1" "ModifyAccountRequest auth-expired 1";
    lockout_unanswered: "let frozen" "store1" "LockoutMailboxRequest apply-then-drop 1";
    lockout_unheard: "let frozen" "store1" "LockoutMailboxRequest drop-before 1";
    lockout_hangs: "let frozen" "store1" "LockoutMailboxRequest hang 3 1";
    lockout_token_ended: "let frozen" "store1" "LockoutMailboxRequest auth-expired 1";
    switch_unanswered: "switch_to(" "store1" "ModifyAccountRequest apply-then-drop 1";
    switch_unheard: "switch_to(" "store1" "ModifyAccountRequest drop-before 1";
    switch_hangs: "switch_to(" "store1" "ModifyAccountRequest hang 3 1";
    switch_token_ended: "switch_to(" "store1" "ModifyAccountRequest auth-expired 1";
    flush_unanswered: "step(\"open\"" "store1" "FlushCacheRequest apply-then-drop 1";
    flush_unheard: "step(\"open\"" "store2" "FlushCacheRequest drop-before 1";
    flush_token_ended: "step(\"open\"" "store2" "FlushCacheRequest auth-expired 1";
    open_unanswered: "step(\"open\"" "store2" "GetMailboxRequest apply-then-drop 1";
    open_unheard: "step(\"open\"" "store2" "GetMailboxRequest drop-before 1";
    open_token_ended: "step(\"open\"" "store2" "GetMailboxRequest auth-expired 1";
    reopen_unanswered: "step(\"open\"" "store2" "ModifyAccountRequest apply-then-drop 1";
    reopen_unheard: "step(\"open\"" "store2" "ModifyAccountRequest drop-before 1";
}

#[test]
fn maintenance_that_is_refused() {
    let (mailbox, ended) = with_fault("step(\"freeze\"", "store1", "ModifyAccountRequest fail service.PERM_DENIED 1");
    ended.assert(1, &["service.PERM_DENIED"]);
    assert_text("maintenance-refused", &mailbox, &ended);
}

#[test]
fn mailbox_that_stays_locked_is_not_taken_for_unlocked() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let proof");
    zlm.wait_for("paused");
    site.fault("store1", "LockoutMailboxRequest fail mail.MAINTENANCE 1");
    site.fault("store1", "GetMailboxRequest fail mail.MAINTENANCE");
    zlm.signal(rustix::process::Signal::INT);
    let ended = zlm.end();
    ended.assert(4, &["is locked until mailboxd is started again there", "next: zlm rollback "]);
    site.fault("store1", "clear");
    site.run_next(&ended).assert(0, &[]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn lockout_that_is_refused() {
    let (_, ended) = with_fault("let frozen", "store1", "LockoutMailboxRequest fail service.FAILURE 1");
    ended.assert(1, &["LockoutMailboxRequest"]);
}

#[test]
fn switch_that_is_refused() {
    let (mailbox, ended) = with_fault("switch_to(", "store1", "ModifyAccountRequest fail service.FAILURE 1");
    ended.assert(1, &["service.FAILURE"]);
    assert_text("switch-refused", &mailbox, &ended);
}
