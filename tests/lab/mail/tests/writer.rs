//! The mail writer against stores that behave badly.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab_mail::journal::{Event, Journal};
use lab_mail::writer::{Options, Writer, fresh_run, run, targets_of};

/// What a store does with a message.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Accept,
    LaterAtRcpt,
    LaterAtData,
    Refuse,
    /// Takes the message and drops the connection instead of an answer.
    Swallow,
}

struct FakeStore {
    address: String,
    mood: Arc<Mutex<Mood>>,
    /// How often each Message-ID was taken.
    taken: Arc<Mutex<HashMap<String, u32>>>,
}

impl FakeStore {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Self {
            address: listener.local_addr().unwrap().to_string(),
            mood: Arc::new(Mutex::new(mood)),
            taken: Arc::default(),
        };
        let (mood, taken) = (Arc::clone(&store.mood), Arc::clone(&store.taken));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, taken) = (Arc::clone(&mood), Arc::clone(&taken));
                thread::spawn(move || serve(stream, &mood, &taken));
            }
        });
        store
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

fn serve(stream: TcpStream, mood: &Mutex<Mood>, taken: &Mutex<HashMap<String, u32>>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut say = move |text: &str| out.write_all(text.as_bytes()).ok();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    say("220 fake\r\n")?;
    while let Some(line) = lines.next() {
        let mood = *mood.lock().unwrap();
        match line.get(..4)? {
            "LHLO" => say("250-fake\r\n250 PIPELINING\r\n")?,
            "RCPT" if mood == Mood::LaterAtRcpt => say("450 4.2.1 mailbox disabled\r\n")?,
            "DATA" => {
                say("354 go on\r\n")?;
                let mut id = String::new();
                for line in lines.by_ref().take_while(|line| line != ".") {
                    if let Some(value) = line.strip_prefix("Message-ID: ") {
                        id = value.to_owned();
                    }
                }
                if matches!(mood, Mood::Accept | Mood::Swallow) {
                    *taken.lock().unwrap().entry(id).or_insert(0) += 1;
                }
                match mood {
                    Mood::Accept => say("250 2.1.5 ok\r\n")?,
                    Mood::Refuse => say("554 5.0.0 no\r\n")?,
                    Mood::Swallow => return None,
                    Mood::LaterAtRcpt | Mood::LaterAtData => say("451 4.0.0 later\r\n")?,
                }
            }
            "QUIT" => return None,
            _ => say("250 ok\r\n")?,
        }
    }
    None
}

fn options(dir: &tempfile::TempDir, targets: Vec<String>, count: Option<u64>) -> Options {
    Options {
        rcpts: vec!["a@lab.test".into(), "b@lab.test".into()],
        rate: 100.0,
        count,
        size: 3000,
        run: fresh_run(),
        targets: targets_of(dir.path().join("targets"), targets),
        journal: dir.path().join("journal"),
        drain: Duration::from_secs(10),
    }
}

fn start(options: Options) -> Writer {
    Writer::start(options, Arc::new(AtomicBool::new(false))).unwrap()
}

fn journal(dir: &tempfile::TempDir) -> Journal {
    Journal::read(&dir.path().join("journal")).unwrap()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn all_is_delivered_once_and_journaled() {
    let dir = tempfile::tempdir().unwrap();
    let store = FakeStore::start(Mood::Accept);
    let summary = start(options(&dir, vec![store.address.clone()], Some(40))).join().unwrap();
    assert_eq!((summary.queued, summary.accepted, summary.undelivered), (40, 40, 0));
    assert!(store.taken.lock().unwrap().values().all(|times| *times == 1));
    let journal = journal(&dir);
    assert_eq!(journal.summary, Some(summary));
    assert_eq!(journal.messages.len(), 40);
    assert!(journal.messages.values().all(|fate| fate.event == Event::Accepted));
}

#[test]
fn deferred_mail_waits_and_arrives_after_a_freeze() {
    for mood in [Mood::LaterAtRcpt, Mood::LaterAtData] {
        let dir = tempfile::tempdir().unwrap();
        let store = FakeStore::start(mood);
        let writer = start(options(&dir, vec![store.address.clone()], Some(20)));
        until("deferred", || fs::read_to_string(dir.path().join("journal")).unwrap().matches("deferred").count() > 30);
        store.set(Mood::Accept);
        let summary = writer.join().unwrap();
        assert_eq!((summary.accepted, summary.bounced, summary.undelivered), (20, 0, 0));
        assert_eq!(store.taken(), 20);
        assert!(summary.longest_wait > 200);
    }
}

#[test]
fn a_refusal_is_a_bounce() {
    let dir = tempfile::tempdir().unwrap();
    let store = FakeStore::start(Mood::Refuse);
    let summary = start(options(&dir, vec![store.address.clone()], Some(3))).join().unwrap();
    assert_eq!((summary.bounced, summary.accepted), (3, 0));
    let journal = journal(&dir);
    assert!(journal.messages.values().all(|fate| fate.event == Event::Bounced));
    assert!(journal.messages.values().all(|fate| fate.reply == "554 5.0.0 no"));
}

#[test]
fn a_lost_answer_is_tried_again_at_the_same_store_with_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (FakeStore::start(Mood::Swallow), FakeStore::start(Mood::Accept));
    let targets = vec![store.address.clone(), other.address.clone()];
    let writer = start(options(&dir, targets, Some(1)));
    until("swallowed", || store.taken() == 1);
    store.set(Mood::Accept);
    writer.join().unwrap();
    assert_eq!(other.taken(), 0, "the other store must not get a copy");
    assert!(store.taken.lock().unwrap().values().all(|times| *times > 1));
    let fate = journal(&dir).messages.into_values().next().unwrap();
    assert_eq!(fate.event, Event::Accepted);
    assert!(fate.lost_answers >= 1);
}

#[test]
fn the_file_of_targets_is_followed_and_others_are_tried_next() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (FakeStore::start(Mood::Accept), FakeStore::start(Mood::Accept));
    let file = dir.path().join("targets");
    fs::write(&file, format!("b@lab.test 127.0.0.1:1\n* {}\n", one.address)).unwrap();
    let mut options = options(&dir, vec![two.address.clone()], None);
    options.rcpts = vec!["a@lab.test".into()];
    let writer = start(options);
    until("first store", || one.taken() > 3);
    assert_eq!(two.taken(), 0);
    // The listed store is down: nobody listens there.
    fs::write(&file, "A@lab.test 127.0.0.1:1\n").unwrap();
    until("second store", || two.taken() > 3);
    writer.stop();
    let summary = writer.join().unwrap();
    assert_eq!(summary.undelivered, 0);
    assert_eq!(summary.accepted as usize, one.taken() + two.taken());
}

#[test]
fn told_to_stop_it_drains_and_says_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let store = FakeStore::start(Mood::LaterAtRcpt);
    let mut options = options(&dir, vec![store.address.clone()], None);
    options.drain = Duration::from_millis(300);
    let control: PathBuf = dir.path().join("stop");
    let running = {
        let control = control.clone();
        thread::spawn(move || run(options, Some(&control)).unwrap())
    };
    until("queued", || fs::read_to_string(dir.path().join("journal")).is_ok_and(|text| text.lines().count() > 20));
    fs::write(&control, "").unwrap();
    let start = Instant::now();
    let summary = running.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(summary.undelivered, summary.queued);
    let journal = journal(&dir);
    assert!(journal.messages.values().all(|fate| fate.event == Event::Undelivered));
}

#[test]
fn a_flag_stops_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = FakeStore::start(Mood::Accept);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Writer::start(options(&dir, vec![store.address.clone()], None), Arc::clone(&stop)).unwrap();
    until("some", || store.taken() > 2);
    stop.store(true, Ordering::Relaxed);
    let summary = writer.join().unwrap();
    assert_eq!(summary.queued, summary.accepted);
}

#[test]
fn a_journal_cut_short_is_read_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = FakeStore::start(Mood::Accept);
    start(options(&dir, vec![store.address.clone()], Some(2))).join().unwrap();
    let path = dir.path().join("journal");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"at\": 1, \"ev");
    fs::write(&path, &text).unwrap();
    assert_eq!(Journal::read(&path).unwrap().messages.len(), 2);
    text.push_str("\n{\"at\": 1, \"event\": \"queued\"}\n");
    fs::write(&path, &text).unwrap();
    assert!(Journal::read(&path).is_err());
}
