//! The classical method: a first copy by rsync while the user works; then, frozen, a second pass of rsync, a dump of
//! the rows piped into the other server through an ssh tunnel, and counts of rows on both sides.
//!
//! It is flattered: closing and opening the account, flushing caches and rewriting ids are left out.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::lab::{Bench, Tunnel};
use crate::result::note;

/// With its tunnel open.
pub struct Classical<'a> {
    bench: &'a Bench,
    _tunnel: Tunnel,
}

/// $1 mailbox: blobs and index to a directory of their own.
const FILES: &str = "for kind in store index; do rsync -a --delete -e 'ssh -i .ssh/zimbra_identity' \
    /opt/zimbra/$kind/0/$1/ zimbra@store2.lab.test:/opt/zimbra/$kind/classical-$1/; done";

/// $1 mailbox, $2 database, the rest tables.
const ROWS: &str = "id=$1 db=$2; shift 2; mysqldump --defaults-extra-file=store1.cnf --single-transaction \
    --extended-insert --no-create-info --skip-lock-tables --skip-comments --hex-blob --where=mailbox_id=$id $db \"$@\" \
    | mysql --defaults-extra-file=store2.cnf $db";

/// $1 mailbox, $2 database, the rest tables.
const COUNTS: &str = "id=$1 db=$2; shift 2; for t in \"$@\"; do echo \"SELECT COUNT(*) FROM $t WHERE mailbox_id=$id;\"; \
    done > counts.sql; for s in store1 store2; do mysql --defaults-extra-file=$s.cnf -N $db < counts.sql > $s.counts; \
    done; diff store1.counts store2.counts";

impl<'a> Classical<'a> {
    pub fn new(bench: &'a Bench) -> Result<Self> {
        Ok(Self { bench, _tunnel: bench.tunnel()? })
    }

    /// How long mailbox `id` of store1 would be frozen.
    pub fn frozen(&self, id: u32) -> Result<f64> {
        let number = id.to_string();
        let group = format!("mboxgroup{}", zlm_lab::lab_mail::seed::group_of(id));
        let tables = self.bench.tables("store1", &group)?;
        let mut words = vec![number.as_str(), group.as_str()];
        words.extend(tables.iter().map(String::as_str));
        self.bench.shell(FILES, &[&number])?;
        let started = Instant::now();
        let files = self.bench.timed(FILES, &[&number])?;
        let rows = self.bench.timed(ROWS, &words)?;
        let counts = self.bench.timed(COUNTS, &words)?;
        let frozen = started.elapsed().as_secs_f64();
        ensure!(!tables.is_empty(), "{group}: no tables");
        note(format!("  classical: files {files:.2} s, rows {rows:.2} s, counts {counts:.2} s"));
        self.bench.forget_rows("store2", &group, id)?;
        // Its files stay: ext4 is slow to make files for minutes after many were removed.
        Ok(frozen)
    }
}
