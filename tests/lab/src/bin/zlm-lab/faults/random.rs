//! Seeded combinations of one to four faults.

use super::plan::{Blow, Ending, Plan, Points, SERVICES};
use super::trouble::{Back, Disk, Trouble};
use super::{DEST, SOURCE};

/// Numbers that a seed gives again and again the same: splitmix64.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..below`.
    pub fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.next() % below.max(1) as u64).unwrap_or(0)
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Requests of a move, and what may become of them or of their answers.
pub const REQUESTS: [&str; 5] = ["ModifyAccount", "FlushCache", "LockoutMailbox", "GetMailbox", "GetAccount"];
pub const FATES: [&str; 4] = ["fail service.FAILURE", "drop-before", "apply-then-drop", "auth-expired"];

/// The combination that a seed means.
pub fn plan(points: &Points, seed: u64) -> Plan {
    let mut numbers = Numbers::new(seed);
    let mut plan = Plan::new(points, &[]);
    let count = points.operations.len();
    for _ in 0..=numbers.below(4) {
        let number = 1 + numbers.below(count);
        match numbers.below(10) {
            0..4 => {
                let blow = if numbers.below(3) == 0 { Blow::Fail } else { Blow::Kill };
                plan.blows.push((number, numbers.below(2) == 0, blow));
            }
            _ => {
                let trouble = trouble(&mut numbers);
                plan.troubles.push((number, trouble));
            }
        }
    }
    plan.troubles.sort_by_key(|(number, _)| *number);
    plan.ending = numbers.one_of(&[Ending::Resume, Ending::Rollback]);
    if numbers.below(3) == 0 {
        let (place, number) = (numbers.one_of(&["before", "after"]), 1 + numbers.below(4));
        plan.again = Some(match plan.ending {
            Ending::Resume => format!("{}.{place}=kill", number * 3),
            Ending::Rollback => format!("undo{number}.{place}=kill"),
        });
    }
    let mut hit: Vec<usize> = plan.blows.iter().map(|(number, ..)| *number).chain(plan.pauses()).collect();
    hit.sort_unstable();
    hit.dedup();
    Plan { hits: Plan::new(points, &hit).hits, seed: Some(seed), ..plan }
}

fn trouble(numbers: &mut Numbers) -> Trouble {
    let back = [Back::Before, Back::Soon(50 + numbers.next() % 1500), Back::End];
    match numbers.below(12) {
        0..5 => {
            let (host, service) = numbers.one_of(&SERVICES);
            Trouble::Kill { host, service, back: numbers.one_of(&back) }
        }
        5 => Trouble::Cut { host: numbers.one_of(&[DEST, "ldap1"]), ms: 100 + numbers.next() % 3000 },
        6 => Trouble::Sessions { after: numbers.next() % 400 },
        // As likely within a login or a statement as within a copy.
        7 => Trouble::Torn { bytes: 1 << (numbers.next() % 18) },
        8 => Trouble::Full(numbers.one_of(&[Disk::Journal, Disk::Blobs])),
        9 | 10 => Trouble::Soap {
            host: numbers.one_of(&[SOURCE, DEST]),
            request: numbers.one_of(&REQUESTS),
            fate: numbers.one_of(&FATES),
        },
        _ => Trouble::Nothing,
    }
}
