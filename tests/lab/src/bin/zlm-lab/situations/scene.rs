//! One account in its lab, while a situation is played; and what situations do there.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mysql::prelude::{FromValue, Queryable};
use zlm_lab::lab_mail::volume::{self, Volume, Volumes};
use zlm_lab::{Fingerprint, Lab};

use super::behind::Course;
use super::verdict;
use super::{Expect, Situation, Way};
use crate::faults::process::{Ended, Process};
use crate::faults::round::Round;
use crate::faults::trouble::shell;
use crate::faults::{DEST, SOURCE};

/// Messages a second.
const RATE: f64 = 4.0;
/// The tables whose rows name blobs, and what their item's id is called.
const BLOBS: [(&str, &str); 4] =
    [("mail_item", "id"), ("mail_item_dumpster", "id"), ("revision", "item_id"), ("revision_dumpster", "item_id")];

/// An account that is to move, and the stores.
pub struct Scene<'a> {
    pub round: Round<'a>,
    /// The way of an undisturbed move.
    pub course: &'a Course,
    /// Its number in its lab.
    pub serial: u32,
}

impl<'a> Scene<'a> {
    pub fn lab(&self) -> &'a Lab {
        self.round.lab
    }

    /// Plays a situation; gives what it came to, and what is wrong with that.
    pub fn play(&mut self, situation: &dyn Situation) -> Result<(String, Vec<String>)> {
        let played = self.play_until_it_is_cleared(situation);
        // A lab in which something went wrong is not used again.
        if played.is_err() {
            let _ = situation.clear(self);
        }
        played
    }

    fn play_until_it_is_cleared(&mut self, situation: &dyn Situation) -> Result<(String, Vec<String>)> {
        situation.arrange(self)?;
        self.round.before = self.lab().before_move(&self.round.local)?;
        let mut judge = verdict::Judge::new(self)?;
        let taken = match situation.way() {
            Way::Reverse => Some(self.first_move("")?),
            Way::Resume => Some(self.first_move(&format!("{}=kill", self.course.switched()))?),
            Way::Move | Way::Batch => None,
        };
        situation.arrange_back(self)?;
        let refused = matches!(situation.expect(), Expect::Refused(_));
        let fingerprint = if refused { self.fingerprint()? } else { None };
        let mail = if situation.mail() && !refused {
            Some(self.lab().start_deliveries(&[&self.round.local], RATE)?)
        } else {
            None
        };
        let ended = self.run(situation, taken.as_deref())?;
        if let (Some(before), Some(after)) = (fingerprint, if refused { self.fingerprint()? } else { None }) {
            judge.untouched(&before, &after);
        }
        situation.clear(self)?;
        let journal = mail.map(|mail| mail.end().context("mail")).transpose()?;
        judge.conclude(self, situation, ended, journal.as_ref())
    }

    /// A move that nothing happens to but, perhaps, its death after the switch; gives its run.
    fn first_move(&self, failpoint: &str) -> Result<String> {
        let ended = self.round.start_move(failpoint)?.end()?;
        match ended.outcome {
            Some(outcome) if ended.code == Some(0) => Ok(outcome.run),
            None if ended.code.is_none() => {
                shell(self.lab(), SOURCE, "rm -rf /var/tmp/zlm-*")?;
                self.round.left()?.pop().context("zlm ps lists no run")
            }
            _ => bail!("the first move: {:?}: {}", ended.code, ended.said),
        }
    }

    fn run(&self, situation: &dyn Situation, taken: Option<&str>) -> Result<Ended> {
        let place = situation.place(self.course).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let mut process = self.start(situation, taken, &place)?;
            if !place.is_empty() && process.stands_still()? {
                situation.happen(self)?;
                process.go_on()?;
                situation.go_on(self)?;
            }
            let ended = process.end()?;
            // The claim of a run that was killed may be held for a while by a connection that nobody has missed yet.
            if ended.code != Some(5) || situation.way() != Way::Resume || Instant::now() > until {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn start(&self, situation: &dyn Situation, taken: Option<&str>, place: &str) -> Result<Process> {
        let (email, dest) = (self.round.email(), &self.lab().host(DEST)?.fqdn);
        let list = format!("/var/tmp/{}.list", self.round.local);
        let mut words = match (situation.way(), taken) {
            (Way::Move, _) => vec!["run", "move", "--email", &email, "--dest", dest, "--json"],
            (Way::Batch, _) => {
                fs::write(self.lab().host(SOURCE)?.dir.join(&list[5..]), format!("{email}\n"))?;
                vec!["run", "batch", "--list", &list, "--dest", dest, "--json"]
            }
            (Way::Resume, Some(run)) => vec!["resume", run, "--json"],
            (Way::Reverse, Some(run)) => vec!["reverse", run, "--json"],
            (Way::Resume | Way::Reverse, None) => bail!("there was no first move"),
        };
        words.extend(situation.options());
        let mut command = self.round.command(&words)?;
        command.env("ZLM_FAILPOINT", if place.is_empty() { String::new() } else { format!("{place}=pause") });
        Process::start(command, self.lab().dir())
    }

    /// All that must not change when a run is refused; nothing where a server is down that would have to be asked.
    fn fingerprint(&self) -> Result<Option<Fingerprint>> {
        let well = ["store1", "store2", "proxy1"].into_iter().all(|host| {
            zlm_lab::Service::of_host(host).iter().all(|service| self.lab().answers(host, *service).unwrap_or(false))
        });
        if well { self.lab().fingerprint().map(Some) } else { Ok(None) }
    }

    /// Runs SQL as MariaDB's root.
    pub fn sql(&self, store: &str, sql: &str) -> Result<()> {
        self.lab().host(store)?.mysql()?.query_drop(sql).with_context(|| format!("{store}: {sql}"))
    }

    /// The first value that a query gives.
    pub fn value<T: FromValue>(&self, store: &str, sql: &str) -> Result<Option<T>> {
        self.lab().host(store)?.mysql()?.query_first(sql).with_context(|| format!("{store}: {sql}"))
    }

    pub fn shell(&self, host: &str, script: &str) -> Result<()> {
        shell(self.lab(), host, script)
    }

    /// Tells a store's mailboxd something that must go well.
    pub fn tell(&self, store: &str, line: &str) -> Result<()> {
        let answer = self.lab().host(store)?.mailboxd_control(line)?;
        ensure!(answer.starts_with("ok"), "{store}: {line}: {answer}");
        Ok(())
    }

    /// The mailbox's number on a store.
    pub fn number(&self, store: &str) -> Result<u32> {
        let sql = format!("SELECT id FROM zimbra.mailbox WHERE account_id = '{}'", self.round.id);
        self.value(store, &sql)?.with_context(|| format!("{store}: no mailbox of {}", self.round.email()))
    }

    /// The number that the destination gives out next.
    pub fn next_number(&self) -> Result<u32> {
        self.value(DEST, "SELECT next_mailbox_id FROM zimbra.current_volumes")?.context("no current volumes")
    }

    pub fn volumes(&self, store: &str) -> Result<Volumes> {
        let host = self.lab().host(store)?;
        Ok(Volumes::read(&mut host.mysql()?, &host.zimbra_path(""))?)
    }

    /// Gives the mailbox's blobs on one volume of a store to another one, as HSM does: there first, then the row, then
    /// what lay here. At most so many of each table.
    pub fn relocate(&self, store: &str, from: u8, to: u8, limit: u32) -> Result<()> {
        let (number, volumes) = (self.number(store)?, self.volumes(store)?);
        let volume = |id| volumes.get(id).with_context(|| format!("{store}: no volume {id}"));
        let (from, to) = (volume(from)?, volume(to)?);
        let mut sql = self.lab().host(store)?.mysql()?;
        let group: u32 =
            sql.query_first(format!("SELECT group_id FROM zimbra.mailbox WHERE id = {number}"))?.context("no row")?;
        for (table, id) in BLOBS {
            let rows = format!("mboxgroup{group}.{table} WHERE mailbox_id = {number} AND locator = '{}'", from.id);
            let query = format!("SELECT {id}, mod_content FROM {rows} LIMIT {limit}");
            let blobs: Vec<(u32, u32)> = sql.query(query)?;
            for (item, mod_content) in blobs {
                let old = from.blob_path(number, item, mod_content);
                let new = to.blob_path(number, item, mod_content);
                volume::make_dirs(&to.root, new.parent().context("a blob is in a directory")?)?;
                fs::hard_link(&old, &new).with_context(|| old.display().to_string())?;
                sql.query_drop(format!(
                    "UPDATE mboxgroup{group}.{table} SET locator = '{}' \
                     WHERE mailbox_id = {number} AND {id} = {item} AND mod_content = {mod_content}",
                    to.id
                ))?;
                fs::remove_file(&old).with_context(|| old.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Removes the directory of the mailbox on a volume, which may be gone; blobs in it stay, and are an error.
    pub fn prune(&self, volume: &Volume, number: u32) -> Result<()> {
        remove_empty(&volume.mailbox_dir(number))
    }

    /// Writes a file of Lucene's to the index.
    pub fn index_file(&self, store: &str, name: &str) -> Result<()> {
        let (number, volumes) = (self.number(store)?, self.volumes(store)?);
        let volume = volumes.current_index();
        let dir = volume.index_dir(number);
        volume::make_dirs(&volume.root, &dir)?;
        let path = dir.join(name);
        fs::write(&path, format!("{name} of mailbox {number}"))?;
        Ok(std::os::unix::fs::chown(&path, Some(volume::OWNER), Some(volume::OWNER))?)
    }

    /// Removes the index of the mailbox, with its directory.
    pub fn remove_index(&self, store: &str) -> Result<()> {
        let (number, volumes) = (self.number(store)?, self.volumes(store)?);
        let dir: PathBuf = volumes.current_index().mailbox_dir(number).join("index");
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("{}: {error}", dir.display()),
            _ => self.prune(volumes.current_index(), number),
        }
    }

    /// The number of the volume that [`Scene::make_volume`] makes, in each scene another one.
    pub fn fresh(&self) -> u8 {
        u8::try_from(100 + self.serial % 100).unwrap_or(u8::MAX)
    }

    /// Makes a new volume of a store for messages, which has never had a blob and is not current.
    pub fn make_volume(&self, store: &str) -> Result<()> {
        let id = self.fresh();
        self.shell(store, &format!("install -d -o zimbra -g zimbra -m 755 /opt/zimbra/store{id}"))?;
        self.sql(
            store,
            &format!(
                "INSERT INTO zimbra.volume (id, type, name, path, file_bits, file_group_bits, mailbox_bits, \
                 mailbox_group_bits, compress_blobs, compression_threshold) SELECT {id}, 1, 'message{id}', \
                 '/opt/zimbra/store{id}', file_bits, file_group_bits, mailbox_bits, mailbox_group_bits, 0, 4096 \
                 FROM zimbra.volume WHERE id = 1"
            ),
        )
    }

    /// Makes the volume of [`Scene::make_volume`] the current one.
    pub fn use_volume(&self, store: &str) -> Result<()> {
        self.current_volume(store, self.fresh())
    }

    /// Has new messages of a store go to a volume; mailboxd learns of it.
    pub fn current_volume(&self, store: &str, volume: u8) -> Result<()> {
        self.sql(store, &format!("UPDATE zimbra.current_volumes SET message_volume_id = {volume}"))?;
        self.tell(store, "restart")
    }
}

/// Removes a directory in which there are only directories; one that is not there is gone already.
fn remove_empty(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| dir.display().to_string())?,
    };
    for entry in entries {
        remove_empty(&entry?.path())?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("{}: {error}", dir.display()),
        _ => Ok(()),
    }
}
