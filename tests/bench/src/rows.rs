//! Rows from store to store through an empty network: zlm's pipeline, two other tools, and the floor: a copy inside
//! one server. The destination's tables hold another mailbox's rows.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mysql::prelude::Queryable;
use serde::Serialize;

use crate::lab::{Bench, Script};
use crate::result::{Print, Times, note};

/// Items of the other mailbox: 24,000 rows and more.
const OTHERS: u32 = 18_000;

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    items: u32,
    zlm_rows_s: f64,
    mydumper_rows_s: Option<f64>,
    mysqldump_rows_s: Option<f64>,
    floor_rows_s: Option<f64>,
    peak_rss_mib: f64,
}

/// Every table of a group, from one store to another, under a new number.
const SCRIPT: &str = r#"
const OPTIONS = [
    #{ name: "tables", help: "names, with commas between", required: true },
    #{ name: "database", help: "the mailbox group", required: true },
    #{ name: "mailbox", type: "int", help: "its number", required: true },
    #{ name: "into", type: "int", help: "its number there", required: true },
];
let from = store("store1.lab.test");
let to = store("store2.lab.test");
let ids = #{ mailbox_id: args.into, locator: #{ "1": "1" }, database: args.database };
let names = args.tables.split(",");
let all = names.map(|name| rewrite_ids(dump_table(from, args.database, name, #{ mailbox: args.mailbox }), ids));
let done = inject(to, all);
#{ rows: done.inserted, seconds: done.seconds }
"#;

const MYSQLDUMP: &str = "mysqldump --defaults-extra-file=store1.cnf --single-transaction --extended-insert \
    --no-create-info --skip-lock-tables --skip-comments --hex-blob --where=mailbox_id=$1 $2 \
    | mysql --defaults-extra-file=store2.cnf $2";

/// It cannot choose rows, so the group holds this one mailbox alone.
const MYDUMPER: &str = "rm -rf dump; mydumper --defaults-file=store1.cnf -t 2 -m -B $2 -o dump; \
    myloader --defaults-file=store2.cnf -t 2 -s $2 -B $2 -d dump";

pub fn measure(bench: &Bench, sizes: &[u32], print: &Print) -> Result<()> {
    let _tunnel = bench.tunnel()?;
    let mut number = 3000;
    for (&items, group) in sizes.iter().zip([1, 2, 3, 4]) {
        number += 100;
        let mailbox = number + group;
        let database = format!("mboxgroup{group}");
        bench.lab.add_mailbox(&format!("r{mailbox}"), "store1", mailbox, &[], |spec| spec.items = items)?;
        // Others' rows, in the group that is copied to and in the one that the floor copies to.
        for (at, home) in [(500, group), (600, 6)] {
            let other = number + at + home;
            bench.lab.add_mailbox(&format!("o{other}"), "store2", other, &[], |spec| spec.items = OTHERS)?;
        }
        measure_size(bench, items, mailbox, &database, print)?;
    }
    Ok(())
}

fn measure_size(bench: &Bench, items: u32, mailbox: u32, database: &str, print: &Print) -> Result<()> {
    let mut tables = bench.tables("store1", database)?;
    let mut conn = bench.lab.host("store1")?.mysql()?;
    let mut counts = Vec::new();
    for table in &tables {
        let sql = format!("SELECT COUNT(*) FROM {database}.{table} WHERE mailbox_id = {mailbox}");
        counts.push((conn.query_first::<u64, _>(sql)?.unwrap_or(0), table.clone()));
    }
    counts.sort_by(|a, b| b.cmp(a));
    let rows: u64 = counts.iter().map(|(count, _)| count).sum();
    tables = counts.into_iter().map(|(_, table)| table).collect();
    let script = Script::Text { name: "bench-rows", text: SCRIPT.into() };
    let (number, into) = (mailbox.to_string(), (mailbox + 50_000).to_string());
    let list = tables.join(",");
    let options =
        [("tables", list.as_str()), ("database", database), ("mailbox", number.as_str()), ("into", into.as_str())];
    let [mut zlm, mut mydumper, mut mysqldump, mut floor] =
        [const { Vec::new() }; 4].map(|_: Vec<f64>| Times::default());
    let mut peak: f64 = 0.0;
    for round in 0..bench.rounds {
        note(format!("rows: {items} items, {rows} rows, round {}", round + 1));
        bench.come_to_rest("store2")?;
        let (summary, mib) = bench.run_watched(&script, &options, &mut |_| {})?;
        let number_of =
            |name: &str| summary.value[name].as_f64().with_context(|| format!("{name} in {:?}", summary.value));
        ensure!(mib > 0.0, "zlm's memory was not seen");
        ensure!(number_of("rows")? == rows as f64, "zlm copied {:?} of {rows} rows", summary.value);
        zlm.add(number_of("seconds")?);
        peak = peak.max(mib);
        if !bench.alone {
            floor.add(copy_inside(bench, database, "mboxgroup6", &tables, mailbox + 50_000)?);
            bench.forget_rows("store2", "mboxgroup6", mailbox + 60_000)?;
        }
        bench.forget_rows("store2", database, mailbox + 50_000)?;
        if bench.alone {
            continue;
        }
        for (times, tool) in [(&mut mysqldump, MYSQLDUMP), (&mut mydumper, MYDUMPER)] {
            times.add(bench.timed(tool, &[&number, database])?);
            bench.forget_rows("store2", database, mailbox)?;
        }
    }
    let rate = |times: &Times| times.median().ok().map(|seconds| (rows as f64 / seconds).round());
    let line = Line {
        bench: "rows",
        items,
        zlm_rows_s: rate(&zlm).context("nothing was measured")?,
        mydumper_rows_s: rate(&mydumper),
        mysqldump_rows_s: rate(&mysqldump),
        floor_rows_s: rate(&floor),
        peak_rss_mib: (peak * 10.0).round() / 10.0,
    };
    print.result(
        &line,
        &format!(
            "rows {items:>8} items, {rows} rows, s: zlm {}  mydumper {}  mysqldump {}  floor {}; zlm {:.0} rows/s, {peak:.1} MiB",
            zlm.told(),
            mydumper.told(),
            mysqldump.told(),
            floor.told(),
            line.zlm_rows_s
        ),
    )
}

/// INSERT ... SELECT of all rows inside store2, in one transaction, checks off.
fn copy_inside(bench: &Bench, from: &str, to: &str, tables: &[String], mailbox: u32) -> Result<f64> {
    let mut conn = bench.lab.host("store2")?.mysql()?;
    conn.query_drop("SET foreign_key_checks = 0, unique_checks = 0")?;
    let mut statements = Vec::new();
    for table in tables {
        let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
                   AND COLUMN_NAME <> 'mailbox_id'";
        let columns: Vec<String> = conn.exec(sql, (to, table))?;
        let columns = columns.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(",");
        statements.push(format!(
            "INSERT INTO {to}.{table} (mailbox_id,{columns}) SELECT {},{columns} FROM {from}.{table} WHERE mailbox_id = {mailbox}",
            mailbox + 10_000
        ));
    }
    let started = Instant::now();
    conn.query_drop("START TRANSACTION")?;
    for sql in statements {
        conn.query_drop(sql)?;
    }
    conn.query_drop("COMMIT")?;
    Ok(started.elapsed().as_secs_f64())
}
