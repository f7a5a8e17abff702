//! Where log lines go: to stderr when asked for, and to a file.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use env_logger::{Builder, Logger, Target};
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::{Config, guard};
use crate::error::{Context, Error, Kind, Result};

/// Sends what is logged to stderr, as `-v` asks, and to the configured file. A dry run writes no file: it
/// leaves the disk as it was.
pub(super) fn start(config: &Config, verbose: u8, dry_run: bool) -> Result<()> {
    let level = match verbose {
        // Whatever ends a run is printed at its end; the log's own line of it goes to the file.
        0 => LevelFilter::Off,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // What the console says is on stderr already.
    let stderr = Builder::new()
        .filter_module("zlm", level)
        .filter_module("zlm::cli::console", LevelFilter::Off)
        .format_timestamp_millis()
        .target(Target::Stderr)
        .build();
    let file = match dry_run {
        true => None,
        false => Some(file_logger(config)?),
    };
    log::set_max_level(LevelFilter::Trace);
    log::set_boxed_logger(Box::new(Both { stderr, file })).context(Kind::Io, || "log: starting it".to_owned())
}

fn file_logger(config: &Config) -> Result<Logger> {
    let path = config.log_file();
    // Zimbra's cron deletes what lies there after eight days.
    if path.starts_with("/opt/zimbra/log") {
        return Err(Error::new(Kind::Config, format!("{}: log file", path.display()))
            .hint("Zimbra deletes files under /opt/zimbra/log after eight days; choose another directory"));
    }
    let elsewhere = "`file` of [log] in zlm.toml names another";
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (folder, &config.file.log.file) {
        (Some(folder), None) => guard::make_dir(folder).map_err(|error| error.hint(elsewhere))?,
        // One that somebody chose may be shared.
        (Some(folder), Some(_)) => {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
            made.context(Kind::Config, || format!("{}: making the log's directory", folder.display()))?;
        }
        (None, _) => {}
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&path)
        .context(Kind::Config, || format!("{}: opening the log", path.display()))
        .map_err(|error| error.hint(elsewhere))?;
    let level = config.file.log.level.map_or(LevelFilter::Info, LevelFilter::from);
    let target = Target::Pipe(Box::new(file));
    Ok(Builder::new().filter_module("zlm", level).format_timestamp_millis().target(target).build())
}

struct Both {
    stderr: Logger,
    file: Option<Logger>,
}

impl Log for Both {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.stderr.enabled(metadata) || self.file.as_ref().is_some_and(|f| f.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        self.stderr.log(record);
        if let Some(file) = &self.file {
            file.log(record);
        }
    }

    fn flush(&self) {
        self.stderr.flush();
        if let Some(file) = &self.file {
            file.flush();
        }
    }
}
