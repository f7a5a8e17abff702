//! Lists of accounts: batch and audit.

use std::fs;
use std::io::{BufRead, BufReader};

use rustix::process::{Pid, Signal};
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
    assert_eq!(ended.code, Some(2), "{}", ended.told());
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("line 3"), "{}", ended.told());
    let now = bench.fingerprint().unwrap();
    let differences = now.differences_from(&before);
    let own = |line: &String| line.starts_with("ops1 file /opt/zimbra/zlm");
    assert!(differences.iter().all(own), "{differences:#?}");
}

#[test]
fn what_can_be_known_is_known_before_the_first_move() {
    let bench = Bench::take();
    bench.small("xeno", 435, &[("zimbraMailAlias", "xeno.alias@lab.test")]);
    bench.small("yve", 436, &[]);
    let text = "email,dest,note\nxeno@lab.test,store2.lab.test,\nyve@lab.test,store9.lab.test,\nxeno.alias@lab.test,store2.lab.test,\n\
                zoe/x@lab.test,store2.lab.test,\n\"abe@lab.test,store2.lab.test,\nyan2@lab.test,store2.lab.test,gold\nxeno@lab.test,,\n";
    let path = list(&bench, "faults.csv", text);
    let before = bench.fingerprint().unwrap();
    let words = ["run", "batch", "--list", &path, "-s", "--dest", "store2.lab.test"];
    for more in [&[][..], &["--dry-run"]] {
        let ended = bench.zlm().run(THIRD, &[&words[..], more].concat()).unwrap();
        assert_eq!(ended.code, Some(2), "{}", ended.told());
        for told in [
            "6 lines are wrong, and nothing was begun",
            "line 3: --dest: server store9.lab.test: the directory knows no such server",
            "line 4: xeno.alias@lab.test is the account of xeno@lab.test in line 2",
            "line 5: zoe/x@lab.test: no log can be named after it",
            "line 6: a quote is opened, and not closed in its line",
            "line 7: --note: no such option of this script",
            "line 8: xeno@lab.test is in line 2 already",
        ] {
            assert!(ended.stderr.contains(told), "no {told:?}: {}", ended.told());
        }
        assert!(!ended.stderr.contains("mailbox 1"), "nothing was staged: {}", ended.told());
    }
    let now = bench.fingerprint().unwrap();
    let own = |line: &String| line.starts_with("ops1 file /opt/zimbra/zlm");
    let differences = now.differences_from(&before);
    assert!(differences.iter().all(own), "{differences:#?}");
}

#[test]
fn every_entry_is_told_of_after_a_failure_in_the_middle_and_a_stop() {
    let bench = Bench::take();
    for (local, mailbox) in [("bert", 437), ("cora", 438), ("dirk", 439), ("edna", 440)] {
        bench.small(local, mailbox, &[]);
    }
    // As the shipped script, but one account fails under its freeze, and one stops the whole batch there.
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/move.rhai")).unwrap();
    let line = "    let proof = verify(frozen);";
    let fault = format!(
        "    if args.email == \"cora@lab.test\" {{ throw \"not this one\"; }}\n    \
         if args.email == \"dirk@lab.test\" {{ print(\"now\"); loop {{ sleep(0.1); }} }}\n{line}"
    );
    assert!(shipped.contains(line));
    let script = list(&bench, "faulty.rhai", &shipped.replace(line, &fault));
    let path = list(&bench, "four.csv", "bert@lab.test\ncora@lab.test\ndirk@lab.test\nedna@lab.test\n");
    let words = ["run", "batch", "--list", &path, "--script", &script, "--dest", "store2.lab.test", "--json"];
    let mut child = bench.zlm().start(THIRD, &words).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.by_ref().find(|line| line.contains("dirk@lab.test: now"));
    assert!(said.is_some(), "it ended before: {:?}", child.wait_with_output());
    // What was started is nsenter; zlm is its child.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let zlm = children.trim().parse().ok().and_then(Pid::from_raw).expect("zlm runs");
    rustix::process::kill_process(zlm, Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    let ended = Ended { stderr: rest.join("\n"), ..Ended::of(child.wait_with_output().unwrap()) };
    assert_eq!(ended.code, Some(130), "{}", ended.told());
    let told = json(&ended);
    let entries: Vec<(&str, &str)> = told["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["email"].as_str().unwrap(), entry["outcome"].as_str().unwrap()))
        .collect();
    let expected = [
        ("bert@lab.test", "done"),
        ("cora@lab.test", "failed"),
        ("dirk@lab.test", "stopped"),
        ("edna@lab.test", "not begun"),
    ];
    assert_eq!(entries, expected);
    assert!(told["message"].as_str().unwrap().contains("1 of 4 done, 1 not begun"), "{told}");
    assert_eq!(told["value"]["accounts"], 4);
    let value = |local: &str, attribute: &str| bench.account_value(local, attribute).unwrap().unwrap();
    for (local, store) in [("bert", "store2"), ("cora", "store1"), ("dirk", "store1"), ("edna", "store1")] {
        assert_eq!(value(local, "zimbraMailHost"), format!("{store}.lab.test"));
        assert_eq!(value(local, "zimbraAccountStatus"), "active");
    }
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
    // The administrator has no mailbox: the audit says so, goes on, and ends as what failed in part.
    let store = json(&bench.zlm().run(SOURCE, &words).unwrap().expect(6));
    let homes = bench.ldap_get("(&(objectClass=zimbraAccount)(zimbraMailHost=store1.lab.test))").unwrap().len();
    assert_eq!(store["value"]["accounts"].as_u64(), Some(homes as u64));
    assert!(store["value"]["rows"].as_u64() >= Some(vic + wes), "{store}");
    assert!(store["value"]["problems"].as_u64() > Some(0), "{store}");
}
