//! What is done to a move, and how it is ended when it died of it.

use std::fmt;

use super::trouble::{Back, Disk, Trouble};
use super::{DEST, SOURCE};
use zlm_lab::Service;

/// The operations of an undisturbed move.
pub struct Points {
    /// Name and description, in their order.
    pub operations: Vec<(String, String)>,
    /// Which of them, counted from 1, gives the account its new home.
    pub switch: usize,
}

/// Something that is done to the process itself.
#[derive(Clone, Debug)]
pub enum Blow {
    /// It dies there.
    Kill,
    /// The operation fails there, after it was carried out or before.
    Fail,
}

/// How a run is ended that died, or that did not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Resume,
    Rollback,
}

/// One thing to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the process does to itself: before or after which operation.
    pub blows: Vec<(usize, bool, Blow)>,
    /// What happens around it while it stands still before an operation, and after that. Ordered.
    pub troubles: Vec<(usize, Trouble)>,
    /// How it is ended.
    pub ending: Ending,
    /// Failpoint at which the process dies too that ends it.
    pub again: Option<String>,
    /// The seed, for random ones.
    pub seed: Option<u64>,
    /// What the operations are that it hits, for people.
    pub hits: String,
}

impl Plan {
    pub fn new(points: &Points, numbers: &[usize]) -> Self {
        let name = |number: &usize| {
            let (name, what) = points.operations.get(number - 1)?;
            Some(format!("{number} {name} {what}"))
        };
        let hits: Vec<String> = numbers.iter().filter_map(name).collect();
        Self {
            blows: Vec::new(),
            troubles: Vec::new(),
            ending: Ending::Resume,
            again: None,
            seed: None,
            hits: hits.join(" | "),
        }
    }

    /// Nothing but how it is ended.
    pub fn plain(ending: Ending) -> Self {
        Self { blows: Vec::new(), troubles: Vec::new(), ending, again: None, seed: None, hits: String::new() }
    }

    /// What `ZLM_FAILPOINT` is for the first process. `mark` tells it from those of other labs.
    pub fn failpoint(&self) -> String {
        let mut points: Vec<String> = Vec::new();
        for (number, after, blow) in &self.blows {
            let place = if *after { "after" } else { "before" };
            let action = if matches!(blow, Blow::Kill) { "kill" } else { "error" };
            points.push(format!("{number}.{place}={action}"));
        }
        points.extend(self.pauses().iter().map(|number| format!("{number}.before=pause")));
        points.join(",")
    }

    /// Before which operations the process stands still.
    pub fn pauses(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.troubles.iter().map(|(number, _)| *number).collect();
        numbers.dedup();
        numbers
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (number, after, blow) in &self.blows {
            parts.push(format!("{blow:?} {} {number}", if *after { "after" } else { "before" }));
        }
        for (number, trouble) in &self.troubles {
            parts.push(format!("{trouble:?} before {number}"));
        }
        write!(f, "{}, then {:?}", parts.join(", "), self.ending)?;
        if let Some(again) = &self.again {
            write!(f, " with {again}")?;
        }
        if let Some(seed) = self.seed {
            write!(f, " (--random --seed {seed} --count 1)")?;
        }
        write!(f, ": {}", self.hits)
    }
}

/// Every single fault: each operation killed, failed and stopped before and after it; killed again while it is taken up or
/// undone; each server killed before each operation; the network, sessions and disks at those that use them.
pub fn all(points: &Points) -> Vec<Plan> {
    let mut all = Vec::new();
    let count = points.operations.len();
    for number in 1..=count {
        for after in [false, true] {
            for (blow, ending) in
                [(Blow::Kill, Ending::Resume), (Blow::Kill, Ending::Rollback), (Blow::Fail, Ending::Resume)]
            {
                all.push(Plan { blows: vec![(number, after, blow)], ending, ..Plan::new(points, &[number]) });
            }
        }
        all.push(Plan { troubles: vec![(number, Trouble::Nothing)], ..Plan::new(points, &[number]) });
    }
    for number in 1..=count {
        // The second process carries out what was not done: the third of that, or the undo that comes second.
        let blows = vec![(number, true, Blow::Kill)];
        let resumed =
            Plan { blows: blows.clone(), again: Some("3.after=kill".to_owned()), ..Plan::new(points, &[number]) };
        all.push(resumed);
        for undo in (1..=4).filter(|_| number < points.switch) {
            let place = if (number + undo) % 2 == 0 { "before" } else { "after" };
            let again = Some(format!("undo{undo}.{place}=kill"));
            let ending = Ending::Rollback;
            all.push(Plan { blows: blows.clone(), ending, again, ..Plan::new(points, &[number]) });
        }
    }
    for number in 1..=count {
        for (n, (host, service)) in SERVICES.into_iter().enumerate() {
            let back = [Back::Before, Back::Soon(700), Back::End][(number + n) % 3];
            let troubles = vec![(number, Trouble::Kill { host, service, back })];
            all.push(Plan { troubles, ..Plan::new(points, &[number]) });
        }
        let torn = Trouble::Torn { bytes: [1, 300, 3_000, 30_000][number % 4] };
        for trouble in [Trouble::Sessions { after: 40 * (number as u64 % 5) }, torn] {
            all.push(Plan { troubles: vec![(number, trouble)], ..Plan::new(points, &[number]) });
        }
    }
    for (number, trouble) in disks_and_nets(points) {
        all.push(Plan { troubles: vec![(number, trouble)], ..Plan::new(points, &[number]) });
    }
    all
}

/// Every server that a move talks to.
pub const SERVICES: [(&str, Service); 6] = [
    (SOURCE, Service::Mariadb),
    (DEST, Service::Mariadb),
    ("ldap1", Service::Slapd),
    (DEST, Service::Sshd),
    (SOURCE, Service::Mailboxd),
    (DEST, Service::Mailboxd),
];

/// Disks that fill before operations that write to them, sessions that end under those that send much, and a
/// destination that nobody reaches for a while.
fn disks_and_nets(points: &Points) -> Vec<(usize, Trouble)> {
    let mut all = Vec::new();
    let numbers = |name: &str| -> Vec<usize> {
        let named = points.operations.iter().enumerate().filter(|(_, (n, _))| n == name);
        named.map(|(at, _)| at + 1).collect()
    };
    for name in ["claim", "stage", "inject", "soap_modify", "freeze", "switch_to", "open_mailbox"] {
        all.extend(numbers(name).into_iter().map(|number| (number, Trouble::Full(Disk::Journal))));
    }
    for name in ["stage", "inject", "refresh_mailbox", "switch_to"] {
        all.extend(numbers(name).into_iter().map(|number| (number, Trouble::Full(Disk::Mariadb))));
    }
    for name in ["rsync", "copy_index", "copy_blobs"] {
        all.extend(numbers(name).into_iter().map(|number| (number, Trouble::Full(Disk::Blobs))));
    }
    for name in ["rsync", "copy_index", "copy_blobs", "inject", "refresh_mailbox", "verify"] {
        for bytes in [1_000, 10_000, 60_000, 200_000] {
            all.extend(numbers(name).into_iter().map(|number| (number, Trouble::Torn { bytes })));
        }
    }
    for (n, name) in ["stage", "rsync", "inject", "check_blobs", "freeze", "verify", "switch_to", "open_mailbox"]
        .into_iter()
        .enumerate()
    {
        let ms = [500, 3000][n % 2];
        all.extend(numbers(name).into_iter().map(|number| (number, Trouble::Cut { host: DEST, ms })));
    }
    all
}
