//! The lab that is measured in, and zlm in it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mysql::prelude::Queryable;
use serde::Deserialize;
use zlm_lab::{Operator, SOURCE, ScratchLab, ZIMBRA_ID};

use crate::result::note;

/// Everything that a measurement needs.
pub struct Bench {
    pub lab: ScratchLab,
    pub rounds: usize,
    /// Whether what zlm is compared with is left out.
    pub alone: bool,
    zlm: PathBuf,
}

/// What zlm says of a run with `--json`.
#[derive(Debug, Deserialize)]
pub struct Summary {
    pub ok: bool,
    pub frozen_s: f64,
    pub seconds: f64,
    pub message: Option<String>,
    pub value: serde_json::Value,
}

impl Bench {
    /// Boots a lab whose servers do nothing by themselves.
    pub fn boot(zlm: Option<PathBuf>, rounds: usize, alone: bool) -> Result<Self> {
        let zlm = match zlm {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name("zlm"),
        };
        let zlm = zlm.canonicalize().with_context(|| format!("{}: build it first", zlm.display()))?;
        let lab = ScratchLab::boot()?;
        lab.install_settings()?;
        lab.rest()?;
        let bench = Self { lab, rounds: rounds.max(1), alone, zlm };
        bench.await_inodes()?;
        Ok(bench)
    }

    /// Waits until files are made as fast as ever. ext4 gives the inode of a deleted file out again only after five minutes, and until
    /// then looks at each of them whenever it makes a file near by: soon after a large `rm`, also of the lab before this one, copies of files
    /// take several times as long.
    fn await_inodes(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(330);
        let volume = self.lab.host("store2")?.zimbra_path("store");
        for look in 0.. {
            let (least, mean) = time_of_a_file(&volume.join(format!("bench-{look}")))?;
            if mean < least * 3 {
                break;
            }
            let times = format!("making a file takes {mean:?}, and {least:?} where none was deleted");
            if Instant::now() > until {
                note(format!("{times}: measuring all the same"));
                break;
            }
            note(format!("{times}: waiting until that is over"));
            thread::sleep(Duration::from_secs(20));
        }
        Ok(())
    }

    /// Runs a script on store1 as root. `on_line` hears what zlm says, line by line. Fails when the script does.
    pub fn run(&self, script: &Script, options: &[(&str, &str)], on_line: &mut dyn FnMut(&str)) -> Result<Summary> {
        Ok(self.run_watched(script, options, on_line)?.0)
    }

    /// The same, and the most memory that zlm took, in MiB.
    pub fn run_watched(
        &self,
        script: &Script,
        options: &[(&str, &str)],
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(Summary, f64)> {
        let mut words = vec!["run".to_owned(), script.path(self)?, "--json".to_owned()];
        for (name, value) in options {
            words.extend([format!("--{name}"), (*value).to_owned()]);
        }
        if std::env::var_os("BENCH_VERBOSE").is_some() {
            words.push("-vv".to_owned());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = Operator::new(&self.lab, &self.zlm).start(SOURCE, &words)?;
        let memory = Memory::watch(&self.zlm);
        let output = child.stdout.take().context("stdout is a pipe")?;
        let answer = thread::spawn(move || {
            let mut text = String::new();
            BufReader::new(output).read_to_string(&mut text).map(|_| text)
        });
        let mut said = String::new();
        for line in BufReader::new(child.stderr.take().context("stderr is a pipe")?).lines() {
            let line = line?;
            on_line(&line);
            said.push_str(&line);
            said.push('\n');
        }
        let answer = answer.join().expect("reading does not panic")?;
        child.wait()?;
        let summary: Summary =
            serde_json::from_str(answer.trim()).with_context(|| format!("zlm said {answer:?}\n{said}"))?;
        ensure!(summary.ok, "zlm: {}\n{said}", summary.message.unwrap_or_default());
        Ok((summary, memory.end()))
    }

    /// Runs a script of bash as zimbra on store1; gives its output.
    pub fn shell(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut words = vec!["bash", "-euo", "pipefail", "-c", script, "bash"];
        words.extend(arguments);
        let mut command = self.lab.host("store1")?.command("zimbra", &words);
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {}: {said}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// How long a script of bash takes, in seconds.
    pub fn timed(&self, script: &str, arguments: &[&str]) -> Result<f64> {
        let started = Instant::now();
        self.shell(script, arguments)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// A port of store1 that leads to store2's MariaDB through ssh, for as long as the value lives. The passwords for
    /// both ends are in `~/store1.cnf` and `~/store2.cnf`.
    pub fn tunnel(&self) -> Result<Tunnel> {
        for (store, port) in [("store1", 7306), ("store2", TUNNEL)] {
            let password = self.lab.secret(&format!("{store}.zimbra_mysql_password"))?;
            let text = format!("[client]\nuser=zimbra\npassword={password}\nhost=127.0.0.1\nport={port}\n");
            self.write("store1", &format!("{store}.cnf"), &text)?;
        }
        let forward = format!("{TUNNEL}:127.0.0.1:7306");
        let words = ["ssh", "-N", "-i", ".ssh/zimbra_identity", "-L", &forward, "zimbra@store2.lab.test"];
        let child = self.lab.host("store1")?.command("zimbra", &words).stdin(Stdio::null()).spawn()?;
        let tunnel = Tunnel(child);
        let until = Instant::now() + Duration::from_secs(10);
        while self.shell("mysql --defaults-extra-file=store2.cnf -e 'SELECT 1'", &[]).is_err() {
            ensure!(Instant::now() < until, "tunnel to store2: no answer");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(tunnel)
    }

    /// Writes a file into a host's /opt/zimbra, for zimbra alone.
    pub fn write(&self, host: &str, name: &str, text: &str) -> Result<()> {
        let path = self.lab.host(host)?.zimbra_path(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(chown(&path, Some(ZIMBRA_ID), Some(ZIMBRA_ID))?)
    }

    /// Tables of `database` with rows of mailboxes, by name.
    pub fn tables(&self, host: &str, database: &str) -> Result<Vec<String>> {
        let sql = "SELECT c.TABLE_NAME FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
                   USING (TABLE_SCHEMA, TABLE_NAME) WHERE t.TABLE_SCHEMA = ? AND t.TABLE_TYPE = 'BASE TABLE' \
                   AND c.COLUMN_NAME = 'mailbox_id' ORDER BY 1";
        Ok(self.lab.host(host)?.mysql()?.exec(sql, (database,))?)
    }

    /// Deletes the rows of a mailbox from a group, and waits until the server has cleaned up after it.
    pub fn forget_rows(&self, host: &str, database: &str, mailbox: u32) -> Result<()> {
        let mut conn = self.lab.host(host)?.mysql()?;
        conn.query_drop("SET foreign_key_checks = 0")?;
        for table in self.tables(host, database)? {
            conn.query_drop(format!("DELETE FROM {database}.{table} WHERE mailbox_id = {mailbox}"))?;
        }
        self.come_to_rest(host)
    }

    /// Waits until a server has no more old versions of rows to take away, and what was written before is on disk: what
    /// comes next must not pay for it.
    pub fn come_to_rest(&self, host: &str) -> Result<()> {
        let mut conn = self.lab.host(host)?.mysql()?;
        let until = Instant::now() + Duration::from_secs(120);
        let sql = "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'";
        while conn.query_first::<u64, _>(sql)?.unwrap_or(0) > 50 {
            if Instant::now() > until {
                bail!("{host}: its server does not come to rest");
            }
            thread::sleep(Duration::from_millis(200));
        }
        ensure!(Command::new("sync").status()?.success(), "sync failed");
        Ok(())
    }
}

const TUNNEL: u16 = 17306;

/// How long it takes to make an empty file in directories as mailboxes have them: in the fastest one, and on average. They stay:
/// deleting them would be what is looked for.
fn time_of_a_file(volume: &Path) -> Result<(Duration, Duration)> {
    const MAILBOXES: u32 = 40;
    const FILES: u32 = 250;
    let (mut least, mut all) = (Duration::MAX, Duration::ZERO);
    for mailbox in 0..MAILBOXES {
        let directory = volume.join(format!("{mailbox}/msg/0"));
        fs::create_dir_all(&directory)?;
        let started = Instant::now();
        for file in 0..FILES {
            fs::File::create(directory.join(file.to_string()))?;
        }
        let time = started.elapsed();
        least = least.min(time / FILES);
        all += time;
    }
    Ok((least, all / (MAILBOXES * FILES)))
}

/// A script for zlm: one that is shipped, or a text.
pub enum Script {
    Shipped(&'static str),
    Text { name: &'static str, text: String },
}

impl Script {
    fn path(&self, bench: &Bench) -> Result<String> {
        match self {
            Script::Shipped(name) => Ok((*name).to_owned()),
            Script::Text { name, text } => {
                let file = format!("{name}.rhai");
                bench.write("store1", &file, text)?;
                Ok(format!("/opt/zimbra/{file}"))
            }
        }
    }
}

/// The shipped script of a move that tells, after the first copy, that it waits for a few seconds.
pub fn move_with_pause(seconds: u32) -> Result<Script> {
    let shipped = include_str!("../../../scripts/move.rhai");
    let at = "step(\"pre-copy\", copy);\n";
    let (before, after) = shipped.split_once(at).context("scripts/move.rhai has no line of the first copy")?;
    let text = format!("{before}{at}print(\"{COPIED}\");\nsleep({seconds});\n{after}");
    Ok(Script::Text { name: "bench-move", text })
}

/// What such a script says.
pub const COPIED: &str = "bench: copied";

/// An ssh that ends with this value.
pub struct Tunnel(Child);

impl Drop for Tunnel {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks at the most memory that the processes of a program take.
struct Memory {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Memory {
    fn watch(program: &Path) -> Self {
        let (most, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end, program) = (Arc::clone(&most), Arc::clone(&stop), program.to_owned());
        let thread = thread::spawn(move || {
            let mut pids = Vec::new();
            while !end.load(Ordering::Relaxed) {
                if pids.is_empty() {
                    pids = processes(&program);
                }
                for pid in &pids {
                    seen.fetch_max(high_water(pid).unwrap_or(0), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { most, stop, thread }
    }

    /// MiB.
    fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        // It only reads, and a number that is missing is 0.
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

fn processes(program: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    // A host of the lab has it at another path.
    all.filter(|path| fs::read_link(path.join("exe")).is_ok_and(|exe| exe.file_name() == program.file_name())).collect()
}

/// The most memory a process had, in KiB; the kernel keeps it, so the last look before its end is near enough.
fn high_water(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
