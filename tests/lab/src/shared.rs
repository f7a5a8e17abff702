//! Labs that the tests of one program share, each for one test at a time.

use std::io::Write;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Lab;

/// As many labs as two cores carry.
pub struct SharedLabs([Mutex<Option<Lab>>; 2]);

/// A lab for one test. One that fails leaves a lab that nobody can rely on: it goes, and the next test boots another.
/// What the process leaves behind when it ends is taken down by a shell that waits for that.
pub struct Turn(MutexGuard<'static, Option<Lab>>);

impl SharedLabs {
    /// None has been booted yet.
    pub const fn new() -> Self {
        Self([const { Mutex::new(None) }; 2])
    }

    /// Waits for a lab that no test has; a new one is prepared first.
    pub fn take(&'static self, prepare: impl FnOnce(&Lab) -> Result<()>) -> Result<Turn> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut slot = self.free();
        if slot.is_none() {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = format!("/var/tmp/zlm-shared-{}-{count}", std::process::id());
            watch(&dir)?;
            prepare(slot.insert(Lab::boot(&dir)?))?;
        }
        Ok(Turn(slot))
    }

    fn free(&'static self) -> MutexGuard<'static, Option<Lab>> {
        loop {
            for slot in &self.0 {
                match slot.try_lock() {
                    Ok(slot) => return slot,
                    Err(TryLockError::Poisoned(slot)) => return PoisonError::into_inner(slot),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Default for SharedLabs {
    fn default() -> Self {
        Self::new()
    }
}

/// Has a lab taken down when this process is gone.
fn watch(dir: &str) -> Result<()> {
    static WATCHER: OnceLock<Mutex<Option<Child>>> = OnceLock::new();
    const SCRIPT: &str = r#"while read -r dir; do dirs+=("$dir"); done
        for dir in "${dirs[@]}"; do
            for pid in $(cat "$dir"/hosts/*/pid 2>/dev/null); do
                tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -q "^$dir/" && kill -9 "$pid"
            done
            until rm -rf "$dir"; do sleep 0.1; done
        done"#;
    let mut watcher = WATCHER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if watcher.is_none() {
        *watcher = Some(Command::new("setsid").args(["bash", "-c", SCRIPT]).stdin(Stdio::piped()).spawn()?);
    }
    let stdin = watcher.as_mut().and_then(|child| child.stdin.as_mut()).context("bash has no input")?;
    Ok(writeln!(stdin, "{dir}")?)
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(lab) = self.0.take()
            && let Err(error) = lab.down()
        {
            eprintln!("lab {} stays: {error:#}", lab.dir().display());
        }
    }
}

impl Deref for Turn {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        self.0.as_ref().expect("is there from the start")
    }
}
