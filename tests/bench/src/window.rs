//! How long a mailbox is frozen: a hundred changes lie between the last copy and the freeze, and mail comes in all
//! the time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::classical::Classical;
use crate::lab::{Bench, COPIED, Script, move_with_pause};
use crate::plot;
use crate::result::{Print, Times, note};

/// Changes between the last copy and the freeze.
const CHANGES: u32 = 100;
/// How long the script waits for them, in seconds: a user's session looks for items to change, which takes the longer
/// the more there are.
fn pause(items: u32) -> u32 {
    8 + items / 8_000
}

/// Messages a second.
const MAIL: f64 = 2.0;
/// Groups that both stores have, utf8mb4 on neither.
const GROUPS: [u32; 5] = [1, 2, 3, 4, 6];

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    items: u32,
    zlm_frozen_s: f64,
    classical_frozen_s: Option<f64>,
    oracle: &'static str,
}

pub fn measure(bench: &Bench, sizes: &[u32], plot: &Path, print: &Print) -> Result<()> {
    let classical = if bench.alone { None } else { Some(Classical::new(bench)?) };
    let mut points = Vec::new();
    let mut mailbox = 1000;
    for &items in sizes {
        let script = move_with_pause(pause(items))?;
        let (mut zlm, mut other) = (Times::default(), Times::default());
        for round in 0..bench.rounds {
            mailbox += 100;
            let number = mailbox + GROUPS[round % GROUPS.len()];
            let local = format!("w{number}");
            note(format!("window: {items} items, round {}", round + 1));
            bench.lab.add_mailbox(&local, "store1", number, &[], |spec| spec.items = items)?;
            bench.come_to_rest("store1")?;
            if let Some(classical) = &classical {
                other.add(classical.frozen(number)?);
            }
            zlm.add(moved(bench, &script, &local, number, pause(items))?);
        }
        let line = Line {
            bench: "window",
            items,
            zlm_frozen_s: zlm.median()?,
            classical_frozen_s: if other.is_empty() { None } else { Some(other.median()?) },
            oracle: "ok",
        };
        print.result(&line, &format!("window {items:>8} items: zlm {}  classical {}", zlm.told(), other.told()))?;
        points.push(plot::Point { items, zlm: line.zlm_frozen_s, classical: line.classical_frozen_s });
    }
    if points.len() > 1 {
        if !print.json {
            let (first, last) = (&points[0], &points[points.len() - 1]);
            let slope = (last.zlm - first.zlm) / f64::from(last.items - first.items) * 1e6;
            println!("window slope: {slope:.2} us an item");
        }
        plot::write(plot, &points)?;
    }
    Ok(())
}

/// Moves a mailbox and gives the time it was frozen, as the oracle finds nothing wrong.
fn moved(bench: &Bench, script: &Script, local: &str, seed: u32, pause: u32) -> Result<f64> {
    let lab = &bench.lab;
    let email = format!("{local}@lab.test");
    let before = lab.before_move(local)?;
    let mail = lab.start_deliveries(&[local], MAIL)?;
    let mut changed = None;
    let options = [("email", email.as_str()), ("dest", "store2.lab.test"), ("short", "20s")];
    let summary = bench.run(script, &options, &mut |line| {
        if std::env::var_os("BENCH_VERBOSE").is_some() {
            eprintln!("  {line}");
        }
        if line.contains(COPIED) {
            let started = Instant::now();
            let host = lab.host("store1");
            let done = host.and_then(|host| host.mailboxd_control(&format!("act {email} {CHANGES} {seed}")));
            changed = Some((done, started.elapsed()));
        }
    })?;
    let (done, took) = changed.context("the script did not pause")?;
    let done = done?;
    ensure!(done == format!("ok {CHANGES}"), "changes: {done}");
    ensure!(took < Duration::from_secs(pause.into()), "the changes took {took:?}, longer than the pause for them");
    let journal = mail.end()?;
    let report = lab.check_moved(&before, "store1", "store2", Some(&journal), true)?;
    ensure!(report.is_clean(), "{local}: {report}");
    note(format!("  zlm: frozen {:.3} s of {:.1} s", summary.frozen_s, summary.seconds));
    Ok(summary.frozen_s)
}
