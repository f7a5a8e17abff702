//! Somebody who sits at a host of the lab and runs a program there: what tests of that program have in common.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab_mail::journal::Journal;
use lab_mail::oracle::{Before, Report};
use lab_mail::seed::Spec;
use lab_mail::writer::Writer;

use crate::layout::{STORES, make_zimbra_dir, write_zimbra_file};
use crate::{Host, Lab, Mail};

/// Where zlm's own log is on every host that an operator sits at. It is there from the start, so that it is no leftover.
pub const LOG: &str = "zlm/zlm.log";

/// Where somebody sits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seat {
    /// The host.
    pub host: &'static str,
    /// `root` or `zimbra`.
    pub user: &'static str,
}

/// root on the first store, the usual source.
pub const SOURCE: Seat = Seat { host: "store1", user: "root" };
/// root on the second store, the usual destination.
pub const DEST: Seat = Seat { host: "store2", user: "root" };
/// zimbra on the host that is no store.
pub const THIRD: Seat = Seat { host: "ops1", user: "zimbra" };

/// Runs one program in a lab.
#[derive(Debug)]
pub struct Operator<'a> {
    lab: &'a Lab,
    program: PathBuf,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Takes what a program left.
    pub fn of(output: Output) -> Self {
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Both outputs, for a message.
    pub fn told(&self) -> String {
        format!("exit status {:?}\n-- stdout\n{}\n-- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    /// # Panics
    ///
    /// When the program ended with another status; the message has all that it said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.told());
        self
    }
}

/// What `zlm show` says that a run has done: the name of each operation and what it was about, in order.
pub fn operations(shown: &str) -> Vec<(String, String)> {
    let step = |line: &str| {
        let mut words = line.split_whitespace();
        words.next()?.parse::<u32>().ok()?;
        let name = words.next().filter(|mark| *mark == "done").and_then(|_| words.next())?;
        Some((name.to_owned(), words.collect::<Vec<_>>().join(" ")))
    };
    shown.lines().filter_map(step).collect()
}

impl<'a> Operator<'a> {
    /// An operator who runs `program`, a path of the real system, with the settings that [`Lab::install_settings`] wrote.
    pub fn new(lab: &'a Lab, program: impl Into<PathBuf>) -> Self {
        Operator { lab, program: program.into() }
    }

    /// The program with arguments, ready to be started; its outputs are pipes.
    pub fn command(&self, seat: Seat, arguments: &[&str]) -> Result<Command> {
        let host = self.lab.host(seat.host)?;
        let program = host.install(&self.program)?;
        // What it writes into the present directory goes where it may: `/opt/zimbra` itself is root's.
        let there = ["env", "-C", "/opt/zimbra/log", program.as_str()];
        let words: Vec<&str> = there.into_iter().chain(arguments.iter().copied()).collect();
        let mut command = host.command(seat.user, &words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Starts the program.
    pub fn start(&self, seat: Seat, arguments: &[&str]) -> Result<Child> {
        self.command(seat, arguments)?.spawn().context("nsenter: cannot be started")
    }

    /// Runs the program to its end.
    pub fn run(&self, seat: Seat, arguments: &[&str]) -> Result<Ended> {
        Ok(Ended::of(self.command(seat, arguments)?.output().context("nsenter: cannot be started")?))
    }

    /// `zlm run move` for `LOCAL@lab.test` to `dest` (`store2`).
    pub fn run_move(&self, seat: Seat, local: &str, dest: &str, more: &[&str]) -> Result<Ended> {
        let (email, dest) = (format!("{local}@lab.test"), format!("{dest}.lab.test"));
        let mut words = vec!["run", "move", "--email", &email, "--dest", &dest];
        words.extend(more);
        self.run(seat, &words)
    }
}

/// A mail writer at work, and its journal.
pub struct Deliveries {
    writer: Writer,
    journal: PathBuf,
}

impl Deliveries {
    /// Where it writes what became of each message.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// Ends it once all that is queued was delivered, which must be so in half a minute, and gives the journal.
    pub fn end(self) -> Result<Journal> {
        self.writer.stop();
        let sums = self.writer.join()?;
        ensure!(sums.undelivered == 0, "{} messages wait still", sums.undelivered);
        Ok(Journal::read(&self.journal)?)
    }
}

impl Lab {
    /// Writes `/opt/zimbra/conf/zlm.toml` for zlm: on the stores only where its log goes, on ops1 all that no
    /// localconfig.xml says.
    pub fn install_settings(&self) -> Result<()> {
        for name in STORES {
            write_settings(self.host(name)?, "")?;
        }
        let ops = self.host("ops1")?;
        for secret in ["zimbra_ldap_password", "admin_password"] {
            write_zimbra_file(ops, &format!("conf/{secret}"), 0o600, self.secret(secret)?)?;
        }
        write_settings(
            ops,
            "[ldap]\nserver = \"ldap1.lab.test\"\nbind_dn = \"uid=zimbra,cn=admins,cn=zimbra\"\n\
             password_file = \"/opt/zimbra/conf/zimbra_ldap_password\"\nca = \"/opt/zimbra/conf/ca/ca.pem\"\n\
             [soap]\nuser = \"admin@lab.test\"\npassword_file = \"/opt/zimbra/conf/admin_password\"\n\
             ca = \"/opt/zimbra/conf/ca/ca.pem\"\n",
        )
    }

    /// Adds settings to a host's zlm.toml: whole sections that it does not have.
    pub fn add_settings(&self, host: &str, sections: &str) -> Result<()> {
        let host = self.host(host)?;
        let path = host.zimbra_path(SETTINGS);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        write_zimbra_file(host, SETTINGS, 0o600, format!("{text}{sections}"))
    }

    /// Lets both stores' purge and indexer rest, so that copies can be judged exactly.
    pub fn rest(&self) -> Result<()> {
        for name in STORES {
            let answer = self.host(name)?.mailboxd_control("background off")?;
            ensure!(answer == "ok", "{name}: background off: {answer}");
        }
        Ok(())
    }

    /// Adds the account `LOCAL@lab.test` on `store` with the mailbox that `shape` makes of a plain one with this number,
    /// and gives its `zimbraId`. `attributes` as in [`Lab::add_account`].
    pub fn add_mailbox(
        &self,
        local: &str,
        store: &str,
        mailbox: u32,
        attributes: &[(&str, &str)],
        shape: impl FnOnce(&mut Spec),
    ) -> Result<String> {
        let id = self.add_account(local, store, attributes)?;
        let mut spec = Spec::new(mailbox, &id, &format!("{local}@lab.test"));
        shape(&mut spec);
        self.seed(store, &spec)?;
        Ok(id)
    }

    /// Starts to deliver mail to `locals` in turn, `rate` messages a second over all.
    pub fn start_deliveries(&self, locals: &[&str], rate: f64) -> Result<Deliveries> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let journal = self.dir().join(format!("journal.{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mail = Mail {
            recipients: locals.iter().map(|local| format!("{local}@lab.test")).collect(),
            rate,
            count: None,
            size: 4096,
            journal: journal.clone(),
            drain: Duration::from_secs(30),
        };
        let writer = self.start_writer(mail, Arc::new(AtomicBool::new(false)))?;
        Ok(Deliveries { writer, journal })
    }

    /// [`Lab::before`] for `LOCAL@lab.test` on the way from store1 to store2.
    pub fn before_move(&self, local: &str) -> Result<Before> {
        self.before(&self.account_id(local)?, "store1", "store2", &[])
    }

    /// The `zimbraId` of `LOCAL@lab.test`.
    pub fn account_id(&self, local: &str) -> Result<String> {
        let found = self.ldap_get(&crate::account_dn(local))?;
        let id = found.first().and_then(|entry| entry.value("zimbraId"));
        id.map(str::to_owned).with_context(|| format!("{local}@lab.test: no such account"))
    }

    /// One value of an attribute of `LOCAL@lab.test`.
    pub fn account_value(&self, local: &str, attribute: &str) -> Result<Option<String>> {
        let found = self.ldap_get(&crate::account_dn(local))?;
        Ok(found.first().and_then(|entry| entry.value(attribute)).map(str::to_owned))
    }
}

const SETTINGS: &str = "conf/zlm.toml";

fn write_settings(host: &Host, settings: &str) -> Result<()> {
    let dir = Path::new(LOG).parent().and_then(Path::to_str).context("the log is in a directory")?;
    make_zimbra_dir(host, dir)?;
    write_zimbra_file(host, LOG, 0o640, "")?;
    write_zimbra_file(
        host,
        SETTINGS,
        0o600,
        // Nothing takes long here: a request of which nobody knows is over soon.
        format!(
            "[log]\nfile = \"/opt/zimbra/{LOG}\"\n[journal]\ndir = \"/opt/zimbra/zlm/journal\"\n\
             [limits]\nrequest_life = 5\n{settings}"
        ),
    )
}

/// # Panics
///
/// When a report has differences; the message has them.
#[track_caller]
pub fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{report}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_run_that_is_done_is_no_operation() {
        let shown = "r-1 done    move a@lab.test store2.lab.test\n  --email a@lab.test\n   1 done    ldap_get       account a@lab.test\n  \
                     12 undone  stage          a number and a row\n  13 done    settle         what is to come\n";
        let found = super::operations(shown);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ldap_get", "settle"]);
        assert_eq!(found[0].1, "account a@lab.test");
    }
}
