//! How long users wait whose mailboxes move while large ones are being copied, slowly so that stores have room.

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::lab::{Bench, Script};
use crate::result::{Print, Times, note};

/// Small mailboxes of a list, whose users' waiting is measured.
const SMALL: u32 = 6;
const ITEMS: u32 = 300;
/// Large ones that are copied meanwhile, two of four at a time.
const LARGE: u32 = 2;
const LARGE_ITEMS: u32 = 9000;
/// Rows a second: a large one takes longer than all the small ones.
const THROTTLE: u32 = 400;

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    /// Seconds, one at a time.
    alone: f64,
    /// Seconds, beside the large ones.
    crowd: f64,
    frozen_ratio: f64,
}

pub fn measure(bench: &Bench, print: &Print) -> Result<()> {
    bench.lab.add_settings("store1", &format!("[throttle]\nrows_per_second = {THROTTLE}\n"))?;
    let (mut alone, mut crowd) = (Times::default(), Times::default());
    let mut lists = Lists { bench, number: 8000 };
    for round in 0..bench.rounds {
        note(format!("crowd: {SMALL} mailboxes of {ITEMS} items, one at a time, round {}", round + 1));
        lists.run(0, 1, &mut alone)?;
        note(format!("crowd: the same beside {LARGE} of {LARGE_ITEMS}, four at a time, round {}", round + 1));
        lists.run(LARGE, 4, &mut crowd)?;
    }
    let frozen_ratio = crowd.median()? / alone.median()?;
    let line = Line {
        bench: "crowd",
        alone: alone.median()?,
        crowd: crowd.median()?,
        frozen_ratio: (frozen_ratio * 100.0).round() / 100.0,
    };
    let told = format!(
        "crowd frozen alone {} s, beside large copies {} s: {frozen_ratio:.2} times",
        alone.told(),
        crowd.told()
    );
    print.result(&line, &told)
}

struct Lists<'a> {
    bench: &'a Bench,
    number: u32,
}

impl Lists<'_> {
    /// Moves large and small mailboxes, the large ones first, and notes how long each small one was frozen.
    fn run(&mut self, large: u32, jobs: u32, times: &mut Times) -> Result<()> {
        let mut list = String::new();
        for at in 0..large + SMALL {
            self.number += 1;
            // Groups that store1 has.
            let mailbox = self.number * 100 + self.number % 4 + 1;
            let (name, items) = if at < large { ("large", LARGE_ITEMS) } else { ("small", ITEMS) };
            let local = format!("{name}{mailbox}");
            self.bench.lab.add_mailbox(&local, "store1", mailbox, &[], |spec| {
                (spec.items, spec.blob_bytes) = (items, Some(1 << 10))
            })?;
            list.push_str(&format!("{local}@lab.test\n"));
        }
        self.bench.write("store1", "bench-list", &list)?;
        self.bench.come_to_rest("store1")?;
        let jobs = jobs.to_string();
        let options = [("list", "/opt/zimbra/bench-list"), ("dest", "store2.lab.test"), ("jobs", jobs.as_str())];
        let mut said = Vec::new();
        self.bench.run(&Script::Shipped("batch"), &options, &mut |line| said.extend(frozen(line)))?;
        ensure!(said.len() == SMALL as usize, "the script said of {} mailboxes how long they were frozen", said.len());
        said.into_iter().for_each(|seconds| times.add(seconds));
        Ok(())
    }
}

/// What the script says of a small mailbox that was moved.
fn frozen(line: &str) -> Option<f64> {
    let told = line.strip_prefix("small")?.split_once(": done in ")?.1;
    told.split_once(" s, frozen ")?.1.trim_end_matches(" s").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_mailboxes_count() {
        assert_eq!(frozen("small1@lab.test: done in 3.2 s, frozen 0.541 s"), Some(0.541));
        assert_eq!(frozen("large1@lab.test: done in 3.2 s, frozen 0.541 s"), None);
        assert_eq!(frozen("small1@lab.test: switch done in 0.1 s"), None);
    }
}
