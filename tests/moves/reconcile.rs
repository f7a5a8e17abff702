//! `zlm reconcile` where it cannot know: it ends with 4, says what to look at, and names nothing to run.

use std::time::Duration;

use serde_json::{Value, json};
use zlm_lab::{Ended, SOURCE, Service, account_dn, poll};

use crate::bench::Bench;

/// Runs a move of a new account that dies at a failpoint; gives its `zimbraId`.
#[track_caller]
fn killed(bench: &Bench, local: &str, number: u32, place: &str) -> String {
    let id = bench.small(local, number, &[]);
    let email = format!("{local}@lab.test");
    let words = ["run", "move", "--email", &email, "--dest", "store2.lab.test"];
    let mut command = bench.zlm().command(SOURCE, &words).unwrap();
    let died = Ended::of(command.env("ZLM_FAILPOINT", format!("{place}=kill")).output().unwrap());
    assert_eq!(died.code, None, "it did not die: {}", died.told());
    id
}

/// What it finds once the dead run holds nothing any more.
#[track_caller]
fn reconcile(bench: &Bench, local: &str, code: i32) -> Value {
    let email = format!("{local}@lab.test");
    let ended = poll(Duration::from_secs(60), || {
        let ended = bench.zlm().run(SOURCE, &["reconcile", &email, "--json"])?;
        Ok((ended.code != Some(5)).then_some(ended))
    });
    let ended = ended.unwrap().expect("a dead run holds nothing").expect(code);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.told()))
}

#[track_caller]
fn assert_unknown(bench: &Bench, local: &str, texts: &[&str]) {
    let found = reconcile(bench, local, 4);
    let unknown = found["unknown"].as_str().unwrap_or_else(|| panic!("{found}"));
    for text in texts {
        assert!(unknown.contains(text), "no {text:?} in: {unknown}");
    }
    assert_eq!(found["next"], json!([]), "{found}");
    let told = bench.zlm().run(SOURCE, &["reconcile", &format!("{local}@lab.test")]).unwrap().expect(4);
    assert!(told.stdout.contains(&format!("unknown  {unknown}")), "{}", told.told());
}

/// It knows again, and the first of what it names ends the run.
#[track_caller]
fn assert_ends(bench: &Bench, local: &str) {
    let found = reconcile(bench, local, 0);
    let next = found["next"][0].as_str().unwrap_or_else(|| panic!("{found}"));
    let words: Vec<&str> = next.split_whitespace().skip(1).collect();
    bench.zlm().run(SOURCE, &words).unwrap().expect(0);
    assert_over(bench, local);
}

#[track_caller]
fn assert_over(bench: &Bench, local: &str) {
    let found = reconcile(bench, local, 0);
    assert_eq!((&found["unknown"], &found["next"]), (&Value::Null, &json!([])), "{found}");
}

#[test]
fn a_store_that_cannot_be_asked() {
    let bench = Bench::take();
    killed(&bench, "unasked", 941, "stage.after");
    for store in ["store1", "store2"] {
        bench.stop(store, Service::Mariadb).unwrap();
        assert_unknown(&bench, "unasked", &[&format!("{store}.lab.test cannot be asked"), "then reconcile again"]);
        bench.start(store, Service::Mariadb).unwrap();
    }
    assert_ends(&bench, "unasked");
    // One that nobody moves is no better known.
    bench.stop("store2", Service::Mariadb).unwrap();
    assert_unknown(&bench, "unasked", &["store2.lab.test cannot be asked"]);
    bench.start("store2", Service::Mariadb).unwrap();
}

#[test]
fn claims_that_contradict() {
    let bench = Bench::take();
    let not_its_own = "no claim says that run";
    let not_moved = "no claim there says that the run made it";
    for (number, local, place, column, wrong, text) in [
        (942, "tworuns", "stage.after", "run", "'another'", "two runs claim it"),
        (943, "noone", "switch_to:4.before", "mailbox", "NULL", not_its_own),
        (944, "moved", "switch_to:4.after", "mailbox", "NULL", not_moved),
        (945, "other", "switch_to:4.after", "mailbox", "mailbox + 1", "look at zimbra.mailbox of both stores"),
    ] {
        let id = killed(&bench, local, number, place);
        let keep = "CREATE TABLE zlm.kept AS SELECT * FROM zlm.claim";
        let set = format!("UPDATE zlm.claim SET {column} = {wrong} WHERE account_id = '{id}'");
        bench.sql("store2", &[keep, &set]);
        assert_unknown(&bench, local, &[text]);
        let back = format!("UPDATE zlm.claim SET {column} = (SELECT {column} FROM zlm.kept WHERE account_id = '{id}')");
        bench.sql("store2", &[&format!("{back} WHERE account_id = '{id}'"), "DROP TABLE zlm.kept"]);
        assert_ends(&bench, local);
    }
}

#[test]
fn a_home_that_somebody_else_gave() {
    let bench = Bench::take();
    killed(&bench, "foreign", 946, "stage.after");
    let home = |host: &str| bench.ldap_modify(&account_dn("foreign"), &[("zimbraMailHost", &[host][..])]).unwrap();
    home("proxy1.lab.test");
    assert_unknown(&bench, "foreign", &["zimbraMailHost is \"proxy1.lab.test\"", "who changed it?"]);
    home("store1.lab.test");
    assert_ends(&bench, "foreign");
}

#[test]
fn a_copy_without_a_claim() {
    let bench = Bench::take();
    let id = killed(&bench, "nobodys", 947, "stage.after");
    // The run's connections outlive it for a moment, and the lock is theirs.
    reconcile(&bench, "nobodys", 0);
    for store in ["store1", "store2"] {
        bench.sql(store, &[&format!("DELETE FROM zlm.claim WHERE account_id = '{id}'")]);
    }
    assert_unknown(&bench, "nobodys", &["no claim says which status", "zlm run scripts/undo.rhai"]);
    let words = ["run", "scripts/undo.rhai", "--email", "nobodys@lab.test", "--dest", "store2.lab.test"];
    bench.zlm().run(SOURCE, &[&words[..], &["--status", "active"]].concat()).unwrap().expect(0);
    assert_over(&bench, "nobodys");
}
