//! An sshd of our own on loopback, for tests.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Link, Options, RunDir, Shell};
use crate::cancel::Cancel;

/// One sshd with a host key, a login key and known hosts; ended when dropped.
pub(crate) struct Sshd {
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Sshd {
    pub fn start() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["host", "login", "other"] {
            keygen(&dir.path().join(name));
        }
        std::fs::copy(dir.path().join("login.pub"), dir.path().join("authorized")).unwrap();
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\nAuthorizedKeysFile {0}/authorized\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config"), config).unwrap();
        let _ = std::fs::create_dir("/run/sshd");
        let mut sshd = Self { child: serve(dir.path()), dir, port };
        sshd.trust("host");
        sshd.await_up();
        sshd
    }

    /// Ends the server and every connection to it, and starts it again.
    pub fn restart(&mut self) {
        // Each connection is a process of its own below the listener.
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pids = children.split_whitespace().map(str::to_owned).chain([pid.to_string()]);
        Command::new("kill").arg("-9").args(pids).status().unwrap();
        self.child.wait().unwrap();
        self.child = serve(self.dir.path());
        self.await_up();
    }

    fn await_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline && self.child.try_wait().unwrap().is_none(), "sshd does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes `key` the one that the known hosts have.
    pub fn trust(&self, key: &str) {
        let public = std::fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap();
        std::fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn options(&self) -> Options {
        let mut options = Options::new("127.0.0.1", Arc::new(RunDir::new(None).unwrap()));
        options.port = Some(self.port);
        options.user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().into();
        options.identity = Some(self.path("login"));
        options.known_hosts = Some(self.path("known_hosts"));
        options
    }

    pub fn link(&self) -> Arc<Link> {
        Arc::new(Link::open(self.options(), &Cancel::default()).unwrap())
    }

    pub fn shell(&self) -> Shell {
        Shell::Remote(self.link())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that no other server of these tests was given: between being found free and being taken, it may be found twice.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
}

fn serve(dir: &Path) -> Child {
    Command::new("/usr/sbin/sshd")
        .args(["-D", "-f"])
        .arg(dir.join("config"))
        .arg("-E")
        .arg(dir.join("log"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}
