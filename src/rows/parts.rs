//! One long reading in parts, by several connections at once: a server works for one connection with one core.

/// A table of so many rows is long: several connections read it, and it is not read twice where once is enough. Fewer rows
/// are read before another connection has begun.
pub const LONG: u64 = 20_000;

/// Into how many parts a reading is cut: more than there are connections, so that none waits long for one whose core has
/// other work too.
pub(super) fn parts_for(connections: usize) -> usize {
    if connections > 1 { connections * 4 } else { 1 }
}

/// The bounds of `parts` equal parts of what lies between two numbers, the upper one excluded. Nothing lies beyond the
/// ends, and if it did it would be read: the first part has no lower bound, and the last one no upper.
pub(super) fn bounds((least, most): (i64, i64), parts: usize, at: usize) -> (Option<i64>, Option<i64>) {
    let step = (most.saturating_sub(least) / parts as i64).saturating_add(1);
    let bound = |at: usize| (1..parts).contains(&at).then(|| least.saturating_add((at as i64).saturating_mul(step)));
    (bound(at), bound(at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_number_is_in_one_part(least: i64, most: i64, parts in 1_usize..9, number: i64) {
            let is_in = |at: &usize| {
                let (low, high) = bounds((least.min(most), least.max(most)), parts, *at);
                low.is_none_or(|low| low <= number) && high.is_none_or(|high| number < high)
            };
            proptest::prop_assert_eq!((0..parts).filter(is_in).count(), 1);
        }
    }
}
