//! The search index: items are indexed some time after they came, which sets `index_id` without a new
//! change id and writes to the index directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use lab_mail::volume::{self, OWNER};
use mysql::prelude::Queryable;

use super::tx::table;
use super::{Mailbox, state};
use crate::fault::{Fault, Outcome};
use crate::store::Store;

const PAUSE: Duration = Duration::from_millis(200);
const BATCH: usize = 50;

/// Indexes what waits in mailboxes that are in memory, for as long as the process lives.
pub fn run(store: &Arc<Store>) {
    loop {
        let resting = store.resting.load(Ordering::SeqCst);
        for mailbox in store.mailboxes.all_open().into_iter().filter(|_| !resting) {
            // A mailbox locked out in between, or a database that is away, is met again in the next round.
            let _ = index(store, &mailbox);
        }
        thread::sleep(PAUSE);
    }
}

fn index(store: &Store, mailbox: &Mailbox) -> Outcome<()> {
    if is_foreign(store, mailbox)? {
        return Ok(());
    }
    let items = table(mailbox.group, "mail_item");
    let query = format!("SELECT id FROM {items} WHERE mailbox_id = ? AND index_id IN (0, 1) ORDER BY id LIMIT {BATCH}");
    let waiting: Vec<u32> = store.pool.get_conn()?.exec(query, (mailbox.id,))?;
    let Some(last) = waiting.last() else { return Ok(()) };
    mailbox.write(store, |tx| {
        let statement =
            format!("UPDATE {items} SET index_id = id WHERE mailbox_id = ? AND id = ? AND index_id IN (0, 1)");
        tx.sql.exec_batch(&statement, waiting.iter().map(|id| (mailbox.id, id)))?;
        let text: String = waiting.iter().map(|id| format!("{id}\n")).collect();
        write_segment(store, mailbox, tx.state.index_volume, &segment(*last, "cfs"), &text)
    })
}

/// The name of a segment's file, as Lucene gives them.
fn segment(mut number: u32, extension: &str) -> String {
    let mut name = String::new();
    while name.is_empty() || number > 0 {
        name.insert(0, char::from_digit(number % 36, 36).unwrap_or_default());
        number /= 36;
    }
    format!("_{name}.{extension}")
}

/// Closes the index of a mailbox that was just locked out. The batch in flight is still flushed, a
/// moment after the lock was granted: the index grows by a file.
pub fn evict(store: &Arc<Store>, mailbox: &Arc<Mailbox>) {
    let (store, mailbox) = (Arc::clone(store), Arc::clone(mailbox));
    thread::spawn(move || {
        thread::sleep(PAUSE);
        // Nobody waits for a flush, so nobody hears of its failure.
        let _ = flush(&store, &mailbox);
    });
}

fn flush(store: &Store, mailbox: &Mailbox) -> Outcome<()> {
    let Some(row) = state::read_row(&mut store.pool.get_conn()?, mailbox.id)? else { return Ok(()) };
    let volumes = store.volumes();
    let volume = volumes.get(row.state.index_volume).ok_or_else(|| Fault::failure("no such index volume"))?;
    let dir = volume.index_dir(mailbox.id);
    if !dir.is_dir() || is_lucene(&dir) {
        return Ok(());
    }
    let files = u32::try_from(fs::read_dir(&dir)?.count()).unwrap_or(u32::MAX);
    write_segment(store, mailbox, volume.id, &segment(files, "fdt"), "flushed\n")
}

fn write_segment(store: &Store, mailbox: &Mailbox, volume: u8, name: &str, text: &str) -> Outcome<()> {
    let volumes = store.volumes();
    let volume = volumes.get(volume).ok_or_else(|| Fault::failure("no such index volume"))?;
    let dir = volume.index_dir(mailbox.id);
    volume::make_dirs(&volume.root, &dir)?;
    Ok(replace(&dir.join(name), text)?)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640))?;
    chown(path, Some(OWNER), Some(OWNER))
}

/// Whether the index of a mailbox is one that only Lucene can write to: what waits for it waits for ever here, since no
/// item may be said to be in an index that does not hold it.
fn is_foreign(store: &Store, mailbox: &Mailbox) -> Outcome<bool> {
    let Some(row) = state::read_row(&mut store.pool.get_conn()?, mailbox.id)? else { return Ok(false) };
    let volumes = store.volumes();
    Ok(volumes.get(row.state.index_volume).is_some_and(|volume| is_lucene(&volume.index_dir(mailbox.id))))
}

/// Whether Lucene wrote this directory. Its list of segments starts with a format: a small negative number up to 3.6, later
/// a mark.
fn is_lucene(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let lists = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("segments_"));
    lists.map(|entry| entry.path()).any(|list| {
        let mut start = [0; 4];
        let read = File::open(list).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && (start == [0x3f, 0xd7, 0x6c, 0x17] || start.starts_with(&[0xff, 0xff, 0xff]))
    })
}

/// Has a whole mailbox indexed again.
///
/// # Errors
/// `mail.MAINTENANCE` or `service.FAILURE`: also for an index that only Lucene can write to.
pub fn restart(store: &Store, mailbox: &Mailbox) -> Outcome<()> {
    if is_foreign(store, mailbox)? {
        return Err(Fault::failure(format!("mailbox {}: its index is Lucene's", mailbox.id)));
    }
    mailbox.write(store, |tx| {
        let statement =
            format!("UPDATE {} SET index_id = 0 WHERE mailbox_id = ? AND index_id > 0", tx.table("mail_item"));
        Ok(tx.sql.exec_drop(statement, (mailbox.id,))?)
    })
}

/// How many items wait for the index; none where it is left alone, since nothing is at work on it.
///
/// # Errors
/// `service.FAILURE`.
pub fn waiting(store: &Store, mailbox: &Mailbox) -> Outcome<u64> {
    if is_foreign(store, mailbox)? {
        return Ok(0);
    }
    let query = format!(
        "SELECT COUNT(*) FROM {} WHERE mailbox_id = ? AND index_id IN (0, 1)",
        table(mailbox.group, "mail_item")
    );
    Ok(store.pool.get_conn()?.exec_first(query, (mailbox.id,))?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_have_names_as_lucene_gives_them() {
        let names = [0, 9, 35, 36, 61, 1296].map(|number| segment(number, "cfs"));
        assert_eq!(names, ["_0.cfs", "_9.cfs", "_z.cfs", "_10.cfs", "_1p.cfs", "_100.cfs"]);
    }

    #[test]
    fn an_index_of_lucene_is_known_by_its_list_of_segments() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_lucene(&dir.path().join("absent")));
        let golden = lab_mail::golden::Golden::unpack(lab_mail::golden::Archive::Small, dir.path()).unwrap();
        assert!(is_lucene(&dir.path().join(&golden.manifest.name).join("index/0")));
        fs::write(dir.path().join("segments_2"), [7, 14, 21, 28]).unwrap();
        fs::write(dir.path().join("segments.gen"), [0xff; 20]).unwrap();
        assert!(!is_lucene(dir.path()));
        fs::write(dir.path().join("segments_3"), [0x3f, 0xd7, 0x6c, 0x17, 0]).unwrap();
        assert!(is_lucene(dir.path()));
    }
}
