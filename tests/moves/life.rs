//! Moves while mail comes and users work.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::thread;

use zlm_lab::{Ended, SOURCE, Seat, THIRD, assert_clean};

use crate::bench::Bench;

/// Waits for `text` on standard error; what comes after is read by a thread, lest the program stand still.
pub fn wait_for(child: &mut Child, text: &str) -> thread::JoinHandle<String> {
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(text) {
        let read = reader.read_line(&mut said).unwrap();
        assert!(read > 0, "no {text:?} in: {said}");
    }
    thread::spawn(move || {
        reader.read_to_string(&mut said).unwrap();
        said
    })
}

pub fn end(mut child: Child, stderr: thread::JoinHandle<String>) -> Ended {
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let code = child.wait().unwrap().code();
    Ended { code, stdout, stderr: stderr.join().unwrap() }
}

fn under_load(bench: &Bench, seat: Seat, local: &str, mailbox: u32) {
    bench
        .add_mailbox(local, "store1", mailbox, &[], |spec| {
            spec.items = 500;
            spec.hurts = true;
        })
        .unwrap();
    let before = bench.before_move(local).unwrap();
    let deliveries = bench.start_deliveries(&[local], 25.0).unwrap();
    let email = format!("{local}@lab.test");
    let words = ["run", "move", "--email", &email, "--dest", "store2.lab.test", "--bwlimit", "4000"];
    let mut child = bench.zlm().start(seat, &words).unwrap();
    let stderr = wait_for(&mut child, "pre-copy");
    let source = bench.host("store1").unwrap();
    // Until the account is closed; the move may not be there yet when a session ends.
    let mut sessions = 0;
    let last = loop {
        let answer = source.mailboxd_control(&format!("act {email} 10 {sessions}")).unwrap();
        if answer != "ok 10" {
            break answer;
        }
        sessions += 1;
    };
    let ended = end(child, stderr).expect(0);
    assert!(sessions > 0, "{last}: {}", ended.told());
    // The user comes back and mail goes on at the new home, before anybody looks.
    let journal = deliveries.end().unwrap();
    assert!(journal.messages.len() > 20, "{} messages", journal.messages.len());
    let report = bench.check_moved(&before, "store1", "store2", Some(&journal), true).unwrap();
    assert_clean(&report);
    assert!(report.messages > 20, "{report}");
}

#[test]
fn mail_and_changes_come_during_the_copy() {
    under_load(&Bench::take(), SOURCE, "quy", 420);
}

#[test]
fn mail_and_changes_come_during_the_copy_from_a_third_host() {
    under_load(&Bench::take(), THIRD, "rob", 421);
}
