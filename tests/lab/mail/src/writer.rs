//! The mail writer: delivers numbered messages by LMTP while moves run, as postfix would, and keeps a
//! journal of what each store promised.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::journal::{Event, JournalFile, Line, Summary};
use crate::lmtp::{Answer, deliver};

/// The wait before a message is tried again, first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Deliveries at a time: one store that hangs must not hold up the mail of others.
const THREADS: usize = 8;

/// Where to deliver a recipient's mail: addresses `host:port` in the order in which to try them. It is
/// asked before every attempt.
pub type Targets = Box<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// What to write and where to.
pub struct Options {
    /// Recipients, in turn.
    pub rcpts: Vec<String>,
    /// Messages a second, over all recipients.
    pub rate: f64,
    /// Ends after this many messages, when given.
    pub count: Option<u64>,
    /// Bytes of a message, about.
    pub size: usize,
    /// Makes the `Message-ID`s of this run different from those of others.
    pub run: String,
    /// Where to deliver.
    pub targets: Targets,
    /// The journal; lines are appended.
    pub journal: PathBuf,
    /// How long to go on with what is queued once told to stop.
    pub drain: Duration,
}

/// Targets from a file that is read again before each attempt, with lines `<recipient> <host:port>`
/// or `* <host:port>`; then `others`.
pub fn targets_of(file: PathBuf, others: Vec<String>) -> Targets {
    Box::new(move |rcpt| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let listed = text.lines().filter_map(|line| {
            let (who, address) = line.split_once(char::is_whitespace)?;
            (who == "*" || who.eq_ignore_ascii_case(rcpt)).then(|| address.trim().to_owned())
        });
        let mut all: Vec<String> = listed.collect();
        all.extend(others.iter().filter(|other| !all.contains(other)).cloned().collect::<Vec<_>>());
        all
    })
}

struct Mail {
    number: u64,
    id: String,
    rcpt: String,
    queued: Instant,
    next: Instant,
    backoff: Duration,
    lost_answers: u32,
}

struct State {
    waiting: VecDeque<Mail>,
    delivering: usize,
    closed: bool,
    summary: Summary,
    journal: JournalFile,
    failed: Option<io::Error>,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
    stop: Arc<AtomicBool>,
}

/// A writer at work.
pub struct Writer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts to write. Setting `stop` ends it, as does [`Writer::stop`].
    ///
    /// # Errors
    /// No recipients, a rate that is no positive number, or the journal cannot be opened.
    pub fn start(options: Options, stop: Arc<AtomicBool>) -> io::Result<Self> {
        if options.rcpts.is_empty() || !(options.rate > 0.0 && options.rate.is_finite()) {
            let what = "mail writer needs recipients and a rate above 0";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let state = State {
            waiting: VecDeque::new(),
            delivering: 0,
            closed: false,
            summary: Summary::default(),
            journal: JournalFile::open(&options.journal)?,
            failed: None,
        };
        let shared = Arc::new(Shared { options, state: Mutex::new(state), changed: Condvar::new(), stop });
        let mut threads = Vec::new();
        for n in 0..=THREADS {
            let shared = Arc::clone(&shared);
            let work = if n == 0 { Shared::produce } else { Shared::deliver };
            threads.push(thread::spawn(move || work(&shared)));
        }
        Ok(Self { shared, threads })
    }

    /// Tells it to stop: no new messages, and the queue is worked on for the time to drain.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }

    /// Waits until it has ended, writes the last lines and gives the sums.
    ///
    /// # Errors
    /// The journal could not be written.
    pub fn join(self) -> io::Result<Summary> {
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("mail writer: a thread panicked"))?;
        }
        let mut state = self.shared.lock();
        if let Some(e) = state.failed.take() {
            return Err(e);
        }
        let left: Vec<Mail> = state.waiting.drain(..).collect();
        state.summary.undelivered = left.len() as u64;
        for mail in &left {
            let line = line(Event::Undelivered, mail, "", "");
            state.journal.write(&line)?;
        }
        let summary = state.summary;
        state.journal.write(&Line {
            at: now(),
            event: Event::Summary,
            id: String::new(),
            rcpt: String::new(),
            target: String::new(),
            reply: String::new(),
            lost_answers: 0,
            waited: 0,
            summary: Some(summary),
        })?;
        Ok(summary)
    }
}

/// Writes until told to stop by SIGTERM, SIGINT, or the existence of the file `control`.
///
/// # Errors
/// As [`Writer::start`] and [`Writer::join`].
pub fn run(options: Options, control: Option<&Path>) -> io::Result<Summary> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let writer = Writer::start(options, stop)?;
    while !writer.threads.iter().all(JoinHandle::is_finished) {
        if control.is_some_and(Path::exists) {
            writer.stop();
        }
        // The queue tells when something changes; a signal or a file only shows when looked for.
        let state = writer.shared.lock();
        drop(writer.shared.wait(state, Duration::from_millis(50)));
    }
    writer.join()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, most: Duration) -> MutexGuard<'s, State> {
        let woken = self.changed.wait_timeout(state, most);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn produce(&self) {
        let start = Instant::now();
        let mut state = self.lock();
        let most = self.options.count.unwrap_or(u64::MAX);
        while !self.stopped() && state.failed.is_none() && state.summary.queued < most {
            let due = start + Duration::from_secs_f64(state.summary.queued as f64 / self.options.rate);
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.queue(&mut state);
            } else {
                // A signal sets the flag without a word, so waits are short.
                state = self.wait(state, wait.min(Duration::from_millis(100)));
            }
        }
        state.closed = true;
        self.changed.notify_all();
    }

    fn queue(&self, state: &mut State) {
        let number = state.summary.queued;
        let rcpts = &self.options.rcpts;
        let now = Instant::now();
        let mail = Mail {
            number,
            id: format!("<{number}.{}@writer.lab.test>", self.options.run),
            rcpt: rcpts[(number % rcpts.len() as u64) as usize].clone(),
            queued: now,
            next: now,
            backoff: BACKOFF.0,
            lost_answers: 0,
        };
        state.summary.queued += 1;
        state.log(&line(Event::Queued, &mail, "", ""));
        state.waiting.push_back(mail);
        self.changed.notify_all();
    }

    fn deliver(&self) {
        while let Some(mut mail) = self.next() {
            let (answer, target) = self.attempt(&mut mail);
            self.settle(mail, answer, &target);
        }
    }

    /// The next message that is due, or nothing when all is done or the time to drain is over.
    fn next(&self) -> Option<Mail> {
        let mut state = self.lock();
        let mut end: Option<Instant> = None;
        loop {
            if state.closed {
                let over = *end.get_or_insert_with(|| Instant::now() + self.options.drain);
                let idle = state.waiting.is_empty() && state.delivering == 0;
                if idle || state.failed.is_some() || Instant::now() >= over {
                    self.changed.notify_all();
                    return None;
                }
            }
            let now = Instant::now();
            if let Some(at) = state.waiting.iter().position(|mail| mail.next <= now) {
                state.delivering += 1;
                return state.waiting.remove(at);
            }
            let next = state.waiting.iter().map(|mail| mail.next).min();
            let wait = next.map_or(Duration::from_millis(200), |next| next - now);
            state = self.wait(state, wait.min(Duration::from_millis(200)));
        }
    }

    /// Tries each target until one answers for good. After a lost answer no other target is tried,
    /// because the same store must be asked again to recognise the message.
    fn attempt(&self, mail: &mut Mail) -> (Answer, String) {
        let body = self.body(mail);
        let mut last = (Answer::Later("no address to deliver to".into()), String::new());
        for target in (self.options.targets)(&mail.rcpt) {
            let answer = deliver(&target, &mail.rcpt, &body);
            let go_on = matches!(answer, Answer::Later(_));
            if matches!(answer, Answer::Lost(_)) {
                mail.lost_answers += 1;
            }
            last = (answer, target);
            if !go_on {
                break;
            }
        }
        last
    }

    fn body(&self, mail: &Mail) -> Vec<u8> {
        let mut body = format!(
            "Message-ID: {}\r\nFrom: writer@writer.lab.test\r\nTo: {}\r\nSubject: lab message {}\r\n\r\n",
            mail.id, mail.rcpt, mail.number
        );
        let line = format!("line of message {} with some text to fill it\r\n.dot\r\n", mail.number);
        while body.len() < self.options.size {
            body.push_str(&line);
        }
        body.into_bytes()
    }

    fn settle(&self, mut mail: Mail, answer: Answer, target: &str) {
        let mut state = self.lock();
        state.delivering -= 1;
        match answer {
            Answer::Accepted(reply) => {
                state.summary.accepted += 1;
                let waited = mail.queued.elapsed().as_millis() as u64;
                state.summary.longest_wait = state.summary.longest_wait.max(waited);
                state.log(&line(Event::Accepted, &mail, target, &reply));
            }
            Answer::Refused(reply) => {
                state.summary.bounced += 1;
                state.log(&line(Event::Bounced, &mail, target, &reply));
            }
            Answer::Later(reply) | Answer::Lost(reply) => {
                state.summary.deferred += 1;
                state.log(&line(Event::Deferred, &mail, target, &reply));
                mail.next = Instant::now() + mail.backoff;
                mail.backoff = (mail.backoff * 2).min(BACKOFF.1);
                state.waiting.push_back(mail);
            }
        }
        self.changed.notify_all();
    }
}

impl State {
    fn log(&mut self, line: &Line) {
        if let Err(e) = self.journal.write(line) {
            self.failed.get_or_insert(e);
        }
    }
}

fn line(event: Event, mail: &Mail, target: &str, reply: &str) -> Line {
    Line {
        at: now(),
        event,
        id: mail.id.clone(),
        rcpt: mail.rcpt.clone(),
        target: target.into(),
        reply: reply.into(),
        lost_answers: mail.lost_answers,
        waited: mail.queued.elapsed().as_millis() as u64,
        summary: None,
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A name for a run that no other has.
pub fn fresh_run() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}-{}", now(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
