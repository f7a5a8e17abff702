//! Scripts run for each entry of a list: how every entry ended is known, whatever happens to it, to the others, or to the
//! script that started them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tempfile::TempDir;
use zlm::cancel::Cancel;
use zlm::{Config, Host, Mode, Outcome, Script};

/// What the script of an entry does by the word it is given.
const CHILD: &str = r#"
const OPTIONS = [
    #{ name: "email", help: "who", required: true },
    #{ name: "does", help: "what" },
    #{ name: "times", type: "int", help: "how often" },
];
fn endless(n) { endless(n + 1) }
if args.does == "throw" { throw "it went wrong"; }
if args.does == "refuse" { throw #{ kind: "refused", message: "not that one" }; }
if args.does == "panic" { boom(); }
if args.does == "endless" { endless(0); }
if args.does == "stop" { stop(); }
#{ moved: args.email }
"#;

struct Played {
    outcome: Outcome,
    /// The most that ran at once.
    most: usize,
}

/// Runs `text` beside [`CHILD`], which is `child.rhai`.
fn play(folder: &Path, text: &str, mode: Mode) -> Played {
    fs::write(folder.join("child.rhai"), CHILD.replace("#{ moved", "begin(); #{ moved")).unwrap();
    fs::write(folder.join("mine.rhai"), text).unwrap();
    let cancel = Cancel::default();
    let (stop, now) = (cancel.clone(), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(Mutex::new(0));
    let seen = most.clone();
    let host = Host::new(Config::default()).cancel(cancel).extend(move |engine| {
        let (stop, now, seen) = (stop.clone(), now.clone(), seen.clone());
        engine.register_fn("stop", move || {
            stop.request();
        });
        engine.register_fn("boom", || panic!("an embedder's function panics"));
        engine.register_fn("begin", move || {
            let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
            let mut most = seen.lock().unwrap();
            *most = at_once.max(*most);
            drop(most);
            std::thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
        });
    });
    let script = Script::load(&folder.join("mine.rhai")).unwrap();
    let checked = host.check(&script).unwrap();
    let outcome = host.run(&checked, &BTreeMap::new(), mode).unwrap();
    let most = *most.lock().unwrap();
    Played { outcome, most }
}

fn words(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome.entries.iter().map(|entry| (entry.email.as_str(), entry.word)).collect()
}

/// A script that runs the child for entries, each with an option `does`.
fn over(does: &[&str], jobs: usize, after: &str) -> String {
    let entries: Vec<String> = (1..)
        .zip(does)
        .map(|(n, does)| {
            format!("#{{ email: \"u{n}@x.test\", line: {n}, options: #{{ email: \"u{n}@x.test\", {does} }} }}")
        })
        .collect();
    format!("let outcomes = run_each(\"child.rhai\", [{}], #{{ jobs: {jobs} }});\n{after}\n", entries.join(", "))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_goes_wrong_with_an_entry_is_its_outcome() {
    let does = [
        "",
        "does: \"throw\"",
        "does: \"refuse\"",
        "does: \"panic\"",
        "does: \"endless\"",
        "times: \"many\"",
        "what: 1",
        "",
    ];
    let dir = folder();
    for jobs in [1, 3] {
        let Played { outcome, most } = play(dir.path(), &over(&does, jobs, "outcomes.map(|o| o.message)"), Mode::Live);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        let found: Vec<&str> = words(&outcome).into_iter().map(|(_, word)| word).collect();
        assert_eq!(found, ["done", "failed", "refused", "failed", "failed", "failed", "failed", "done"]);
        assert!(most <= jobs);
        let told = outcome.value.as_array().unwrap();
        for (at, message) in [(1, "it went wrong"), (3, "panicked"), (5, "--times many"), (6, "--what: no such option")]
        {
            assert!(told[at].as_str().unwrap().contains(message), "{told:?}");
        }
        let json = serde_json::to_value(outcome.summary()).unwrap();
        assert_eq!(json["entries"][1]["outcome"], "failed");
        assert_eq!((&json["entries"][0]["line"], &json["entries"][0]["ok"]), (&1.into(), &true.into()));
        assert_eq!(json["entries"][5]["code"], 2);
    }
}

#[test]
fn entries_are_known_though_the_script_that_started_them_fails() {
    let dir = folder();
    let text = over(&["", "does: \"throw\""], 1, "throw \"later\"");
    let Played { outcome, .. } = play(dir.path(), &text, Mode::Live);
    assert_eq!(outcome.exit_code(), 1);
    assert_eq!(words(&outcome), [("u1@x.test", "done"), ("u2@x.test", "failed")]);
    assert_eq!(outcome.value["failed"], 1, "no null for what was done: {}", outcome.value);
    let text = over(&["", "does: \"throw\""], 1, "throw partial(\"1 of 2\", #{ accounts: 2 })");
    let Played { outcome, .. } = play(dir.path(), &text, Mode::Live);
    assert_eq!((outcome.exit_code(), &outcome.value["accounts"]), (6, &2.into()));
}

#[test]
fn a_script_that_is_missing_or_wrong_is_each_entrys_fault() {
    let dir = folder();
    let text = over(&["", ""], 1, "outcomes.len()").replace("child.rhai", "chidl.rhai");
    let Played { outcome, .. } = play(dir.path(), &text, Mode::Live);
    assert_eq!(words(&outcome), [("u1@x.test", "failed"), ("u2@x.test", "failed")]);
    assert!(outcome.entries[0].words().contains("chidl.rhai: no such script"), "{}", outcome.entries[0].words());
}

#[test]
fn long_lists_fit() {
    let dir = folder();
    let text = "let entries = []; for n in 0..700 { entries.push(#{ email: `u${n}@x.test`, options: #{ email: `u${n}@x.test` } }); }\n\
                let outcomes = run_each(\"child.rhai\", entries, #{ jobs: 2 });\n\
                let bad = outcomes.filter(|o| !o.ok).len(); #{ all: outcomes.len(), bad: bad }";
    let Played { outcome, .. } = play(dir.path(), text, Mode::Dry);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!((&outcome.value["all"], &outcome.value["bad"]), (&700.into(), &0.into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the entries do, and wherever a stop comes, each is told of once, in the order of the list.
    #[test]
    fn a_stop_anywhere_leaves_no_entry_untold(
        does in prop::collection::vec(prop_oneof![4 => Just(""), 1 => Just("does: \"throw\"")], 1..12),
        stop in any::<prop::sample::Index>(),
        jobs in 1usize..5,
    ) {
        let mut does = does;
        let stop = stop.index(does.len());
        does[stop] = "does: \"stop\"";
        let dir = folder();
        let Played { outcome, .. } = play(dir.path(), &over(&does, jobs, "outcomes"), Mode::Live);
        prop_assert_eq!(outcome.exit_code(), 130);
        let found = words(&outcome);
        prop_assert_eq!(found.len(), does.len());
        for (at, ((email, word), does)) in found.iter().zip(&does).enumerate() {
            prop_assert_eq!(*email, &format!("u{}@x.test", at + 1));
            let possible: &[&str] = match *does {
                "does: \"throw\"" if at < stop => &["failed", "stopped", "not begun"],
                "does: \"throw\"" => &["failed", "stopped", "not begun"],
                "does: \"stop\"" => &["stopped"],
                _ => &["done", "stopped", "not begun"],
            };
            prop_assert!(possible.contains(word), "{} {}: {:?}", at, does, found);
        }
        // One at a time there is no doubt.
        if jobs == 1 {
            prop_assert!(found[..stop].iter().all(|(_, word)| *word == "done" || *word == "failed"), "{:?}", found);
            prop_assert!(found[stop + 1..].iter().all(|(_, word)| *word == "not begun"), "{:?}", found);
        }
        let done = found.iter().filter(|(_, word)| *word == "done").count();
        let error = outcome.failure.as_ref().unwrap().error.to_string();
        prop_assert!(error.contains(&format!("{done} of {} done", does.len())), "{}", error);
        prop_assert_eq!(outcome.value["accounts"].as_u64(), Some(does.len() as u64));
    }
}
