//! Directories of a mailbox that are not there: Zimbra makes them with the first file, so that what is not there is empty.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use zlm_lab::lab_mail::volume::{self, Volume};

use super::behind::Course;
use super::scene::Scene;
use super::{Expect, Situation, Way};
use crate::faults::{DEST, SOURCE};

/// The first volume of both stores, for messages.
const PRIMARY: u8 = 1;
/// The secondary volumes.
const SECONDARY: u8 = 3;
/// All blobs.
const ALL: u32 = u32::MAX;

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    SourcePrimary,
    SourceSecondary,
    SourceIndex,
    /// A volume at the source that has just become current.
    NewCurrent,
    Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// It is not there from the start, and stays away.
    Start,
    /// It is not there at first, and appears while the user works.
    Appears,
    /// It is there at first, and vanishes while the user works.
    Vanishes,
}

struct Absence {
    place: Place,
    when: When,
    way: Way,
}

/// Each directory, absent in each way, for a move and for the way back.
pub fn all() -> Vec<Box<dyn Situation>> {
    let mut all: Vec<Box<dyn Situation>> = Vec::new();
    let places =
        [Place::SourcePrimary, Place::SourceSecondary, Place::SourceIndex, Place::NewCurrent, Place::Destination];
    for place in places {
        for when in [When::Start, When::Appears, When::Vanishes] {
            all.extend(
                [Way::Move, Way::Reverse].map(|way| Box::new(Absence { place, when, way }) as Box<dyn Situation>),
            );
        }
    }
    all
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Start => "absent from the start",
            When::Appears => "appears meanwhile",
            When::Vanishes => "vanishes meanwhile",
        };
        write!(f, "directory: {:?} {when}, {:?}", self.place, self.way)
    }
}

impl Absence {
    /// Where the run goes from, and to.
    fn ends(&self) -> (&'static str, &'static str) {
        if self.way == Way::Reverse { (DEST, SOURCE) } else { (SOURCE, DEST) }
    }

    /// What a way back may find: nothing was written at the new home, so that only empty directories come and go.
    fn empty(&self, scene: &Scene<'_>, appears: bool) -> Result<()> {
        let (from, to) = self.ends();
        let store = if self.place == Place::Destination { to } else { from };
        let (number, volumes) = (scene.number(store)?, scene.volumes(store)?);
        let volume: &Volume = match self.place {
            Place::SourcePrimary | Place::Destination => volumes.get(PRIMARY),
            Place::SourceSecondary => volumes.current_secondary(),
            Place::SourceIndex => Some(volumes.current_index()),
            Place::NewCurrent => volumes.get(scene.fresh()),
        }
        .context("no such volume")?;
        if !appears {
            return scene.prune(volume, number);
        }
        let dir = if self.place == Place::SourceIndex { volume.index_dir(number) } else { volume.msg_dir(number) };
        Ok(volume::make_dirs(&volume.root, &dir)?)
    }
}

impl Situation for Absence {
    fn expect(&self) -> Expect {
        match (self.place, self.when, self.way) {
            // A copy that somebody removes under the run that makes it.
            (Place::Destination, When::Vanishes, Way::Move) => Expect::Undone(&["/opt/zimbra/store", "/msg"]),
            _ => Expect::Moved,
        }
    }

    fn way(&self) -> Way {
        self.way
    }

    fn mail(&self) -> bool {
        false
    }

    fn changes_items(&self) -> bool {
        self.way == Way::Move
    }

    fn arrange(&self, scene: &Scene<'_>) -> Result<()> {
        let back = self.way == Way::Reverse;
        let number = scene.number(SOURCE)?;
        let volumes = scene.volumes(SOURCE)?;
        match (self.place, self.when) {
            (Place::SourcePrimary, When::Vanishes) if !back => Ok(()),
            // Nothing has ever been there, not even the directory of a group of mailboxes.
            (Place::Destination, _) if !back => {
                scene.make_volume(DEST)?;
                scene.use_volume(DEST)
            }
            (Place::SourcePrimary | Place::Destination, _) => {
                scene.relocate(SOURCE, PRIMARY, SECONDARY, ALL)?;
                scene.prune(volumes.get(PRIMARY).context("no volume 1")?, number)
            }
            (Place::SourceSecondary, When::Vanishes) if !back => scene.relocate(SOURCE, PRIMARY, SECONDARY, 10),
            (Place::SourceSecondary, _) => scene.prune(volumes.get(SECONDARY).context("no volume 3")?, number),
            (Place::SourceIndex, When::Vanishes) if !back => Ok(()),
            (Place::SourceIndex, _) => scene.remove_index(SOURCE),
            (Place::NewCurrent, _) if back => scene.make_volume(DEST),
            (Place::NewCurrent, when) => {
                scene.make_volume(SOURCE)?;
                scene.use_volume(SOURCE)?;
                let some = if when == When::Vanishes { 5 } else { 0 };
                scene.relocate(SOURCE, PRIMARY, scene.fresh(), some)
            }
        }
    }

    fn arrange_back(&self, scene: &Scene<'_>) -> Result<()> {
        if self.way != Way::Reverse {
            return Ok(());
        }
        if self.place == Place::NewCurrent {
            scene.use_volume(DEST)?;
        }
        self.empty(scene, self.when == When::Vanishes)
    }

    fn place(&self, _: &Course) -> Option<String> {
        match (self.place, self.when, self.way) {
            (_, When::Start, _) => None,
            (Place::Destination, When::Appears, Way::Move) => Some("stage:1.before".to_owned()),
            // The directories that were made for the copy are empty still.
            (Place::Destination, When::Vanishes, Way::Move) => Some("rsync:1.before".to_owned()),
            _ => Some("check_blobs:1.before".to_owned()),
        }
    }

    fn happen(&self, scene: &Scene<'_>) -> Result<()> {
        if self.way == Way::Reverse {
            return self.empty(scene, self.when == When::Appears);
        }
        let number = scene.number(SOURCE)?;
        let volumes = scene.volumes(SOURCE)?;
        let mail = format!("act {} 5 {number} message", scene.round.email());
        match (self.place, self.when) {
            (_, When::Start) => Ok(()),
            (Place::SourcePrimary | Place::NewCurrent, When::Appears) => scene.tell(SOURCE, &mail),
            (Place::SourcePrimary, When::Vanishes) => {
                scene.relocate(SOURCE, PRIMARY, SECONDARY, ALL)?;
                scene.prune(volumes.get(PRIMARY).context("no volume 1")?, number)
            }
            (Place::SourceSecondary, When::Appears) => scene.relocate(SOURCE, PRIMARY, SECONDARY, 10),
            (Place::SourceSecondary, When::Vanishes) => {
                scene.relocate(SOURCE, SECONDARY, PRIMARY, ALL)?;
                scene.prune(volumes.get(SECONDARY).context("no volume 3")?, number)
            }
            (Place::SourceIndex, When::Appears) => scene.index_file(SOURCE, "_0.cfs"),
            (Place::SourceIndex, When::Vanishes) => scene.remove_index(SOURCE),
            (Place::NewCurrent, When::Vanishes) => {
                scene.relocate(SOURCE, scene.fresh(), PRIMARY, ALL)?;
                scene.prune(volumes.get(scene.fresh()).context("no new volume")?, number)
            }
            (Place::Destination, When::Appears) => {
                // Another mailbox of the volume gets its first mail there.
                let volume = scene.volumes(DEST)?;
                let dir = volume.current_message().msg_dir(scene.next_number()? + 1);
                volume::make_dirs(&volume.current_message().root, &dir)?;
                Ok(fs::remove_dir(&dir).and_then(|()| fs::remove_dir(dir.parent().unwrap_or(&dir)))?)
            }
            (Place::Destination, When::Vanishes) => {
                let volumes = scene.volumes(DEST)?;
                scene.prune(volumes.current_message(), scene.next_number()? - 1)
            }
        }
    }

    fn clear(&self, scene: &Scene<'_>) -> Result<()> {
        match (self.place, self.way) {
            (Place::NewCurrent, way) => scene.current_volume(if way == Way::Reverse { DEST } else { SOURCE }, PRIMARY),
            (Place::Destination, Way::Move) => scene.current_volume(DEST, PRIMARY),
            _ => Ok(()),
        }
    }
}
