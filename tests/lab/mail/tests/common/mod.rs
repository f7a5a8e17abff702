//! Two stores for tests: a MariaDB each, on a socket in a directory of their own.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab_mail::oracle::{Ldap, Store};
use lab_mail::seed::{Spec, ensure_group, group_of};
use lab_mail::volume::{OWNER, Volumes};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};

pub const ACCOUNT: &str = "0a1b2c3d-1111-4222-8333-444455556666";

/// A store: a server, its `/opt/zimbra`, a connection.
pub struct TestStore {
    pub name: &'static str,
    pub home: PathBuf,
    pub temp: Vec<PathBuf>,
    pub conn: Conn,
    pub socket: PathBuf,
    server: Child,
    _dir: tempfile::TempDir,
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl TestStore {
    pub fn start(name: &'static str) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (data, home) = (dir.path().join("data"), dir.path().join("zimbra"));
        let socket = dir.path().join("s");
        let temp = dir.path().join("tmp");
        fs::create_dir(&temp).unwrap();
        quiet(Command::new("mariadb-install-db").env("TMPDIR", &temp).args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            &format!("--datadir={}", data.display()),
            &format!("--tmpdir={}", temp.display()),
        ]));
        let server = Command::new("mariadbd")
            .args(["--no-defaults", "--user=root", "--skip-networking", "--sql-mode="])
            .args(["--max-allowed-packet=16M", "--innodb-flush-log-at-trx-commit=0"])
            .args(["--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            // A starting server deletes the temporary tables of all others in the same directory.
            .arg(format!("--tmpdir={}", temp.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let conn = wait_for(&socket);
        let mut store = Self { name, home, temp: vec![temp], conn, socket, server, _dir: dir };
        store.schema();
        store
    }

    pub fn connect(&self) -> Conn {
        connect(&self.socket).unwrap()
    }

    fn schema(&mut self) {
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
        fs::create_dir_all(self.home.join("db")).unwrap();
        fs::copy(schema.join("create_database.sql"), self.home.join("db/create_database.sql")).unwrap();
        let script = fs::read_to_string(schema.join("zimbra.sql")).unwrap();
        let script: String = script.lines().map(|line| line.split("--").next().unwrap().to_owned() + "\n").collect();
        for statement in script.split(';').filter(|statement| !statement.trim().is_empty()) {
            self.conn.query_drop(statement).unwrap();
        }
        let secondary = if self.name.starts_with("store1") { (3, "hsm", 1) } else { (4, "hsm2", 0) };
        for (id, kind, name, compress) in
            [(1, 1, "store", 0), (2, 10, "index", 0), (secondary.0, 2, secondary.1, secondary.2)]
        {
            let root = self.home.join(name);
            fs::create_dir(&root).unwrap();
            chown(&root, Some(OWNER), Some(OWNER)).unwrap();
            self.conn
                .exec_drop(
                    "INSERT INTO zimbra.volume (id, type, name, path, file_bits, file_group_bits, mailbox_bits, \
                     mailbox_group_bits, compress_blobs, compression_threshold) \
                     VALUES (?, ?, ?, ?, 12, 8, 12, 8, ?, 4096)",
                    (id, kind, name, format!("/opt/zimbra/{name}"), compress),
                )
                .unwrap();
        }
        self.conn
            .exec_drop(
                "INSERT INTO zimbra.current_volumes (message_volume_id, secondary_message_volume_id, \
                 index_volume_id, next_mailbox_id) VALUES (1, ?, 2, 3)",
                (secondary.0,),
            )
            .unwrap();
    }

    pub fn oracle(&mut self) -> Store<'_> {
        Store { name: self.name, conn: &mut self.conn, home: &self.home, temp: &self.temp }
    }

    pub fn volumes(&mut self) -> Volumes {
        Volumes::read(&mut self.conn, &self.home).unwrap()
    }
}

fn quiet(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn connect(socket: &Path) -> mysql::Result<Conn> {
    let opts = OptsBuilder::new().user(Some("root")).socket(Some(socket.to_str().unwrap()));
    Conn::new(opts)
}

fn wait_for(socket: &Path) -> Conn {
    let start = Instant::now();
    loop {
        match connect(socket) {
            Ok(conn) => return conn,
            Err(e) if start.elapsed() > Duration::from_secs(30) => panic!("no MariaDB: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Attributes of the account at `host`, and of another account that must stay as it is.
pub fn ldap(host: &str) -> Ldap {
    let account = |host: &str| -> BTreeMap<String, Vec<String>> {
        [
            ("zimbraMailHost", host.to_owned()),
            ("zimbraMailTransport", format!("lmtp:{host}:7025")),
            ("zimbraAccountStatus", "locked".into()),
            ("zimbraMailDeliveryAddress", "User@lab.test".into()),
        ]
        .map(|(name, value)| (name.to_owned(), vec![value]))
        .into()
    };
    [(ACCOUNT.to_owned(), account(host)), ("someone else".to_owned(), account("store1.lab.test"))].into()
}

/// Moves a mailbox by the simplest means there are: every row and every file, one by one.
pub fn move_mailbox(source: &mut TestStore, dest: &mut TestStore, spec: &Spec, id: u32) {
    let group = group_of(id);
    ensure_group(&mut dest.conn, &dest.home, group).unwrap();
    let (from, to) = (source.volumes(), dest.volumes());
    for conn in [&mut source.conn, &mut dest.conn] {
        conn.query_drop("SET SESSION time_zone = '+00:00', sql_mode = ''").unwrap();
        conn.query_drop("SET SESSION foreign_key_checks = 0").unwrap();
    }
    let locator = |old: &Value| -> Value {
        let Value::Bytes(text) = old else { return Value::NULL };
        let kind = from.at(std::str::from_utf8(text).unwrap()).unwrap().kind;
        to.all.iter().find(|volume| volume.kind == kind).unwrap().id.to_string().into()
    };
    let tables: Vec<(String, String)> = source
        .conn
        .exec(
            "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'mailbox_id' \
             AND table_schema IN ('zimbra', ?) AND table_name NOT IN ('volume_blobs', 'deleted_account')",
            (format!("mboxgroup{}", spec.group),),
        )
        .unwrap();
    for (schema, table) in tables {
        let rows: Vec<mysql::Row> =
            source.conn.query(format!("SELECT * FROM {schema}.{table} WHERE mailbox_id = {}", spec.mailbox)).unwrap();
        let target = if schema == "zimbra" { schema } else { format!("mboxgroup{group}") };
        for row in rows {
            let names: Vec<String> =
                row.columns_ref().iter().map(|column| format!("`{}`", column.name_str())).collect();
            let mut values = row.unwrap();
            for (name, value) in names.iter().zip(&mut values) {
                match name.as_str() {
                    "`mailbox_id`" => *value = id.into(),
                    "`locator`" => *value = locator(value),
                    _ => {}
                }
            }
            let marks = vec!["?"; names.len()].join(",");
            let insert = format!("INSERT INTO {target}.{table} ({}) VALUES ({marks})", names.join(","));
            dest.conn.exec_drop(insert, values).unwrap();
        }
    }
    mailbox_row(source, dest, spec, id, group);
    for old in &from.all {
        let new = to.all.iter().find(|volume| volume.kind == old.kind).unwrap();
        copy_tree(&old.mailbox_dir(spec.mailbox), &new.mailbox_dir(id));
        if let Some(group) = new.mailbox_dir(id).parent().filter(|group| group.exists()) {
            chown(group, Some(OWNER), Some(OWNER)).unwrap();
        }
    }
}

fn mailbox_row(source: &mut TestStore, dest: &mut TestStore, spec: &Spec, id: u32, group: u32) {
    let row: mysql::Row =
        source.conn.query_first(format!("SELECT * FROM zimbra.mailbox WHERE id = {}", spec.mailbox)).unwrap().unwrap();
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let mut values = row.unwrap();
    for (name, value) in names.iter().zip(&mut values) {
        match name.as_str() {
            "id" => *value = id.into(),
            "group_id" => *value = group.into(),
            "last_backup_at" => *value = Value::NULL,
            "item_id_checkpoint" | "change_checkpoint" => {
                let old: u32 = mysql::from_value(value.clone());
                *value = (old + 100).into();
            }
            _ => {}
        }
    }
    let marks = vec!["?"; names.len()].join(",");
    let columns = names.join("`,`");
    dest.conn.exec_drop(format!("INSERT INTO zimbra.mailbox (`{columns}`) VALUES ({marks})"), values).unwrap();
    dest.conn.exec_drop("UPDATE zimbra.current_volumes SET next_mailbox_id = ? + 1", (id,)).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    quiet(Command::new("cp").arg("-a").arg(from).arg(to));
}
