//! One host of the lab: a tree of processes with a network, mounts and a name of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::layout::{self, ZIMBRA_ID};
use crate::process;

/// A host of a lab. It is only a description: the host itself may be up or down.
#[derive(Clone, Debug)]
pub struct Host {
    /// `store1`, as the lab calls it.
    pub name: &'static str,
    /// `store1.lab.test`.
    pub fqdn: String,
    /// Its address on the lab's network; empty for the switch.
    pub ip: &'static str,
    /// Its directory outside, `LABDIR/hosts/NAME`.
    pub dir: PathBuf,
}

impl Host {
    pub(crate) fn new(lab: &Path, name: &'static str, ip: &'static str) -> Self {
        Host { name, fqdn: layout::fqdn(name), ip, dir: lab.join("hosts").join(name) }
    }

    /// A command inside the host, as `user` (`zimbra` or `root`), started in the user's home.
    ///
    /// The environment is `PATH`, `HOME`, `USER` and `LANG` only; `env` of the returned command adds to it.
    /// Standard streams are inherited. The command fails to enter when the host is down.
    ///
    /// # Panics
    ///
    /// When `arguments` is empty or the user is neither of the two.
    pub fn command(&self, user: &str, arguments: &[&str]) -> Command {
        assert!(!arguments.is_empty(), "a command has at least a name");
        let (id, home) = match user {
            "root" => (0, "/root"),
            "zimbra" => (ZIMBRA_ID, "/opt/zimbra"),
            other => panic!("{other}: a host of the lab has the users root and zimbra"),
        };
        // Pid 0 names no process, so that nsenter fails on a host that is down.
        let pid = self.pid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let mut command = Command::new("nsenter");
        command
            .env_clear()
            .env("PATH", process::PATH)
            .env("HOME", home)
            .env("USER", user)
            .env("LANG", "C.UTF-8")
            .args(["-t", &pid.to_string(), "-m", "-n", "-u", "-i", "-p"])
            .args(["-S", &id.to_string(), "-G", &id.to_string(), "-W", home, "--"])
            .args(arguments);
        command
    }

    /// The path outside of `/opt/zimbra/RELATIVE` inside.
    pub fn zimbra_path(&self, relative: &str) -> PathBuf {
        self.dir.join("zimbra").join(relative)
    }

    /// Makes a program of the real system one of the host's, and gives its path inside: a host does not see every
    /// directory of the real system, and its `zimbra` may not enter root's.
    pub fn install(&self, program: &Path) -> Result<String> {
        let told = || format!("{}: {}", self.name, program.display());
        let name = program.file_name().and_then(|name| name.to_str()).with_context(told)?;
        let bin = self.dir.join("bin");
        fs::create_dir_all(&bin).with_context(told)?;
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).with_context(told)?;
        let place = bin.join(name);
        let new = bin.join(format!("{name}.new"));
        let _ = fs::remove_file(&new);
        // A link is as good as a copy: a compiler makes a new file and does not write into the old one.
        if fs::hard_link(program, &new).is_err() {
            fs::copy(program, &new).with_context(told)?;
        }
        fs::rename(&new, &place).with_context(told)?;
        Ok(format!("/opt/lab/bin/{name}"))
    }

    /// A connection to the host's MariaDB as `root`, through its socket, without entering the host.
    pub fn mysql(&self) -> Result<mysql::Conn> {
        let socket = self.zimbra_path("data/tmp/mysql/mysql.sock");
        let options = mysql::OptsBuilder::new()
            .socket(Some(socket.to_string_lossy()))
            .user(Some("root"))
            .tcp_connect_timeout(Some(Duration::from_secs(5)));
        mysql::Conn::new(options).with_context(|| format!("{}: MariaDB at {}", self.name, socket.display()))
    }

    /// Moves the calling thread, and threads it starts from now on, into the host's network. There is no way back.
    ///
    /// Files stay those outside: only what the thread connects or listens on is of the host.
    pub fn enter_network(&self) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{}: is down", self.name))?;
        let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
        let network = File::open(&path).with_context(|| format!("{}: its network, {path}", self.name))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("{}: cannot enter its network", self.name))
    }

    /// A TCP connection to `address` (`10.77.0.21:11211`) that starts in this host's network.
    pub fn connect(&self, address: &str) -> Result<TcpStream> {
        let target = address.parse().with_context(|| format!("{address}: not an address"))?;
        // A socket stays in the network it was made in, and a thread is the smallest thing that can enter one.
        let connected = thread::scope(|scope| {
            let connection = scope.spawn(|| -> Result<TcpStream> {
                self.enter_network()?;
                Ok(TcpStream::connect_timeout(&target, Duration::from_secs(5))?)
            });
            connection.join().expect("the thread does not panic")
        });
        let stream = connected.with_context(|| format!("{}: connection to {address}", self.name))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends one line to the control socket of the host's mailboxd and gives its answer, one line without its end.
    pub fn mailboxd_control(&self, line: &str) -> Result<String> {
        ensure!(!line.contains('\n'), "{line:?}: more than one line for mailboxd");
        let path = self.dir.join("run/mailboxd.sock");
        let mut stream =
            UnixStream::connect(&path).with_context(|| format!("{}: mailboxd at {}", self.name, path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .with_context(|| format!("{}: mailboxd's answer to {line:?}", self.name))?;
        ensure!(answer.ends_with('\n'), "{}: mailboxd hung up on {line:?} after {answer:?}", self.name);
        Ok(answer.trim_end().to_owned())
    }

    /// Whether the host's pid 1 lives.
    pub fn is_up(&self) -> bool {
        self.pid().is_some()
    }

    /// The host's pid 1, as known outside, if it lives.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.join("pid")).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        // Pids are given out again: only a process whose arguments name this host is the one meant. A dead one has none.
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        let dir = self.dir.as_os_str().as_encoded_bytes();
        arguments.split(|byte| *byte == 0).any(|argument| argument == dir).then_some(pid)
    }

    /// Starts pid 1 with its mounts. The network comes after.
    pub(crate) fn power_on(&self) -> Result<()> {
        let _ = fs::remove_file(self.dir.join("pid"));
        layout::empty_run_dir(self)?;
        let log = File::create(self.dir.join("log/init.log")).context("log of a host")?;
        let status = process::command("setsid")
            .args(["--fork", "unshare", "-m", "-n", "-u", "-i", "-p", "--fork", "--kill-child", "bash"])
            .args([self.dir.join("etc/init"), self.dir.clone()])
            .arg(&self.fqdn)
            .current_dir("/")
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "{}: setsid: {status}", self.name);
        match process::poll(Duration::from_secs(10), || Ok(self.pid()))? {
            Some(_) => Ok(()),
            None => bail!("{}: does not come up; {}", self.name, process::tail(&self.dir.join("log/init.log"))),
        }
    }

    /// Kills every process of the host at once. What they had not written is lost; what the kernel had taken is not.
    pub(crate) fn power_off(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let _ = kill_process(pid, Signal::KILL);
        // Pid 1 of a namespace ends only after all others in it have.
        process::poll(Duration::from_secs(20), || Ok(self.pid().is_none().then_some(())))?
            .with_context(|| format!("{}: does not die", self.name))?;
        let _ = fs::remove_file(self.dir.join("pid"));
        Ok(())
    }
}
