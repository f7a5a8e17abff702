//! Journals that released formats wrote are read: each file of `tests/journals` has the runs of one format, made by moves
//! in a lab. What an upgrade finds in the journal of a run that died must lead it to the same operations and the same undo.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use zlm::error::Kind;
use zlm::host::{Host, Script};
use zlm::journal::{Arrival, Journal, Record, State, Switched};
use zlm::ops::look::Survey;
use zlm::store::Staged;

/// Every kept format's name and text.
fn kept() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let texts: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(!texts.is_empty(), "tests/journals/make makes them");
    texts
}

/// A directory with the journal of a text.
fn restored(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("journal");
    fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
    Connection::open(dir.join("journal.db")).unwrap().execute_batch(text).unwrap();
    (folder, dir)
}

fn about<'r>(records: &'r [Record], local: &str) -> &'r Record {
    let email = format!("{local}@lab.test");
    records.iter().find(|record| record.email.as_deref() == Some(&email)).unwrap()
}

#[test]
fn every_kept_journal_says_how_its_runs_stand() {
    for (format, text) in kept() {
        let (_folder, dir) = restored(&text);
        let journal = Journal::open(&dir).unwrap_or_else(|error| panic!("format {format}: {error}"));
        let all = journal.runs(true).unwrap();
        let stands = |local| (about(&all, local).state, about(&all, local).switched);
        assert_eq!(stands("done"), (State::Done, Switched::Yes));
        assert_eq!(stands("undone"), (State::RolledBack, Switched::No));
        assert_eq!(stands("copied"), (State::Running, Switched::No));
        assert_eq!(stands("frozen"), (State::Running, Switched::No));
        assert_eq!(stands("switching"), (State::Running, Switched::Maybe));
        assert_eq!(stands("switched"), (State::Running, Switched::Yes));
        assert_eq!(journal.runs(false).unwrap().len(), 4, "format {format}");
        assert_eq!(journal.history("Frozen@lab.test").unwrap().len(), 1);
        assert!(journal.steps(&about(&all, "done").run).unwrap().len() > 20);
    }
}

#[test]
fn every_kept_run_is_undone_as_its_version_would_have() {
    for (_, text) in kept() {
        let (_folder, dir) = restored(&text);
        let journal = Journal::open(&dir).unwrap();
        let all = journal.runs(true).unwrap();
        let stack = |local| {
            let run = journal.take_up(&about(&all, local).run).unwrap();
            run.undo_stack().unwrap().into_iter().map(|undo| undo.operation).collect::<Vec<_>>()
        };
        assert_eq!(stack("copied"), ["unstage"]);
        assert_eq!(stack("frozen"), ["unstage", "restore_attributes", "unlock"]);
        assert_eq!(stack("switching"), ["unstage", "restore_attributes", "unlock", "unpublish"]);
        assert!(stack("switched").is_empty() && stack("done").is_empty() && stack("undone").is_empty());
    }
}

#[test]
fn every_kept_run_comes_by_what_it_did() {
    for (format, text) in kept() {
        let (_folder, dir) = restored(&text);
        let journal = Journal::open(&dir).unwrap();
        for record in journal.runs(false).unwrap() {
            let run = journal.take_up(&record.run).unwrap();
            let steps = journal.steps(&record.run).unwrap();
            assert!(steps.len() > 3, "format {format}: {record:?}");
            for step in steps {
                let arrival = run.arrive(&step.operation, &step.what, true).unwrap();
                match (step.done, step.error, arrival) {
                    (true, Some(error), Arrival::Failed(kept)) => assert_eq!(error, kept),
                    (true, None, Arrival::Done(value)) => understood(&step.operation, value),
                    (false, _, Arrival::Begun(number)) => assert_eq!(number, step.number),
                    (.., other) => panic!("format {format}: {} {}: {other:?}", step.operation, step.what),
                }
            }
            let next = run.arrive("sleep", "what it never did", true).unwrap();
            assert!(matches!(next, Arrival::New(_)), "{next:?}");
        }
    }
}

/// Results that later operations build on are still what this version takes them for.
fn understood(operation: &str, value: serde_json::Value) {
    match operation {
        "look" => assert!(serde_json::from_value::<Survey>(value).unwrap().problems.is_empty()),
        "stage" => assert!(serde_json::from_value::<Staged>(value).unwrap().placeholder.starts_with("zlm:")),
        _ => {}
    }
}

#[test]
fn every_kept_script_still_passes_its_check() {
    for (format, text) in kept() {
        let (folder, dir) = restored(&text);
        for record in Journal::open(&dir).unwrap().runs(true).unwrap() {
            // With the modules of that time, as a run that is taken up has them.
            for (name, (_, text)) in record.pinned.modules {
                fs::write(folder.path().join(format!("{name}.rhai")), text).unwrap();
            }
            let host = Host::new(zlm::Config::default()).stdlib(Some(folder.path().to_owned()));
            let script = Script::from_text(record.pinned.script, record.pinned.text);
            host.check(&script).unwrap_or_else(|error| panic!("format {format}: {error}"));
        }
    }
}

#[test]
fn a_newer_format_and_damage_are_refused_with_what_to_do() {
    let (_, text) = kept().pop().unwrap();
    let (_folder, dir) = restored(&text);
    Connection::open(dir.join("journal.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Journal::open(&dir).err().unwrap();
    assert_eq!((error.kind(), error.advice()), (Kind::Config, Some("a newer zlm wrote it: use that one")));
    assert!(error.to_string().contains("has format 99"), "{error}");

    let (_folder, dir) = restored(&text);
    let path = dir.join("journal.db");
    let mut bytes = fs::read(&path).unwrap();
    // The second page is the root of a table.
    bytes[4096..8192].fill(0x55);
    fs::write(&path, bytes).unwrap();
    refused_as_damaged(&dir);

    fs::write(&path, "this is no database, and long enough to be looked at as one. ".repeat(100)).unwrap();
    refused_as_damaged(&dir);
}

fn refused_as_damaged(dir: &Path) {
    let error = Journal::open(dir).err().expect("it is damaged");
    assert_eq!(error.kind(), Kind::Data, "{error}");
    assert!(error.to_string().contains("is damaged, or none"), "{error}");
    let advice = error.advice().unwrap();
    assert!(advice.contains("move the directory away") && advice.contains("zlm reconcile EMAIL"), "{advice}");
}
