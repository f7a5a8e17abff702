//! Two MariaDB servers in a directory of their own, with the settings that Zimbra gives its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use zlm::cancel::Cancel;
use zlm::clients::db::{Address, Lease, Pool, Session, Target};
use zlm::secret::Secret;

/// One server; it ends with this value.
pub struct Server {
    name: String,
    directory: PathBuf,
    arguments: Vec<String>,
    child: Mutex<Child>,
}

impl Server {
    /// Starts one on a copy of the empty data directory `template`.
    fn start(name: &str, directory: PathBuf, template: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(directory.join("tmp")).unwrap();
        run(Command::new("cp").arg("-a").arg(template).arg(directory.join("data")));
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = Mutex::new(spawn(&directory, &arguments));
        let server = Self { name: name.into(), directory, arguments, child };
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match Session::connect(&self.target()) {
                Ok(_) => return,
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.directory.join("error.log")).unwrap_or_default();
                    panic!("{}: does not start: {error}\n{log}", self.name);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The end of a server without warning.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again after [`Server::kill`].
    pub fn again(&self) {
        *self.child.lock().unwrap() = spawn(&self.directory, &self.arguments);
        self.wait();
    }

    /// Stands still, as a server whose disk or host does not answer, or goes on.
    pub fn stand_still(&self, still: bool) {
        let pid = self.child.lock().unwrap().id().to_string();
        run(Command::new("kill").args([if still { "-STOP" } else { "-CONT" }, &pid]));
    }

    pub fn target(&self) -> Target {
        Target {
            store: self.name.clone(),
            address: Address::Socket(self.directory.join("s")),
            user: "root".into(),
            password: Secret::new(""),
            hostname: None,
        }
    }

    pub fn pool(&self) -> Pool {
        Pool::new(self.target(), Pool::LIMIT)
    }

    pub fn session(&self) -> Lease {
        self.pool().try_get(&Cancel::default()).unwrap().unwrap()
    }

    /// Runs statements separated by `;` at the ends of lines.
    pub fn sql(&self, text: &str) {
        let mut session = self.session();
        for statement in text.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            session.run(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
    }

    /// All rows of a query, for comparison.
    pub fn rows(&self, sql: &str) -> Vec<zlm::clients::db::Raw> {
        self.session().raw(sql).unwrap()
    }

    /// The one number that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        String::from_utf8(rows[0][0].clone().unwrap()).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spawn(directory: &Path, arguments: &[String]) -> Child {
    let at = |name: &str| directory.join(name).display().to_string();
    Command::new("mariadbd")
        .args(["--no-defaults", "--user=root", "--skip-networking", "--sql_mode=", "--character-set-server=utf8mb3"])
        .args(["--innodb_flush_log_at_trx_commit=0", "--max_allowed_packet=16M", "--innodb_buffer_pool_size=512M"])
        .args([format!("--datadir={}", at("data")), format!("--socket={}", at("s"))])
        .args([format!("--log-error={}", at("error.log")), format!("--pid-file={}", at("pid"))])
        // A starting server deletes the temporary tables of all others in the same directory.
        .arg(format!("--tmpdir={}", at("tmp")))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mariadbd is installed")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A source and a destination, both with Zimbra's schema and one mailbox group.
pub struct Pair {
    pub source: Server,
    pub destination: Server,
    _directory: tempfile::TempDir,
}

impl Pair {
    /// Starts two servers, the destination with these arguments too. Fails where it cannot.
    pub fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let template = directory.path().join("template");
        let tmp = directory.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        run(Command::new("mariadb-install-db")
            .env("TMPDIR", &tmp)
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--tmpdir={}", tmp.display()))
            .args(["--innodb_log_file_size=8M".to_string(), format!("--datadir={}", template.display())]));
        let start = |name: &str, extra: &[&str]| {
            let mut all = vec!["--innodb_log_file_size=64M"];
            all.extend_from_slice(extra);
            let server = Server::start(name, directory.path().join(name), &template, &all);
            server.sql(&schema("zimbra.sql"));
            server.sql(&group("mboxgroup1"));
            server
        };
        let (source, destination) = (start("source", &[]), start("destination", arguments));
        Self { source, destination, _directory: directory }
    }

    /// The pair that all tests of this process share; they use different mailboxes or databases in it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Pair>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = shared.upgrade() {
            return pair;
        }
        let pair = Arc::new(Self::start(&[]));
        *shared = Arc::downgrade(&pair);
        pair
    }
}

/// A file of the schema, without its comments.
pub fn schema(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/schema").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default().trim_end());
    lines.map(|line| format!("{line}\n")).collect()
}

/// The statements that create a mailbox group.
pub fn group(name: &str) -> String {
    schema("create_database.sql").replace("${DATABASE_NAME}", name)
}
