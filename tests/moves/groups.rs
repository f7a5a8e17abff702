//! What differs between the databases of both stores.

use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{SOURCE, THIRD};

use crate::bench::Bench;

fn hurting(bench: &Bench, local: &str, mailbox: u32, huge: usize) {
    let shape = |spec: &mut Spec| {
        *spec = spec.clone().hurting();
        (spec.items, spec.huge_metadata) = (100, huge);
    };
    bench.add_mailbox(local, "store1", mailbox, &[], shape).unwrap();
}

#[test]
fn four_bytes_a_character_stay_in_a_converted_group() {
    let bench = Bench::take();
    hurting(&bench, "dee", 105, 0);
    bench.next_in_group(5);
    let before = bench.before_move("dee").unwrap();
    bench.moves(THIRD, "dee", &[]);
    bench.judge(&before);
}

#[test]
fn texts_that_fit_leave_a_converted_group() {
    let bench = Bench::take();
    bench.small("eve", 205, &[]);
    bench.next_in_group(6);
    let before = bench.before_move("eve").unwrap();
    bench.moves(SOURCE, "eve", &[]);
    bench.judge(&before);
}

#[test]
fn texts_that_do_not_fit_refuse_and_leave_nothing() {
    let bench = Bench::take();
    hurting(&bench, "fay", 305, 0);
    bench.next_in_group(6);
    let before = bench.before_move("fay").unwrap();
    let ended = bench.zlm().run_move(SOURCE, "fay", "store2", &[]).unwrap().expect(3);
    assert!(ended.stderr.contains("mail_item.subject: holds characters of four bytes"), "{}", ended.told());
    bench.judge_undone(&before);
}

#[test]
fn a_group_that_the_destination_lacks_is_made() {
    let bench = Bench::take();
    let id = bench.small("gus", 10, &[]);
    let next = bench.next_in_group(77);
    let there = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'mboxgroup77'";
    assert_eq!(bench.number("store2", there), Some(0));
    let before = bench.before_move("gus").unwrap();
    bench.moves(SOURCE, "gus", &[]);
    bench.judge(&before);
    assert_eq!(bench.mailbox_of("store2", &id), Some(next));
    assert_eq!(bench.number("store2", there), Some(1));
}

#[test]
fn numbers_above_a_million_and_an_offset() {
    const OFFSET: u64 = 1_048_576;
    let bench = Bench::take();
    let id = bench.small("hal", 1_048_700, &[]);
    bench.add_settings("ops1", &format!("[ids]\noffset = {OFFSET}\n")).unwrap();
    let before = bench.before_move("hal").unwrap();
    let ended = bench.zlm().run_move(THIRD, "hal", "store2", &[]).unwrap();
    bench.install_settings().unwrap();
    ended.expect(0);
    bench.judge(&before);
    assert_eq!(bench.mailbox_of("store2", &id), Some(1_048_700 + OFFSET));
    let next = bench.number("store2", "SELECT next_mailbox_id FROM zimbra.current_volumes").unwrap();
    assert!(next > 1_048_700 + OFFSET, "{next}");
}

/// A table of an extension, as an administrator or a module adds one.
const EXTENSION: &str = "(mailbox_id INT UNSIGNED NOT NULL, item_id INT UNSIGNED NOT NULL, note VARCHAR(99), \
                         PRIMARY KEY (mailbox_id, item_id)) ENGINE = InnoDB";

#[test]
fn a_table_of_an_extension_moves_too_and_refuses_where_there_is_none() {
    let bench = Bench::take();
    let id = bench.small("ivy", 110, &[]);
    bench.sql(
        "store1",
        &[
            &format!("CREATE TABLE mboxgroup10.zz_extension {EXTENSION}"),
            "INSERT INTO mboxgroup10.zz_extension VALUES (110, 1, 'one'), (110, 2, '(110,')",
        ],
    );
    bench.next_in_group(3);
    let before = bench.before_move("ivy").unwrap();
    let refused = bench.zlm().run_move(SOURCE, "ivy", "store2", &[]).unwrap().expect(3);
    assert!(refused.stderr.contains("zz_extension"), "{}", refused.told());
    bench.judge_undone(&before);

    bench.sql("store2", &[&format!("CREATE TABLE mboxgroup3.zz_extension {EXTENSION}")]);
    bench.next_in_group(3);
    let before = bench.before_move("ivy").unwrap();
    let moved = bench.zlm().run_move(SOURCE, "ivy", "store2", &[]).unwrap().expect(0);
    bench.judge(&before);
    let there = bench.mailbox_of("store2", &id).unwrap();
    let count = format!("SELECT COUNT(*) FROM mboxgroup3.zz_extension WHERE mailbox_id = {there}");
    assert_eq!(bench.number("store2", &count), Some(2), "{}", moved.told());
}

#[test]
fn columns_go_by_name_not_by_place() {
    let bench = Bench::take();
    bench.add_mailbox("jan", "store1", 3, &[], |spec| (spec.items, spec.hurts) = (100, true)).unwrap();
    bench.next_in_group(2);
    bench.sql(
        "store2",
        &[
            "ALTER TABLE mboxgroup2.mail_item MODIFY subject TEXT AFTER id, MODIFY metadata MEDIUMTEXT AFTER type",
            "ALTER TABLE mboxgroup2.tag MODIFY color BIGINT AFTER id",
        ],
    );
    let before = bench.before_move("jan").unwrap();
    bench.moves(SOURCE, "jan", &[]);
    bench.judge(&before);
}

#[test]
fn rows_go_in_without_local_infile() {
    let bench = Bench::take();
    hurting(&bench, "kim", 203, 15 << 20);
    bench.sql("store2", &["SET GLOBAL local_infile = 0"]);
    let before = bench.before_move("kim").unwrap();
    let ended = bench.zlm().run_move(THIRD, "kim", "store2", &[]).unwrap();
    bench.sql("store2", &["SET GLOBAL local_infile = 1"]);
    ended.expect(0);
    bench.judge(&before);
}
