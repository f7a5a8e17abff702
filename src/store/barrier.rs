//! Makes what was committed survive the death of the server.

use crate::clients::db::Session;
use crate::error::Result;

/// Returns when everything committed so far, by anyone, is on disk. Zimbra's servers run with
/// `innodb_flush_log_at_trx_commit=0`, where a commit may be lost for about a second; only a change of tables
/// makes InnoDB write its log to disk at once. `FLUSH ENGINE LOGS` does not.
pub fn barrier(session: &mut Session) -> Result<()> {
    let (id,): (u64,) = session.one("SELECT CONNECTION_ID()", ())?;
    let table = format!("zimbra.zlm_barrier_{id}");
    session.run(&format!("DROP TABLE IF EXISTS {table}"))?;
    session.run(&format!("CREATE TABLE {table} (a INT) ENGINE=InnoDB"))?;
    session.run(&format!("DROP TABLE {table}"))?;
    Ok(())
}
