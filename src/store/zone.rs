//! What a host's clock shows: mailboxd writes appointments and tasks in the time zone of its host.
//!
//! Names of zones say little. A server knows its zone by the abbreviation of the day it started, CET or CEST, and CST is
//! Chicago's as well as Shanghai's.

use serde::{Deserialize, Serialize};

use crate::clients::db::{Raw, Session};
use crate::error::{Error, Kind, Result};

/// The first instant that is looked at, a Saturday of 2000, in seconds since 1970.
const FIRST: i64 = 946_728_000;
/// Clocks are changed on Sundays, and zones with other rules change them in other weeks.
const WEEK: usize = 7 * 24 * 3600;
/// MariaDB's times end in 2038.
const LAST: i64 = 2_145_000_000;

/// What the clock of a store's host shows each week from 2000 to 2037.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone(Vec<String>);

impl Zone {
    /// Asks a store's MariaDB, which has the zone of its host.
    pub fn read(session: &mut Session) -> Result<Self> {
        let shown: Vec<String> = instants()
            .map(|at| format!("DATE_FORMAT(CONVERT_TZ(FROM_UNIXTIME({at}), '+00:00', 'SYSTEM'), '%Y-%m-%d %H:%i')"))
            .collect();
        let row = session.raw(&format!("SELECT {}", shown.join(", ")))?.pop().unwrap_or_default();
        let odd =
            || Error::new(Kind::Peer, format!("{}: its time zone: the answer is no list of times", session.store()));
        times(row).filter(|times| times.len() == shown.len()).map(Self).ok_or_else(odd)
    }

    /// What the two clocks show at an instant at which they differ, the nearest to `now`.
    pub fn difference<'a>(&'a self, other: &'a Self, now: i64) -> Option<(&'a str, &'a str)> {
        let clocks = instants().zip(self.0.iter().zip(&other.0)).filter(|(_, (a, b))| a != b);
        clocks.min_by_key(|(at, _)| (at - now).abs()).map(|(_, (a, b))| (a.as_str(), b.as_str()))
    }
}

fn instants() -> impl Iterator<Item = i64> {
    (FIRST..LAST).step_by(WEEK)
}

fn times(row: Raw) -> Option<Vec<String>> {
    let is_time = |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || b"-: ".contains(&b));
    row.into_iter().map(|value| String::from_utf8(value?).ok().filter(is_time)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_difference_is_told() {
        let zone = |summer: &str| Zone(instants().map(|_| summer.into()).collect());
        let (a, mut b) = (zone("14:00"), zone("14:00"));
        assert_eq!(a.difference(&b, FIRST), None);
        b.0[3] = "old".into();
        b.0[900] = "recent".into();
        assert_eq!(a.difference(&b, FIRST + 890 * WEEK as i64).unwrap().1, "recent");
        assert_eq!(a.difference(&b, 0).unwrap().1, "old");
    }

    #[test]
    fn only_times_are_taken() {
        let row = |text: &str| vec![Some(text.as_bytes().to_vec())];
        assert_eq!(times(row("2026-07-04 14:00")).unwrap(), ["2026-07-04 14:00"]);
        for odd in ["", "2026-07-04 14:00; x", "2026-07-04\u{1b}14:00"] {
            assert_eq!(times(row(odd)), None, "{odd:?}");
        }
        assert_eq!(times(vec![None]), None);
    }
}
