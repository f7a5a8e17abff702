//! Where log lines go: to stderr when asked for, and to a file.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use env_logger::{Builder, Logger, Target};
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::Config;
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
    let path = config.file.log.file.clone().unwrap_or_else(default_path);
    // Zimbra's cron deletes what lies there after eight days.
    if path.starts_with("/opt/zimbra/log") {
        return Err(Error::new(Kind::Config, format!("{}: log file", path.display()))
            .hint("Zimbra deletes files under /opt/zimbra/log after eight days; choose another directory"));
    }
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder)
            .context(Kind::Io, || format!("{}: making the log's directory", folder.display()))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&path)
        .context(Kind::Io, || format!("{}: opening the log", path.display()))?;
    let level = config.file.log.level.map_or(LevelFilter::Info, LevelFilter::from);
    let target = Target::Pipe(Box::new(file));
    Ok(Builder::new().filter_module("zlm", level).format_timestamp_millis().target(target).build())
}

/// `/var/log/zlm/zlm.log` for root, the state directory of anybody else.
fn default_path() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home {
        Some(home) if home != Path::new("/root") => home.join(".local/state/zlm/zlm.log"),
        _ => PathBuf::from("/var/log/zlm/zlm.log"),
    }
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
