//! Directories that are not there, come meanwhile, or go: what is not there is empty. Zimbra makes a mailbox's directory on
//! a volume with the first file that it writes there.

use std::fs;

use zlm_lab::{Ended, SOURCE, assert_clean};

use crate::batch::json;
use crate::bench::Bench;

/// A directory of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dir {
    /// Of blobs, on the volume where they came in.
    Primary,
    /// Of blobs, on the volume to which HSM moves them.
    Secondary,
    /// Of blobs, on a volume that became the current one when the mailbox was there already.
    Newest,
    /// Of the search index.
    Index,
    /// Of blobs and index at the destination, which `stage` has made.
    Copy,
}

/// When it is not there.
#[derive(Clone, Copy, Debug)]
enum Absent {
    Always,
    /// Until the move has come to a line of the script.
    Until(&'static str),
    /// Since then.
    Since(&'static str),
}

const COPY: &str = "step(\"pre-copy\"";
const FREEZE: &str = "let limit";

/// A mailbox on store1 that is moved to store2.
struct Trial {
    bench: Bench,
    local: String,
    id: String,
    number: u32,
}

impl Trial {
    fn new(local: &str, number: u32) -> Self {
        let bench = Bench::take();
        let id = bench.small(local, number, &[]);
        Self { bench, local: local.to_owned(), id, number }
    }

    fn email(&self) -> String {
        format!("{}@lab.test", self.local)
    }

    fn shell(&self, host: &str, script: &str) {
        let out = self.bench.host(host).unwrap().command("root", &["bash", "-c", script]).output().unwrap();
        assert!(out.status.success(), "{host}: {script}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// What happens to the directory so that it is there, or not there, from now on.
    fn make(&self, dir: Dir, there: bool) {
        let number = self.number;
        match (dir, there) {
            (Dir::Primary | Dir::Newest, true) => self.mail_comes(),
            (Dir::Primary, false) => self.hsm(("store", 1), ("hsm", 3), ""),
            (Dir::Secondary, true) => self.hsm(("store", 1), ("hsm", 3), "ORDER BY id DESC LIMIT 3"),
            (Dir::Secondary, false) => self.hsm(("hsm", 3), ("store", 1), ""),
            (Dir::Newest, false) => self.hsm(("new", NEWEST), ("store", 1), ""),
            (Dir::Index, true) => {
                let dir = format!("/opt/zimbra/index/0/{number}");
                let first = format!("echo first > {dir}/index/0/_0.cfs; echo 1 > {dir}/index/0/segments_1");
                self.shell("store1", &format!("mkdir -p {dir}/index/0; {first}; chown -R zimbra: {dir}/.."));
            }
            (Dir::Index, false) => self.shell("store1", &format!("rm -r /opt/zimbra/index/0/{number}")),
            (Dir::Copy, there) => {
                assert!(!there, "only `stage` makes it");
                let copy = self.bench.number("store2", "SELECT MAX(id) FROM zimbra.mailbox").unwrap();
                self.shell("store2", &format!("cd /opt/zimbra; rmdir */0/{copy}/msg */0/{copy}/index/0"));
            }
        }
    }

    fn mail_comes(&self) {
        let mut seed = 1;
        let of = format!("FROM mboxgroup{}.mail_item WHERE mailbox_id = {}", self.group(), self.number);
        let newest = format!("SELECT COALESCE(MAX(locator), 0) {of} AND id = (SELECT MAX(id) {of} AND type = 5)");
        let current = self.bench.number("store1", "SELECT message_volume_id FROM zimbra.current_volumes");
        // A session that does something else is no mail.
        loop {
            let said = format!("act {} 1 {seed}", self.email());
            assert_eq!(self.bench.host("store1").unwrap().mailboxd_control(&said).unwrap(), "ok 1");
            if self.bench.number("store1", &newest) == current && seed > 4 {
                return;
            }
            seed += 1;
        }
    }

    fn group(&self) -> u32 {
        (self.number - 1) % 100 + 1
    }

    /// Moves blobs from volume to volume as HSM does, and takes an empty directory away.
    fn hsm(&self, (from, source): (&str, u8), (to, dest): (&str, u8), which: &str) {
        let (number, group) = (self.number, self.group());
        let (from, to) = (format!("/opt/zimbra/{from}/0/{number}"), format!("/opt/zimbra/{to}/0/{number}"));
        let items = format!("mboxgroup{group}.mail_item");
        let of = format!("mailbox_id = {number} AND locator = '{source}'");
        let ids = match which {
            "" => "*".to_owned(),
            which => {
                let one = format!("SELECT id FROM {items} WHERE {of} AND blob_digest IS NOT NULL {which}");
                format!("{}-*", self.bench.number("store1", &one).unwrap())
            }
        };
        self.shell(
            "store1",
            &format!(
                "cd {from}/msg; for f in */{ids}; do install -D -p -m 640 $f {to}/msg/$f; done; chown -R zimbra: {to}/.."
            ),
        );
        let of = if which.is_empty() { of } else { format!("{of} AND id = {}", ids.trim_end_matches("-*")) };
        let set = format!("UPDATE {items} SET locator = '{dest}' WHERE {of}");
        let mut all = vec![set];
        if which.is_empty() {
            all.extend(["mail_item_dumpster", "revision", "revision_dumpster"].map(|table| {
                format!("UPDATE mboxgroup{group}.{table} SET locator = '{dest}' WHERE mailbox_id = {number} AND locator = '{source}'")
            }));
        }
        self.bench.sql("store1", &all.iter().map(String::as_str).collect::<Vec<_>>());
        let gone = if which.is_empty() { format!("rm -r {from}") } else { format!("rm {from}/msg/*/{ids}") };
        self.shell("store1", &gone);
    }

    /// Moves it with the script that does `meanwhile` before a line; gives the run.
    fn moved(&self, line: Option<&str>, meanwhile: impl FnOnce()) -> String {
        let dest = ["--email", &self.email(), "--dest", "store2.lab.test", "--json"];
        let Some(line) = line else {
            return json(&self.bench.zlm().run(SOURCE, &[&["run", "move"][..], &dest].concat()).unwrap().expect(0))["run"]
                .as_str()
                .unwrap()
                .to_owned();
        };
        let text = include_str!("../../scripts/move.rhai");
        assert_eq!(text.lines().filter(|l| l.starts_with(line)).count(), 1, "the shipped script has one line {line:?}");
        let pause = r#"loop { try { read_list("/var/tmp/absent.go"); break; } catch { sleep(0.02); } }"#;
        let store = self.bench.host("store1").unwrap();
        let go = store.dir.join("tmp/absent.go");
        let _ = fs::remove_file(&go);
        let text = text.replace(&format!("\n{line}"), &format!("\nprint(\"paused\");\n{pause}\n{line}"));
        fs::write(store.zimbra_path("zlm/absent.rhai"), text).unwrap();
        let words = [&["run", "/opt/zimbra/zlm/absent.rhai"][..], &dest].concat();
        let mut child = self.bench.zlm().start(SOURCE, &words).unwrap();
        let stderr = crate::life::wait_for(&mut child, "paused");
        meanwhile();
        fs::write(&go, "go@lab.test\n").unwrap();
        json(&crate::life::end(child, stderr).expect(0))["run"].as_str().unwrap().to_owned()
    }

    fn zlm(&self, words: &[&str]) -> Ended {
        self.bench.zlm().run(SOURCE, words).unwrap()
    }

    /// The directory is not there for a while of a move; the oracle judges the move, and its reversal.
    fn carry_out(&self, dir: Dir, absent: Absent) {
        eprintln!("{dir:?} {absent:?}");
        if dir == Dir::Newest {
            use_newest(&self.bench, NEWEST);
        }
        if dir == Dir::Secondary || matches!(absent, Absent::Since(_)) {
            // Volumes in use are settled by what rows name when a move begins.
            self.make(Dir::Secondary, true);
        }
        match absent {
            Absent::Always | Absent::Until(_) if dir != Dir::Newest => self.make(dir, false),
            Absent::Since(_) if dir == Dir::Newest => self.make(dir, true),
            _ => {}
        }
        let before = self.bench.before_move(&self.local).unwrap();
        let run = match absent {
            Absent::Always => {
                let email = self.email();
                let words = ["--email", &email, "--dest", "store2.lab.test"];
                let told = self.zlm(&[&["run", "audit"][..], &words].concat()).expect(0);
                assert!(told.stderr.contains(", 0 problems"), "{}", told.told());
                self.zlm(&[&["run", "move", "--dry-run"][..], &words].concat()).expect(0);
                self.moved(None, || {})
            }
            Absent::Until(line) => self.moved(Some(line), || self.make(dir, true)),
            Absent::Since(line) => self.moved(Some(line), || self.make(dir, false)),
        };
        let changed = !matches!(absent, Absent::Always);
        assert_clean(&self.bench.check_moved(&before, "store1", "store2", None, changed).unwrap());
        if dir == Dir::Newest {
            use_newest(&self.bench, 1);
        }
        self.zlm(&["reverse", &run]).expect(0);
        let report = self.bench.check_rolled_back(&before, "store1", "store2", None, changed).unwrap();
        let copy = self.bench.mailbox_of("store2", &self.id).unwrap();
        let kept = format!("I7 store2.lab.test: mailbox {copy} of the account");
        assert!(report.lines.iter().all(|line| *line == kept) && report.differences == 1, "{report}");
    }
}

const NEWEST: u8 = 9;

/// Makes a volume of store1 the one that new mail goes to.
fn use_newest(bench: &Bench, volume: u8) {
    let path = "/opt/zimbra/new";
    bench
        .host("store1")
        .unwrap()
        .command("root", &["install", "-d", "-o", "zimbra", "-g", "zimbra", path])
        .status()
        .unwrap();
    let one = format!(
        "INSERT IGNORE INTO zimbra.volume SELECT {NEWEST}, type, 'newest', '{path}', file_bits, file_group_bits, mailbox_bits, \
         mailbox_group_bits, compress_blobs, compression_threshold, metadata, store_type, store_manager_class \
         FROM zimbra.volume WHERE id = 1"
    );
    bench.sql("store1", &[&one, &format!("UPDATE zimbra.current_volumes SET message_volume_id = {volume}")]);
    assert_eq!(bench.host("store1").unwrap().mailboxd_control("restart").unwrap(), "ok");
}

const SOURCES: [Dir; 4] = [Dir::Primary, Dir::Secondary, Dir::Newest, Dir::Index];

#[test]
fn what_was_never_there_is_empty() {
    for (number, dir) in (501..).zip(SOURCES) {
        Trial::new(&format!("never{number}"), number).carry_out(dir, Absent::Always);
    }
}

#[test]
fn what_comes_while_the_user_works_is_copied() {
    for (number, (dir, line)) in (510..).zip(SOURCES.iter().flat_map(|dir| [(*dir, COPY), (*dir, FREEZE)])) {
        Trial::new(&format!("comes{number}"), number).carry_out(dir, Absent::Until(line));
    }
}

#[test]
fn what_goes_while_the_user_works_is_empty() {
    let all = SOURCES.iter().flat_map(|dir| [(*dir, COPY), (*dir, FREEZE)]).chain([(Dir::Copy, COPY)]);
    for (number, (dir, line)) in (520..).zip(all) {
        Trial::new(&format!("goes{number}"), number).carry_out(dir, Absent::Since(line));
    }
}

/// mailboxd has made it, and nothing ever came.
#[test]
fn a_mailbox_of_somebody_who_only_logged_in() {
    let bench = Bench::take();
    let id = bench.add_account("fresh", "store1", &[]).unwrap();
    assert_eq!(bench.host("store1").unwrap().mailboxd_control("act fresh@lab.test 0 1").unwrap(), "ok 0");
    let before = bench.before_move("fresh").unwrap();
    let trial = Trial { bench, local: "fresh".into(), id, number: 0 };
    let run = trial.moved(None, || {});
    trial.bench.judge(&before);
    trial.zlm(&["reverse", &run]).expect(0);
}

/// A script's own directory is another matter than a mailbox's.
#[test]
fn a_directory_of_a_script_must_be_there() {
    let bench = Bench::take();
    let script = r#"let a = store("store1.lab.test"); let b = store("store2.lab.test");
        rsync(place(a, "/opt/zimbra/data/none"), place(b, "/opt/zimbra/data/copy"));"#;
    fs::write(bench.host("store1").unwrap().zimbra_path("zlm/own.rhai"), script).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let ended = bench.zlm().run(SOURCE, &[&["run", "/opt/zimbra/zlm/own.rhai"][..], more].concat()).unwrap();
        assert!(
            ended.code != Some(0) && ended.stderr.contains("/opt/zimbra/data/none: is not there"),
            "{}",
            ended.told()
        );
    }
}
