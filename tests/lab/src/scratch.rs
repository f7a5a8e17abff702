//! A lab for one test.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::Lab;

/// A lab in a directory of its own that goes away with this value, also when a test panics.
#[derive(Debug)]
pub struct ScratchLab(Lab);

impl ScratchLab {
    /// As [`Lab::boot`], in a new directory below `/var/tmp`.
    pub fn boot() -> Result<ScratchLab> {
        Self::of(|dir| Lab::boot(dir))
    }

    /// As [`Lab::boot_without_mailboxd`], in a new directory below `/var/tmp`.
    pub fn boot_without_mailboxd() -> Result<ScratchLab> {
        Self::of(|dir| Lab::boot_without_mailboxd(dir))
    }

    fn of(boot: impl FnOnce(&str) -> Result<Lab>) -> Result<ScratchLab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        boot(&format!("/var/tmp/zlm-lab-{}-{count}", std::process::id())).map(ScratchLab)
    }
}

impl Deref for ScratchLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for ScratchLab {
    fn drop(&mut self) {
        if let Err(error) = self.0.down().and_then(|()| Ok(std::fs::remove_dir_all(self.0.dir())?)) {
            // A drop has nobody to give an error to, and hosts left behind must not go unseen.
            eprintln!("lab {} stays: {error:#}", self.0.dir().display());
        }
    }
}
