//! Proofs: equal is equal, and every difference shows.

use zlm::cancel::Cancel;
use zlm::rows::{
    Dump, Held, InjectOptions, Proved, Rewrite, count, freeze_mark, inject_compared, inject_held, mailbox_dumps,
    proof_of, prove, reread, save,
};

use crate::copy::{copy, dump, messages};
use crate::servers::Pair;

#[test]
fn a_proof_finds_what_is_not_equal() {
    let pair = Pair::shared();
    let (source, destination, cancel) = (pair.source.pool(), pair.destination.pool(), Cancel::default());
    messages(&pair.source, 121, 9000);
    let dumps = [dump("mail_item", 121, 1121), dump("tag", 121, 1121)];
    let proof = prove(&source, &destination, &dumps, &cancel).unwrap();
    assert_eq!(proof.differences.len(), 1, "{proof:?}");
    copy(&pair, &dumps[0]).unwrap();
    let proof = prove(&source, &destination, &dumps, &cancel).unwrap();
    assert!(proof.holds(), "{proof:?}");
    assert_eq!(proof.tables[0].rows, 9000);
    pair.destination.sql("UPDATE mboxgroup1.mail_item SET flags = flags | 1 WHERE mailbox_id = 1121 AND id = 5000");
    let proof = prove(&source, &destination, &dumps, &cancel).unwrap();
    assert_eq!(
        proof.differences,
        ["mboxgroup1.mail_item, id 4992 to 5055: 64 rows at the source, 64 at the destination, contents differ"]
    );
    pair.destination.sql("UPDATE mboxgroup1.mail_item SET locator = '1' WHERE mailbox_id = 1121 AND id = 5000");
    let proof = prove(&source, &destination, &dumps, &cancel).unwrap();
    assert!(
        proof.differences.iter().any(|d| d.contains("1 rows at the destination with a locator that is not mapped")),
        "{proof:?}"
    );
}

/// Under the freeze only the source is read whole; what the destination held follows what is written there.
#[test]
fn what_a_destination_held_is_followed() {
    is_followed(133, 5_000);
}

/// The same where a table is so long that several connections read it.
#[test]
fn what_a_destination_held_of_a_long_table_is_followed() {
    is_followed(134, 20_500);
}

fn is_followed(mailbox: u32, items: u32) {
    let pair = Pair::shared();
    let (source, destination, cancel) = (pair.source.pool(), pair.destination.pool(), Cancel::default());
    messages(&pair.source, mailbox, items);
    let dumps = [dump("mail_item", mailbox, i64::from(mailbox) + 1000)];
    // So that several writers have several batches each.
    let options = InjectOptions { batch_rows: 300, ..InjectOptions::default() };
    let held = inject_held(&source, &destination, &dumps, &options, &|_| Ok(()), &cancel).unwrap();
    let mut held: Vec<Held> = held.into_iter().map(|(_, held)| held).collect();
    // Changed and new ones that the change number tells; unread ones and gone ones that it does not tell; a new one that
    // cannot come before another has gone; and all of them with the name of another.
    let of = format!("mboxgroup1.mail_item WHERE mailbox_id = {mailbox}");
    let set = |what: &str, which: &str| {
        format!("UPDATE mboxgroup1.mail_item SET {what} WHERE mailbox_id = {mailbox} AND {which}")
    };
    let vanished = format!("DELETE FROM {of} AND id IN (400, 3000)");
    let named = format!(
        "INSERT INTO mboxgroup1.mail_item (mailbox_id, id, type, folder_id, date, size, name, mod_metadata, mod_content) \
         VALUES ({mailbox}, 90001, 5, 2, 1, 1, 'name144', 99000, 99000)"
    );
    let turned = set("name = CONCAT('x', name), mod_metadata = 99002", "TRUE");
    let turn = set(&format!("name = CONCAT('name', SUBSTRING(name, 6) % {items} + 1)"), "TRUE");
    for changes in [
        set("tag_names = x'0078790000', mod_metadata = 90000", "id % 7 = 0"),
        set("unread = 0, mod_content = 91000", "id IN (300, 2300)"),
        format!("{vanished};\n{named}"),
        set("flags = 2, mod_metadata = 99001", "id = 90001"),
        format!("{turned};\n{turn}"),
    ] {
        pair.source.sql(&changes);
        let known = |_: &Dump| Some(held[0].clone());
        let each = inject_compared(&source, &destination, &dumps, &known, &options, &|_| Ok(()), &cancel).unwrap();
        let (_, compared) = each.into_iter().next().unwrap();
        assert_eq!(compared.differences(), [""; 0], "{changes}");
        let content = pair.source.number(&format!("SELECT MAX(mod_content) FROM {of}"));
        assert_eq!(compared.content(), Some(content as u64), "{changes}");
        let proof = prove(&source, &destination, &dumps, &cancel).unwrap();
        assert_eq!((proof.differences, &proof.tables[0]), (Vec::new(), &compared.proof()), "{changes}");
        held = inject_held(&source, &destination, &dumps, &options, &|_| Ok(()), &cancel)
            .unwrap()
            .into_iter()
            .map(|(injected, held)| {
                assert_eq!((injected.inserted, injected.deleted), (0, 0), "{changes}");
                held
            })
            .collect();
    }
}

#[test]
fn a_freeze_mark_sees_every_write() {
    let pair = Pair::shared();
    let (source, cancel) = (pair.source.pool(), Cancel::default());
    messages(&pair.source, 122, 100);
    pair.source.sql("INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id, change_checkpoint) VALUES (122, 1, 'mark', 2, 100)");
    let dumps = [dump("mail_item", 122, 1122), dump("tag", 122, 1122)];
    let mark = || freeze_mark(&source, 122, &dumps, &|_| false, &cancel).unwrap();
    let first = mark();
    assert_eq!(first.tables[0].max_mod_metadata, Some(400));
    assert!(first.changes(&mark(), &[]).is_empty());
    pair.source.sql("UPDATE mboxgroup1.mail_item SET unread = 0 WHERE mailbox_id = 122 AND id = 300");
    assert_eq!(first.changes(&mark(), &[]).len(), 1);
    pair.source.sql("UPDATE zimbra.mailbox SET change_checkpoint = 200 WHERE id = 122");
    assert_eq!(first.changes(&mark(), &[]).len(), 2);
    assert!(freeze_mark(&source, 12200, &dumps, &|_| false, &cancel).is_err());
}

/// Of a table that several connections read, as its indexes tell.
#[test]
fn a_freeze_mark_of_a_long_table_sees_new_change_numbers() {
    let pair = Pair::shared();
    let (source, cancel) = (pair.source.pool(), Cancel::default());
    messages(&pair.source, 135, 20_500);
    pair.source
        .sql("INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id) VALUES (135, 1, 'long', 2)");
    let dumps = [dump("mail_item", 135, 1135)];
    let mark = || freeze_mark(&source, 135, &dumps, &|_| false, &cancel).unwrap();
    let first = mark();
    let of = |what: &str| {
        let sql = format!("SELECT {what} FROM mboxgroup1.mail_item WHERE mailbox_id = 135");
        Some(pair.source.number(&sql) as u64)
    };
    let items = &first.tables[0];
    let told = (Some(items.rows), items.max_mod_metadata, items.sum_mod_metadata);
    assert_eq!(told, (of("COUNT(*)"), of("MAX(mod_metadata)"), of("SUM(mod_metadata)")));
    assert!(first.changes(&mark(), &[]).is_empty());
    let set = |number: u32| {
        let sql =
            format!("UPDATE mboxgroup1.mail_item SET mod_metadata = {number} WHERE mailbox_id = 135 AND id = 10256");
        pair.source.sql(&sql);
        first.changes(&mark(), &[]).len()
    };
    assert_eq!([set(99_000), set(10_301), set(10_300)], [1, 1, 0]);
}

/// What the reading of all rows says of change numbers is what a mark says later, as long as nothing is written.
#[test]
fn what_was_read_for_a_proof_stands_for_a_mark() {
    let pair = Pair::shared();
    let (source, destination, cancel) = (pair.source.pool(), pair.destination.pool(), Cancel::default());
    messages(&pair.source, 136, 20_500);
    pair.source
        .sql("INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id) VALUES (136, 1, 'read', 2)");
    let dumps = [dump("mail_item", 136, 1136), dump("tag", 136, 1136)];
    let mark = |dumps: &[Dump]| freeze_mark(&source, 136, dumps, &|_| false, &cancel).unwrap();
    let short = mark(&dumps[1..]);
    let options = InjectOptions::default();
    let inject = |held: Option<Held>| {
        let held = |dump: &Dump| held.clone().filter(|_| dump.table == "mail_item");
        let each = inject_compared(&source, &destination, &dumps, &held, &options, &|_| Ok(()), &cancel).unwrap();
        each.into_iter().map(|(_, compared)| compared.proof()).collect::<Vec<_>>()
    };
    let first = inject(None);
    let held = inject_held(&source, &destination, &dumps[..1], &options, &|_| Ok(()), &cancel).unwrap();
    // Read by one connection, and by several.
    for read in [first, inject(held.into_iter().next().map(|(_, held)| held))] {
        assert_eq!(short.changes(&mark(&dumps), &read), [""; 0]);
        let set = |number: u32| {
            let sql =
                format!("UPDATE mboxgroup1.mail_item SET mod_metadata = {number} WHERE mailbox_id = 136 AND id = 300");
            pair.source.sql(&sql);
            short.changes(&mark(&dumps), &read).len()
        };
        assert_eq!([set(99_000), set(345), set(344)], [1, 1, 0]);
    }
    assert_eq!(short.changes(&mark(&dumps), &[]), ["mboxgroup1.mail_item: was not there"]);
}

/// However long it is: no number tells of a row that was changed where it stands.
#[test]
fn a_freeze_mark_sees_contents_of_tables_without_change_numbers() {
    let pair = Pair::shared();
    let (source, cancel) = (pair.source.pool(), Cancel::default());
    pair.source.sql(
        "INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id) VALUES (137, 1, 'tags', 2);\n\
         INSERT INTO mboxgroup1.tagged_item (mailbox_id, tag_id, item_id) SELECT 137, 64, seq FROM mboxgroup1.seq_300_to_20800",
    );
    let dumps = [dump("tagged_item", 137, 1137)];
    // That all rows are read soon after is no mark of them: nothing tells what is written after that.
    let mark = |is_read: bool| freeze_mark(&source, 137, &dumps, &|_| is_read, &cancel).unwrap();
    let first = mark(true);
    assert!(first.changes(&mark(false), &[]).is_empty());
    pair.source.sql("UPDATE mboxgroup1.tagged_item SET tag_id = 65 WHERE mailbox_id = 137 AND item_id = 9000");
    assert_eq!(first.changes(&mark(false), &[]), ["mboxgroup1.tagged_item: changed, 20501 rows then, 20501 now"]);
}

/// What others write at the destination after the comparison: to a short table, to what the copy wrote of a long one, and
/// to the rest of that, as far as its numbers tell.
#[test]
fn what_is_written_to_the_copy_after_the_comparison_is_seen() {
    let pair = Pair::shared();
    let (source, destination, cancel) = (pair.source.pool(), pair.destination.pool(), Cancel::default());
    messages(&pair.source, 138, 20_500);
    messages(&pair.source, 139, 200);
    let dumps = [dump("mail_item", 138, 1138), dump("mail_item", 139, 1139)];
    let options = InjectOptions::default();
    let held = inject_held(&source, &destination, &dumps, &options, &|_| Ok(()), &cancel).unwrap();
    pair.source.sql(
        "UPDATE mboxgroup1.mail_item SET unread = 0, mod_metadata = 90000 WHERE mailbox_id = 138 AND id = 5000;\n\
         UPDATE mboxgroup1.mail_item SET unread = 0, mod_metadata = 90000 WHERE mailbox_id = 139 AND id = 300",
    );
    let held =
        |dump: &Dump| held.iter().zip(&dumps).find(|(_, other)| *other == dump).map(|((_, held), _)| held.clone());
    let compared = inject_compared(&source, &destination, &dumps, &held, &options, &|_| Ok(()), &cancel).unwrap();
    let compared: Vec<_> = compared.into_iter().map(|(_, compared)| compared).collect();
    let proof = proof_of(&compared);
    assert!(proof.holds(), "{proof:?}");
    let read = |is_known: bool| {
        let tables: Vec<_> = dumps
            .iter()
            .zip(&proof.tables)
            .zip(&compared)
            .map(|((dump, proof), known)| Proved {
                dump: dump.clone(),
                proof,
                compared: is_known.then(|| known.clone()),
            })
            .collect();
        reread(&source, &destination, &tables, &[], &cancel).unwrap().len()
    };
    let [flag, back] = ["flags + 1", "flags - 1"];
    let set = |what: &str, mailbox: u32, id: u32| {
        let sql = format!("UPDATE mboxgroup1.mail_item SET {what} WHERE mailbox_id = {mailbox} AND id = {id}");
        pair.destination.sql(&sql);
    };
    assert_eq!((read(true), read(false)), (0, 0));
    for (mailbox, id, seen, seen_by_another_process) in [(1139, 320, 1, 1), (1138, 5000, 1, 0)] {
        set(&format!("flags = {flag}"), mailbox, id);
        assert_eq!((read(true), read(false)), (seen, seen_by_another_process), "{mailbox} {id}");
        set(&format!("flags = {back}"), mailbox, id);
    }
    set("mod_metadata = mod_metadata + 1", 1138, 20_000);
    assert_eq!((read(true), read(false)), (1, 1));
    set("mod_metadata = mod_metadata - 1", 1138, 20_000);
    pair.destination.sql("DELETE FROM mboxgroup1.mail_item WHERE mailbox_id = 1138 AND id = 20000");
    assert_eq!((read(true), read(false)), (1, 1));
}

#[test]
fn every_table_of_a_mailbox_is_found() {
    let pair = Pair::shared();
    let (mut source, mut destination) = (pair.source.session(), pair.destination.session());
    pair.source.sql("CREATE TABLE mboxgroup1.extension_ (mailbox_id INT UNSIGNED, locator INT, id INT)");
    let rewrites = [("mailbox_id".to_string(), Rewrite::Constant(1))].into();
    let dumps = mailbox_dumps(&mut source, &mut destination, "mboxgroup1", "mboxgroup1", 123, &rewrites).unwrap();
    let names: Vec<String> = dumps.iter().map(|d| d.name()).collect();
    for table in [
        "mboxgroup1.mail_item",
        "mboxgroup1.event",
        "mboxgroup1.watch",
        "zimbra.mailbox_metadata",
        "zimbra.mobile_devices",
    ] {
        assert!(names.iter().any(|name| name == table), "{table} in {names:?}");
    }
    for table in [
        "zimbra.mailbox",
        "zimbra.volume_blobs",
        "zimbra.pending_acl_push",
        "zimbra.scheduled_task",
        "zimbra.deleted_account",
        "mboxgroup1.extension_",
    ] {
        assert!(!names.iter().any(|name| name == table), "{table} in {names:?}");
    }
    pair.source.sql("INSERT INTO mboxgroup1.extension_ VALUES (123, 1, 1)");
    let error = mailbox_dumps(&mut source, &mut destination, "mboxgroup1", "mboxgroup1", 123, &rewrites).unwrap_err();
    assert!(error.to_string().contains("mboxgroup1.extension_"), "{error}");
}

#[test]
fn a_saved_dump_can_be_read_by_a_person_and_by_a_server() {
    let pair = Pair::shared();
    messages(&pair.source, 124, 30);
    let dump = dump("mail_item", 124, 1124);
    assert_eq!(count(&mut pair.source.session(), &dump).unwrap().rows, 30);
    let mut text = Vec::new();
    assert_eq!(save(&pair.source.pool(), &dump, &mut text, &Cancel::default()).unwrap(), 30);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("'see (124, 3)'") && text.contains("x'00746167003100'"), "{text}");
    pair.destination.sql(&text);
    assert_eq!(copy(&pair, &dump).unwrap().unchanged, 30);
}
