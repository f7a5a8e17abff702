//! Ways back that are refused: something of the user's would be lost, or the copy is not what it was.

use std::fs;

use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{SOURCE, assert_clean};

use super::{Moved, go_file, options, paused, restart_mailboxd};
use crate::bench::Bench;

#[test]
fn mail_that_came_since_is_not_left_behind() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "tia", 463, &[]);
    let journal = moved.deliver(&bench, 1);
    moved.assert_refused(&bench, "it was written to on store2.lab.test since that move");
    assert_clean(&bench.check_moved(&moved.before, "store1", "store2", Some(&journal), false).unwrap());
    let back = bench.zlm().run_move(SOURCE, "tia", "store1", &[]).unwrap().expect(3);
    let says = "store1.lab.test has a mailbox row of an earlier stay, number 463: remove that copy first, and restart";
    assert!(back.stderr.contains(says), "{}", back.told());
}

#[test]
fn what_users_do_is_not_left_behind() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "uma", 464, &[]);
    let (here, group) =
        (bench.mailbox_of("store2", &moved.id).unwrap(), "SELECT group_id FROM zimbra.mailbox WHERE id");
    let group = bench.number("store2", &format!("{group} = {here}")).unwrap();
    // Each of them is written to the rows without a new change number, and then set back.
    let changes = [
        (
            format!("UPDATE mboxgroup{group}.mail_item SET flags = flags + 1 WHERE mailbox_id = {here} AND id = 257"),
            format!("UPDATE mboxgroup{group}.mail_item SET flags = flags - 1 WHERE mailbox_id = {here} AND id = 257"),
        ),
        (
            format!("INSERT INTO zimbra.out_of_office VALUES ({here}, 'bob@lab.test', NOW())"),
            format!("DELETE FROM zimbra.out_of_office WHERE mailbox_id = {here}"),
        ),
        (
            format!("UPDATE zimbra.mailbox SET tracking_imap = 1 - tracking_imap WHERE id = {here}"),
            format!("UPDATE zimbra.mailbox SET tracking_imap = 1 - tracking_imap WHERE id = {here}"),
        ),
    ];
    for (change, back) in &changes {
        bench.sql("store2", &[change]);
        moved.assert_refused(&bench, "it was written to on store2.lab.test since that move");
        bench.sql("store2", &[back]);
    }
    moved.reverse(&bench, &[]).expect(0);
    moved.assert_home(&bench, None);
}

#[test]
fn what_came_between_the_look_and_the_freeze_is_not_left_behind() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "val", 465, &[]);
    let script = paused(&bench, "step(\"freeze\"");
    let options = options(&moved, &bench);
    let words: Vec<&str> = ["run", &script].into_iter().chain(options.iter().map(String::as_str)).collect();
    let mut child = bench.zlm().start(SOURCE, &words).unwrap();
    let stderr = crate::life::wait_for(&mut child, "compare done");
    let journal = moved.deliver(&bench, 1);
    fs::write(go_file(&bench), "go@lab.test\n").unwrap();
    let ended = crate::life::end(child, stderr).expect(1);
    assert!(ended.stderr.contains("is not as it came from store1.lab.test"), "{}", ended.told());
    let next = "zlm run scripts/move.rhai --email val@lab.test --dest store1.lab.test";
    assert!(ended.stderr.contains(next), "{}", ended.told());
    assert_clean(&bench.check_moved(&moved.before, "store1", "store2", Some(&journal), false).unwrap());
    let locked = bench.host("store2").unwrap().mailboxd_control(&format!("locked {}", moved.id)).unwrap();
    assert_eq!(locked, "no");
}

/// Clients that ask for what is new by a number of a change were given numbers at the new home which the old one, as long
/// as it has the mailbox in memory, would give to other changes.
#[test]
fn clients_that_synchronise_miss_nothing() {
    let bench = Bench::take();
    let shape = |spec: &mut Spec| (spec.items, spec.hurts) = (40, true);
    let id = bench.add_mailbox("yul", "store1", 468, &[], shape).unwrap();
    let moved = Moved::of(&bench, "yul", id, 468);
    moved.assert_refused(&bench, "clients synchronise with it");
    restart_mailboxd(&bench, "store1");
    moved.reverse(&bench, &[]).expect(0);
    assert_eq!(bench.mailbox_of("store1", &moved.id), Some(468));
}

#[test]
fn a_copy_that_is_not_as_it_was_left_is_no_way_back() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "zia", 469, &[]);
    let count =
        |n: i32| format!("UPDATE zimbra.mailbox SET change_checkpoint = change_checkpoint + ({n}) WHERE id = 469");
    bench.sql("store1", &[&count(100)]);
    moved.assert_refused(&bench, "the copy that store1.lab.test kept is not as it was left");
    bench.sql("store1", &[&count(-100)]);

    let store = bench.host("store1").unwrap();
    let dir = store.zimbra_path("store/0/469/msg");
    let folder = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let blob = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&blob).unwrap();
    fs::rename(&blob, blob.with_extension("aside")).unwrap();
    moved.assert_refused(&bench, "the copy that store1.lab.test kept is not whole");
    fs::rename(blob.with_extension("aside"), &blob).unwrap();
    let turned: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    fs::write(&blob, &turned).unwrap();
    moved.assert_refused(&bench, "its bytes differ");
    fs::write(&blob, &bytes).unwrap();

    // Somebody let its sessions in again.
    assert_eq!(store.mailboxd_control(&format!("let-in {}", moved.id)).unwrap(), "ok");
    moved.assert_refused(&bench, "in memory and not locked");

    bench.remove_copy("store1", &moved.id).unwrap();
    moved.assert_refused(&bench, "the copy that store1.lab.test kept is gone");
}

/// A script of one's own that copies as a move does would write the other store's volumes into the copy.
#[test]
fn nothing_is_copied_on_the_way_back() {
    let bench = Bench::take();
    let moved = Moved::new(&bench, "pia", 485, &[]);
    let script = paused(&bench, "let proof");
    let path = bench.host("store1").unwrap().zimbra_path("zlm/paused.rhai");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\nlet proof", "\ncutover::delta(frozen);\nlet proof")).unwrap();
    fs::write(go_file(&bench), "go@lab.test\n").unwrap();
    let options = options(&moved, &bench);
    let words: Vec<&str> = ["run", &script].into_iter().chain(options.iter().map(String::as_str)).collect();
    let ended = moved.zlm(&bench, &words).expect(1);
    assert!(ended.stderr.contains("nothing is copied on the way back"), "{}", ended.told());
    assert_clean(&bench.check_moved(&moved.before, "store1", "store2", None, false).unwrap());
    moved.reverse(&bench, &[]).expect(0);
    moved.assert_home(&bench, None);
}
