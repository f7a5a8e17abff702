//! Where commands run: here, or on a host that a link leads to.

use std::fmt;
use std::sync::Arc;

use super::child::{Input, Limit, Output, Task, drive};
use super::link::Link;
use super::quote::quote;
use super::user::{User, command};
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};

/// Where commands run. A command is an argument vector; no shell here or there reads anything into it.
#[derive(Clone, Debug)]
pub enum Shell {
    /// This host.
    Local {
        /// The user that commands run as; `None` is the user of this process.
        user: Option<User>,
    },
    /// The host of a link, as the user of its options.
    Remote(Arc<Link>),
}

impl fmt::Display for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { .. } => f.write_str("this host"),
            Self::Remote(link) => f.write_str(&link.options().host),
        }
    }
}

impl Shell {
    /// Runs a command to its end; its status is the caller's to judge.
    ///
    /// Fails with [`Kind::Unreachable`] when the connection breaks or a time limit passes, with [`Kind::Peer`]
    /// when the output passes its limit, with [`Kind::Cancelled`] on request. The command is then ended here;
    /// one that runs elsewhere ends when it next reads or writes.
    pub fn run(&self, argv: &[&str], input: Input, limit: Limit, cancel: &Cancel) -> Result<Output> {
        let mut stdout = Vec::new();
        let mut output = self.stream(argv, input, limit, cancel, &mut |chunk| {
            stdout.extend_from_slice(chunk);
            Ok(())
        })?;
        output.stdout = stdout;
        Ok(output)
    }

    /// Runs a command that must succeed; gives its output.
    ///
    /// Fails as [`Shell::run`] does, and with [`Kind::Peer`] on a status other than 0.
    pub fn expect(&self, argv: &[&str], input: Input, limit: Limit, cancel: &Cancel) -> Result<Vec<u8>> {
        let output = self.run(argv, input, limit, cancel)?;
        if output.status == 0 { Ok(output.stdout) } else { Err(self.failure(argv, &output)) }
    }

    /// Runs a command and gives its output piece by piece; an error of `on_stdout` ends it.
    ///
    /// Fails as [`Shell::run`] does.
    pub fn stream(
        &self,
        argv: &[&str],
        input: Input,
        limit: Limit,
        cancel: &Cancel,
        on_stdout: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Output> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| Error::new(Kind::Usage, "command without a program"))?;
        let name = format!("{self}: {program}");
        log::trace!("{self}: {argv:?}");
        let task = Task { name: &name, input, limit, cancel };
        match self {
            Self::Local { user } => drive(command(program, user.as_ref()).args(arguments), task, on_stdout),
            Self::Remote(link) => {
                let _session = link.session(cancel)?;
                let client = link.client(cancel)?;
                let mut command = command(&client[0], link.options().run_dir.user());
                command.args(&client[1..]).args(["--", &link.options().host]).arg(quote(argv)?);
                let output = drive(&mut command, task, on_stdout)?;
                // 255 is ssh's own status, but a command may end with it too: the connection tells.
                let broken =
                    output.status == 255 && (output.stderr.starts_with("mux_client") || !link.is_alive(cancel));
                if broken {
                    let text = format!("{name}: connection broke, how far it came is unknown: {}", output.stderr);
                    return Err(Error::new(Kind::Unreachable, text).code("255").retryable());
                }
                Ok(output)
            }
        }
    }

    /// The error of a command whose status says that it failed.
    pub fn failure(&self, argv: &[&str], output: &Output) -> Error {
        let program = argv.first().copied().unwrap_or_default();
        let said = if output.stderr.is_empty() { "it gave no reason" } else { &output.stderr };
        let error = Error::new(Kind::Peer, format!("{self}: {program} ended with {}: {said}", output.status))
            .code(output.status.to_string());
        match output.status {
            127 => error.hint(format!("is {program} installed there?")),
            _ if output.stderr.contains("No space left on device") => error.hint("the file system there is full"),
            _ => error,
        }
    }
}
