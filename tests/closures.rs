//! What closures of `step` and `parallel` do with what they capture.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use zlm::{Config, Host, Mode, Outcome, Script};

fn run(text: &str) -> Outcome {
    let host = Host::new(Config::default());
    let checked = host.check(&Script::from_text("mine.rhai", text)).unwrap_or_else(|error| panic!("{error}"));
    host.run(&checked, &BTreeMap::new(), Mode::Live).unwrap()
}

fn value(text: &str) -> serde_json::Value {
    let outcome = run(text);
    assert!(outcome.failure.is_none(), "{text}: {:?}", outcome.failure);
    outcome.value
}

#[test]
fn what_one_closure_writes_is_kept_in_parallel_as_in_a_step() {
    for call in ["step(\"count\", || n += 1)", "parallel([|| n += 1])", "parallel([|| n += 1, || 2])"] {
        assert_eq!(value(&format!("let n = 1; {call}; n")), 2, "{call}");
    }
    let both = "let rows = []; let blobs = #{}; parallel([|| rows.push(7), || blobs.count = 8]); [rows, blobs]";
    assert_eq!(value(both), serde_json::json!([[7], { "count": 8 }]));
}

#[test]
fn what_several_capture_none_can_change_and_none_loses_silently() {
    let read = "let who = #{ name: \"ann\" }; let list = [1, 2]; let tell = || who.name; \
                parallel([|| who.name, || who.name + list.len(), || { let own = who; own.name = \"bea\"; own.name }, || tell.call()])";
    assert_eq!(value(read), serde_json::json!(["ann", "ann2", "bea", "ann"]));
    for change in ["n += 1", "n = 5", "a.push(1)", "a[0] = 1", "m.x = 1", "m.y.z = 1", "a.clear()"] {
        let text = format!(
            "let n = 0; let a = [0]; let m = #{{ x: 0, y: #{{ z: 0 }} }}; \
             parallel([|| {{ {change}; 1 }}, || {{ n + a.len() + m.len() }}]); [n, a, m]"
        );
        let failure = run(&text).failure.unwrap_or_else(|| panic!("{change} must be refused"));
        let told = failure.error.to_string();
        assert!(told.contains("closure of `parallel`"), "{change}: {told}");
        assert!(failure.error.advice().unwrap().contains("give back a value"), "{change}");
        assert!(failure.at.is_some());
    }
}

#[test]
fn as_many_threads_are_started_as_jobs_allow() {
    let threads = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = threads.clone();
    let host = Host::new(Config::default()).extend(move |engine| {
        let seen = seen.clone();
        engine.register_fn("note", move || {
            seen.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
        });
    });
    for (options, most) in [("#{}", 16), ("#{ jobs: 3 }", 3), ("#{ jobs: 0 }", 1)] {
        let text = format!("let all = []; for n in 0..1000 {{ all.push(|| note()); }} parallel(all, {options}).len()");
        let checked = host.check(&Script::from_text("mine.rhai", text)).unwrap();
        let outcome = host.run(&checked, &BTreeMap::new(), Mode::Live).unwrap();
        assert_eq!(outcome.value, 1000, "{:?}", outcome.failure);
        let count = std::mem::take(&mut *threads.lock().unwrap()).len();
        assert!(count <= most, "{options}: {count} threads");
    }
    // A closure goes as deep as it may on each of them.
    let deep = "fn f(n) { if n == 0 { 0 } else { 1 + (1 + (1 + f(n - 1))) } } \
                let all = []; for n in 0..20 { all.push(|| f(50)); } parallel(all).len()";
    assert_eq!(value(deep), 20);
}

#[test]
fn a_kept_closure_must_not_capture_a_loops_own_variable() {
    let check = |text: &str| Host::new(Config::default()).check(&Script::from_text("mine.rhai", text)).map(drop);
    for kept in [
        "let all = []; for x in [1, 2] { all.push(|| x); } parallel(all)",
        "let all = []; for x in [1, 2] { all.push(|| { let y = 1; x + y }); } parallel(all)",
        "let all = []; for (x, n) in [1, 2] { all.push(|| n); } parallel(all)",
        "let all = []; for x in [1, 2] { if x > 1 { all += [|| x]; } } parallel(all)",
        "let all = #{}; for x in [\"a\"] { all[x] = || x; } 1",
        "let all = []; for x in [1] { for y in [1] { all.push(|| x); } } parallel(all)",
        "fn f(all) { for x in [1, 2] { all.push(|| x); } all }\n1",
    ] {
        let error = check(kept).expect_err(kept);
        assert!(error.to_string().contains("of the loop"), "{error}");
        assert!(error.to_string().contains("would see its last value"), "{error}");
    }
    for good in [
        "let all = []; for x in [1, 2] { let own = x; all.push(|| own); } parallel(all)",
        "let all = []; for x in [1, 2] { let x = x; all.push(|| x); } parallel(all)",
        "for x in [1, 2] { step(\"one\", || print(x)); parallel([|| x, || x + 1]); }",
        "let sums = []; for x in [1, 2] { sums.push([1].map(|n| n + x)); } sums",
    ] {
        check(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    let good = "let all = []; for x in [1, 2, 3] { let own = x; all.push(|| own); } parallel(all)";
    assert_eq!(value(good), serde_json::json!([1, 2, 3]));
}
