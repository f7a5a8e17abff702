//! One connection, with our settings on it.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, LocalInfileHandler, Params, Row};
use serde::{Deserialize, Serialize};

use super::fault::{fault, server};
use super::fence::Fences;
use super::target::{READ_TIMEOUT, SHORT_TIMEOUT, Target};
use super::wire::Wire;
use crate::error::{Error, Kind, Result};

/// A row of the text protocol: each column's bytes as the server wrote them, `None` for NULL.
pub type Raw = Vec<Option<Vec<u8>>>;

/// Answers that do not change while a run lasts, by their query; shared by the connections of a pool.
pub(super) type Remembered = Arc<Mutex<HashMap<String, Arc<Vec<Raw>>>>>;

/// Our session: bytes as they are, times in UTC, loss is an error, and children may come before parents.
/// `NO_ZERO_*` is left out because old rows hold such dates; nothing is ever set globally.
const SETTINGS: &str = "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00', \
     foreign_key_checks=0, tx_isolation='REPEATABLE-READ', innodb_lock_wait_timeout=10, lock_wait_timeout=30, \
     net_write_timeout=600, net_read_timeout=600, wait_timeout=28800, autocommit=1, unique_checks=1";

/// What an administrator may have set for everybody, and what would then change our answers: fewer rows than there are,
/// statements that end early or are refused, warnings that are not counted.
const WHOLE_ANSWERS: &str = "SET SESSION sql_select_limit=18446744073709551615, max_statement_time=0, \
     max_join_size=18446744073709551615, sql_big_selects=1, sql_safe_updates=0, sql_auto_is_null=0, max_error_count=64, \
     tx_read_only=0";

/// What a statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Rows changed.
    pub affected: u64,
    /// Warnings; the server counts no further than 65,535.
    pub warnings: u16,
}

/// Which server this is and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `@@hostname`.
    pub hostname: String,
    /// `@@port`.
    pub port: u16,
    /// `@@datadir`.
    pub datadir: String,
    /// `@@version`.
    pub version: String,
    /// When it started, in seconds since 1970 by its own clock. A later start means that it may have lost
    /// what it had committed.
    pub started: u64,
    /// `@@system_time_zone`: what its host's time zone was called on the day it started.
    pub time_zone: String,
}

impl Identity {
    /// Whether `now` is this server in the same life: it has not been started again since.
    pub fn lives_on(&self, now: &Identity) -> bool {
        let place = |identity: &Identity| (identity.hostname.clone(), identity.port, identity.datadir.clone());
        // The start is a difference of whole seconds, which may be off by one.
        place(self) == place(now) && now.started.abs_diff(self.started) <= 1
    }
}

/// One connection to a store's MariaDB.
#[derive(Debug)]
pub struct Session {
    conn: Conn,
    /// Its socket, where the kernel gives that.
    wire: Option<Arc<Wire>>,
    store: String,
    packet: usize,
    local_infile: bool,
    broken: bool,
    open: bool,
    /// Whether statements have a time limit.
    limited: bool,
    remembered: Remembered,
    fences: Fences,
    /// A lock that nobody else asks for: whoever finds it held knows that this connection is still there.
    mark: String,
}

impl Session {
    /// Connects, checks that it is the expected server and makes our settings. It is for what is answered at once: a server
    /// that is silent for a minute counts as gone.
    ///
    /// # Errors
    /// `Unreachable`, `Denied`, and `Refused` when another server answers.
    pub fn connect(target: &Target) -> Result<Self> {
        Self::open(target, SHORT_TIMEOUT)
    }

    /// The same for statements that take long.
    pub(super) fn connect_for_long(target: &Target) -> Result<Self> {
        let session = Self::connect(target)?;
        match &session.wire {
            Some(wire) => {
                wire.set_read_timeout(READ_TIMEOUT);
                Ok(session)
            }
            None => Self::open(target, READ_TIMEOUT),
        }
    }

    fn open(target: &Target, patience: Duration) -> Result<Self> {
        let store = target.store.clone();
        target.open_way()?;
        let conn = match Conn::new(target.options(patience)) {
            Err(mysql::Error::IoError(_) | mysql::Error::DriverError(_)) if target.has_lost_way() => {
                target.open_way()?;
                Conn::new(target.options(patience))
            }
            conn => conn,
        };
        let conn = conn.map_err(|e| fault(&store, "connect to MariaDB", e))?;
        let mut session = Self {
            wire: Wire::of(&conn).map(Arc::new),
            conn,
            store,
            packet: 0,
            local_infile: false,
            broken: false,
            open: false,
            limited: false,
            remembered: Remembered::default(),
            fences: Fences::default(),
            mark: mark(),
        };
        session.run("SET NAMES binary")?;
        session.run(SETTINGS)?;
        session.run(WHOLE_ANSWERS)?;
        let (hostname, packet, local, _): (String, u64, u8, Option<u8>) = session
            .one("SELECT @@hostname, @@max_allowed_packet, @@local_infile, GET_LOCK(?, 0)", (&session.mark.clone(),))?;
        if let Some(expected) = &target.hostname
            && !expected.eq_ignore_ascii_case(&hostname)
        {
            let message = format!("{}: MariaDB answers as {hostname:?}, not as {expected:?}", session.store);
            return Err(Error::new(Kind::Refused, message).hint("check the address or the tunnel of that store"));
        }
        session.packet = usize::try_from(packet).unwrap_or(usize::MAX);
        session.local_infile = local != 0;
        Ok(session)
    }

    /// Shares what is remembered with others.
    pub(super) fn sharing(mut self, remembered: &Remembered) -> Self {
        self.remembered = Arc::clone(remembered);
        self
    }

    /// Has the server end each statement from now on that takes longer than `limit`; that fails with its error 1969.
    pub(super) fn limit(&mut self, limit: Option<Duration>) -> Result<()> {
        if limit.is_some() || self.limited {
            // Zero is no limit to the server.
            let seconds = limit.map_or(0.0, |limit| limit.as_secs_f64().max(0.001));
            self.run(&format!("SET SESSION max_statement_time={seconds:.3}"))?;
            self.limited = limit.is_some();
        }
        Ok(())
    }

    /// What its transactions ask first, from now on.
    pub(super) fn set_fences(&mut self, fences: &Fences) {
        self.fences = Fences::clone(fences);
    }

    /// Whether its transactions ask for anything first.
    pub fn is_fenced(&self) -> bool {
        !self.fences.is_empty()
    }

    /// What breaks it while somebody waits on it.
    pub(super) fn wire(&self) -> Option<Arc<Wire>> {
        self.wire.clone()
    }

    /// The store's name, for messages.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// The server's `max_allowed_packet`, in bytes.
    pub fn packet(&self) -> usize {
        self.packet
    }

    /// Whether the server takes `LOAD DATA LOCAL`.
    pub fn local_infile(&self) -> bool {
        self.local_infile
    }

    /// Whether the connection can be used no more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// What tells the server's end of this connection from all others.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Ends what the server may still have of a connection that broke: nobody tells it when a network does, and it keeps
    /// what a transaction has locked for hours.
    pub fn end_other(&mut self, mark: &str) -> Result<()> {
        let (by,): (Option<u64>,) = self.one("SELECT IS_USED_LOCK(?)", (mark,))?;
        let Some(connection) = by else { return Ok(()) };
        match self.run(&format!("KILL CONNECTION {connection}")) {
            // It ended meanwhile.
            Err(error) if error.peer_code() == Some("1094") => Ok(()),
            done => done.map(drop),
        }
    }

    /// Asks the server whether it is there.
    pub fn ping(&mut self) -> Result<()> {
        let answer = self.conn.ping();
        self.told("ping", answer)
    }

    /// Runs a statement without values and without rows.
    pub fn run(&mut self, sql: &str) -> Result<Done> {
        let answer = self.conn.query_drop(sql);
        self.told(head(sql), answer)?;
        Ok(self.done())
    }

    /// Runs a statement with bound values.
    pub fn exec(&mut self, sql: &str, values: impl Into<Params>) -> Result<Done> {
        let answer = self.conn.exec_drop(sql, values);
        self.told(head(sql), answer)?;
        Ok(self.done())
    }

    /// All rows of a query with bound values, as tuples.
    pub fn all<T: FromRow>(&mut self, sql: &str, values: impl Into<Params>) -> Result<Vec<T>> {
        let answer = self.conn.exec::<Row, _, _>(sql, values);
        let rows = self.told(head(sql), answer)?;
        rows.into_iter().map(|row| T::from_row_opt(row).map_err(|e| fault(&self.store, head(sql), e.into()))).collect()
    }

    /// The first row of a query, if there is one.
    pub fn first<T: FromRow>(&mut self, sql: &str, values: impl Into<Params>) -> Result<Option<T>> {
        Ok(self.all(sql, values)?.into_iter().next())
    }

    /// The first row of a query that always has one.
    pub fn one<T: FromRow>(&mut self, sql: &str, values: impl Into<Params>) -> Result<T> {
        self.first(sql, values)?.ok_or_else(|| Error::new(Kind::Peer, format!("{}: {}: no row", self.store, head(sql))))
    }

    /// Streams the rows of a query as bytes. When `each` fails, the rest is read and dropped, so keep results
    /// short.
    pub fn each(&mut self, sql: &str, mut each: impl FnMut(Raw) -> Result<()>) -> Result<()> {
        match stream(&mut self.conn, sql, &mut each) {
            Ok(result) => result,
            Err(e) => self.told(head(sql), Err(e)),
        }
    }

    /// All rows of a query as bytes.
    pub fn raw(&mut self, sql: &str) -> Result<Vec<Raw>> {
        let mut rows = Vec::new();
        self.each(sql, |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// All rows of a query whose answer stays the same while a run lasts, such as the columns of a table: asked
    /// once for all connections of a pool, because what is asked again in a freeze is paid for by the user. An
    /// empty answer is not kept: what is not there yet may be made.
    pub fn remembered(&mut self, sql: &str) -> Result<Arc<Vec<Raw>>> {
        let known = |kept: &Remembered| kept.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(rows) = known(&self.remembered) {
            return Ok(rows);
        }
        let rows = Arc::new(self.raw(sql)?);
        if !rows.is_empty() {
            let mut kept = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            kept.insert(sql.to_owned(), Arc::clone(&rows));
        }
        Ok(rows)
    }

    /// Runs a `LOAD DATA LOCAL INFILE 'rows'` statement with `data` as the file. The handler is there for this
    /// one statement only: a server may ask for any file at any time.
    pub fn load(&mut self, sql: &str, data: Arc<Vec<u8>>) -> Result<Done> {
        self.conn.set_local_infile_handler(Some(LocalInfileHandler::new(move |file, stream| {
            if file != b"rows" {
                return Err(std::io::Error::other("the server asked for another file"));
            }
            stream.write_all(&data)
        })));
        let answer = self.conn.query_drop(sql);
        self.conn.set_local_infile_handler(None);
        self.told(head(sql), answer)?;
        Ok(self.done())
    }

    /// The first warning of the last statement, without what it quotes.
    pub fn warning(&mut self, what: &str) -> Result<Option<Error>> {
        let rows = self.raw("SHOW WARNINGS LIMIT 1")?;
        let Some([_, code, text]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
        let shown = |v: &Option<Vec<u8>>| String::from_utf8_lossy(v.as_deref().unwrap_or_default()).into_owned();
        Ok(Some(server(format!("{}: {what}", self.store), shown(code).parse().unwrap_or(0), &shown(text))))
    }

    /// Starts a transaction in which rows are written, if its fences let it.
    pub fn begin(&mut self) -> Result<()> {
        self.run("START TRANSACTION")?;
        self.open = true;
        let fences = Fences::clone(&self.fences);
        fences.iter().try_for_each(|fence| fence.pass(self))
    }

    /// Starts a read-only transaction that sees the moment of this call.
    pub fn snapshot(&mut self) -> Result<()> {
        self.run("SET SESSION tx_isolation='REPEATABLE-READ'")?;
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
        self.open = true;
        Ok(())
    }

    /// Commits. When it fails with `Unreachable` it is not known whether it happened.
    pub fn commit(&mut self) -> Result<()> {
        self.run("COMMIT")?;
        self.open = false;
        Ok(())
    }

    /// Ends the transaction in progress, if there is one, without its effects.
    pub fn rollback(&mut self) -> Result<()> {
        if self.open && !self.broken {
            self.open = false;
            self.run("ROLLBACK")?;
        }
        Ok(())
    }

    /// Runs `work` in one transaction; on a deadlock or a lock timeout the whole is rolled back and tried again.
    pub fn transaction<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        const TRIES: u32 = 6;
        let mut tried = 0;
        loop {
            let result = self.begin().and_then(|()| work(self)).and_then(|value| self.commit().map(|()| value));
            let Err(error) = result else { return result };
            // A broken connection rolls back by itself; the first error is the one to tell.
            if self.rollback().is_err() {
                self.broken = true;
            }
            tried += 1;
            if tried == TRIES || !matches!(error.peer_code(), Some("1205" | "1213")) {
                return Err(error);
            }
            log::debug!("{error}; trying again");
            // Not in step with whoever we collided with: connection ids differ.
            let jitter = u64::from(self.conn.connection_id() % 17);
            std::thread::sleep(std::time::Duration::from_millis(u64::from(tried) * (20 + jitter)));
        }
    }

    /// Seconds that the server is behind its master; none where it has none, or does not know.
    pub(super) fn behind_master(&mut self) -> Result<Option<u64>> {
        let row: Option<Row> = self.first("SHOW SLAVE STATUS", ())?;
        Ok(row.and_then(|row| row.get_opt::<Option<u64>, _>("Seconds_Behind_Master")?.ok()?))
    }

    /// Which server this is.
    pub fn identity(&mut self) -> Result<Identity> {
        let (hostname, port, datadir, version, time_zone) =
            self.one("SELECT @@hostname, @@port, @@datadir, @@version, @@system_time_zone", ())?;
        // Both parts are whole seconds that tick apart, so the difference may be off by one second.
        let started = self.one::<(u64,)>(
            "SELECT UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS UNSIGNED) FROM information_schema.GLOBAL_STATUS \
             WHERE VARIABLE_NAME = _utf8mb3'UPTIME'",
            (),
        )?;
        Ok(Identity { hostname, port, datadir, version, started: started.0, time_zone })
    }

    fn done(&self) -> Done {
        Done { affected: self.conn.affected_rows(), warnings: self.conn.warnings() }
    }

    fn told<T>(&mut self, what: &str, answer: mysql::Result<T>) -> Result<T> {
        answer.map_err(|e| {
            let error = fault(&self.store, what, e);
            if error.kind() == Kind::Unreachable {
                self.broken = true;
            }
            error
        })
    }
}

/// A name for a lock that no other connection of any process has.
fn mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("zlm.session.{:x}.{:x}.{count:x}", std::process::id(), now.as_nanos())
}

fn stream(conn: &mut Conn, sql: &str, each: &mut dyn FnMut(Raw) -> Result<()>) -> mysql::Result<Result<()>> {
    for row in conn.query_iter(sql)? {
        let raw = row?.unwrap_raw().into_iter().map(|v| v.and_then(bytes)).collect();
        if let Err(error) = each(raw) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn bytes(value: mysql::Value) -> Option<Vec<u8>> {
    match value {
        mysql::Value::NULL => None,
        mysql::Value::Bytes(bytes) => Some(bytes),
        // The text protocol has nothing else.
        other => Some(other.as_sql(true).into_bytes()),
    }
}

/// The words of a statement up to its first value or bracket: enough to say what was attempted.
fn head(sql: &str) -> &str {
    let end = sql.find(['(', '\'', '=', '?']).unwrap_or(sql.len()).min(80);
    let end = (0..=end).rev().find(|at| sql.is_char_boundary(*at)).unwrap_or(0);
    sql[..end].trim_end()
}
