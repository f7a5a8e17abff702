//! Two who want one account. `tests/claims` does the same at every operation, and as often as it is told to.

use std::time::Duration;

use zlm_lab::{Contest, End, SOURCE, THIRD};

use crate::bench::Bench;

#[test]
fn of_two_operators_one_moves_an_account() {
    let bench = Bench::take();
    let zlm = bench.zlm();
    for (round, delay) in (1..).zip([0, 40, 400]) {
        let contest = Contest::new(&bench, &zlm, &format!("race{round}"), 900 + round).unwrap();
        let (first, second) = if round % 2 == 0 { (SOURCE, THIRD) } else { (THIRD, SOURCE) };
        contest.race(first, second, Duration::from_millis(delay)).unwrap();
    }
}

/// Before the copy, while it is made, frozen, after the switch.
const POINTS: [f64; 4] = [0.2, 0.45, 0.75, 0.9];

fn at_points(name: &str, first: u32, body: impl Fn(&Contest<'_>, usize, &str)) {
    let bench = Bench::take();
    let zlm = bench.zlm();
    let count = Contest::new(&bench, &zlm, &format!("{name}0"), first).unwrap().operations().unwrap();
    for (n, part) in (1..).zip(POINTS) {
        let contest = Contest::new(&bench, &zlm, &format!("{name}{n}"), first + n).unwrap();
        body(&contest, n as usize, &format!("{}.before", (count as f64 * part) as usize));
    }
}

#[test]
fn a_run_that_was_taken_over_changes_nothing_when_it_wakes() {
    at_points("zombie", 910, |contest, _, point| contest.zombie(point).unwrap());
}

#[test]
fn a_run_whose_journal_was_lost_is_ended() {
    at_points("lost", 920, |contest, n, point| {
        let end = if n % 2 == 0 { End::Resume } else { End::Rollback };
        contest.lost_journal(point, end).unwrap();
    });
}
