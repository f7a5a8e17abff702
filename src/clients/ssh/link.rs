//! One kept, authenticated connection to a host.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::child::{Input, Limit, Output, Task, drive, keep_end, printable};
use super::host::check_host;
use super::options::Options;
use super::refusal::refusal;
use super::user::command;
use crate::cancel::Cancel;
use crate::error::{Context, Error, Kind, Result};

/// sshd serves 10 sessions over one connection (`MaxSessions`); the link itself is one.
const SESSIONS: usize = 8;

/// How often a waiting call looks whether it was asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What a login may take beyond connecting.
const LOGIN: Duration = Duration::from_secs(15);

/// A kept connection: commands, rsync and tunnels go through it without a new login.
///
/// It lives as long as this value, and not longer than this process: the far end runs `cat` on a pipe that we
/// hold, and when the pipe closes the connection ends. When it died it is opened again, once, by who needs it
/// next, its tunnels included.
#[derive(Debug)]
pub struct Link {
    options: Options,
    state: Mutex<State>,
    busy: Mutex<usize>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    master: Option<Master>,
    tunnels: Vec<Tunnel>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tunnel {
    here: String,
    there: u16,
}

impl Link {
    /// Connects and logs in.
    ///
    /// Fails with [`Kind::Denied`] on a host key that is unknown or changed and on a refused login,
    /// [`Kind::Unreachable`] when nobody answers, [`Kind::Config`] on odd options, [`Kind::Peer`] when the login
    /// works but the shell there is not usable.
    pub fn open(options: Options, cancel: &Cancel) -> Result<Self> {
        let master = Master::start(&options, cancel)?;
        let state = State { master: Some(master), tunnels: Vec::new() };
        Ok(Self { options, state: Mutex::new(state), busy: Mutex::new(0), freed: Condvar::new() })
    }

    /// How the host is reached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A UNIX socket that leads to `127.0.0.1:port` on the host; only the user of the run directory, and root,
    /// can connect to it. It stays the same when the link is opened again.
    pub fn forward(&self, port: u16, cancel: &Cancel) -> Result<PathBuf> {
        let socket = self.options.run_dir.fresh("sock");
        self.tunnel(Tunnel { here: socket.display().to_string(), there: port }, cancel)?;
        Ok(socket)
    }

    /// Leads `127.0.0.1:local_port` here to `127.0.0.1:remote_port` on the host, for every user of this host.
    pub fn forward_port(&self, local_port: u16, remote_port: u16, cancel: &Cancel) -> Result<()> {
        self.tunnel(Tunnel { here: format!("127.0.0.1:{local_port}"), there: remote_port }, cancel)
    }

    fn tunnel(&self, tunnel: Tunnel, cancel: &Cancel) -> Result<()> {
        let mut state = self.alive(cancel)?;
        let master = state.master.as_ref().ok_or_else(|| self.lost())?;
        master.tunnel(&self.options, &tunnel, cancel)?;
        state.tunnels.push(tunnel);
        Ok(())
    }

    /// The program and arguments that run one command over the link, up to and without `--` and the host.
    pub(crate) fn client(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let state = self.alive(cancel)?;
        let master = state.master.as_ref().ok_or_else(|| self.lost())?;
        Ok(master.client(&self.options))
    }

    /// A right to one of the sessions of the connection; waits for it.
    pub(crate) fn session(&self, cancel: &Cancel) -> Result<Session<'_>> {
        let mut busy = lock(&self.busy);
        while *busy >= SESSIONS {
            cancel.check()?;
            busy = self.freed.wait_timeout(busy, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *busy += 1;
        Ok(Session(self))
    }

    /// Whether the connection is there.
    pub fn is_alive(&self, cancel: &Cancel) -> bool {
        let mut state = lock(&self.state);
        let running = state.master.as_mut().is_some_and(Master::runs);
        running
            && state
                .master
                .as_ref()
                .is_some_and(|m| m.control(&self.options, &["-O", "check"], cancel).is_ok_and(|o| o.status == 0))
    }

    /// Opens the connection again with its tunnels, where it has ended.
    ///
    /// Fails as [`Link::open`] does.
    pub fn open_again(&self, cancel: &Cancel) -> Result<()> {
        self.alive(cancel).map(drop)
    }

    /// Whether the connection ends now, or has: ssh takes nobody in any more a moment before that.
    pub fn is_ending(&self) -> bool {
        lock(&self.state).master.as_mut().is_none_or(Master::ends)
    }

    fn alive(&self, cancel: &Cancel) -> Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        if !state.master.as_mut().is_some_and(Master::runs) {
            state.master = None;
            let mut master = Master::start(&self.options, cancel)?;
            for tunnel in &state.tunnels {
                // The dead connection left its socket file, and ssh does not bind over it.
                let _ = std::fs::remove_file(&tunnel.here);
                master.tunnel(&self.options, tunnel, cancel).map_err(|error| master.broken(&self.options, error))?;
            }
            state.master = Some(master);
        }
        Ok(state)
    }

    fn lost(&self) -> Error {
        lost(&self.options)
    }
}

fn lost(options: &Options) -> Error {
    Error::new(Kind::Unreachable, format!("{}: ssh connection is gone", options.host)).retryable()
}

/// One of the sessions of a connection, free again when dropped.
pub(crate) struct Session<'a>(&'a Link);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        *lock(&self.0.busy) -= 1;
        self.0.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `ssh` that holds the connection.
#[derive(Debug)]
struct Master {
    child: Child,
    socket: PathBuf,
}

impl Master {
    fn start(options: &Options, cancel: &Cancel) -> Result<Self> {
        check_host(&options.host)?;
        let socket = options.run_dir.fresh("ctl");
        let mut child = command("ssh", options.run_dir.user())
            .args(options.arguments()?)
            .args(["-M", "-S"])
            .arg(&socket)
            // A session, not -N: with one, ssh sets TCP_NODELAY, and the end of its input ends it.
            .args(["--", &options.host, "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(Kind::Io, || format!("{}: starting ssh", options.host))?;
        let words = listen(&mut child);
        let mut master = Self { child, socket };
        master.greet(options, &words, cancel)?;
        if !master.control(options, &["-O", "check"], cancel)?.status.eq(&0) {
            let text = format!("{}: ssh keeps no connection at {}", options.host, master.socket.display());
            return Err(master.broken(options, Error::new(Kind::Io, text)));
        }
        Ok(master)
    }

    /// The error of what a connection did not do; it may have ended meanwhile.
    fn broken(&mut self, options: &Options, error: Error) -> Error {
        if self.ends() { lost(options).because(error) } else { error }
    }

    /// Whether it ends before long.
    fn ends(&mut self) -> bool {
        let until = Instant::now() + 4 * LOOK;
        while self.runs() {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Sends a line and waits for its echo: proves the login, the far shell, and that nothing else is printed
    /// there, which would spoil rsync.
    fn greet(&mut self, options: &Options, words: &Words, cancel: &Cancel) -> Result<()> {
        let host = &options.host;
        let greeting = b"zlm link\n";
        let sent = self.child.stdin.as_mut().map(|stdin| stdin.write_all(greeting));
        let deadline = Instant::now() + options.connect_timeout + LOGIN;
        let mut heard = Vec::new();
        while sent.as_ref().is_some_and(|s| s.is_ok()) && heard.len() < 4096 {
            cancel.check()?;
            match words.stdout.recv_timeout(LOOK) {
                Ok(chunk) => heard.extend(chunk),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(Error::new(
                        Kind::Unreachable,
                        format!("{host}: no login within {:?}", options.connect_timeout + LOGIN),
                    )
                    .retryable());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if heard == greeting {
                return Ok(());
            }
            if heard.ends_with(greeting) {
                break;
            }
        }
        if heard.is_empty() && !self.runs_on(deadline, cancel)? {
            let text = printable(&lock(&words.stderr));
            return Err(refusal(host, &text, &known_keys(options, cancel)));
        }
        Err(Error::new(Kind::Peer, format!("{host}: login works, but its shell answers {:?}", printable(&heard)))
            .hint("the login shell there must print nothing by itself, and the key must not be bound to a command"))
    }

    /// Waits for an end that is due; says whether the child runs on instead.
    fn runs_on(&mut self, deadline: Instant, cancel: &Cancel) -> Result<bool> {
        while self.runs() {
            cancel.check()?;
            if Instant::now() > deadline {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(self.child.wait().is_ok_and(|status| status.code() != Some(255)))
    }

    fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The arguments of a client of this connection. It reads no configuration and never dials by itself.
    fn client(&self, options: &Options) -> Vec<String> {
        let socket = self.socket.display().to_string();
        let argv = ["ssh", "-F", "none", "-T", "-S", &socket, "-o", "ProxyCommand=false", "-o", "LogLevel=ERROR"];
        argv.iter().map(|&s| s.to_owned()).chain(["-l".to_owned(), options.user.clone()]).collect()
    }

    fn control(&self, options: &Options, arguments: &[&str], cancel: &Cancel) -> Result<Output> {
        let argv = self.client(options);
        let mut command = command(&argv[0], options.run_dir.user());
        command.args(&argv[1..]).args(arguments).args(["--", &options.host]);
        let task = Task { name: &options.host, input: Input::None, limit: Limit::default(), cancel };
        drive(&mut command, task, &mut |_| Ok(()))
    }

    fn tunnel(&self, options: &Options, tunnel: &Tunnel, cancel: &Cancel) -> Result<()> {
        let route = format!("{}:127.0.0.1:{}", tunnel.here, tunnel.there);
        let said = self.control(options, &["-O", "forward", "-L", &route], cancel)?;
        if said.status == 0 {
            return Ok(());
        }
        Err(Error::new(Kind::Io, format!("{}: tunnel {route}: {}", options.host, said.stderr)))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.runs() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What the master says; drained as long as it lives, so that it never blocks on us.
struct Words {
    stdout: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

fn listen(child: &mut Child) -> Words {
    let (to, stdout) = mpsc::channel();
    let stderr = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&stderr);
    if let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) {
        // Its errors are complete once its output has ended: the second pipe is read to its end first.
        let errors = thread::spawn(move || drain(&mut err, |chunk| keep_end(&mut lock(&kept), chunk)));
        thread::spawn(move || {
            drain(&mut out, |chunk| drop(to.send(chunk.to_vec())));
            let _ = errors.join();
        });
    }
    Words { stdout, stderr }
}

fn drain(from: &mut impl Read, mut each: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        each(&buffer[..n]);
    }
}

/// The fingerprints that the known hosts have for this name; none when they cannot be read.
fn known_keys(options: &Options, cancel: &Cancel) -> Vec<String> {
    let name = match options.port {
        Some(port) if port != 22 => format!("[{}]:{port}", options.host),
        _ => options.host.clone(),
    };
    let mut command = command("ssh-keygen", options.run_dir.user());
    command.args(["-l", "-F", &name]);
    if let Some(path) = &options.known_hosts {
        command.arg("-f").arg::<&Path>(path);
    }
    let mut text = Vec::new();
    let task = Task { name: "ssh-keygen", input: Input::None, limit: Limit::default(), cancel };
    let said = drive(&mut command, task, &mut |chunk| {
        text.extend_from_slice(chunk);
        Ok(())
    });
    if said.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    text.split_whitespace().filter(|word| word.starts_with("SHA256:")).map(str::to_owned).collect()
}
