//! A lab as a test has it, and what it does with it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mysql::prelude::Queryable;
use zlm_lab::lab_mail::oracle::Before;
use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{Lab, STORES, Service, SharedLabs, Turn, account_dn, poll};

use crate::run::{Ended, Running};

static LABS: SharedLabs = SharedLabs::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A lab that no other test has meanwhile.
pub struct Site(Turn);

/// A healthy lab; waits until a test is done with one.
pub fn site() -> Site {
    let site = Site(LABS.take(Lab::rest).expect("a lab boots"));
    for store in STORES {
        let _ = std::fs::remove_file(site.settings(store));
    }
    site
}

impl std::ops::Deref for Site {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

/// The program to try. Another build may stand in for it: one that lacks a guard.
fn program() -> String {
    std::env::var("ZLM_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_zlm").to_owned())
}

/// An account with a mailbox on store1, and everything as it was when it was made.
pub struct Mailbox {
    pub local: String,
    pub email: String,
    pub id: String,
    pub number: u32,
    pub before: Before,
    databases: Vec<String>,
}

impl Site {
    /// An active account with a small mailbox on store1.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox_of(60, &[])
    }

    /// The same with this many items, and other attributes.
    pub fn mailbox_of(&self, items: u32, attributes: &[(&str, &str)]) -> Mailbox {
        self.shaped_mailbox(attributes, |spec| Spec { items, blob_bytes: Some(2 << 10), ..spec })
    }

    /// The same with a mailbox that `shape` makes of a plain one.
    pub fn shaped_mailbox(&self, attributes: &[(&str, &str)], shape: impl FnOnce(Spec) -> Spec) -> Mailbox {
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Groups 1 to 10 exist on store1; the texts of group 5 fit into no other group of store2.
        let group = [1, 2, 3, 4, 6, 7, 8, 9, 10][n as usize % 9];
        let number = 300 + 100 * (n / 9) + group;
        let local = format!("u{number}");
        let id = self.add_account(&local, "store1", attributes).unwrap();
        let spec = shape(Spec::new(number, &id, &format!("{local}@lab.test")));
        self.seed("store1", &spec).unwrap();
        self.seen(&local, id, number)
    }

    /// An account as it is now.
    pub fn seen(&self, local: &str, id: String, number: u32) -> Mailbox {
        let before = self.before(&id, "store1", "store2", &[]).unwrap();
        let databases = self.databases("store2");
        Mailbox { local: local.to_owned(), email: format!("{local}@lab.test"), id, number, before, databases }
    }

    /// Takes what is now as what was before; for tests that change something first.
    pub fn again(&self, mailbox: &Mailbox) -> Mailbox {
        self.seen(&mailbox.local, mailbox.id.clone(), mailbox.number)
    }

    /// Runs `zlm` on a host to its end.
    pub fn zlm(&self, host: &str, words: &[&str]) -> Ended {
        self.start_zlm(host, words).end()
    }

    /// Runs the command that a failed move said to run next, on store1.
    #[track_caller]
    pub fn run_next(&self, ended: &Ended) -> Ended {
        self.zlm("store1", &ended.next())
    }

    /// Makes what a store has committed so far survive the death of its MariaDB.
    pub fn settle(&self, store: &str) {
        self.sql(store, "CREATE TABLE zimbra.settle (a INT) ENGINE=InnoDB");
        self.sql(store, "DROP TABLE zimbra.settle");
    }

    /// Takes a file of a store away for as long as `body` runs.
    pub fn without<T>(&self, host: &str, relative: &str, body: impl FnOnce() -> T) -> T {
        let path = self.host(host).unwrap().zimbra_path(relative);
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        let result = body();
        std::fs::rename(&aside, &path).unwrap();
        result
    }

    /// The number that store2 would give next.
    pub fn next_number(&self) -> u64 {
        self.number("store2", "SELECT next_mailbox_id FROM zimbra.current_volumes").unwrap()
    }

    /// The paths below a store's `/opt/zimbra` of the blobs of a mailbox on its first volume, seen from outside.
    pub fn blobs(&self, store: &str, number: u32) -> Vec<PathBuf> {
        let dir = self.host(store).unwrap().zimbra_path(&format!("store/0/{number}/msg"));
        let mut found = Vec::new();
        for part in std::fs::read_dir(dir).unwrap() {
            for file in std::fs::read_dir(part.unwrap().path()).unwrap() {
                found.push(file.unwrap().path());
            }
        }
        found.sort();
        found
    }

    /// The name of the last run about a mailbox, as store1's journal has it.
    pub fn run_of(&self, mailbox: &Mailbox) -> String {
        let mut command = self.command("store1", &["history", &mailbox.email], "");
        let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
        told.lines().last().and_then(|line| line.split_whitespace().next()).expect("a run").to_owned()
    }

    /// Starts `zlm` on a host.
    pub fn start_zlm(&self, host: &str, words: &[&str]) -> Running {
        Running::start(self.command(host, words, ""))
    }

    /// The same with a failpoint.
    pub fn start_zlm_with(&self, host: &str, words: &[&str], failpoint: &str) -> Running {
        Running::start(self.command(host, words, failpoint))
    }

    /// Runs `zlm` on a host to its end, and gives what it printed.
    pub fn told(&self, host: &str, words: &[&str]) -> String {
        String::from_utf8(self.command(host, words, "").output().unwrap().stdout).unwrap()
    }

    fn command(&self, host: &str, words: &[&str], failpoint: &str) -> Command {
        let host = self.host(host).unwrap();
        let program = host.install(program().as_ref()).unwrap();
        let all: Vec<&str> = [program.as_str()].into_iter().chain(words.iter().copied()).collect();
        let mut command = host.command("zimbra", &all);
        command.env("TMPDIR", "/var/tmp").env("ZLM_FAILPOINT", failpoint);
        if self.settings(host.name).exists() {
            command.env("ZLM_CONFIG", "/var/tmp/settings.toml");
        }
        command
    }

    /// Settings of every `zlm` on a store from now on, as long as this test has the lab.
    pub fn configure(&self, store: &str, settings: &str) {
        std::fs::write(self.settings(store), settings).unwrap();
    }

    fn settings(&self, store: &str) -> PathBuf {
        self.host(store).unwrap().dir.join("tmp/settings.toml")
    }

    /// Runs a move of the mailbox to store2 on store1.
    pub fn move_it(&self, mailbox: &Mailbox) -> Ended {
        self.start_move(mailbox).end()
    }

    /// Starts a move of the mailbox to store2 on store1.
    pub fn start_move(&self, mailbox: &Mailbox) -> Running {
        self.start_move_with(mailbox, &[])
    }

    /// The same with more options.
    pub fn start_move_with(&self, mailbox: &Mailbox, more: &[&str]) -> Running {
        let words = ["run", "move", "--email", &mailbox.email, "--dest", "store2.lab.test"];
        self.start_zlm("store1", &[&words[..], more].concat())
    }

    /// The run of store1's journal that died.
    pub fn died_run(&self) -> String {
        let host = self.host("store1").unwrap();
        let program = host.install(env!("CARGO_BIN_EXE_zlm").as_ref()).unwrap();
        let out = host.command("zimbra", &[&program, "ps"]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let line = text.lines().find(|line| line.contains(" died ")).unwrap_or_else(|| panic!("no run died: {text}"));
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// Starts a move that does at failpoints what they say.
    #[cfg(feature = "failpoints")]
    pub fn start_move_at(&self, mailbox: &Mailbox, failpoint: &str) -> Running {
        let words = ["run", "move", "--email", &mailbox.email, "--dest", "store2.lab.test"];
        self.start_zlm_with("store1", &words, failpoint)
    }

    /// Runs a move that dies at a failpoint.
    #[cfg(feature = "failpoints")]
    #[track_caller]
    pub fn kill_move_at(&self, mailbox: &Mailbox, failpoint: &str) {
        let ended = self.start_move_at(mailbox, failpoint).end();
        assert_eq!(ended.code, None, "{failpoint}: it did not die there: {}", ended.err);
        self.wait_unheld(mailbox);
        self.forget_run_dirs();
    }

    /// Has MariaDB of a store keep nothing of its own accord from now on until it dies, as if it died within a second
    /// of whatever it was told. What it holds already stays.
    pub fn make_forgetful(&self, store: &str) {
        self.sql(store, "SET GLOBAL innodb_flush_log_at_timeout = 2700");
        self.settle(store);
    }

    /// Kills MariaDB of a store, and starts it again.
    pub fn crash_mariadb(&self, store: &str) {
        self.kill(store, Service::Mariadb).unwrap();
        self.start(store, Service::Mariadb).unwrap();
    }

    /// Starts a move that waits before the line of the shipped script that starts with `line`. It says `paused` then, and
    /// goes on after [`Site::go_on`].
    pub fn start_paused_move(&self, mailbox: &Mailbox, line: &str) -> Running {
        self.start_paused_move_with(mailbox, line, &[])
    }

    /// The same with more options.
    pub fn start_paused_move_with(&self, mailbox: &Mailbox, line: &str, more: &[&str]) -> Running {
        self.start_edited_move_with(mailbox, line, self.pause(), more)
    }

    /// Code that says `paused` and waits for [`Site::go_on`].
    pub fn pause(&self) -> &'static str {
        let _ = std::fs::remove_file(self.go_file());
        r#"print("paused"); loop { try { read_list("/var/tmp/go"); break; } catch { sleep(0.02); } }"#
    }

    /// Starts the shipped script with code before the line that starts with `line`.
    pub fn start_edited_move(&self, mailbox: &Mailbox, line: &str, code: &str) -> Running {
        self.start_edited_move_with(mailbox, line, code, &[])
    }

    /// The same with more options.
    pub fn start_edited_move_with(&self, mailbox: &Mailbox, line: &str, code: &str, more: &[&str]) -> Running {
        let text = include_str!("../../scripts/move.rhai");
        let found = text.lines().filter(|l| l.trim_start().starts_with(line)).count();
        assert_eq!(found, 1, "the shipped script has one line {line:?}");
        let edited = text
            .lines()
            .map(|l| if l.trim_start().starts_with(line) { format!("{code}\n{l}\n") } else { format!("{l}\n") });
        let path = format!("/var/tmp/{}.rhai", mailbox.local);
        std::fs::write(
            self.host("store1").unwrap().dir.join(format!("tmp/{}.rhai", mailbox.local)),
            edited.collect::<String>(),
        )
        .unwrap();
        let words = ["run", &path, "--email", &mailbox.email, "--dest", "store2.lab.test"];
        self.start_zlm("store1", &[&words[..], more].concat())
    }

    /// Lets a paused move go on.
    pub fn go_on(&self) {
        std::fs::write(self.go_file(), "go@lab.test\n").unwrap();
    }

    fn go_file(&self) -> PathBuf {
        self.host("store1").unwrap().dir.join("tmp/go")
    }

    /// Tells a store's mailboxd to leave mailboxes alone while copies are judged.
    pub fn rest(&self, store: &str) {
        self.tell(store, "background off");
    }

    /// Tells a store's mailboxd something that must go well; gives the answer.
    pub fn tell(&self, store: &str, line: &str) -> String {
        let answer = self.host(store).unwrap().mailboxd_control(line).unwrap();
        assert!(!answer.starts_with("error"), "{store}: {line}: {answer}");
        answer
    }

    /// Scripts a fault of a store's admin SOAP.
    pub fn fault(&self, store: &str, fault: &str) {
        self.tell(store, &format!("fault {fault}"));
    }

    /// Starts mailboxd again after it was killed.
    pub fn mailboxd_again(&self, store: &str) {
        self.start(store, Service::Mailboxd).unwrap();
        self.rest(store);
    }

    /// Runs SQL on a store as MariaDB's root, which may put down rows that refer to nothing.
    pub fn sql(&self, store: &str, sql: &str) {
        let mut root = self.host(store).unwrap().mysql().unwrap();
        root.query_drop("SET foreign_key_checks = 0").unwrap();
        root.query_drop(sql).unwrap_or_else(|e| panic!("{store}: {sql}: {e}"));
    }

    /// The first value that a query gives.
    pub fn number(&self, store: &str, sql: &str) -> Option<u64> {
        self.host(store).unwrap().mysql().unwrap().query_first(sql).unwrap()
    }

    /// Runs a shell's command on a host as root.
    pub fn shell(&self, host: &str, script: &str) -> String {
        let out = self.host(host).unwrap().command("root", &["bash", "-c", script]).output().unwrap();
        assert!(out.status.success(), "{host}: {script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// An attribute of an account.
    pub fn attribute(&self, local: &str, name: &str) -> Option<String> {
        self.ldap_get(&account_dn(local)).unwrap().first().and_then(|entry| entry.value(name).map(str::to_owned))
    }

    /// The source serves the account as before, and the destination has no trace of it.
    #[track_caller]
    pub fn assert_rolled_back(&self, mailbox: &Mailbox) {
        let report = self.check_rolled_back(&mailbox.before, "store1", "store2", None, false).unwrap();
        assert!(report.is_clean(), "{report}");
        self.assert_untouched(mailbox);
        for store in STORES {
            assert_eq!(self.tell(store, &format!("locked {}", mailbox.id)), "no", "{store}: locked");
        }
    }

    /// The same after `undo.rhai`, which does not know whether the run or somebody before it made a group that is empty.
    #[track_caller]
    pub fn assert_taken_away(&self, mailbox: &Mailbox) {
        let report = self.check_rolled_back(&mailbox.before, "store1", "store2", None, false).unwrap();
        assert!(report.is_clean(), "{report}");
        self.assert_let_go(mailbox);
        let now = self.databases("store2");
        assert!(now.iter().all(|database| mailbox.databases.contains(database)), "{now:?}");
        // That of claims, which an earlier test may have left, is for the test itself to look at.
        for gone in mailbox.databases.iter().filter(|database| *database != "zlm" && !now.contains(database)) {
            let group = gone.strip_prefix("mboxgroup").expect("only groups are dropped");
            let living = format!("SELECT COUNT(*) FROM zimbra.mailbox WHERE group_id = {group}");
            assert_eq!(self.number("store2", &living), Some(0), "{gone}");
        }
    }

    /// What the oracle of an undone move leaves out: databases of groups, claims, locks, directories of runs.
    #[track_caller]
    pub fn assert_untouched(&self, mailbox: &Mailbox) {
        self.assert_no_trace(&mailbox.id, &mailbox.databases);
    }

    /// The same for an account without a mailbox; `databases` are those that store2 had.
    #[track_caller]
    pub fn assert_no_trace(&self, id: &str, databases: &[String]) {
        assert_eq!(self.databases("store2"), databases, "databases of store2");
        let rows = format!("SELECT COUNT(*) FROM zimbra.mailbox WHERE account_id LIKE 'zlm:{id}:%'");
        assert_eq!(self.number("store2", &rows), Some(0), "staged rows");
        self.assert_id_let_go(id);
    }

    /// No run holds the account, or anything of this host, any more.
    #[track_caller]
    pub fn assert_let_go(&self, mailbox: &Mailbox) {
        self.assert_id_let_go(&mailbox.id);
    }

    #[track_caller]
    fn assert_id_let_go(&self, id: &str) {
        for store in STORES {
            let host = self.host(store).unwrap();
            assert_eq!(self.holder(store, id), None, "{store}: a claim");
            let left: Vec<_> = std::fs::read_dir(host.dir.join("tmp"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("zlm-"))
                .collect();
            assert_eq!(left, Vec::<String>::new(), "{store}: directories of runs");
        }
    }

    /// The mailbox is whole at its new home.
    #[track_caller]
    pub fn assert_moved(&self, mailbox: &Mailbox) {
        let report = self.check_moved(&mailbox.before, "store1", "store2", None, false).unwrap();
        assert!(report.is_clean(), "{report}");
    }

    /// The connection that claims an account.
    fn holder(&self, store: &str, id: &str) -> Option<u64> {
        let held = format!("SELECT IS_USED_LOCK('zlm.{id}')");
        self.host(store).unwrap().mysql().unwrap().query_first::<Option<u64>, _>(held).unwrap().flatten()
    }

    /// Undoes from store2, which has not its journal, the run that holds a mailbox on store1 and does nothing now.
    #[cfg(feature = "failpoints")]
    #[track_caller]
    pub fn take_away(&self, mailbox: &Mailbox) {
        // Without its journal nobody can tell whether it asked for its switch: that is waited for.
        self.configure("store2", "[limits]\nrequest_life = 5\n");
        self.reconcile_at_store2(mailbox);
        self.zlm("store2", &["rollback", &self.run_of(mailbox)]).assert(0, &[]);
    }

    /// Takes the claims from the run that holds a mailbox on store1 and does nothing now, and rebuilds it on store2.
    #[cfg(feature = "failpoints")]
    #[track_caller]
    pub fn reconcile_at_store2(&self, mailbox: &Mailbox) {
        for store in STORES {
            let connection = self.holder(store, &mailbox.id).expect("the run holds the account");
            self.sql(store, &format!("KILL {connection}"));
        }
        self.wait_unheld(mailbox);
        self.zlm("store2", &["reconcile", &mailbox.email]).assert(0, &[]);
    }

    /// Waits until the claims of a killed run are gone with its connections.
    pub fn wait_unheld(&self, mailbox: &Mailbox) {
        for store in STORES {
            let free = poll(Duration::from_secs(60), || Ok(self.holder(store, &mailbox.id).is_none().then_some(())));
            assert!(free.unwrap().is_some(), "{store}: still claimed");
        }
    }

    /// Removes the directories of sockets that a killed run could not.
    pub fn forget_run_dirs(&self) {
        self.shell("store1", "rm -rf /var/tmp/zlm-*");
    }

    /// The databases of a store.
    pub fn databases(&self, store: &str) -> Vec<String> {
        self.host(store).unwrap().mysql().unwrap().query("SHOW DATABASES").unwrap()
    }
}
