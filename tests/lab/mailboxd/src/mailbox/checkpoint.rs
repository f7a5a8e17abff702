//! How item ids and change ids survive a restart: the mailbox row is written only now and then, and on
//! load the counters jump over whatever may have been used since.

const ITEMS: u32 = 20;
const CHANGES: u32 = 100;

/// The last item id to assume, given the row's checkpoint.
pub fn item_on_load(checkpoint: u32) -> u32 {
    checkpoint + (ITEMS - 1 - checkpoint % ITEMS)
}

/// The last change id to assume, given the row's checkpoint.
pub fn change_on_load(checkpoint: u32) -> u32 {
    checkpoint + (CHANGES - 1 - checkpoint % CHANGES)
}

/// Whether the row must be written when the counters go from `old` to `new` (item id, change id).
pub fn is_crossed(old: (u32, u32), new: (u32, u32)) -> bool {
    old.0 / ITEMS != new.0 / ITEMS || old.1 / CHANGES != new.1 / CHANGES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn boundaries() {
        assert_eq!([256, 300, 319, 320].map(item_on_load), [259, 319, 319, 339]);
        assert_eq!([0, 1, 99, 100, 199].map(change_on_load), [99, 99, 99, 199, 199]);
        assert!(is_crossed((319, 5), (320, 5)) && is_crossed((300, 99), (300, 100)));
        assert!(!is_crossed((300, 100), (319, 199)));
    }

    proptest! {
        /// Whatever was used before a crash is below what a load assumes.
        #[test]
        fn nothing_is_used_twice(start in 0u32..100_000, steps in prop::collection::vec((0u32..30, 0u32..3), 1..50)) {
            let (mut row, mut now) = ((start, start), (item_on_load(start), change_on_load(start)));
            for (items, changes) in steps {
                let next = (now.0 + items, now.1 + changes);
                if is_crossed(now, next) {
                    row = next;
                }
                now = next;
                prop_assert!(item_on_load(row.0) >= now.0 && change_on_load(row.1) >= now.1);
            }
        }
    }
}
