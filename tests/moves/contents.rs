//! Everything that a mailbox can hold arrives, and nothing else changes.

use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{DEST, SOURCE, Seat, THIRD};

use crate::bench::Bench;

/// A mailbox with everything that has ever hurt a move, and neighbours that share blobs with it. Whatever is large costs
/// all later tests time, so only one has the huge row.
fn hurting(local: &str, mailbox: u32, seat: Seat, huge: usize) {
    let bench = Bench::take();
    let id = bench.add_account(local, "store1", &[]).unwrap();
    let mut spec = Spec::new(mailbox, &id, &format!("{local}@lab.test")).hurting();
    spec.items = 400;
    spec.huge_metadata = huge;
    bench.seed("store1", &spec).unwrap();
    bench.seed_neighbours("store1", &spec, 2).unwrap();
    let before = bench.before_move(local).unwrap();
    bench.moves(seat, local, &[]);
    bench.judge(&before);
}

#[test]
fn everything_moves_from_the_source() {
    hurting("ann", 8, SOURCE, 15 << 20);
}

#[test]
fn everything_moves_from_a_third_host() {
    hurting("ben", 9, THIRD, 0);
}

#[test]
fn everything_moves_from_the_destination() {
    hurting("cem", 4, DEST, 0);
}
