//! ssh that says no.

use std::fs;

use zlm_lab::Service;

use crate::run::Ended;
use crate::site::{Mailbox, site};
use crate::snapshot::assert_text;

/// Moves with the known hosts of store1 rewritten.
fn with_known_hosts(edit: impl Fn(&str) -> String) -> (Mailbox, Ended) {
    let site = site();
    let mailbox = site.mailbox();
    let path = site.host("store1").unwrap().zimbra_path(".ssh/known_hosts");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.lines().map(|line| edit(line) + "\n").collect::<String>()).unwrap();
    let ended = site.move_it(&mailbox);
    fs::write(&path, text).unwrap();
    site.assert_rolled_back(&mailbox);
    (mailbox, ended)
}

#[test]
fn unknown_host_key() {
    let (mailbox, ended) =
        with_known_hosts(|line| if line.starts_with("store2") { String::new() } else { line.to_owned() });
    ended.assert(1, &["store2.lab.test: host key is not known", "ssh-keyscan store2.lab.test"]);
    assert_text("host-key-unknown", &mailbox, &ended);
}

#[test]
fn changed_host_key() {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJPhJUjJHbx1gRiV2lRqYyQGTmvJrsbbJcyCq2jNJEEq";
    let (mailbox, ended) = with_known_hosts(|line| match line.split_once(' ') {
        Some((names, _)) if line.starts_with("store2") => format!("{names} {other}"),
        _ => line.to_owned(),
    });
    ended.assert(1, &["store2.lab.test: host key changed: it sent SHA256:", "known is SHA256:"]);
    assert_text("host-key-changed", &mailbox, &ended);
}

#[test]
fn key_that_is_not_authorized() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = site.without("store2", ".ssh/authorized_keys", || site.move_it(&mailbox));
    ended.assert(1, &["store2.lab.test: ssh was refused", "authorized_keys"]);
    assert_text("ssh-refused", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn nobody_listens() {
    let site = site();
    let mailbox = site.mailbox();
    site.stop("store2", Service::Sshd).unwrap();
    let ended = site.move_it(&mailbox);
    site.start("store2", Service::Sshd).unwrap();
    ended.assert(1, &["store2.lab.test: ssh could not connect", "Connection refused"]);
    site.assert_rolled_back(&mailbox);
}
