//! What users and the store do while a run looks or copies: nothing of it may keep a mailbox from moving.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use zlm_lab::lab_mail::seed::Spec;

use super::behind::Course;
use super::scene::Scene;
use super::{Expect, Situation};
use crate::faults::SOURCE;

/// How long changes go on: a look is over by then, a copy ends them by its freeze.
const BUSY: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Delivery,
    Delete,
    Move,
    Tag,
    RenameFolder,
    NewFolder,
    /// The first mail goes to the secondary volume.
    FirstHsm,
    /// Another volume becomes current.
    NewVolume,
    EmptyDumpster,
    /// Lucene writes a file: between the copies under the lock, if it is not during the look.
    IndexFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    Look,
    Copy,
}

struct Busy {
    change: Change,
    during: During,
}

/// Each kind of change, during each phase in which the user works.
pub fn all() -> Vec<Box<dyn Situation>> {
    let changes = [
        Change::Delivery,
        Change::Delete,
        Change::Move,
        Change::Tag,
        Change::RenameFolder,
        Change::NewFolder,
        Change::FirstHsm,
        Change::NewVolume,
        Change::EmptyDumpster,
        Change::IndexFile,
    ];
    let during = |change| [During::Look, During::Copy].map(|during| Box::new(Busy { change, during }));
    changes.into_iter().flat_map(during).map(|busy| busy as Box<dyn Situation>).collect()
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let during = if self.during == During::Look { "look" } else { "copy" };
        write!(f, "change: {:?} during the {during}", self.change)
    }
}

impl Busy {
    /// What the user's session is told to do, if the change is a user's.
    fn act(&self) -> Option<&'static str> {
        match self.change {
            Change::Delivery => Some("message"),
            Change::Delete => Some("delete"),
            Change::Move => Some("move"),
            Change::Tag => Some("tag"),
            Change::RenameFolder => Some("rename-folder"),
            Change::NewFolder => Some("new-folder"),
            Change::EmptyDumpster => Some("empty-dumpster"),
            Change::FirstHsm | Change::NewVolume | Change::IndexFile => None,
        }
    }
}

impl Situation for Busy {
    fn expect(&self) -> Expect {
        Expect::Moved
    }

    fn shape(&self, spec: &mut Spec) {
        spec.items = 400;
        if self.change == Change::EmptyDumpster {
            spec.hurts = true;
        }
    }

    fn mail(&self) -> bool {
        false
    }

    fn changes_items(&self) -> bool {
        true
    }

    fn arrange(&self, scene: &Scene<'_>) -> Result<()> {
        if self.change == Change::NewVolume { scene.make_volume(SOURCE) } else { Ok(()) }
    }

    fn place(&self, _: &Course) -> Option<String> {
        let place = match (self.during, self.change) {
            (During::Look, _) => "look:1.before",
            (During::Copy, Change::IndexFile) => "copy_index:2.before",
            (During::Copy, _) => "rsync:1.before",
        };
        Some(place.to_owned())
    }

    fn happen(&self, scene: &Scene<'_>) -> Result<()> {
        match (self.change, self.during) {
            (Change::NewVolume, During::Copy) => scene.use_volume(SOURCE),
            (Change::IndexFile, During::Copy) => scene.index_file(SOURCE, "_7.fdt"),
            _ => Ok(()),
        }
    }

    fn go_on(&self, scene: &Scene<'_>) -> Result<()> {
        match self.change {
            // Past mailboxd, whose lock keeps HSM from a frozen mailbox: this must be over before.
            Change::FirstHsm => return scene.relocate(SOURCE, 1, 3, 5),
            Change::NewVolume if self.during == During::Look => return scene.use_volume(SOURCE),
            Change::IndexFile if self.during == During::Look => return scene.index_file(SOURCE, "_7.fdt"),
            _ => {}
        }
        let Some(kind) = self.act() else { return Ok(()) };
        let store = scene.lab().host(SOURCE)?;
        let until = Instant::now() + BUSY;
        for seed in 1.. {
            let line = format!("act {} 1 {seed} {kind}", scene.round.email());
            let answer = store.mailboxd_control(&line).context("the user's session")?;
            // The freeze ends the session.
            if !answer.starts_with("ok") || Instant::now() > until {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn clear(&self, scene: &Scene<'_>) -> Result<()> {
        if self.change == Change::NewVolume { scene.current_volume(SOURCE, 1) } else { Ok(()) }
    }
}
