//! Brings a golden mailbox to a store: its rows by `LOAD DATA`, its files by copies that keep what was one file one.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use mysql::LocalInfileHandler;
use mysql::prelude::Queryable;
use serde::Serialize;

use super::rows::{self, File};
use super::{Golden, Manifest};
use crate::seed::ensure_group;
use crate::volume::{OWNER, Volumes};
use crate::{Error, Result};

/// What was loaded.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// The mailbox id.
    pub mailbox: u32,
    /// Its group.
    pub group: u32,
    /// Rows in all tables.
    pub rows: u64,
    /// Files, second names of one file included.
    pub files: u64,
}

impl Golden {
    /// Brings the mailbox to the store of `conn`, whose `/opt/zimbra` is the directory `home` where this runs, under this
    /// number in this group. The account is the caller's business.
    ///
    /// # Errors
    /// There is a mailbox of that number or account; rows are missing afterwards; what the server or the file system refuses.
    pub fn load(&self, conn: &mut mysql::Conn, home: &Path, mailbox: u32, group: u32) -> Result<Loaded> {
        self.refuse_existing(conn, mailbox)?;
        ensure_group(conn, home, group)?;
        let volumes = Volumes::read(conn, home)?;
        let place = Place { mailbox, group, manifest: &self.manifest, volumes: &volumes };
        conn.query_drop("SET SESSION sql_mode = '', time_zone = '+00:00', foreign_key_checks = 0")?;
        conn.query_drop("START TRANSACTION")?;
        let loaded = place.rows(conn, rows::read(&self.dir.join("rows"))?);
        conn.query_drop(if loaded.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        conn.query_drop("SET SESSION foreign_key_checks = 1")?;
        Ok(Loaded { mailbox, group, rows: loaded?, files: place.files(&self.dir)? })
    }

    fn refuse_existing(&self, conn: &mut mysql::Conn, mailbox: u32) -> Result<()> {
        let there: Option<u32> = conn.exec_first(
            "SELECT id FROM zimbra.mailbox WHERE id = ? OR account_id = ?",
            (mailbox, &self.manifest.account_id),
        )?;
        match there {
            Some(id) => {
                Err(Error::refused(format!("mailbox {id} exists: cannot load {} as {mailbox}", self.manifest.name)))
            }
            None => Ok(()),
        }
    }
}

/// Where a golden mailbox goes.
struct Place<'a> {
    mailbox: u32,
    group: u32,
    manifest: &'a Manifest,
    volumes: &'a Volumes,
}

impl Place<'_> {
    fn rows(&self, conn: &mut mysql::Conn, files: Vec<File>) -> Result<u64> {
        let mut all = 0;
        for file in files {
            let expected = self.manifest.rows.get(&file.name()).copied();
            let statement = self.statement(&file);
            let body = file.body.clone();
            conn.set_local_infile_handler(Some(LocalInfileHandler::new(move |_, to| to.write_all(&body))));
            let sent = conn.query_drop(statement);
            conn.set_local_infile_handler(None);
            sent?;
            // Of rows that a key refuses, LOCAL says nothing but how many it took.
            let there = conn.affected_rows();
            if Some(there) != expected {
                return Err(Error::refused(format!("{}: {there} rows instead of {expected:?}", file.name())));
            }
            all += there;
        }
        conn.exec_drop(
            "UPDATE zimbra.current_volumes SET next_mailbox_id = GREATEST(next_mailbox_id, ? + 1)",
            (self.mailbox,),
        )?;
        Ok(all)
    }

    fn statement(&self, file: &File) -> String {
        let database = match file.database.as_str() {
            "mboxgroup" => format!("mboxgroup{}", self.group),
            other => other.to_owned(),
        };
        let own_row = file.name() == "zimbra.mailbox";
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in &file.columns {
            let value = match column.as_str() {
                "mailbox_id" => self.mailbox.to_string(),
                "locator" => self.locator(),
                "id" if own_row => self.mailbox.to_string(),
                "group_id" if own_row => self.group.to_string(),
                "index_volume_id" if own_row => self.volumes.index.to_string(),
                _ => {
                    names.push(format!("`{column}`"));
                    continue;
                }
            };
            names.push(format!("@{column}"));
            values.push(format!("`{column}` = {value}"));
        }
        format!(
            "LOAD DATA LOCAL INFILE 'rows' INTO TABLE {database}.`{}` CHARACTER SET binary ({}) SET {}",
            file.table,
            names.join(", "),
            values.join(", ")
        )
    }

    /// The store's volume that has the role of the one a blob was written on.
    fn locator(&self) -> String {
        let cases: String = self
            .manifest
            .volumes
            .iter()
            .map(|(role, origin)| format!(" WHEN '{}' THEN '{}'", origin.id, self.volume(role)))
            .collect();
        format!("CASE @locator{cases} ELSE @locator END")
    }

    fn volume(&self, role: &str) -> u8 {
        match role {
            "index" => self.volumes.index,
            "secondary" => self.volumes.current_secondary().map_or(self.volumes.message, |volume| volume.id),
            _ => self.volumes.message,
        }
    }

    fn files(&self, dir: &Path) -> Result<u64> {
        let mut copy = Copy { known: HashMap::new(), files: 0 };
        for (from, role) in [("blobs/primary", "primary"), ("blobs/secondary", "secondary"), ("index", "index")] {
            let from = dir.join(from);
            let Some(volume) = self.volumes.get(self.volume(role)).filter(|_| from.is_dir()) else { continue };
            let to = volume.mailbox_dir(self.mailbox);
            copy.dir(&to)?;
            copy.tree(&from, &if role == "index" { to.join("index") } else { to })?;
        }
        Ok(copy.files)
    }
}

/// A copy of trees in which one file may have several names.
struct Copy {
    known: HashMap<u64, PathBuf>,
    files: u64,
}

impl Copy {
    fn tree(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (meta, target) = (entry.metadata()?, to.join(entry.file_name()));
            if meta.is_dir() {
                self.tree(&entry.path(), &target)?;
                continue;
            }
            match self.known.get(&meta.ino()) {
                Some(first) => fs::hard_link(first, &target)?,
                None => {
                    fs::copy(entry.path(), &target)?;
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o640))?;
                    chown(&target, Some(OWNER), Some(OWNER))?;
                    self.known.insert(meta.ino(), target);
                }
            }
            self.files += 1;
        }
        Ok(())
    }

    fn dir(&self, dir: &Path) -> Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            self.dir(parent)?;
        }
        fs::DirBuilder::new().mode(0o755).create(dir)?;
        Ok(chown(dir, Some(OWNER), Some(OWNER))?)
    }
}
