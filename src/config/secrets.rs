//! Where a password comes from: a program, the service manager, a private file, or the configuration itself.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::guard;
use crate::error::{Context, Error, Kind, Result};
use crate::secret::Secret;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_SECRET: u64 = 4096;

/// The sources of one password, of which the file may set one.
pub(super) struct Source<'a> {
    /// What it is called: in messages, and below `$CREDENTIALS_DIRECTORY`.
    pub name: String,
    pub password: &'a Option<Secret>,
    pub file: &'a Option<PathBuf>,
    pub command: &'a Option<Vec<String>>,
}

impl Source<'_> {
    /// The password, if there is a source for it; fails with [`Kind::Config`]. A program comes before a
    /// credential of the service manager, that before a file, that before a written password.
    pub fn read(&self) -> Result<Option<Secret>> {
        if let Some(argv) = self.command {
            return run(&self.name, argv).map(Some);
        }
        if let Some(path) = self.credential() {
            return guard::read_secret(&path).map(Some);
        }
        if let Some(path) = self.file {
            return guard::read_secret(path).map(Some);
        }
        Ok(self.password.clone())
    }

    fn credential(&self) -> Option<PathBuf> {
        let path = Path::new(&env::var_os("CREDENTIALS_DIRECTORY")?).join(&self.name);
        path.exists().then_some(path)
    }
}

/// What a program prints; its arguments are shown to nobody, they may tell where a secret is.
fn run(name: &str, argv: &[String]) -> Result<Secret> {
    let [program, arguments @ ..] = argv else {
        return Err(Error::new(Kind::Config, format!("{name}: the password command is empty")));
    };
    let running = || format!("{name}: running the password command {program}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context(Kind::Config, running)?;
    let printed = wait(&mut child);
    if printed.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().context(Kind::Config, running)?;
    let Some(printed) = printed else {
        return Err(Error::new(Kind::Config, format!("{}: no answer in {COMMAND_TIMEOUT:?}", running())));
    };
    if !status.success() {
        return Err(Error::new(Kind::Config, format!("{}: {status}", running())));
    }
    guard::one_line(&printed)
        .ok_or_else(|| Error::new(Kind::Config, format!("{}: it did not print one line", running())))
}

/// What a child prints until it closes its output; none when that takes too long.
fn wait(child: &mut Child) -> Option<String> {
    let output = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.take(MAX_SECRET).read_to_end(&mut text);
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(COMMAND_TIMEOUT).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source<'a>(password: &'a Option<Secret>, command: &'a Option<Vec<String>>) -> Source<'a> {
        Source { name: "ldap.password".into(), password, file: &None, command }
    }

    #[test]
    fn a_program_comes_before_a_written_password() {
        let argv = |script: &str| Some(["sh", "-c", script].map(String::from).to_vec());
        let written = Some(Secret::new("written"));
        assert_eq!(source(&written, &argv("echo printed")).read().unwrap().unwrap().expose(), "printed");
        assert_eq!(source(&written, &None).read().unwrap(), written);
        assert_eq!(source(&None, &None).read().unwrap(), None);
    }

    #[test]
    fn a_failing_program_is_an_error_without_its_output() {
        for script in ["echo hunter2; exit 3", "echo hunter2; echo more", "true"] {
            let command = Some(["sh", "-c", script].map(String::from).to_vec());
            let e = source(&None, &command).read().unwrap_err();
            assert_eq!(e.kind(), Kind::Config);
            assert!(!format!("{e:?}").contains("hunter2"), "{e:?}");
        }
        assert!(source(&None, &Some(vec![])).read().is_err());
    }
}
