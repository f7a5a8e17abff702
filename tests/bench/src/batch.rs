//! Many mailboxes, one after the other and four at a time.

use anyhow::Result;
use serde::Serialize;

use crate::lab::{Bench, Script};
use crate::result::{Print, Times, note};

const MAILBOXES: u32 = 20;
const ITEMS: u32 = 2000;

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    jobs: u32,
    seconds: f64,
}

pub fn measure(bench: &Bench, print: &Print) -> Result<()> {
    let mut times = [(1, Times::default()), (4, Times::default())];
    let mut number = 7000;
    for round in 0..bench.rounds {
        for (jobs, times) in &mut times {
            note(format!("batch: {MAILBOXES} mailboxes of {ITEMS} items, {jobs} at a time, round {}", round + 1));
            let mut list = String::new();
            for _ in 0..MAILBOXES {
                number += 1;
                // Groups that store1 has.
                let mailbox = number * 100 + number % 4 + 1;
                let local = format!("b{mailbox}");
                bench.lab.add_mailbox(&local, "store1", mailbox, &[], |spec| spec.items = ITEMS)?;
                list.push_str(&format!("{local}@lab.test\n"));
            }
            bench.write("store1", "bench-list", &list)?;
            bench.come_to_rest("store1")?;
            let jobs = jobs.to_string();
            let options = [("list", "/opt/zimbra/bench-list"), ("dest", "store2.lab.test"), ("jobs", jobs.as_str())];
            times.add(bench.run(&Script::Shipped("batch"), &options, &mut |_| {})?.seconds);
        }
    }
    for (jobs, times) in &times {
        let line = Line { bench: "batch", jobs: *jobs, seconds: times.median()? };
        print.result(&line, &format!("batch {MAILBOXES} x {ITEMS} items, {jobs} at a time: {} s", times.told()))?;
    }
    Ok(())
}
