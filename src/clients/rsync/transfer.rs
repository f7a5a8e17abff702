//! One run of rsync.

use std::time::{Duration, Instant};

use super::ending::ending;
use super::names::checked;
use super::progress::{Progress, Reader, Transferred};
use crate::cancel::Cancel;
use crate::clients::ssh::{Input, Limit, Link, Options, Shell, quote};
use crate::error::{Error, Kind, Result};

/// A directory on a host.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it is.
    pub shell: Shell,
    /// The directory, absolute.
    pub path: String,
    /// The rsync program there.
    pub rsync: String,
}

impl Place {
    /// A directory reached by `shell`, with the rsync that is found there.
    pub fn new(shell: Shell, path: impl Into<String>) -> Self {
        Self { shell, path: path.into(), rsync: "rsync".into() }
    }
}

/// Which files of the source directory.
pub enum What {
    /// All of it.
    Tree,
    /// These names, each `file` or `directory/file` and a NUL; directories are made at the destination.
    Named(Input),
}

/// A copy of files from one place to another.
///
/// It runs where the source is: on this host when one of the places is here, on the source's host when both
/// are elsewhere, so that no byte takes a detour.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The source.
    pub from: Place,
    /// The destination; made when it is not there.
    pub to: Place,
    /// Whether the directories above the destination are made too. Without it, whoever removes them has ended the copy
    /// for good, also one by a process that stood still meanwhile.
    pub make: bool,
    /// How the source's host reaches the destination's; needed when both are elsewhere. Its paths are paths
    /// on the source's host.
    pub route: Option<Options>,
    /// At most this many KiB a second.
    pub bandwidth: Option<u32>,
    /// Remove at the destination what the source does not have; for a whole tree only.
    pub delete: bool,
    /// Send changed files whole, without looking for equal parts: right for blobs, which never change.
    pub whole: bool,
    /// Compare contents where size and time are equal: for files of which the bytes turned out to differ.
    pub checksum: bool,
    /// Files may vanish meanwhile, because users work.
    pub vanished_is_normal: bool,
    /// Leave processor and disk to others, on both hosts where both are ours to run commands on.
    pub gentle: bool,
    /// The connection counts as broken after this time without a byte.
    pub timeout: Duration,
}

/// Nothing but files and directories with plain names: no links, no devices, no set-user-id, no name that a
/// terminal or a list could mistake.
const RULES: &[&str] = &[
    "--recursive",
    "--times",
    "--perms",
    "--chmod=ug-s,o-w",
    "--no-links",
    "--no-devices",
    "--no-specials",
    "--exclude=*[!A-Za-z0-9._-]*",
    "--protect-args",
    "--info=progress2",
    "--stats",
    "--no-human-readable",
    "--outbuf=L",
];

/// What came of a file before a connection broke is kept beside the others, so that what has a name is whole.
const APART: &str = "--partial-dir=.zlm-partial";

/// Files get their names at once and not by renaming, which is a quarter of what very many small ones take. Only where
/// nothing was: an old file may have a second name, under which another mailbox would be written over. One that a broken
/// connection left unfinished has not yet its time, so the next run, which finds something there, sends it again.
const AT_ONCE: &str = "--inplace";

/// rsync's status for files, or a source, that it could not read.
const UNREAD: i32 = 23;

/// How long two rsyncs may take to greet one another.
const GREETING: Duration = Duration::from_secs(10);

const GENTLY: &[&str] = &["nice", "-n", "10", "ionice", "-c", "2", "-n", "7"];

impl Transfer {
    /// A copy of all files, nothing deleted, as fast as it goes.
    pub fn new(from: Place, to: Place) -> Self {
        Self {
            from,
            to,
            make: true,
            route: None,
            bandwidth: None,
            delete: false,
            whole: true,
            checksum: false,
            vanished_is_normal: false,
            gentle: false,
            timeout: Duration::from_secs(120),
        }
    }

    /// What it would do, for a person.
    pub fn describe(&self, what: &What) -> String {
        let named = if matches!(what, What::Named(_)) { "named files of " } else { "" };
        let mut text =
            format!("rsync {named}{}:{} to {}:{}", self.from.shell, self.from.path, self.to.shell, self.to.path);
        if self.delete {
            text.push_str(", deleting what the source does not have");
        }
        if let Some(rate) = self.bandwidth {
            text.push_str(&format!(", at most {rate} KiB/s"));
        }
        text
    }

    /// Counts what [`Transfer::run`] would do; reads only.
    ///
    /// Fails as it does.
    pub fn count(&self, what: What, cancel: &Cancel) -> Result<Transferred> {
        self.check(&what)?;
        // Without the directories above it, rsync cannot even look.
        let to = if self.is_directory(&self.to, cancel)? { self.to.path.as_str() } else { "/var/empty/zlm" };
        self.drive(what, to, &[APART, "--dry-run"], cancel, &mut |_| {})
    }

    /// Copies; tells how far it is.
    ///
    /// Fails with [`Kind::Unreachable`] (retryable) when a connection breaks, [`Kind::NotFound`] when the source is not
    /// there, [`Kind::Peer`] when files could not be read or written, [`Kind::Io`] on a full disk, [`Kind::Unequal`] when files vanished and that is not
    /// normal, [`Kind::Cancelled`] on request, [`Kind::Usage`] on settings that exclude each other. What arrived
    /// stays, and the next run goes on from there.
    pub fn run(&self, what: What, cancel: &Cancel, on_progress: &mut dyn FnMut(Progress)) -> Result<Transferred> {
        self.check(&what)?;
        if self.make {
            self.to.shell.expect(&["mkdir", "-p", "--", &self.to.path], Input::None, Limit::default(), cancel)?;
        }
        let is_first = self.whole && matches!(what, What::Tree) && self.is_nothing_there(cancel)?;
        self.drive(what, &self.to.path, &[if is_first { AT_ONCE } else { APART }], cancel, on_progress)
    }

    /// Whether files can go this way: both rsyncs start, and understand each other. Nothing is copied, or even looked at.
    ///
    /// Fails as [`Transfer::run`] does, after some seconds at most.
    pub fn greet(&self, cancel: &Cancel) -> Result<()> {
        let quick = Self { timeout: GREETING, ..self.clone() };
        quick.check(&What::Tree)?;
        let way = quick.way(cancel)?;
        // A list of no names.
        let mut argv = quick.arguments(&way, true)?;
        argv.extend(["--dry-run".into(), "--".into()]);
        argv.extend([way.from.prefix(&self.from.path), way.to.prefix(&self.to.path)]);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let _session = way.link.map(|link| link.session(cancel)).transpose()?;
        let output = way.shell.run(&argv, Input::Bytes(Vec::new()), Limit::default(), cancel)?;
        let name = format!("rsync from {} to {}", self.from.shell, self.to.shell);
        let failed = ending(&name, output.status, &output.stderr, false);
        failed.map_or(Ok(()), Err)
    }

    /// What [`Transfer::run`] does with a source that holds nothing: where it deletes, all that is at the destination goes.
    /// Links in it are removed, not followed; other file systems stay.
    ///
    /// Fails as the shell does.
    pub fn clear(&self, cancel: &Cancel) -> Result<Transferred> {
        let started = Instant::now();
        let mut done = Transferred::default();
        let path = self.to.path.as_str();
        if self.delete && self.is_directory(&self.to, cancel)? {
            let argv = ["find", path, "-xdev", "-mindepth", "1", "-printf", ".", "-delete"];
            let limit = Limit::idle(self.timeout);
            let output = self.to.shell.stream(&argv, Input::None, limit, cancel, &mut |dots| {
                done.deleted += dots.len() as u64;
                Ok(())
            })?;
            if output.status != 0 {
                return Err(self.to.shell.failure(&argv, &output));
            }
        }
        Ok(Transferred { seconds: started.elapsed().as_secs_f64(), ..done })
    }

    fn is_directory(&self, place: &Place, cancel: &Cancel) -> Result<bool> {
        Ok(place.shell.run(&["test", "-d", &place.path], Input::None, Limit::default(), cancel)?.status == 0)
    }

    /// Whether the destination is a directory without anything in it.
    fn is_nothing_there(&self, cancel: &Cancel) -> Result<bool> {
        let path = self.to.path.as_str();
        // It ends with the first thing that is in it, however many there are.
        let argv = ["find", path, "-maxdepth", "1", "-printf", "%y", "!", "-samefile", path, "-quit"];
        let found = self.to.shell.run(&argv, Input::None, Limit::default(), cancel)?;
        Ok(found.status == 0 && found.stdout == b"d")
    }

    fn check(&self, what: &What) -> Result<()> {
        for place in [&self.from, &self.to] {
            if !place.path.starts_with('/') || place.path.contains(['\0', '\n']) {
                return Err(Error::new(
                    Kind::Usage,
                    format!("rsync {}: {:?} is not an absolute path", place.shell, place.path),
                ));
            }
        }
        if self.delete && matches!(what, What::Named(_)) {
            return Err(Error::new(Kind::Usage, "rsync of named files cannot delete others"));
        }
        Ok(())
    }

    fn is_not_there(&self) -> Error {
        Error::new(Kind::NotFound, format!("{}:{}: is not there", self.from.shell, self.from.path))
    }

    /// rsync opens a named file through a link that stands for its directory, and would copy what is elsewhere.
    fn refuse_linked_directories(&self, cancel: &Cancel) -> Result<()> {
        let path = &self.from.path;
        let argv = ["find", path, "-mindepth", "1", "-maxdepth", "1", "-type", "l", "-printf", "%f "];
        let output = self.from.shell.run(&argv, Input::None, Limit::default(), cancel)?;
        if output.status != 0 {
            return Err(match self.is_directory(&self.from, cancel)? {
                true => self.from.shell.failure(&argv, &output),
                false => self.is_not_there(),
            });
        }
        let links = output.stdout;
        if links.is_empty() {
            return Ok(());
        }
        let links = String::from_utf8_lossy(&links).escape_debug().take(200).collect::<String>();
        Err(Error::new(
            Kind::Refused,
            format!("{}:{path}: symbolic links stand for directories: {links}", self.from.shell),
        )
        .hint("Zimbra makes none: find out who did, and move them away"))
    }

    fn drive(
        &self,
        what: What,
        to: &str,
        more: &[&str],
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Transferred> {
        let started = Instant::now();
        let named = matches!(what, What::Named(_));
        if named {
            self.refuse_linked_directories(cancel)?;
        }
        let way = self.way(cancel)?;
        let mut argv = self.arguments(&way, named)?;
        argv.extend(more.iter().map(|&s| s.to_owned()));
        argv.extend(["--".into(), way.from.prefix(&self.from.path), way.to.prefix(to)]);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let input = match what {
            What::Tree => Input::None,
            What::Named(names) => checked(names),
        };
        // rsync itself notices a dead connection; this is for an rsync that hangs.
        let limit = Limit::idle(self.timeout * 10);
        let _session = way.link.map(|link| link.session(cancel)).transpose()?;
        let mut reader = Reader::default();
        let output = way.shell.stream(&argv, input, limit, cancel, &mut |chunk| {
            reader.take(chunk, on_progress);
            Ok(())
        })?;
        let name = format!("{}:{} to {}:{}", self.from.shell, self.from.path, self.to.shell, self.to.path);
        match ending(&name, output.status, &output.stderr, self.vanished_is_normal) {
            // rsync has one status for whatever cannot be read, and says the rest in the language of its host.
            Some(_) if output.status == UNREAD && !named && !self.is_directory(&self.from, cancel)? => {
                Err(self.is_not_there())
            }
            Some(error) => Err(error),
            None => Ok(Transferred { seconds: started.elapsed().as_secs_f64(), ..reader.done }),
        }
    }

    fn arguments(&self, way: &Way, named: bool) -> Result<Vec<String>> {
        let mut argv: Vec<String> = Vec::new();
        let gently = if self.gentle { GENTLY } else { &[] };
        argv.extend(gently.iter().map(|&s| s.to_owned()));
        argv.push(way.here.clone());
        argv.extend(RULES.iter().map(|&s| s.to_owned()));
        if self.checksum {
            argv.push("--checksum".into());
        }
        argv.push(format!("--timeout={}", self.timeout.as_secs().max(1)));
        if let Some(shell) = &way.remote_shell {
            argv.push(format!("--rsh={}", shell.join(" ")));
            // From store to store the login may be for rsync alone, and what begins with another word is not taken for it.
            let gently = if way.link.is_some() { gently } else { &[] };
            let far: Vec<&str> = gently.iter().copied().chain([way.far.as_str()]).collect();
            argv.push(format!("--rsync-path={}", quote(&far)?));
        }
        argv.push(if self.whole { "--whole-file" } else { "--no-whole-file" }.into());
        if let Some(rate) = self.bandwidth {
            argv.push(format!("--bwlimit={rate}"));
        }
        if self.delete {
            argv.push("--delete-delay".into());
        }
        match named {
            true => argv.extend(["--files-from=-".into(), "--from0".into()]),
            // Copies of one message share a file. Nothing relies on it; it saves room, and costs next to nothing.
            false => argv.push("--hard-links".into()),
        }
        Ok(argv)
    }

    /// Who runs rsync, and how it reaches the other end.
    fn way(&self, cancel: &Cancel) -> Result<Way<'_>> {
        let (here, far) = (self.from.rsync.clone(), self.to.rsync.clone());
        match (&self.from.shell, &self.to.shell) {
            (Shell::Local { .. }, Shell::Local { .. }) => Ok(Way {
                shell: self.from.shell.clone(),
                link: None,
                remote_shell: None,
                from: End::Here,
                to: End::Here,
                here,
                far,
            }),
            (Shell::Local { .. }, Shell::Remote(link)) => Ok(Way {
                from: End::Here,
                to: End::There(link.options().host.clone()),
                ..Way::over(link, here, far, cancel)?
            }),
            (Shell::Remote(link), Shell::Local { .. }) => Ok(Way {
                from: End::There(link.options().host.clone()),
                to: End::Here,
                ..Way::over(link, far, here, cancel)?
            }),
            (Shell::Remote(_), Shell::Remote(_)) => {
                let route = self.route.as_ref().ok_or_else(|| {
                    Error::new(
                        Kind::Config,
                        format!("{}: how it reaches {} is not known", self.from.shell, self.to.shell),
                    )
                })?;
                let mut remote_shell = vec!["ssh".to_owned()];
                remote_shell.extend(route.arguments()?);
                Ok(Way {
                    shell: self.from.shell.clone(),
                    link: None,
                    remote_shell: Some(remote_shell),
                    from: End::Here,
                    to: End::There(route.host.clone()),
                    here,
                    far,
                })
            }
        }
    }
}

/// Who runs rsync, and how it reaches the other end.
struct Way<'a> {
    shell: Shell,
    link: Option<&'a Link>,
    remote_shell: Option<Vec<String>>,
    from: End,
    to: End,
    here: String,
    far: String,
}

impl<'a> Way<'a> {
    /// From this host over a kept connection, which serves only children of its own user.
    fn over(link: &'a Link, here: String, far: String, cancel: &Cancel) -> Result<Self> {
        Ok(Self {
            shell: Shell::Local { user: link.options().run_dir.user().cloned() },
            link: Some(link),
            remote_shell: Some(link.client(cancel)?),
            from: End::Here,
            to: End::Here,
            here,
            far,
        })
    }
}

/// Where a path is, for the rsync that runs.
enum End {
    Here,
    There(String),
}

impl End {
    /// The path of a directory's contents as an argument.
    fn prefix(&self, path: &str) -> String {
        let path = path.trim_end_matches('/');
        match self {
            Self::Here => format!("{path}/"),
            Self::There(host) if host.contains(':') => format!("[{host}]:{path}/"),
            Self::There(host) => format!("{host}:{path}/"),
        }
    }
}
