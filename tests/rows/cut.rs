//! Connections that end on our side only, as when a firewall forgets them: the server hears nothing of it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use zlm::cancel::Cancel;
use zlm::clients::db::{Address, Pool, Target};
use zlm::error::Kind;

use crate::servers::{Pair, Server};

/// A way to a server.
struct Way {
    socket: PathBuf,
    ends: Arc<Mutex<Vec<(UnixStream, UnixStream)>>>,
}

impl Way {
    fn to(server: &Server, name: &str) -> Self {
        let Address::Socket(there) = server.target().address else { panic!("a server of this test has a socket") };
        let socket = there.with_file_name(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let ends: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&ends);
        thread::spawn(move || {
            for here in listener.incoming() {
                let (here, there) = (here.unwrap(), UnixStream::connect(&there).unwrap());
                pass(&here, &there);
                pass(&there, &here);
                kept.lock().unwrap().push((here, there));
            }
        });
        Self { socket, ends }
    }

    /// Ends our side of all connections.
    fn cut(&self) {
        self.ends.lock().unwrap().iter().for_each(|(here, _)| here.shutdown(Shutdown::Both).unwrap());
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

/// Passes on what comes; that it ends is not passed on.
fn pass(from: &UnixStream, to: &UnixStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    });
}

#[test]
fn what_a_connection_that_broke_has_locked_is_free_for_the_next() {
    let pair = Pair::shared();
    let server = &pair.destination;
    server.sql("CREATE DATABASE cut;\nCREATE TABLE cut.t (a INT PRIMARY KEY, b INT) ENGINE=InnoDB;\nINSERT INTO cut.t VALUES (1, 1)");
    let way = Way::to(server, "cut");
    let pool = Pool::new(Target { address: Address::Socket(way.socket.clone()), ..server.target() }, 2);
    let mut lease = pool.try_get(&Cancel::default()).unwrap().unwrap();
    lease.begin().unwrap();
    lease.run("UPDATE cut.t SET b = 2").unwrap();
    way.cut();
    let error = lease.run("UPDATE cut.t SET b = 3").unwrap_err();
    assert!(error.kind() == Kind::Unreachable && error.is_retryable(), "{error}");
    drop(lease);
    let mut session = pool.try_get(&Cancel::default()).unwrap().unwrap();
    session.run("SET SESSION innodb_lock_wait_timeout = 2").unwrap();
    session.run("UPDATE cut.t SET b = b + 10").unwrap();
    assert_eq!(server.number("SELECT b FROM cut.t"), 11);
}
