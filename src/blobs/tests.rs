//! On real directories, here and through a real sshd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::cancel::Cancel;
use crate::clients::rsync::{Transfer, What};
use crate::clients::ssh::Shell;
use crate::clients::ssh::rig::Sshd;
use crate::error::Kind;
use crate::zimbra::blob::{BlobName, FileName};
use crate::zimbra::volume::{Bits, Current, Kind as VolumeKind, Mapping, Volume, map_volumes};

fn volume(id: u8, path: &Path) -> Volume {
    Volume {
        id,
        kind: VolumeKind::Primary,
        name: format!("message{id}"),
        path: path.to_str().unwrap().into(),
        bits: Bits::default(),
        compress: false,
        threshold: 4096,
        store_type: 1,
        manager_class: String::new(),
    }
}

fn tree(shell: Shell, path: &Path, mailbox: u32) -> Tree {
    Tree { shell, volume: volume(1, path), mailbox }
}

fn local(path: &Path, mailbox: u32) -> Tree {
    tree(Shell::Local { user: None }, path, mailbox)
}

fn file(id: u32, mod_content: u32) -> FileName {
    BlobName { id, mod_content }.into()
}

fn expected(id: u32, mod_content: u32) -> crate::error::Result<Expected> {
    Ok(Expected { name: BlobName { id, mod_content }, volume: 1 })
}

fn put(tree: &Tree, name: FileName, text: &str) -> PathBuf {
    let path = Path::new(&tree.volume.message_dir(tree.mailbox)).join(name.path(&tree.volume.bits));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn mapping(tree: &Tree) -> Mapping {
    let current = Current { message: 1, secondary: None, index: 2 };
    let volumes = [tree.volume.clone()];
    map_volumes(&volumes, &BTreeSet::from([1]), &volumes, &current, &BTreeMap::new()).unwrap()
}

fn go() -> Cancel {
    Cancel::default()
}

#[test]
fn what_differs_is_copied_and_then_nothing_differs() {
    let sshd = Sshd::start();
    let source = local(&sshd.path("store1"), 12);
    let dest = tree(sshd.shell(), &sshd.path("store2"), 1407);
    for id in 1..6 {
        put(&source, file(id * 1000, id), &"x".repeat(id as usize));
    }
    put(&source, FileName { id: 9, mod_content: None }, "old");
    put(&dest, file(1000, 1), "x");
    put(&dest, file(2000, 2), "short or long");
    put(&dest, file(7777, 7), "gone from the rows");
    let rows = || {
        [(5000, 5), (1000, 1), (2000, 2), (3000, 3), (4000, 4), (9, 44), (6000, 1), (3000, 3)]
            .map(|(i, m)| expected(i, m))
    };
    let compare = || {
        let one = |tree: &Tree| BTreeMap::from([(1, tree.list(&go()).unwrap())]);
        difference(rows(), &one(&source), &one(&dest), &mapping(&source)).unwrap()
    };
    let diff = compare();
    assert_eq!(diff.lost.iter().map(|l| l.name.id).collect::<Vec<_>>(), [6000]);
    let old = FileName { id: 9, mod_content: None };
    assert_eq!(diff.copy[&1], [old, file(2000, 2), file(3000, 3), file(4000, 4), file(5000, 5)]);
    assert_eq!(diff.extra[&1], [file(7777, 7)]);

    let transfer = Transfer::new(source.messages(), dest.messages());
    let wanted = names(diff.copy[&1].clone(), source.volume.bits);
    assert_eq!(transfer.run(What::Named(wanted), &go(), &mut |_| {}).unwrap().files, 5);
    let diff = compare();
    assert_eq!((diff.to_copy(), diff.lost.len(), diff.extra.len()), (0, 1, 1));

    let all: Vec<FileName> = source.list(&go()).unwrap().files().iter().map(|f| f.name).collect();
    assert_eq!(unequal(&source, &dest, &all, &go()).unwrap(), []);
    put(&dest, file(3000, 3), "xXx");
    assert_eq!(compare().to_copy(), 0, "lengths do not tell");
    assert_eq!(unequal(&source, &dest, &all, &go()).unwrap(), [file(3000, 3)]);
    let error = unequal(&source, &dest, &[file(7777, 7)], &go()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    dest.sync(&go()).unwrap();
}

#[test]
fn planted_things_are_odd_and_links_for_directories_are_refused() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let store = dir.path().join("store");
    let tree = local(&store, 12);
    assert_eq!(tree.list(&go()).unwrap(), Listing::default(), "no directory, no blobs");
    put(&tree, file(1, 1), "one");
    let other = local(&dir.path().join("other"), 12);
    put(&other, file(2, 2), "of somebody else");
    let msg = store.join("0/12/msg");
    symlink(dir.path().join("other/0/12/msg/0"), msg.join("1")).unwrap();
    symlink("/etc/passwd", msg.join("0/3-3.msg")).unwrap();
    fs::write(msg.join("0/4-4.msg\n0"), "").unwrap();
    fs::write(msg.join("0/5-5.msg.bak"), "").unwrap();
    let list = tree.list(&go()).unwrap();
    assert_eq!((list.files().len(), list.odd), (1, 4), "{:?}", list.odd_samples);
    assert!(!list.odd_samples.concat().contains('\n'));

    fs::rename(&msg, store.join("moved")).unwrap();
    symlink(store.join("moved"), &msg).unwrap();
    assert_eq!(tree.list(&go()).unwrap_err().kind(), Kind::Refused);
    fs::remove_file(&msg).unwrap();
    fs::rename(store.join("0"), store.join("real")).unwrap();
    symlink("real", store.join("0")).unwrap();
    assert_eq!(tree.list(&go()).unwrap_err().kind(), Kind::Refused);
    assert_eq!(tree.remove(&store.join("0/12").display().to_string(), &go()).unwrap_err().kind(), Kind::Refused);
    assert!(store.join("real/12").exists());
}

#[test]
fn only_the_directory_of_the_mailbox_is_removed() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let store = dir.path().join("store");
    let tree = local(&store, 12);
    put(&tree, file(1, 1), "one");
    let neighbour = put(&local(&store, 13), file(1, 1), "of somebody else");
    symlink(neighbour.parent().unwrap(), store.join("0/12/msg/1")).unwrap();
    let path = |name: &str| store.join(name).display().to_string();
    for other in ["", "0", "0/13", "0/12/", "0/12/msg", "0/12/../13", "0//12"] {
        let error = tree.remove(&path(other), &go()).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{other}");
    }
    for odd in ["/", "", "relative", "/a/../b", "/a b"] {
        let mut tree = tree.clone();
        tree.volume.path = odd.into();
        assert!(tree.remove(&tree.volume.mailbox_dir(12), &go()).is_err(), "{odd}");
    }
    assert!(local(&store, 0).remove(&path("0/0"), &go()).is_err());
    assert!(store.join("0/12/msg/0/1-1.msg").exists());
    assert!(tree.remove(&path("0/12"), &go()).unwrap());
    assert!(!store.join("0/12").exists() && neighbour.exists());
    assert!(!tree.remove(&path("0/12"), &go()).unwrap(), "again is no error");
}

#[test]
fn space_is_told() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = local(dir.path(), 12);
    put(&tree, file(1, 1), "one");
    assert!(tree.free_space(&go()).unwrap().bytes > 0);
    let nowhere = local(&dir.path().join("nowhere"), 12);
    assert_eq!(nowhere.free_space(&go()).unwrap_err().kind(), Kind::Peer);
}

#[test]
fn a_failing_row_fails_the_comparison() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = local(dir.path(), 12);
    let rows = [expected(1, 1), Err(crate::error::Error::new(Kind::Unreachable, "rows ended early"))];
    let error = difference(rows, &BTreeMap::new(), &BTreeMap::new(), &mapping(&tree)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
}

#[test]
fn an_index_becomes_equal_by_its_changes() {
    let sshd = Sshd::start();
    let source = local(&sshd.path("store1"), 12);
    let dest = tree(sshd.shell(), &sshd.path("store2"), 1407);
    let here = PathBuf::from(source.volume.index_dir(12));
    let there = PathBuf::from(dest.volume.index_dir(1407));
    fs::create_dir_all(&here).unwrap();
    fs::create_dir_all(&there).unwrap();
    fs::write(here.join("_0.cfs"), "terms").unwrap();
    fs::write(here.join("segments_2"), "two").unwrap();
    fs::write(there.join("segments_1"), "one").unwrap();
    symlink("/etc/passwd", here.join("_1.cfs")).unwrap();
    let transfer = Transfer { delete: true, whole: false, ..Transfer::new(source.index(), dest.index()) };
    let done = transfer.run(What::Tree, &go(), &mut |_| {}).unwrap();
    assert_eq!((done.files, done.deleted), (2, 1));
    assert_eq!(fs::read_to_string(there.join("_0.cfs")).unwrap(), "terms");
    let (here, there) = index_lists(&source, &dest, &go()).unwrap();
    assert_eq!(here, there);
    assert!(there.has("segments_2") && !there.has("segments_1") && !there.has("_1.cfs"));
}

#[test]
fn an_index_behind_a_link_is_neither_listed_nor_synced() {
    let sshd = Sshd::start();
    let tree = tree(sshd.shell(), &sshd.path("store1"), 12);
    let index = PathBuf::from(tree.volume.index_dir(12));
    assert_eq!(IndexList::read(&tree, &go()).unwrap(), IndexList::default(), "without one");
    tree.sync_index(&go()).unwrap();
    fs::create_dir_all(&index).unwrap();
    fs::write(index.join("segments_1"), "one").unwrap();
    assert!(IndexList::read(&tree, &go()).unwrap().has("segments_1"));
    fs::rename(&index, index.with_file_name("moved")).unwrap();
    symlink("moved", &index).unwrap();
    let refused = [IndexList::read(&tree, &go()).map(drop), tree.sync_index(&go())];
    for error in refused.map(Result::unwrap_err) {
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("not a directory, but a link or a file"), "{error}");
    }
}
