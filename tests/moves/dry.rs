//! Plans: every effect in its order, and none of them carried out.

use std::fs;

use serde_json::Value;
use zlm_lab::{Ended, SOURCE, Seat, THIRD};

use crate::batch::{json, list};
use crate::bench::Bench;

/// Operations that only look: a real run tells of them, a plan does not.
const LOOKS: [&str; 10] = [
    "read_list",
    "count",
    "store",
    "mailbox_of",
    "mailboxes",
    "ldap_get",
    "servers",
    "look",
    "look_back",
    "abandon_look",
];

/// What a run does: operations, and what each does to what.
pub type Effects = Vec<(String, String)>;

/// A dry run, which must leave everything as it was; gives what it would do.
#[track_caller]
fn plan(bench: &Bench, seat: Seat, words: &[&str]) -> Effects {
    let before = bench.fingerprint().unwrap();
    let text = bench.zlm().run(seat, &[&["run"], words, &["--dry-run"]].concat()).unwrap().expect(0);
    let data = bench.zlm().run(seat, &[&["run"], words, &["--dry-run", "--json"]].concat()).unwrap().expect(0);
    assert_eq!(bench.fingerprint().unwrap().differences_from(&before), Vec::<String>::new());
    let summary = json(&data);
    let entries = summary["plan"].as_array().unwrap();
    for (place, entry) in entries.iter().enumerate() {
        let shown = format!("{:>3} {:<14} {}", place + 1, word(entry, "operation"), word(entry, "what"));
        assert!(text.stdout.contains(shown.trim_end()), "the plan does not show {shown:?}");
    }
    let sum = format!("{} effects planned; nothing was changed\n", entries.len());
    assert!(text.stdout.ends_with(&sum), "the plan does not end with {sum:?}");
    entries.iter().map(|entry| (word(entry, "operation"), word(entry, "what"))).collect()
}

fn word(entry: &Value, name: &str) -> String {
    entry[name].as_str().unwrap_or_else(|| panic!("no {name} in {entry}")).to_owned()
}

/// What a real run did, from what `-vv` tells.
pub fn effects(ended: &Ended) -> Effects {
    let told = ended.stderr.lines().filter_map(|line| line.split_once("zlm::gate] ")?.1.split_once(": "));
    let effects = told.map(|(operation, what)| (operation.to_owned(), what.to_owned()));
    effects
        .filter(|(operation, what)| !LOOKS.contains(&operation.as_str()) && !what.starts_with("mark the state"))
        .collect()
}

/// The index once more, along with something else than before.
const AGAIN: &str = "copy_index again";

/// Leaves out what a real run repeats until little is left to copy, and sorts what is done at the same time: servers
/// that are told, and what is copied under the freeze.
pub fn comparable(effects: Effects) -> Effects {
    let copies = |effect: &(String, String)| effect.0 == "rsync" || effect.0 == "inject";
    let checked = effects.iter().position(|(operation, _)| operation == "check_blobs").unwrap_or(0);
    let mut kept: Effects = Vec::new();
    for (at, effect) in effects.into_iter().enumerate() {
        let frozen = kept.iter().rposition(|(operation, _)| operation == "freeze").unwrap_or(0);
        match effect {
            effect if at < checked && copies(&effect) && kept.contains(&effect) => {}
            (operation, what)
                if operation == "copy_index" && kept[frozen..].iter().any(|(kept, _)| *kept == operation) =>
            {
                kept.push((AGAIN.to_owned(), what));
            }
            effect => kept.push(effect),
        }
    }
    let together = [&["flush_caches"][..], &["inject", "copy_index"], &["copy_blobs", "refresh_mailbox", AGAIN]];
    let same = |a: &str, b: &str| together.iter().any(|names| names.contains(&a) && names.contains(&b));
    for told in kept.chunk_by_mut(|a, b| same(&a.0, &b.0)) {
        told.sort();
    }
    kept
}

/// Plans, then does it, and compares both.
#[track_caller]
fn as_planned(bench: &Bench, seat: Seat, words: &[&str], code: i32) -> Effects {
    let planned = plan(bench, seat, words);
    let done = bench.zlm().run(seat, &[&["run"], words, &["-vv"]].concat()).unwrap().expect(code);
    pretty_assertions(comparable(planned.clone()), comparable(effects(&done)));
    planned
}

#[track_caller]
pub fn pretty_assertions(planned: Effects, done: Effects) {
    let lines = |effects: &Effects| effects.iter().map(|(a, b)| format!("{a} {b}\n")).collect::<String>();
    assert!(planned == done, "planned:\n{}\ndone:\n{}", lines(&planned), lines(&done));
}

fn names(effects: &Effects) -> Vec<&str> {
    let mut names: Vec<&str> = effects.iter().map(|(operation, _)| operation.as_str()).collect();
    names.dedup();
    names
}

/// The effects of a move, in the order in which they must come.
const OF_A_MOVE: [&str; 21] = [
    "claim",
    "stage",
    "rsync",
    "inject",
    "check_blobs",
    "settle",
    "soap_modify",
    "flush_caches",
    "freeze",
    "inject",
    "copy_index",
    "copy_blobs",
    "refresh_mailbox",
    "copy_index",
    "verify",
    "switch_to",
    "flush_caches",
    "open_mailbox",
    "soap_modify",
    "flush_caches",
    "sweep_blobs",
];

#[test]
fn a_move_does_what_its_plan_says() {
    let bench = Bench::take();
    bench.small("xia", 441, &[]);
    let before = bench.before_move("xia").unwrap();
    let words = ["move", "--email", "xia@lab.test", "--dest", "store2.lab.test"];
    let planned = as_planned(&bench, SOURCE, &words, 0);
    bench.judge(&before);
    assert_eq!(names(&planned), OF_A_MOVE);
}

#[test]
fn a_plan_makes_the_group_that_the_destination_lacks() {
    let bench = Bench::take();
    bench.small("gia", 453, &[]);
    bench.next_in_group(78);
    let there = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'mboxgroup78'";
    assert_eq!(bench.number("store2", there), Some(0));
    as_planned(&bench, SOURCE, &["move", "--email", "gia@lab.test", "--dest", "store2.lab.test"], 0);
    assert_eq!(bench.number("store2", there), Some(1));
}

#[test]
fn a_move_from_a_third_host_does_what_its_plan_says() {
    let bench = Bench::take();
    bench.small("yan", 442, &[("zimbraAccountStatus", "locked")]);
    as_planned(&bench, THIRD, &["move", "--email", "yan@lab.test", "--dest", "store2.lab.test"], 0);
}

#[test]
fn an_undo_does_what_its_plan_says() {
    let bench = Bench::take();
    bench.small("zoe", 443, &[]);
    let before = bench.before_move("zoe").unwrap();
    let words = ["undo", "--email", "zoe@lab.test", "--dest", "store2.lab.test", "--status", "active"];
    let planned = as_planned(&bench, THIRD, &words, 0);
    assert!(!planned.is_empty());
    bench.judge_undone(&before);
}

#[test]
fn an_own_script_does_what_its_plan_says() {
    let bench = Bench::take();
    bench.small("abe", 444, &[]);
    // A host does not see every checkout.
    let path = format!("{}/scripts/examples/notice.rhai", env!("CARGO_MANIFEST_DIR"));
    let script = bench.host("store1").unwrap().install(path.as_ref()).unwrap();
    let words = [&script, "--email", "abe@lab.test", "--dest", "store2.lab.test", "--yes"];
    let planned = as_planned(&bench, SOURCE, &words, 0);
    let told = names(&planned);
    let places = ["notify", "confirm", "switch_to"].map(|name| told.iter().position(|n| *n == name));
    assert!(places.is_sorted() && places[0].is_some(), "{told:?}");
    assert_eq!(told.last(), Some(&"notify"));
}

/// A script of one's own that forgets a part cannot switch.
#[test]
fn what_was_forgotten_is_not_proved() {
    let bench = Bench::take();
    bench.small("ada", 450, &[]);
    let whole = fs::read_to_string(format!("{}/scripts/move.rhai", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let delta = "cutover::delta(frozen)";
    assert!(whole.contains(delta));
    let imports = "import \"tables\" as tables;\nimport \"cutover\" as cutover;";
    let parts = whole
        .replace(delta, "{ tables::delta(frozen); copy_index(frozen); copy_blobs(frozen) }")
        .replace("import \"cutover\" as cutover;", imports);
    let path = bench.host("store1").unwrap().zimbra_path("zlm/forgetful.rhai");
    fs::write(path, parts).unwrap();
    let before = bench.before_move("ada").unwrap();
    let words = ["run", "/opt/zimbra/zlm/forgetful.rhai", "--email", "ada@lab.test", "--dest", "store2.lab.test"];
    let ended = bench.zlm().run(SOURCE, &words).unwrap().expect(1);
    assert!(ended.stderr.contains("refresh_mailbox"), "{}", ended.told());
    bench.judge_undone(&before);
}

#[test]
fn a_batch_does_what_its_plan_says() {
    let bench = Bench::take();
    for (local, mailbox) in [("bea", 445), ("cal", 446)] {
        bench.small(local, mailbox, &[]);
    }
    let path = list(&bench, "planned.txt", "bea@lab.test\ncal@lab.test\n");
    let words = ["batch", "--list", &path, "--dest", "store2.lab.test", "-s"];
    let planned = plan(&bench, THIRD, &words);
    let of = |email: &str| planned.iter().filter(|(_, what)| what.contains(email)).count();
    assert!(of("bea@lab.test") > 5 && of("bea@lab.test") == of("cal@lab.test"), "{planned:#?}");
    let done = bench.zlm().run(THIRD, &[&["run"], &words[..], &["-vv"]].concat()).unwrap().expect(0);
    // Each plan counts from the number that is next now, so only the names can be the same.
    let operations = |effects: Effects| comparable(effects).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(operations(planned), operations(effects(&done)));
}

#[test]
fn an_audit_has_no_effects_even_when_it_is_real() {
    let bench = Bench::take();
    bench.small("dan", 447, &[]);
    let words = ["audit", "--email", "dan@lab.test", "--dest", "store2.lab.test"];
    let planned = plan(&bench, THIRD, &words);
    assert!(planned.is_empty(), "{planned:#?}");
    let before = bench.fingerprint().unwrap();
    bench.zlm().run(THIRD, &[&["run"], &words[..]].concat()).unwrap().expect(0);
    let now = bench.fingerprint().unwrap();
    // Its log and its journal.
    let own = |line: &String| line.starts_with("ops1 file /opt/zimbra/zlm");
    let differences = now.differences_from(&before);
    assert!(differences.iter().all(own), "{differences:#?}");
}

/// The comparison above is worth something: it sees each kind of change that a run could make.
#[test]
fn no_change_goes_unseen() {
    let bench = Bench::take();
    bench.small("eli", 448, &[]);
    let seen = |thing: &str, change: &dyn Fn()| {
        let before = bench.fingerprint().unwrap();
        change();
        let differences = bench.fingerprint().unwrap().differences_from(&before);
        assert!(differences.len() == 1 && differences[0].starts_with(thing), "{thing}: {differences:#?}");
    };
    seen("store1 table mboxgroup48.mail_item", &|| {
        bench.sql("store1", &["UPDATE mboxgroup48.mail_item SET flags = flags + 1 WHERE mailbox_id = 448 LIMIT 1"]);
    });
    seen("store2 table zimbra.current_volumes", &|| {
        bench.sql("store2", &["UPDATE zimbra.current_volumes SET next_mailbox_id = next_mailbox_id + 1"]);
    });
    seen("store2 file /opt/zimbra/store/x", &|| {
        fs::write(bench.host("store2").unwrap().zimbra_path("store/x"), "").unwrap();
    });
    fs::remove_file(bench.host("store2").unwrap().zimbra_path("store/x")).unwrap();
    seen("ldap1 ", &|| {
        bench.ldap_modify(&zlm_lab::account_dn("eli"), &[("zimbraAccountStatus", &["locked"])]).unwrap();
    });
    seen("proxy1 memcached zlm-test", &|| {
        let proxy = bench.host("proxy1").unwrap();
        zlm_lab::Memcached::of(proxy).unwrap().set("zlm-test", b"1").unwrap();
    });
}

#[test]
fn a_summary_is_one_line_of_json() {
    let bench = Bench::take();
    bench.small("flo", 449, &[]);
    let fields = |summary: &Value| summary.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let wanted =
        "at code email frozen_s hint kind message next not_undone ok plan run seconds state switched undone value";
    let words = ["run", "move", "--json", "--email", "flo@lab.test", "--dest"];

    let refused = json(&bench.zlm().run(THIRD, &[&words[..], &["store1.lab.test"]].concat()).unwrap().expect(3));
    assert_eq!(fields(&refused), wanted);
    assert_eq!((&refused["ok"], &refused["code"], &refused["kind"]), (&false.into(), &3.into(), &"refused".into()));
    assert!(refused["message"].as_str().unwrap().contains("on store1.lab.test already"), "{refused}");

    let moved = json(&bench.zlm().run(THIRD, &[&words[..], &["store2.lab.test"]].concat()).unwrap().expect(0));
    assert_eq!(fields(&moved), wanted);
    assert_eq!((&moved["ok"], &moved["code"], &moved["switched"]), (&true.into(), &0.into(), &true.into()));
    assert_eq!(moved["email"], "flo@lab.test");
    assert!(moved["value"]["rows"].as_u64() > Some(30) && moved["frozen_s"].as_f64() > Some(0.0), "{moved}");
}
