//! Lists of accounts: batch and audit.

use std::fs;

use serde_json::Value;
use zlm_lab::{Ended, SOURCE, THIRD, assert_clean};

use crate::bench::Bench;

/// Writes a file that every seat on ops1 can read, and gives its path there.
pub fn list(bench: &Bench, name: &str, text: &str) -> String {
    fs::write(bench.host("ops1").unwrap().zimbra_path(name), text).unwrap();
    format!("/opt/zimbra/{name}")
}

/// The one line that `--json` prints.
#[track_caller]
pub fn json(ended: &Ended) -> Value {
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.told());
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.told()))
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let bench = Bench::take();
    let sue = bench.small("sue", 431, &[]);
    let tom = bench.small("tom", 432, &[]);
    // Nobody ever logged in: there is no mailbox to move.
    bench.add_account("una", "store1", &[]).unwrap();
    let path = list(
        &bench,
        "three.csv",
        "email,dest\n\n# those of the second floor\nsue@lab.test,store2.lab.test\n  una@lab.test , store2.lab.test\n\ntom@lab.test,\n",
    );
    let before_sue = bench.before(&sue, "store1", "store2", std::slice::from_ref(&tom)).unwrap();
    let before_tom = bench.before(&tom, "store1", "store2", &[sue]).unwrap();
    let words = ["run", "batch", "--list", &path, "--dest", "store2.lab.test", "--jobs", "2", "-s"];
    let ended = bench.zlm().run(THIRD, &words).unwrap().expect(6);
    for before in [&before_sue, &before_tom] {
        assert_clean(&bench.check_moved(before, "store1", "store2", None, false).unwrap());
    }
    for told in ["1 of 3 accounts failed", "una@lab.test", "has no mailbox on store1.lab.test", "sue@lab.test: done"] {
        assert!(ended.stderr.contains(told), "no {told:?}: {}", ended.told());
    }
    let ops = bench.host("ops1").unwrap();
    for (local, event) in [("sue", "switch_to"), ("tom", "switch_to"), ("una", "look")] {
        let log = fs::read_to_string(ops.zimbra_path(&format!("log/{local}@lab.test.log"))).unwrap();
        assert!(log.contains(event), "{log}");
        let others = ["sue", "tom", "una"].into_iter().filter(|other| *other != local);
        for other in others {
            assert!(!log.contains(&format!("{other}@lab.test")), "{other} in the log of {local}: {log}");
        }
        for line in log.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
    }
}

#[test]
fn a_wrong_list_is_refused_whole() {
    let bench = Bench::take();
    let path = list(&bench, "wrong.csv", "uma@lab.test\nnobody\nx y z@@\n");
    let before = bench.fingerprint().unwrap();
    let ended = bench.zlm().run(THIRD, &["run", "batch", "--list", &path, "--dest", "store2.lab.test"]).unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.told());
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("line 3"), "{}", ended.told());
    let now = bench.fingerprint().unwrap();
    let differences = now.differences_from(&before);
    let own = |line: &String| line.starts_with("ops1 file /opt/zimbra/zlm");
    assert!(differences.iter().all(own), "{differences:#?}");
}

#[test]
fn audit_counts_for_an_account_a_list_and_a_store() {
    let bench = Bench::take();
    let id = bench.small("vic", 433, &[]);
    bench.small("wes", 434, &[]);
    let path = list(&bench, "two.txt", "# two\nvic@lab.test\n\nwes@lab.test\n");
    let rows = |local: &str| {
        let words = ["run", "audit", "--json", "--dest", "store2.lab.test", "--email"];
        let email = format!("{local}@lab.test");
        let summary = json(&bench.zlm().run(THIRD, &[&words[..], &[&email]].concat()).unwrap().expect(0));
        assert_eq!(summary["value"]["accounts"], 1);
        assert_eq!(summary["value"]["problems"], 0, "{summary}");
        summary["value"]["rows"].as_u64().unwrap()
    };
    let (vic, wes) = (rows("vic"), rows("wes"));
    let items = bench.number("store1", "SELECT COUNT(*) FROM mboxgroup33.mail_item WHERE mailbox_id = 433").unwrap();
    assert!(vic >= items && items > 30, "{vic} rows, {items} items of {id}");

    let words = ["run", "audit", "--json", "--dest", "store2.lab.test", "--list", &path];
    let both = json(&bench.zlm().run(THIRD, &words).unwrap().expect(0));
    assert_eq!(both["value"]["accounts"], 2);
    assert_eq!(both["value"]["rows"].as_u64(), Some(vic + wes));

    let words = ["run", "audit", "--json", "--dest", "store2.lab.test", "--store", "store1.lab.test"];
    let store = json(&bench.zlm().run(SOURCE, &words).unwrap().expect(0));
    let homes = bench.ldap_get("(&(objectClass=zimbraAccount)(zimbraMailHost=store1.lab.test))").unwrap().len();
    assert_eq!(store["value"]["accounts"].as_u64(), Some(homes as u64));
    assert!(store["value"]["rows"].as_u64() >= Some(vic + wes), "{store}");
    // The administrator has no mailbox: the audit says so and goes on.
    assert!(store["value"]["problems"].as_u64() > Some(0), "{store}");
}
