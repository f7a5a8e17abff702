//! Connections that runs share: none waits for another one for ever, and who must not wait does not.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use zlm::cancel::Cancel;
use zlm::clients::db::{Pool, pair};
use zlm::error::Kind;

use crate::servers::Pair;

/// Longer than anything here takes, unless it waits for ever.
const LONG: Duration = Duration::from_secs(60);

/// Moves in both directions and round three stores, with as few connections as there can be: whoever took the source's
/// first, and waited for the destination's, would soon wait for one who does the opposite.
#[test]
fn pairs_in_all_directions_never_wait_for_each_other() {
    let servers = Pair::start(&[]);
    let mut third = servers.source.target();
    third.store = "middle".into();
    let pools = [servers.source.target(), servers.destination.target(), third].map(|target| Pool::new(target, 1));
    let (done, ended) = channel();
    for worker in 0..12 {
        let (pools, done) = (pools.clone(), done.clone());
        // Not joined: one that waits for ever would keep the test from failing.
        thread::spawn(move || {
            let (from, to) = (worker % 3, (worker + 1 + worker / 3 % 2) % 3);
            for _ in 0..50 {
                let (mut from, mut to) = pair(&pools[from], &pools[to], &Cancel::default()).unwrap();
                from.ping().and_then(|()| to.ping()).unwrap();
            }
            done.send(()).unwrap();
        });
    }
    for _ in 0..12 {
        ended.recv_timeout(LONG).expect("pairs wait for each other");
    }
}

#[test]
fn a_run_whose_user_waits_goes_before_all_others() {
    let servers = Pair::start(&[]);
    let pool = Pool::new(servers.source.target(), 2);
    let site = Cancel::default();
    let (copying, frozen) = (site.of_run(), site.of_run());
    let taken = pool.try_get_many(9, &copying).unwrap();
    assert_eq!(taken.len(), 2, "copies keep to the limit");

    frozen.set_urgent(true);
    let mut reserved = pool.try_get_many(9, &frozen).unwrap();
    assert_eq!(reserved.len(), Pool::RESERVE, "and who must not wait gets those beyond it");

    // All are taken, and one of each kind waits. The first that is given back is for who must not wait.
    let (came, coming) = channel();
    for (name, cancel) in [("copying", copying.clone()), ("frozen", frozen.clone())] {
        let (pool, came) = (pool.clone(), came.clone());
        thread::spawn(move || {
            let lease = pool.get(&cancel).unwrap();
            came.send(name).unwrap();
            drop(lease);
        });
        // The copy has waited for longer.
        thread::sleep(Duration::from_millis(300));
    }
    let mut taken = taken.into_iter();
    drop(taken.next());
    drop(reserved.pop());
    assert_eq!(coming.recv_timeout(LONG), Ok("frozen"));
    drop(reserved);
    assert_eq!(coming.recv_timeout(LONG), Ok("copying"));
}

#[test]
fn who_waits_ends_when_it_is_asked_to_or_has_no_time_left() {
    let servers = Pair::start(&[]);
    let pool = Pool::new(servers.source.target(), 1);
    let site = Cancel::default();
    let (late, stopped) = (site.of_run(), site.of_run());
    let _taken = thread::scope(|scope| scope.spawn(|| pool.get(&site).unwrap()).join().unwrap());
    late.set_budget(Some(Duration::from_millis(100)));
    late.start_budget();
    assert_eq!(pool.get(&late).unwrap_err().kind(), Kind::Late);
    site.request();
    assert_eq!(pool.get(&stopped).unwrap_err().kind(), Kind::Cancelled);
}

/// Neither a statement that takes its time nor a server that stands still keeps a run that was asked to stop.
#[test]
fn a_statement_is_broken_off_when_its_run_shall_stop() {
    let servers = Pair::start(&[]);
    for still in [false, true] {
        let pool = servers.source.pool();
        let site = Cancel::default();
        let (stopped, other) = (site.of_run(), Cancel::default());
        let (told, ended) = channel();
        let mut lease = pool.get(&stopped).unwrap();
        let mark = lease.mark().to_owned();
        if still {
            servers.source.stand_still(true);
        }
        thread::spawn(move || {
            let result = lease.run("SELECT SLEEP(900)").map(drop);
            drop(lease);
            told.send(result).unwrap();
        });
        assert!(ended.recv_timeout(Duration::from_secs(7)).is_err(), "nobody asked it to stop yet");
        site.request();
        let error = ended.recv_timeout(LONG).expect("it goes on").unwrap_err();
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        if still {
            servers.source.stand_still(false);
        }
        // The server's end of it goes with the next connection.
        let mut next = pool.get(&other).unwrap();
        let began = Instant::now();
        let mut is_left = || next.one::<(Option<u64>,)>("SELECT IS_USED_LOCK(?)", (&mark,)).unwrap().0.is_some();
        // It is told to end, and takes its time.
        while is_left() {
            assert!(began.elapsed() < LONG, "the server's end of it stays");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A connection that was idle in the pool when its server began to stand still is asked whether it lives.
#[test]
fn a_connection_to_a_server_that_stands_still_is_waited_for_no_longer_than_the_run_may() {
    let servers = Pair::start(&[]);
    let pool = servers.source.pool();
    drop(pool.get(&Cancel::default()).unwrap());
    servers.source.stand_still(true);
    let late = Cancel::default().of_run();
    late.set_budget(Some(Duration::from_millis(100)));
    late.start_budget();
    let (told, ended) = channel();
    let waiting = pool.clone();
    thread::spawn(move || told.send(waiting.get(&late).map(drop)).unwrap());
    let error = ended.recv_timeout(LONG).expect("it waits").unwrap_err();
    servers.source.stand_still(false);
    assert_eq!(error.kind(), Kind::Late, "{error}");
    pool.get(&Cancel::default()).unwrap().ping().unwrap();
}
