use serde_json::json;

use super::*;

fn pinned() -> Pinned {
    Pinned {
        script: "move.rhai".into(),
        text: "step(\"x\", || ());".into(),
        modules: BTreeMap::from([("account".into(), ("stdlib/account.rhai".into(), "fn find() {}".into()))]),
        options: BTreeMap::from([("email".into(), "a@x.test".into())]),
    }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal")).unwrap();
    (folder, journal)
}

fn undo(what: &str) -> Undo {
    Undo { operation: "take".into(), arguments: json!(null), what: what.into() }
}

/// Does one operation as the gate would.
fn operate(run: &RunJournal, name: &str, what: &str, result: Option<&Value>, undo: Option<&Undo>) -> Arrival {
    let arrival = run.arrive(name, what, true).unwrap();
    if let Arrival::New(number) = arrival {
        run.begun(number, name, what, undo, undo.is_some()).unwrap();
        if let Some(result) = result {
            run.done(number, result, false).unwrap();
        }
    }
    arrival
}

use serde_json::Value;

#[test]
fn a_run_taken_up_finds_what_it_did() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    operate(&run, "ldap_get", "account a", Some(&json!({"id": 1})), None);
    operate(&run, "stage", "a number", None, Some(&undo("unstage")));
    drop(run);
    let run = journal.take_up("r-1").unwrap();
    assert_eq!(run.arrive("ldap_get", "account a", true).unwrap(), Arrival::Done(json!({"id": 1})));
    assert_eq!(run.arrive("stage", "a number", true).unwrap(), Arrival::Begun(2));
    assert_eq!(run.arrive("rsync", "x to y", true).unwrap(), Arrival::New(3));
    assert_eq!(run.undo_stack().unwrap(), [undo("unstage")]);
    assert_eq!(journal.record("r-1").unwrap().pinned, pinned());
}

#[test]
fn the_same_operation_twice_is_two() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    operate(&run, "inject", "t", Some(&json!(1)), None);
    operate(&run, "inject", "t", Some(&json!(2)), Some(&undo("u")));
    drop(run);
    let run = journal.take_up("r-1").unwrap();
    assert_eq!(run.arrive("inject", "t", true).unwrap(), Arrival::Done(json!(1)));
    assert_eq!(run.arrive("inject", "t", true).unwrap(), Arrival::Begun(2));
    assert_eq!(run.arrive("inject", "t", true).unwrap(), Arrival::New(3));
}

#[test]
fn a_script_that_takes_another_way_is_stopped() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    operate(&run, "stage", "a", None, Some(&undo("u")));
    drop(run);
    let run = journal.take_up("r-1").unwrap();
    assert_eq!(run.arrive("rsync", "b", true).unwrap_err().kind(), Kind::Data);
}

#[test]
fn an_error_is_kept_only_when_the_script_goes_on() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    for what in ["caught", "last"] {
        let Arrival::New(number) = run.arrive("flush_caches", what, true).unwrap() else { panic!("new") };
        run.begun(number, "flush_caches", what, Some(&undo("u")), true).unwrap();
        run.failed(number, "{\"kind\":\"peer\"}");
    }
    run.end(State::Unfinished, Some("last")).unwrap();
    drop(run);
    let run = journal.take_up("r-1").unwrap();
    assert_eq!(run.arrive("flush_caches", "caught", true).unwrap(), Arrival::Failed("{\"kind\":\"peer\"}".into()));
    assert_eq!(run.arrive("flush_caches", "last", true).unwrap(), Arrival::Begun(2));
}

#[test]
fn an_error_beside_others_is_kept_only_when_the_script_goes_on_after_all_of_them() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    let fail = |what: &str| {
        let Arrival::New(number) = run.arrive("flush_caches", what, false).unwrap() else { panic!("new") };
        run.begun(number, "flush_caches", what, None, false).unwrap();
        run.failed(number, "{\"kind\":\"io\"}");
    };
    // Tried twice, on two servers at once each time; the second try ends the script.
    for _ in 0..2 {
        fail("one");
        fail("two");
        run.section_ended();
    }
    run.end(State::Unfinished, Some("two")).unwrap();
    drop(run);
    let run = journal.take_up("r-1").unwrap();
    let arrivals = ["one", "two", "one", "two"].map(|what| run.arrive("flush_caches", what, false).unwrap());
    let kept = || Arrival::Failed("{\"kind\":\"io\"}".into());
    assert_eq!(arrivals, [kept(), kept(), Arrival::Begun(3), Arrival::Begun(4)]);
}

#[test]
fn what_was_undone_is_not_undone_again_and_nothing_is_after_the_switch() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    operate(&run, "stage", "a", Some(&json!(null)), Some(&undo("one")));
    operate(&run, "freeze", "b", Some(&json!(null)), Some(&undo("two")));
    run.undone("two").unwrap();
    assert_eq!(run.undo_stack().unwrap(), [undo("one")]);
    run.note_switched(Switched::Maybe).unwrap();
    assert_eq!(run.undo_stack().unwrap(), [undo("one")], "nobody knows yet");
    run.note_switched(Switched::Yes).unwrap();
    assert!(run.undo_stack().unwrap().is_empty());
}

#[test]
fn one_process_has_a_run() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    assert!(journal.is_at_work("r-1"));
    assert_eq!(journal.take_up("r-1").err().map(|e| e.kind()), Some(Kind::Held));
    drop(run);
    assert!(!journal.is_at_work("r-1"));
    assert_eq!(journal.runs(false).unwrap().len(), 1);
    journal.take_up("r-1").unwrap().end(State::Done, None).unwrap();
    assert!(journal.runs(false).unwrap().is_empty());
    assert_eq!(journal.runs(true).unwrap()[0].state, State::Done);
}

#[test]
fn an_open_directory_a_newer_format_and_a_damaged_file_are_refused() {
    let (folder, journal) = journal();
    let dir = folder.path().join("journal");
    journal.db().pragma_update(None, "user_version", 99).unwrap();
    drop(journal);
    let error = Journal::open(&dir).err().unwrap();
    assert!(error.to_string().contains("has format 99"), "{error}");
    std::fs::write(dir.join("journal.db"), "this is no database, and long enough to be looked at").unwrap();
    assert!(Journal::open(&dir).is_err());
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Journal::open(&dir).err().unwrap();
    assert!(error.advice().unwrap().contains("chmod 700"), "{error}");
}

#[test]
fn a_run_is_reversed_by_one_that_names_it_and_has_switched() {
    let (_folder, journal) = journal();
    let run = journal.begin("r-1", &pinned()).unwrap();
    operate(&run, "freeze", "lock", Some(&Value::Null), None);
    operate(&run, "freeze", "mark", Some(&json!({"change_checkpoint": 7})), None);
    run.note_switched(Switched::Yes).unwrap();
    run.end(State::Done, None).unwrap();
    assert_eq!(journal.results("r-1", "freeze").unwrap(), [json!({"change_checkpoint": 7})]);
    let mut back = pinned();
    back.options.insert("reverses".into(), "r-1".into());
    let reverse = journal.begin("r-2", &back).unwrap();
    reverse.note_switched(Switched::Maybe).unwrap();
    assert_eq!(journal.record("r-1").unwrap().reversed_by, None);
    reverse.note_switched(Switched::Yes).unwrap();
    assert_eq!(journal.record("r-1").unwrap().reversed_by.as_deref(), Some("r-2"));
    assert_eq!(journal.record("r-2").unwrap().reversed_by, None);
}
