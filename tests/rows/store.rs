//! The row of a mailbox: staged, refreshed, published, taken back.

use zlm::cancel::Cancel;
use zlm::clients::db::{Pool, Session};
use zlm::error::Kind;
use zlm::rows::Layout;
use zlm::store::{
    Aside, IdFrom, Stage, Staged, Steps, Unstaged, await_group, barrier, checkpoints, facts, groups,
    mailbox_by_account, mailbox_by_id, publish, put_shares, refresh, stage, staged_for, unpublish, unstage,
};

use crate::copy::{copy, dump, messages};
use crate::servers::{Pair, schema};

fn pair() -> Pair {
    let pair = Pair::start(&["--max_connections=12"]);
    for server in [&pair.source, &pair.destination] {
        server.sql(
            "INSERT INTO zimbra.volume (id, type, name, path, file_bits, file_group_bits, mailbox_bits, mailbox_group_bits, compress_blobs, \
             compression_threshold) VALUES (1, 1, 'message1', '/opt/zimbra/store', 12, 8, 12, 8, 0, 4096), (2, 10, 'index1', '/opt/zimbra/index', 12, 8, 12, 8, 0, 4096);\n\
             INSERT INTO zimbra.current_volumes VALUES (1, NULL, 2, 5)",
        );
    }
    pair.source.sql(
        "INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id, item_id_checkpoint, change_checkpoint, last_backup_at, comment, version) \
         VALUES (4, 1, '6c0ee4f0-0000-4000-8000-000000000001', 2, 280, 300, 77, 'user@lab.test', '2.7')",
    );
    pair
}

/// Takes a staged mailbox away, by a thread that holds no other connection: one that does must not wait for any.
fn taken_back(pair: &Pair, staged: &Staged) -> zlm::Result<Unstaged> {
    let take = || unstage(&pair.destination.pool(), staged, &Cancel::default());
    std::thread::scope(|scope| scope.spawn(take).join().unwrap())
}

const ACCOUNT: &str = "6c0ee4f0-0000-4000-8000-000000000001";

#[test]
fn a_mailbox_is_staged_refreshed_published_and_taken_back() {
    let pair = pair();
    let (mut source, mut destination) = (pair.source.session(), pair.destination.session());
    let known = facts(&mut destination).unwrap();
    assert_eq!((known.db_version, known.volumes.len(), known.next_mailbox_id), (118, 2, 5));
    assert_eq!(known.volumes[1].kind, zlm::zimbra::volume::Kind::Index);

    let row = mailbox_by_account(&mut source, ACCOUNT).unwrap().unwrap();
    assert_eq!(Some(&row), mailbox_by_id(&mut source, 4).unwrap().as_ref());
    assert_eq!(mailbox_by_account(&mut source, "6c0ee4f0%").unwrap(), None);

    let script = schema("create_database.sql");
    let how = Stage { run: "r1", groups: 100, id: IdFrom::Counter, create_database: Some(&script) };
    let staged = stage(&mut destination, &row, &how).unwrap();
    assert_eq!((staged.id, staged.group_id, staged.created_group), (5, 5, true));
    assert_eq!(pair.destination.number("SELECT next_mailbox_id FROM zimbra.current_volumes"), 6);
    assert_eq!(mailbox_by_account(&mut destination, ACCOUNT).unwrap(), None);
    assert_eq!(staged_for(&mut destination, ACCOUNT).unwrap(), [(5, staged.placeholder.clone())]);
    let there = mailbox_by_id(&mut destination, 5).unwrap().unwrap();
    assert_eq!((there.get("comment"), there.get("last_backup_at")), (Some("user@lab.test"), None));
    let columns = "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLLATION_NAME, COLUMN_DEFAULT FROM information_schema.COLUMNS \
                   WHERE TABLE_SCHEMA = 'mboxgroup{}' ORDER BY 1, 2";
    assert_eq!(pair.destination.rows(&columns.replace("{}", "1")), pair.destination.rows(&columns.replace("{}", "5")));

    messages(&pair.source, 4, 500);
    pair.source.sql("INSERT INTO mboxgroup1.tombstone VALUES (4, 1200, 1, 5, '300,2000:uuid')");
    for table in ["mail_item", "tombstone"] {
        copy(&pair, &dump(table, 4, 5).into_database("mboxgroup5")).unwrap();
    }
    let points = checkpoints(&mut destination, &staged, &row, Steps::default(), &|_| None).unwrap();
    assert_eq!((points.item, points.change), (2019, 1299));
    let known = |table: &str| (table == "mail_item").then_some(5000);
    assert_eq!(checkpoints(&mut destination, &staged, &row, Steps::default(), &known).unwrap().change, 5099);
    refresh(&mut destination, &staged, &row, points).unwrap();
    refresh(&mut destination, &staged, &row, points).unwrap();
    assert_eq!(mailbox_by_id(&mut destination, 5).unwrap().unwrap().item_id_checkpoint, 2019);

    publish(&mut destination, &staged, ACCOUNT).unwrap();
    publish(&mut destination, &staged, ACCOUNT).unwrap();
    assert!(mailbox_by_account(&mut destination, ACCOUNT).unwrap().is_some());
    assert_eq!(stage(&mut destination, &row, &how).unwrap_err().kind(), Kind::Refused);
    assert_eq!(taken_back(&pair, &staged).unwrap_err().kind(), Kind::Held);
    pair.source.sql("INSERT INTO zimbra.pending_acl_push VALUES (4, 257, 99)");
    for values in [
        "('a.B', 'task257', 4, '0000-00-00 00:00:00', 4294967295, 'd4:\u{e9}xe')",
        "('A.b', 'task257', 4, NULL, NULL, NULL)",
    ] {
        pair.source.sql(&format!("INSERT INTO zimbra.scheduled_task VALUES {values}"));
    }
    let aside = Aside::read(&mut source, 4).unwrap();
    assert_eq!((aside.shares.len(), aside.tasks.len()), (1, 2));
    let tasks = |pair: &Pair| {
        let sql = "SELECT class_name, name, exec_time, interval_millis, metadata FROM zimbra.scheduled_task ORDER BY 1";
        (pair.source.rows(sql), pair.destination.rows(sql))
    };
    let lose = "DELETE FROM zimbra.scheduled_task WHERE class_name = 'a.B'";
    for meanwhile in
        [lose, "INSERT INTO zimbra.scheduled_task (class_name, name, mailbox_id) VALUES ('c', 'ran since', 5)"]
    {
        aside.put(&mut destination, &staged).unwrap();
        let (here, there) = tasks(&pair);
        assert_eq!(here, there);
        pair.destination.sql(meanwhile);
        pair.destination.sql("DELETE FROM zimbra.pending_acl_push");
    }
    aside.put(&mut destination, &staged).unwrap();
    put_shares(&mut destination, 5, &aside.shares).unwrap();
    assert_eq!(pair.destination.number("SELECT COUNT(*) FROM zimbra.pending_acl_push WHERE mailbox_id = 5"), 1);
    assert_eq!(Aside::read(&mut destination, 5).unwrap(), aside);
    unpublish(&mut destination, &staged, ACCOUNT).unwrap();

    let undone = taken_back(&pair, &staged).unwrap();
    assert_eq!((undone.rows, undone.dropped_group), (505, true));
    // A rollback that died, or could not note how far it was, does all of it once more.
    unpublish(&mut destination, &staged, ACCOUNT).unwrap();
    assert_eq!(taken_back(&pair, &staged).unwrap().rows, 0);
    assert_eq!(pair.destination.number("SELECT COUNT(*) FROM zimbra.mailbox"), 0);

    let offset = stage(&mut destination, &row, &Stage { run: "r2", id: IdFrom::Offset(96), ..how.clone() }).unwrap();
    assert_eq!((offset.id, offset.group_id), (100, 100));
    assert_eq!(pair.destination.number("SELECT next_mailbox_id FROM zimbra.current_volumes"), 101);
}

#[test]
fn leftovers_refuse() {
    let pair = pair();
    let (mut source, mut destination) = (pair.source.session(), pair.destination.session());
    let row = mailbox_by_account(&mut source, ACCOUNT).unwrap().unwrap();
    pair.destination.sql("INSERT INTO mboxgroup1.watch VALUES (5, 'target', 1)");
    let error =
        stage(&mut destination, &row, &Stage { run: "r", groups: 1, id: IdFrom::Counter, create_database: None })
            .unwrap_err();
    assert!(error.to_string().contains("mboxgroup1.watch"), "{error}");
    assert_eq!(pair.destination.number("SELECT next_mailbox_id FROM zimbra.current_volumes"), 5);
    let error =
        stage(&mut destination, &row, &Stage { run: "r", groups: 100, id: IdFrom::Counter, create_database: None })
            .unwrap_err();
    assert!(error.to_string().contains("mboxgroup5"), "{error}");
    assert_eq!(pair.destination.number("SELECT COUNT(*) FROM zimbra.mailbox"), 0);
}

#[test]
fn group_that_another_run_is_creating_is_waited_for() {
    let pair = pair();
    let row = mailbox_by_account(&mut pair.source.session(), ACCOUNT).unwrap().unwrap();
    let text = "CREATE DATABASE ${DATABASE_NAME};\nDO SLEEP(1);\n\
                CREATE TABLE ${DATABASE_NAME}.mail_item (mailbox_id INT, id INT)";
    let mut other = pair.destination.session();
    let stage = |other: &mut Session| {
        stage(other, &row, &Stage { run: "r", groups: 100, id: IdFrom::Counter, create_database: Some(text) })
    };
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| stage(&mut other));
        let mut session = pair.destination.session();
        while !groups(&mut session).unwrap().contains(&"mboxgroup5".to_owned()) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let whole = |session: &mut Session| Layout::read(session, "mboxgroup5", "mail_item");
        assert!(whole(&mut session).unwrap().is_none(), "it is half made");
        await_group(&mut session, "mboxgroup5").unwrap();
        assert!(whole(&mut session).unwrap().is_some());
        assert!(creating.join().unwrap().unwrap().created_group);
    });
}

#[test]
fn what_is_behind_a_barrier_survives_the_death_of_the_server() {
    let pair = pair();
    let mut session = pair.destination.session();
    // Once a second the server writes its log by itself; 20 ms after a barrier that is unlikely to have helped.
    session.run("INSERT INTO zimbra.config (name, value) VALUES ('behind', '1')").unwrap();
    barrier(&mut session).unwrap();
    pair.destination.kill();
    pair.destination.again();
    assert_eq!(pair.destination.number("SELECT COUNT(*) FROM zimbra.config WHERE name = 'behind'"), 1);
    let tables = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME LIKE 'zlm%'";
    assert_eq!(pair.destination.number(tables), 0);
}

#[test]
fn a_full_server_is_waited_for_and_a_wrong_one_refused() {
    let pair = pair();
    let mut taken: Vec<Session> = Vec::new();
    let full = loop {
        match Session::connect(&pair.destination.target()) {
            Ok(session) => taken.push(session),
            Err(error) => break error,
        }
    };
    assert_eq!(full.peer_code(), Some("1040"), "{full}");
    let pool = Pool::new(pair.destination.target(), 4);
    assert!(pool.try_get(&Cancel::default()).unwrap().is_none());
    let waiting = std::thread::spawn(move || pool.get(&Cancel::default()).map(drop));
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!waiting.is_finished());
    taken.clear();
    waiting.join().unwrap().unwrap();

    let mut target = pair.destination.target();
    target.hostname = Some("elsewhere.lab.test".into());
    assert_eq!(Session::connect(&target).unwrap_err().kind(), Kind::Refused);
}
