//! What a lab holds, in digests: equal fingerprints mean that nothing changed, unequal ones say what did.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use mysql::prelude::Queryable;
use sha2::{Digest, Sha256};

use crate::host::Host;
use crate::layout::{HOSTS, STORES};
use crate::memcached::Memcached;
use crate::{Lab, directory};

/// The state of a lab's databases, files, directory and caches at one time.
///
/// Databases: definition and rows of every table of every database but the server's own. Files: path, kind, mode, owner,
/// size and content of everything under `/opt/zimbra` but `data` and `log`, and under `/var/tmp`. Directory: every entry with its
/// operational attributes. Caches: every key and value of each memcached.
///
/// The parts are not taken at one instant: it is for a lab at rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fingerprint {
    /// A thing's name, as `store1 table zimbra.mailbox`, and a short description that ends in a digest.
    parts: BTreeMap<String, String>,
}

impl Fingerprint {
    pub(crate) fn take(lab: &Lab) -> Result<Self> {
        let mut parts = BTreeMap::new();
        for store in STORES {
            add_databases(&mut parts, lab.host(store)?)?;
        }
        for (name, _) in HOSTS.iter().filter(|(name, _)| *name != "switch") {
            let host = lab.host(name)?;
            for tree in ["zimbra", "tmp"] {
                let from = host.dir.join(tree);
                add_files(&mut parts, host, &from, &from)?;
            }
        }
        for name in ["store1", "store2", "proxy1"] {
            let host = lab.host(name)?;
            for (key, value) in Memcached::of(host)?.all()? {
                parts.insert(format!("{name} memcached {key}"), format!("{} bytes {}", value.len(), digest(&value)));
            }
        }
        for entry in directory::dump(lab.host("ldap1")?)?.split("\n\n").filter(|entry| !entry.trim().is_empty()) {
            let dn = entry.lines().next().unwrap_or_default();
            parts.insert(format!("ldap1 {dn}"), digest(entry.as_bytes()));
        }
        Ok(Fingerprint { parts })
    }

    /// What differs from an earlier fingerprint, a line each; nothing when all is as it was.
    pub fn differences_from(&self, earlier: &Fingerprint) -> Vec<String> {
        let gone =
            earlier.parts.keys().filter(|name| !self.parts.contains_key(*name)).map(|name| format!("{name}: gone"));
        let other = self.parts.iter().filter_map(|(name, now)| match earlier.parts.get(name) {
            None => Some(format!("{name}: new, {now}")),
            Some(before) if before != now => Some(format!("{name}: was {before}, is {now}")),
            Some(_) => None,
        });
        gone.chain(other).collect()
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))[..16].to_owned()
}

fn add_databases(parts: &mut BTreeMap<String, String>, store: &Host) -> Result<()> {
    let mut connection = store.mysql()?;
    // Every byte of a text as it is kept, whatever its character set.
    connection.query_drop("SET NAMES binary")?;
    connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
    let databases: Vec<String> = connection.query(
        "SELECT CAST(schema_name AS CHAR) FROM information_schema.schemata
         WHERE schema_name NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')",
    )?;
    for database in databases {
        parts.insert(format!("{} database {database}", store.name), "exists".to_owned());
        let tables: Vec<String> = connection.query(format!("SHOW TABLES IN `{database}`"))?;
        for table in tables {
            let name = format!("`{database}`.`{table}`");
            let state = table_state(&mut connection, &name).with_context(|| format!("{}: {name}", store.name))?;
            parts.insert(format!("{} table {database}.{table}", store.name), state);
        }
    }
    Ok(())
}

/// The number of rows and a digest of the table's definition and of its rows, in whatever order they come.
fn table_state(connection: &mut mysql::Conn, name: &str) -> Result<String> {
    let definition: Option<mysql::Row> = connection.query_first(format!("SHOW CREATE TABLE {name}"))?;
    let definition = definition.context("a table has a definition")?;
    let mut rows = Vec::new();
    for row in connection.query_iter(format!("SELECT * FROM {name}"))? {
        rows.push(row_digest(&row?));
    }
    rows.sort_unstable();
    let mut all = Sha256::new();
    all.update(row_digest(&definition));
    rows.iter().for_each(|row| all.update(row));
    Ok(format!("{} rows {}", rows.len(), &format!("{:x}", all.finalize())[..16]))
}

fn row_digest(row: &mysql::Row) -> [u8; 32] {
    let mut state = Sha256::new();
    for at in 0..row.len() {
        let value = row.as_ref(at).map(|value| value.as_sql(true)).unwrap_or_default();
        state.update((value.len() as u64).to_le_bytes());
        state.update(value.as_bytes());
    }
    state.finalize().into()
}

fn add_files(parts: &mut BTreeMap<String, String>, host: &Host, root: &Path, path: &Path) -> Result<()> {
    let told = || path.display().to_string();
    let metadata = fs::symlink_metadata(path).with_context(told)?;
    let kind = metadata.file_type();
    let inside = path.strip_prefix(root).with_context(told)?;
    let mount = if root.ends_with("zimbra") { "/opt/zimbra" } else { "/var/tmp" };
    let content = if kind.is_file() {
        format!("{} bytes {}", metadata.len(), file_digest(path).with_context(told)?)
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).with_context(told)?.display())
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        "special".to_owned()
    };
    parts.insert(
        format!("{} file {}", host.name, Path::new(mount).join(inside).display()),
        format!("{:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid()),
    );
    if kind.is_dir() {
        for entry in fs::read_dir(path).with_context(told)? {
            let entry = entry?;
            // The servers' own: their data is compared by asking them, and logs always grow.
            let own =
                root.ends_with("zimbra") && path == root && ["data", "log"].iter().any(|own| entry.file_name() == *own);
            if !own {
                add_files(parts, host, root, &entry.path())?;
            }
        }
    }
    Ok(())
}

fn file_digest(path: &Path) -> Result<String> {
    let mut state = Sha256::new();
    std::io::copy(&mut fs::File::open(path)?, &mut state)?;
    Ok(format!("{:x}", state.finalize())[..16].to_owned())
}
