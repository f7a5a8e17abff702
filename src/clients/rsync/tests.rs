//! Against a real sshd and real rsyncs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::cancel::Cancel;
use crate::clients::ssh::rig::Sshd;
use crate::clients::ssh::{Input, Shell};
use crate::error::Kind;

fn here(path: &Path) -> Place {
    Place::new(Shell::Local { user: None }, path.to_str().unwrap())
}

fn tree(dir: &Path) {
    for (name, text) in [("0/1-1.msg", "one"), ("0/2-2.msg", "two two"), ("1/4096-3.msg", "three")] {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn run(transfer: &Transfer, what: What) -> crate::error::Result<Transferred> {
    transfer.run(what, &Cancel::default(), &mut |_| {})
}

/// A first copy of a file of 3 MB, at so many KiB a second.
fn one_large_file(sshd: &Sshd, rate: u32) -> Transfer {
    fs::create_dir(sshd.path("a")).unwrap();
    fs::write(sshd.path("a/1-1.msg"), vec![b'x'; 3_000_000]).unwrap();
    let place = Place::new(sshd.shell(), sshd.path("b").to_str().unwrap());
    Transfer { bandwidth: Some(rate), ..Transfer::new(here(&sshd.path("a")), place) }
}

#[test]
fn a_tree_goes_over_a_link_both_ways_and_between_two_others() {
    let sshd = Sshd::start();
    let shell = sshd.shell();
    let far = |name: &str| Place::new(shell.clone(), sshd.path(name).to_str().unwrap());
    tree(&sshd.path("a"));

    let push = Transfer::new(here(&sshd.path("a")), far("b/deep"));
    assert_eq!(push.count(What::Tree, &Cancel::default()).unwrap().files, 3);
    assert!(!sshd.path("b").exists(), "counting only reads");
    let mut seen = Vec::new();
    let done = push.run(What::Tree, &Cancel::default(), &mut |p| seen.push(p)).unwrap();
    assert_eq!((done.files, done.bytes, done.deleted, done.skipped), (3, 15, 0, 0));
    assert_eq!(seen.last().unwrap().bytes, 15);
    assert_eq!(run(&push, What::Tree).unwrap().files, 0, "nothing is left to do");

    let pull = Transfer::new(far("b/deep"), here(&sshd.path("c")));
    assert_eq!(run(&pull, What::Tree).unwrap().files, 3);

    let mut between = Transfer::new(far("c"), far("d"));
    assert_eq!(run(&between, What::Tree).unwrap_err().kind(), Kind::Config);
    between.route = Some(sshd.options());
    between.gentle = true;
    assert_eq!(run(&between, What::Tree).unwrap().files, 3);
    assert_eq!(fs::read(sshd.path("d/1/4096-3.msg")).unwrap(), b"three");

    sshd.trust("other");
    fs::remove_dir_all(sshd.path("d")).unwrap();
    let error = run(&between, What::Tree).unwrap_err();
    assert!(error.advice().unwrap().contains("host key"), "{error:?}");
}

#[test]
fn named_files_and_nothing_else() {
    let sshd = Sshd::start();
    tree(&sshd.path("a"));
    let push = Transfer::new(here(&sshd.path("a")), Place::new(sshd.shell(), sshd.path("b").to_str().unwrap()));
    let done = run(&push, What::Named(Input::Bytes(b"0/2-2.msg\x001/4096-3.msg\0".to_vec()))).unwrap();
    assert_eq!(done.files, 2);
    assert!(!sshd.path("b/0/1-1.msg").exists() && sshd.path("b/0/2-2.msg").exists());
    let error = run(&push, What::Named(Input::Bytes(b"0/9-9.msg\0".to_vec()))).unwrap_err();
    assert_eq!((error.kind(), error.peer_code()), (Kind::Peer, Some("23")), "a name that is not there is an error");
    let error = run(&push, What::Named(Input::Bytes(b"../a/0/1-1.msg\0".to_vec()))).unwrap_err();
    assert!(error.to_string().contains("not a name"), "{error}");
    let broken = Transfer { delete: true, ..push };
    assert_eq!(run(&broken, What::Named(Input::Bytes(vec![]))).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn hostile_things_in_a_tree_stay_behind() {
    let sshd = Sshd::start();
    tree(&sshd.path("a"));
    fs::create_dir(sshd.path("outside")).unwrap();
    fs::write(sshd.path("outside/3-3.msg"), "secret").unwrap();
    symlink(sshd.path("outside/3-3.msg"), sshd.path("a/0/3-3.msg")).unwrap();
    symlink(sshd.path("outside"), sshd.path("a/2")).unwrap();
    fs::write(sshd.path("a/0/5-5.msg\n0"), "newline").unwrap();
    fs::write(sshd.path("a/0/6-6.msg"), "setuid").unwrap();
    fs::set_permissions(sshd.path("a/0/6-6.msg"), fs::Permissions::from_mode(0o4757)).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(sshd.path("a/0/7-7.msg")).status().unwrap();
    assert!(fifo.success());
    // The destination may be as hostile: a link where a directory of blobs should be.
    fs::create_dir(sshd.path("b")).unwrap();
    symlink(sshd.path("outside"), sshd.path("b/1")).unwrap();

    let push = Transfer::new(here(&sshd.path("a")), Place::new(sshd.shell(), sshd.path("b").to_str().unwrap()));
    let done = run(&push, What::Tree).unwrap();
    assert_eq!((done.files, done.skipped), (4, 3));
    for name in ["b/0/3-3.msg", "b/2", "b/0/5-5.msg\n0", "b/0/7-7.msg", "outside/4096-3.msg"] {
        assert!(fs::symlink_metadata(sshd.path(name)).is_err(), "{name}");
    }
    assert!(fs::symlink_metadata(sshd.path("b/1")).unwrap().is_dir(), "the link was replaced, not followed");
    let mode = fs::metadata(sshd.path("b/0/6-6.msg")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);

    // Named through the links, on both sides.
    fs::remove_dir_all(sshd.path("b/1")).unwrap();
    symlink(sshd.path("outside"), sshd.path("b/1")).unwrap();
    let names = b"1/4096-3.msg\x002/3-3.msg\x000/3-3.msg\0".to_vec();
    let error = run(&push, What::Named(Input::Bytes(names.clone()))).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    fs::remove_file(sshd.path("a/2")).unwrap();
    let error = run(&push, What::Named(Input::Bytes(names))).unwrap_err();
    assert_eq!(error.peer_code(), Some("23"));
    assert!(sshd.path("b/1/4096-3.msg").exists());
    assert!(!sshd.path("outside/4096-3.msg").exists(), "written through a link");
    assert!(fs::symlink_metadata(sshd.path("b/0/3-3.msg")).is_err());
    assert!(!sshd.path("b/2/3-3.msg").exists(), "read through a link");
}

#[test]
fn copies_of_one_message_share_a_file_at_the_destination_too() {
    let sshd = Sshd::start();
    tree(&sshd.path("a"));
    fs::hard_link(sshd.path("a/0/1-1.msg"), sshd.path("a/1/4097-4.msg")).unwrap();
    let push = Transfer::new(here(&sshd.path("a")), Place::new(sshd.shell(), sshd.path("b").to_str().unwrap()));
    run(&push, What::Tree).unwrap();
    let inode = |name: &str| fs::metadata(sshd.path(name)).unwrap().ino();
    assert_eq!(inode("b/0/1-1.msg"), inode("b/1/4097-4.msg"));
    assert_ne!(inode("b/0/1-1.msg"), inode("b/0/2-2.msg"));
}

#[test]
fn deleting_follows_the_source_when_asked() {
    let sshd = Sshd::start();
    tree(&sshd.path("a"));
    let mut copy = Transfer::new(here(&sshd.path("a")), here(&sshd.path("b")));
    run(&copy, What::Tree).unwrap();
    fs::remove_file(sshd.path("a/0/1-1.msg")).unwrap();
    run(&copy, What::Tree).unwrap();
    assert!(sshd.path("b/0/1-1.msg").exists());
    copy.delete = true;
    assert_eq!(run(&copy, What::Tree).unwrap().deleted, 1);
    assert!(!sshd.path("b/0/1-1.msg").exists());
}

#[test]
fn a_source_that_is_not_there_is_an_error() {
    let sshd = Sshd::start();
    let copy = Transfer::new(here(&sshd.path("nowhere")), here(&sshd.path("b")));
    let error = run(&copy, What::Tree).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.message().ends_with("/nowhere: is not there"), "{error}");
    assert_eq!(copy.count(What::Tree, &Cancel::default()).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_copy_of_nothing_leaves_nothing_where_it_deletes() {
    let sshd = Sshd::start();
    tree(&sshd.path("b"));
    tree(&sshd.path("outside"));
    symlink(sshd.path("outside"), sshd.path("b/link")).unwrap();
    let far = Place::new(sshd.shell(), sshd.path("b").to_str().unwrap());
    let mut copy = Transfer::new(here(&sshd.path("nowhere")), far);
    assert_eq!(copy.clear(&Cancel::default()).unwrap().deleted, 0);
    assert!(sshd.path("b/0/1-1.msg").exists(), "deletes unasked");
    copy.delete = true;
    assert_eq!(copy.clear(&Cancel::default()).unwrap().deleted, 6);
    assert_eq!(fs::read_dir(sshd.path("b")).unwrap().count(), 0);
    assert!(sshd.path("outside/0/1-1.msg").exists(), "deleted through a link");
    fs::remove_dir(sshd.path("b")).unwrap();
    assert_eq!(copy.clear(&Cancel::default()).unwrap().deleted, 0, "and nothing is no error");
}

#[test]
fn a_cut_connection_is_retryable_and_the_next_run_goes_on() {
    let mut sshd = Sshd::start();
    fs::create_dir(sshd.path("a")).unwrap();
    for n in 0..40 {
        fs::write(sshd.path(&format!("a/{n}-1.msg")), vec![b'x'; 50_000]).unwrap();
    }
    let place = Place::new(sshd.shell(), sshd.path("b").to_str().unwrap());
    let slow = Transfer { bandwidth: Some(500), ..Transfer::new(here(&sshd.path("a")), place) };
    let (to_cut, cut) = std::sync::mpsc::channel();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| slow.run(What::Tree, &Cancel::default(), &mut |p| _ = to_cut.send(p.bytes)));
        while cut.recv().unwrap() < 200_000 {}
        sshd.restart();
        run.join().unwrap().unwrap_err()
    });
    assert_eq!((error.kind(), error.is_retryable()), (Kind::Unreachable, true), "{error}");
    let quick = Transfer { bandwidth: None, ..slow };
    let done = run(&quick, What::Tree).unwrap();
    assert!((1..40).contains(&done.files), "{done:?}");
    let lengths: Vec<u64> =
        fs::read_dir(sshd.path("b")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(lengths, [50_000; 40], "and nothing half done stays");
}

/// Two mailboxes may share the file of one message, at a destination too.
#[test]
fn what_has_a_second_name_is_not_written_over() {
    let sshd = Sshd::start();
    tree(&sshd.path("a"));
    fs::create_dir_all(sshd.path("b/0")).unwrap();
    fs::write(sshd.path("b/0/1-1.msg"), "of another mailbox too").unwrap();
    fs::hard_link(sshd.path("b/0/1-1.msg"), sshd.path("twin")).unwrap();
    let push = Transfer::new(here(&sshd.path("a")), Place::new(sshd.shell(), sshd.path("b").to_str().unwrap()));
    assert_eq!(run(&push, What::Tree).unwrap().files, 3);
    assert_eq!(fs::read(sshd.path("b/0/1-1.msg")).unwrap(), b"one");
    assert_eq!(fs::read(sshd.path("twin")).unwrap(), b"of another mailbox too");
}

/// A receiver that is killed tidies nothing up.
#[test]
fn a_file_that_a_killed_first_copy_left_unfinished_is_sent_again() {
    let sshd = Sshd::start();
    let slow = one_large_file(&sshd, 1000);
    let into = fs::canonicalize(sshd.path("")).unwrap().join("b");
    let copied = into.join("1-1.msg");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| run(&slow, What::Tree));
        let begun = || fs::metadata(&copied).is_ok_and(|found| found.len() > 0);
        while !begun() {
            assert!(!run.is_finished(), "the file never had its name before it was whole");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let all = fs::read_dir("/proc").unwrap().flatten();
        let receivers = all.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|at| at == into));
        let pids = receivers.map(|process| process.file_name());
        assert!(std::process::Command::new("kill").arg("-9").args(pids).status().unwrap().success());
        run.join().unwrap().unwrap_err();
    });
    let left = fs::metadata(&copied).unwrap();
    assert!(left.len() < 3_000_000, "it was written under its name");
    let quick = Transfer { bandwidth: None, ..slow };
    assert_eq!(run(&quick, What::Tree).unwrap().files, 1);
    assert_eq!(fs::read(&copied).unwrap(), vec![b'x'; 3_000_000]);
}

#[test]
fn a_stop_ends_a_transfer() {
    let sshd = Sshd::start();
    let slow = one_large_file(&sshd, 100);
    let cancel = Cancel::default();
    let started = std::time::Instant::now();
    let error = slow
        .run(What::Tree, &cancel, &mut |_| {
            cancel.request();
        })
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    assert!(started.elapsed().as_secs() < 10);
}
