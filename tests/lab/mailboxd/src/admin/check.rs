//! Whether every blob that rows name is there, and no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lab_mail::volume::{Volumes, read_blob};
use mysql::prelude::Queryable;

use super::Call;
use crate::fault::{Fault, Outcome};
use crate::mailbox::tx::table;
use crate::xml::Element;

/// A blob that a row names.
struct Named {
    item: u32,
    revision: u32,
    size: u64,
    volume: u8,
}

/// `CheckBlobConsistencyRequest`: of the mailboxes named by mailbox id, or of all in this store's map. Each is opened
/// first, so that it ends at one that is locked, moved away, or no mailbox.
pub fn check(call: &Call<'_>) -> Outcome<Element> {
    let sizes = call.body().get("checkSize").is_none_or(|v| v == "1" || v == "true");
    let mut conn = call.store.pool.get_conn()?;
    let asked: Vec<u32> =
        call.body().children.iter().filter(|c| c.name == "mbox").filter_map(|m| m.get("id")?.parse().ok()).collect();
    let asked = if asked.is_empty() { call.store.mailboxes.ids() } else { asked };
    let opened: Outcome<Vec<_>> = asked.into_iter().map(|id| call.store.mailboxes.load(call.store, id)).collect();
    let volumes = call.store.volumes();
    let mut answer = Element::admin("CheckBlobConsistencyResponse");
    for (mailbox, group) in opened?.iter().map(|mailbox| (mailbox.id, mailbox.group)) {
        let rows = named(&mut conn, mailbox, group, &volumes)?;
        let mut found = compare(mailbox, &volumes, rows, sizes);
        // Mail is deleted while this runs: what is wrong with a blob counts only if its row is still there.
        let still = named(&mut conn, mailbox, group, &volumes)?;
        for list in &mut found.children {
            list.children.retain(|c| c.get("blobPath").is_none_or(|path| still.contains_key(Path::new(path))));
        }
        if found.children.iter().any(|list| !list.children.is_empty()) {
            answer = answer.child(found);
        }
    }
    Ok(answer)
}

fn named(conn: &mut impl Queryable, mailbox: u32, group: u32, volumes: &Volumes) -> Outcome<BTreeMap<PathBuf, Named>> {
    let mut all = BTreeMap::new();
    for (name, id) in
        [("mail_item", "id"), ("mail_item_dumpster", "id"), ("revision", "item_id"), ("revision_dumpster", "item_id")]
    {
        let query = format!(
            "SELECT {id}, mod_content, size, locator FROM {} WHERE mailbox_id = ? AND blob_digest IS NOT NULL AND locator IS NOT NULL",
            table(group, name)
        );
        let rows: Vec<(u32, u32, u64, String)> = conn.exec(query, (mailbox,))?;
        for (item, revision, size, locator) in rows {
            let volume =
                volumes.at(&locator).ok_or_else(|| Fault::failure(format!("item {item}: no volume {locator}")))?;
            all.insert(volume.blob_path(mailbox, item, revision), Named { item, revision, size, volume: volume.id });
        }
    }
    Ok(all)
}

fn compare(mailbox: u32, volumes: &Volumes, named: BTreeMap<PathBuf, Named>, sizes: bool) -> Element {
    let (mut missing, mut incorrect, mut unexpected) =
        (Element::new("missingBlobs"), Element::new("incorrectSizes"), Element::new("unexpectedBlobs"));
    for volume in &volumes.all {
        let there = files(&volume.msg_dir(mailbox)).into_iter().filter(|path| !named.contains_key(path));
        let blob = |path: PathBuf| {
            let size = fs::metadata(&path).map_or(0, |m| m.len());
            Element::new("blob").attr("path", path.display()).attr("s", size).attr("volumeId", volume.id)
        };
        unexpected = unexpected.children(there.map(blob));
    }
    for (path, n) in named {
        let item = || {
            Element::new("item")
                .attr("id", n.item)
                .attr("rev", n.revision)
                .attr("s", n.size)
                .attr("volumeId", n.volume)
                .attr("blobPath", path.display())
        };
        if !path.is_file() {
            missing = missing.child(item());
        } else if sizes && !read_blob(&path, n.size).is_ok_and(|bytes| bytes.len() as u64 == n.size) {
            incorrect = incorrect.child(item());
        }
    }
    Element::new("mbox").attr("id", mailbox).child(missing).child(incorrect).child(unexpected)
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
