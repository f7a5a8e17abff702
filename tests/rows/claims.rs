//! Claims of accounts: one holder, a row that says who, and a fence that keeps out whoever held it before.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use zlm::clients::db::Session;
use zlm::error::{Error, Kind};
use zlm::store::{Claimant, Claims, Hold, Standing, claim_of, hold, standing, take_over};

use crate::servers::{Pair, Server};

const ACCOUNT: &str = "6c0ee4f0-0000-4000-8000-000000000001";
const OTHER: &str = "6c0ee4f0-0000-4000-8000-000000000002";

fn by(run: &str) -> Claimant {
    Claimant {
        run: run.to_owned(),
        host: "store1".to_owned(),
        user: "root".to_owned(),
        subject: r#"{"email":"anna@lab.test"}"#.to_owned(),
        pinned: None,
    }
}

/// Claims as soon as the server has seen that the last holder is gone.
fn claim(server: &Server, account: &str, run: &str) -> Result<Hold, Error> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match hold(&server.target(), account, "dest", &by(run)) {
            Err(error) if error.kind() == Kind::Held && Instant::now() < until => sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn databases(server: &Server) -> i64 {
    server.number("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'zlm'")
}

fn connection(server: &Server) -> i64 {
    server.number(&format!("SELECT IS_USED_LOCK('zlm.{ACCOUNT}')"))
}

#[test]
fn an_account_is_held_once_and_its_row_says_by_whom() {
    let pair = Pair::start(&["--max_connections=12"]);
    let server = &pair.destination;
    assert!(matches!(standing(&mut server.session(), ACCOUNT).unwrap(), Standing::Free));
    let mut first = claim(server, ACCOUNT, "r1").unwrap();
    first.check().unwrap();
    let error = hold(&server.target(), ACCOUNT, "dest", &by("r2")).unwrap_err();
    assert_eq!(error.kind(), Kind::Held);
    assert!(error.to_string().contains("run r1 of root on store1 since 20"), "{error}");
    let mut second = claim(server, OTHER, "r2").unwrap();

    first.release().unwrap();
    drop(first);
    assert_eq!(claim_of(&mut server.session(), ACCOUNT).unwrap(), None);
    assert_eq!(databases(server), 1);
    second.release().unwrap();
    assert_eq!(databases(server), 0);
    assert_eq!(claim_of(&mut server.session(), OTHER).unwrap(), None);
}

#[test]
fn what_a_dead_run_left_is_its_own_to_take() {
    let pair = Pair::start(&["--max_connections=12"]);
    let server = &pair.destination;
    let first = claim(server, ACCOUNT, "r1").unwrap();
    let epoch = first.claim().epoch;
    drop(first);
    let error = claim(server, ACCOUNT, "r2").unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.to_string().contains("run r1 of root on store1"), "{error}");
    match standing(&mut server.session(), ACCOUNT).unwrap() {
        Standing::Left(left) => assert_eq!(left.by, by("r1")),
        other => panic!("{other:?}"),
    }
    let lost = take_over(&server.target(), ACCOUNT, Some("r2"), "ops1", "zimbra").unwrap_err();
    assert!(lost.is_lost(), "{lost}");
    let second = claim(server, ACCOUNT, "r1").unwrap();
    assert!(second.claim().epoch > epoch);
    drop(second);
    // What somebody else keeps in a database of this name stays there.
    server.sql("CREATE TABLE zlm.notes (a INT)");
    let mut third = loop {
        match take_over(&server.target(), ACCOUNT, Some("r1"), "ops1", "zimbra") {
            Ok(hold) => break hold.unwrap(),
            Err(error) => assert_eq!(error.kind(), Kind::Held, "{error}"),
        }
    };
    assert_eq!((third.claim().by.host.as_str(), third.claim().by.subject.clone()), ("ops1", by("r1").subject));
    third.release().unwrap();
    assert_eq!(databases(server), 1);
    assert_eq!(server.number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'zlm'"), 1);
}

#[test]
fn what_a_run_left_that_was_cut_off_while_it_let_go_is_cleared() {
    let pair = Pair::start(&[]);
    let server = &pair.destination;
    let held = claim(server, ACCOUNT, "a-1").unwrap();
    server.sql("DELETE FROM zlm.claim");
    drop(held);
    let until = Instant::now() + Duration::from_secs(5);
    let taken = loop {
        match take_over(&server.target(), ACCOUNT, Some("a-1"), "store1", "root") {
            Err(error) if error.kind() == Kind::Held && Instant::now() < until => sleep(Duration::from_millis(20)),
            taken => break taken.unwrap(),
        }
    };
    assert!(taken.is_none() && databases(server) == 0, "{taken:?}");
}

#[test]
fn whoever_was_taken_over_writes_nothing() {
    let pair = Pair::start(&["--max_connections=12"]);
    let server = &pair.destination;
    let claims = Claims::default();
    claims.add(claim(server, ACCOUNT, "r1").unwrap());
    let pool = server.pool().fenced(claims.fences(&server.target().store));
    let write = |session: &mut Session| {
        session.transaction(|s| s.run("INSERT INTO zimbra.config (name, value) VALUES ('zombie', '1')"))
    };
    let undo =
        |session: &mut Session| session.transaction(|s| s.run("DELETE FROM zimbra.config WHERE name = 'zombie'"));
    let mut lease = pool.try_get(&Default::default()).unwrap().unwrap();
    write(&mut lease).unwrap();
    undo(&mut lease).unwrap();
    claims.check().unwrap();

    // A connection that broke is made again, as long as nobody was there meanwhile.
    server.sql(&format!("KILL {}", connection(server)));
    claims.check().unwrap();
    write(&mut lease).unwrap();
    undo(&mut lease).unwrap();

    server.sql(&format!("KILL {}", connection(server)));
    let taken = loop {
        match take_over(&server.target(), ACCOUNT, None, "ops1", "zimbra") {
            Ok(hold) => break hold.unwrap(),
            Err(error) => assert_eq!(error.kind(), Kind::Held, "{error}"),
        }
    };
    let error = write(&mut lease).unwrap_err();
    assert!(error.is_lost(), "{error}");
    assert!(claims.check().unwrap_err().is_lost());
    assert!(claims.check_for_undo().unwrap_err().is_lost());
    // The same when the claim is gone for good, and its database.
    let mut taken = taken;
    taken.release().unwrap();
    drop(taken);
    assert!(write(&mut lease).unwrap_err().is_lost());
    assert!(claims.check().unwrap_err().is_lost());
    assert_eq!(server.number("SELECT COUNT(*) FROM zimbra.config WHERE name = 'zombie'"), 0);
    drop(lease);
    // Its connections are nobody's afterwards.
    assert!(!server.pool().try_get(&Default::default()).unwrap().unwrap().is_fenced());
}

#[test]
fn a_transaction_under_way_is_waited_for() {
    let pair = Pair::start(&["--max_connections=12"]);
    let server = &pair.destination;
    let claims = Claims::default();
    claims.add(claim(server, ACCOUNT, "r1").unwrap());
    let pool = server.pool().fenced(claims.fences(&server.target().store));
    let mut lease = pool.try_get(&Default::default()).unwrap().unwrap();
    lease.begin().unwrap();
    server.sql(&format!("KILL {}", connection(server)));
    let target = server.target();
    let taker = std::thread::spawn(move || {
        loop {
            match take_over(&target, ACCOUNT, None, "ops1", "zimbra") {
                Err(error) if error.kind() == Kind::Held => {}
                result => break result.map(|hold| hold.is_some()),
            }
        }
    });
    sleep(Duration::from_millis(500));
    assert!(!taker.is_finished());
    lease.run("INSERT INTO zimbra.config (name, value) VALUES ('last', '1')").unwrap();
    lease.commit().unwrap();
    assert!(taker.join().unwrap().unwrap());
    assert!(lease.begin().unwrap_err().is_lost());
}

#[test]
fn one_claim_that_is_certain_is_enough_to_undo() {
    let pair = Pair::start(&["--max_connections=12"]);
    let claims = Claims::default();
    claims.add(hold(&pair.source.target(), ACCOUNT, "source", &by("r1")).unwrap());
    claims.add(hold(&pair.destination.target(), ACCOUNT, "dest", &by("r1")).unwrap());
    pair.source.kill();
    assert!(claims.check().is_err());
    claims.check_for_undo().unwrap();
    let left = claims.release(Hold::release);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(databases(&pair.destination), 0);
    // The claim outlives the server, and so does that nobody holds it.
    pair.source.again();
    assert!(matches!(standing(&mut pair.source.session(), ACCOUNT).unwrap(), Standing::Left(_)));
}

#[test]
fn many_claims_come_and_go_at_once() {
    let pair = Pair::start(&["--max_connections=40"]);
    let server = Arc::new(pair.destination.target());
    let workers: Vec<_> = (0..6)
        .map(|n| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                for round in 0..8 {
                    let account = format!("account-{n}");
                    let run = format!("r{n}-{round}");
                    loop {
                        match hold(&server, &account, "dest", &by(&run)) {
                            Ok(mut held) => break held.release().unwrap(),
                            Err(error) => assert_eq!(error.kind(), Kind::Held, "{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!(databases(&pair.destination), 0);
}
