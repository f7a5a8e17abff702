//! Moves that are taken back: to the copy that the old store kept, without copying.

#[cfg(feature = "failpoints")]
mod dies;
mod refused;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use zlm_lab::lab_mail::journal::Journal;
use zlm_lab::lab_mail::oracle::Before;
use zlm_lab::{Ended, Mail, SOURCE, Service, assert_clean};

use crate::batch::json;
use crate::bench::Bench;
use crate::dry::{comparable, effects, pretty_assertions};

/// A mailbox that was moved from store1 to store2.
struct Moved {
    local: &'static str,
    id: String,
    number: u32,
    /// As it was before the move.
    before: Before,
    run: String,
}

impl Moved {
    fn new(bench: &Bench, local: &'static str, number: u32, attributes: &[(&str, &str)]) -> Moved {
        let id = bench.small(local, number, attributes);
        Moved::of(bench, local, id, number)
    }

    fn of(bench: &Bench, local: &'static str, id: String, number: u32) -> Moved {
        let before = bench.before_move(local).unwrap();
        let run = json(&bench.moves(SOURCE, local, &["--json"]))["run"].as_str().unwrap().to_owned();
        Moved { local, id, number, before, run }
    }

    fn email(&self) -> String {
        format!("{}@lab.test", self.local)
    }

    fn zlm(&self, bench: &Bench, words: &[&str]) -> Ended {
        bench.zlm().run(SOURCE, words).unwrap()
    }

    fn reverse(&self, bench: &Bench, more: &[&str]) -> Ended {
        self.zlm(bench, &[&["reverse", &self.run], more].concat())
    }

    /// The mailbox is on store1 exactly as it was before it ever moved, but for mail that came; store2 keeps its copy,
    /// locked.
    #[track_caller]
    fn assert_home(&self, bench: &Bench, journal: Option<&Journal>) {
        let report = bench.check_rolled_back(&self.before, "store1", "store2", journal, false).unwrap();
        let copy = bench.mailbox_of("store2", &self.id).unwrap();
        let kept = format!("I7 store2.lab.test: mailbox {copy} of the account");
        let odd: Vec<&String> = report.lines.iter().filter(|line| **line != kept).collect();
        assert!(odd.is_empty() && report.differences == 1, "{report}");
        assert_eq!(bench.mailbox_of("store1", &self.id), Some(self.number.into()));
        let said = |store: &str, question: &str| {
            bench.host(store).unwrap().mailboxd_control(&format!("{question} {}", self.id)).unwrap()
        };
        assert_eq!(said("store1", "locked"), "no");
        assert_eq!(said("store1", "map"), self.number.to_string());
        assert_eq!(said("store2", "locked"), "yes");
    }

    /// Delivers a few messages to where the directory says the account is.
    fn deliver(&self, bench: &Bench, count: u64) -> Journal {
        let journal = bench.dir().join(format!("journal.reverse.{}.{}", self.local, count));
        let mail = Mail {
            recipients: vec![self.email()],
            rate: 50.0,
            count: Some(count),
            size: 2000,
            journal: journal.clone(),
            drain: Duration::from_secs(30),
        };
        let sums = bench.start_writer(mail, Arc::new(AtomicBool::new(false))).unwrap().join().unwrap();
        assert_eq!(sums.undelivered, 0, "{sums:?}");
        Journal::read(&journal).unwrap()
    }

    /// Reversing is refused for a reason, with a move as the way that is left, and changes nothing.
    #[track_caller]
    fn assert_refused(&self, bench: &Bench, reason: &str) -> Ended {
        let before = bench.fingerprint().unwrap();
        let ended = self.reverse(bench, &[]).expect(3);
        let own = |line: &String| line.starts_with("store1 file /opt/zimbra/zlm");
        let differences = bench.fingerprint().unwrap().differences_from(&before);
        assert!(differences.iter().all(own), "{differences:#?}");
        assert!(ended.stderr.contains(reason), "no {reason:?}: {}", ended.told());
        let next = format!("zlm run scripts/move.rhai --email {} --dest store1.lab.test", self.email());
        assert!(ended.stderr.contains(&next), "no {next:?}: {}", ended.told());
        ended
    }
}

#[test]
fn a_move_is_taken_back_and_no_mail_is_lost() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "rae", 461, &[("zimbraAccountStatus", "locked")]);
    let ended = moved.reverse(&bench, &[]).expect(0);
    assert!(ended.stdout.contains("store1.lab.test"), "{}", ended.told());
    moved.assert_home(&bench, None);
    assert_eq!(bench.account_value("rae", "zimbraAccountStatus").unwrap().as_deref(), Some("locked"));
    let journal = moved.deliver(&bench, 3);
    assert_eq!(journal.messages.len(), 3);
    moved.assert_home(&bench, Some(&journal));
}

#[test]
fn a_move_is_taken_back_while_mail_keeps_coming() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "sal", 462, &[]);
    // Until the freeze the directory sends it to store2; nothing may come there, so it waits for the freeze.
    let script = paused(&bench, "let proof");
    let options = options(&moved, &bench);
    let words: Vec<&str> = ["run", &script].into_iter().chain(options.iter().map(String::as_str)).collect();
    let child = bench.zlm().start(SOURCE, &words).unwrap();
    let closed = zlm_lab::poll(Duration::from_secs(60), || {
        Ok((bench.account_value("sal", "zimbraAccountStatus")?.as_deref() == Some("maintenance")).then_some(()))
    });
    assert!(closed.unwrap().is_some());
    let deliveries = bench.start_deliveries(&["sal"], 20.0).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::write(go_file(&bench), "go@lab.test\n").unwrap();
    Ended::of(child.wait_with_output().unwrap()).expect(0);
    std::thread::sleep(Duration::from_millis(500));
    let journal = deliveries.end().unwrap();
    assert!(journal.messages.len() > 5, "{} messages", journal.messages.len());
    moved.assert_home(&bench, Some(&journal));
}

/// The shipped script, which waits before the line that starts with `line`; gives its path on store1.
fn paused(bench: &Bench, line: &str) -> String {
    let text = include_str!("../../../scripts/reverse.rhai");
    assert_eq!(text.lines().filter(|l| l.starts_with(line)).count(), 1, "the shipped script has one line {line:?}");
    let pause = r#"loop { try { read_list("/var/tmp/reverse.go"); break; } catch { sleep(0.02); } }"#;
    let _ = fs::remove_file(go_file(bench));
    let path = bench.host("store1").unwrap().zimbra_path("zlm/paused.rhai");
    fs::write(path, text.replace(&format!("\n{line}"), &format!("\n{pause}\n{line}"))).unwrap();
    "/opt/zimbra/zlm/paused.rhai".to_owned()
}

fn go_file(bench: &Bench) -> std::path::PathBuf {
    bench.host("store1").unwrap().dir.join("tmp/reverse.go")
}

/// The options with which `zlm reverse` starts the script, from the stores themselves.
fn options(moved: &Moved, bench: &Bench) -> Vec<String> {
    let number = |store: &str, what: &str| {
        let sql = format!("SELECT {what} FROM zimbra.mailbox WHERE account_id = '{}'", moved.id);
        bench.number(store, &sql).unwrap().to_string()
    };
    [
        ("email", moved.email()),
        ("source", "store2.lab.test".to_owned()),
        ("dest", "store1.lab.test".to_owned()),
        ("mailbox", number("store2", "id")),
        ("kept", number("store1", "id")),
        ("changes", number("store1", "change_checkpoint")),
        ("reverses", moved.run.clone()),
    ]
    .into_iter()
    .map(|(name, value)| format!("--{name}={value}"))
    .collect()
}

/// Items that waited for the index are in it at the new home; who was there last was there last.
#[test]
fn what_mailboxd_does_by_itself_is_no_obstacle() {
    let bench = Bench::take();
    let id = bench.small("wim", 466, &[]);
    let none = "UPDATE mboxgroup66.mail_item SET index_id = id WHERE mailbox_id = 466 AND index_id IN (0, 1)";
    let waits = "UPDATE mboxgroup66.mail_item SET index_id = 0 WHERE mailbox_id = 466 AND type = 5 LIMIT 5";
    bench.sql("store1", &[none, waits]);
    // Its background work is for mailboxes in memory: then there is only this one.
    restart_mailboxd(&bench, "store2");
    let moved = Moved::of(&bench, "wim", id, 466);
    let here = bench.mailbox_of("store2", &moved.id).unwrap();
    let group = bench.number("store2", &format!("SELECT group_id FROM zimbra.mailbox WHERE id = {here}")).unwrap();
    let waiting = format!("SELECT COUNT(*) FROM mboxgroup{group}.mail_item WHERE mailbox_id = {here} AND index_id = 0");
    assert_eq!(bench.number("store2", &waiting), Some(5));
    let told = |line: &str| assert_eq!(bench.host("store2").unwrap().mailboxd_control(line).unwrap(), "ok");
    told("background on");
    let indexed =
        zlm_lab::poll(Duration::from_secs(30), || Ok((bench.number("store2", &waiting) == Some(0)).then_some(())));
    told("background off");
    assert!(indexed.unwrap().is_some(), "nothing was indexed");
    let seen = format!(
        "UPDATE zimbra.mailbox SET last_soap_access = last_soap_access + 9, new_messages = 0, \
         last_purge_at = last_purge_at + 9 WHERE id = {here}"
    );
    bench.sql("store2", &[&seen]);
    moved.reverse(&bench, &[]).expect(0);
    moved.assert_home(&bench, None);
}

fn restart_mailboxd(bench: &Bench, store: &str) {
    bench.stop(store, Service::Mailboxd).unwrap();
    bench.start(store, Service::Mailboxd).unwrap();
    bench.rest().unwrap();
}

#[test]
fn a_store_that_was_restarted_counts_on_from_where_the_other_is() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "xan", 467, &[]);
    restart_mailboxd(&bench, "store1");
    let checkpoint = format!("SELECT change_checkpoint FROM zimbra.mailbox WHERE account_id = '{}'", moved.id);
    let there = bench.number("store2", &checkpoint).unwrap();
    assert!(bench.number("store1", &checkpoint).unwrap() < there);
    moved.reverse(&bench, &[]).expect(0);
    assert_eq!(bench.number("store1", &checkpoint), Some(there));
    let journal = moved.deliver(&bench, 2);
    let lowest = "SELECT MIN(mod_metadata) FROM mboxgroup67.mail_item WHERE mailbox_id = 467 AND type = 5 AND id > ";
    let last_of_before = format!("(SELECT item_id_checkpoint FROM zimbra.mailbox WHERE id = {})", {
        bench.mailbox_of("store2", &moved.id).unwrap()
    });
    let last = bench.number("store2", &last_of_before.replace(['(', ')'], "")).unwrap();
    assert!(bench.number("store1", &format!("{lowest}{last}")).unwrap() > there);
    assert_eq!(journal.messages.len(), 2);
}

#[test]
fn a_run_is_reversed_once_and_says_so() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "abi", 470, &[]);
    let by = json(&moved.reverse(&bench, &["--json"]).expect(0))["run"].as_str().unwrap().to_owned();
    let again = moved.reverse(&bench, &[]).expect(3);
    assert!(again.stderr.contains(&format!("was reversed already, by run {by}")), "{}", again.told());
    let line = |told: &Ended| told.stdout.lines().find(|line| line.contains(&moved.run)).unwrap().to_owned();
    for words in [&["ps", "-a"][..], &["show", &moved.run], &["history", "abi@lab.test"]] {
        let told = moved.zlm(&bench, words).expect(0);
        assert!(line(&told).contains("reversed"), "{words:?}: {}", told.told());
    }
    let shown = moved.zlm(&bench, &["show", &moved.run]).expect(0);
    assert!(shown.stdout.contains(&format!("reversed by {by}")), "{}", shown.told());
    // Nothing was written since: that is taken back as well.
    moved.zlm(&bench, &["reverse", &by]).expect(0);
    assert_clean(&bench.check_moved(&moved.before, "store1", "store2", None, false).unwrap());

    let nobody = moved.zlm(&bench, &["reverse", "1-1"]).expect(1);
    assert!(nobody.stderr.contains("is not in this host's journal"), "{}", nobody.told());
    let audit = ["run", "audit", "--email", "abi@lab.test", "--dest", "store1.lab.test", "--json"];
    let audit = json(&moved.zlm(&bench, &audit))["run"].as_str().unwrap().to_owned();
    let nothing = moved.zlm(&bench, &["reverse", &audit]).expect(3);
    assert!(nothing.stderr.contains("there is nothing to reverse"), "{}", nothing.told());
}

#[test]
fn a_reverse_does_what_its_plan_says() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "bob", 471, &[]);
    let before = bench.fingerprint().unwrap();
    let planned = json(&moved.reverse(&bench, &["--dry-run", "--json"]).expect(0));
    let text = moved.reverse(&bench, &["--dry-run"]).expect(0);
    assert!(text.stdout.ends_with("effects planned; nothing was changed\n"), "{}", text.told());
    assert_eq!(bench.fingerprint().unwrap().differences_from(&before), Vec::<String>::new());
    let word = |entry: &serde_json::Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entries = planned["plan"].as_array().unwrap();
    let planned = entries.iter().map(|entry| (word(entry, "operation"), word(entry, "what"))).collect();
    let done = moved.reverse(&bench, &["-vv"]).expect(0);
    pretty_assertions(comparable(planned), comparable(effects(&done)));
    moved.assert_home(&bench, None);
}

/// However little memory there is: what is locked stays in it.
#[test]
fn a_copy_that_cannot_leave_memory_comes_home() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "cyd", 472, &[]);
    let store = bench.host("store1").unwrap();
    assert_eq!(store.mailboxd_control(&format!("unload {}", moved.id)).unwrap(), "no");
    assert_eq!(store.mailboxd_control(&format!("locked {}", moved.id)).unwrap(), "yes");
    moved.reverse(&bench, &[]).expect(0);
    assert_eq!(store.mailboxd_control(&format!("locked {}", moved.id)).unwrap(), "no");
    assert_eq!(moved.deliver(&bench, 1).messages.len(), 1);
    assert_eq!(bench.mailbox_of("store1", &moved.id), Some(472));
}
