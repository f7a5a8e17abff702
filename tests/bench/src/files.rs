//! Blobs from store to store: the first copy of very many small ones, and the frozen pass after a hundred new ones.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::lab::{Bench, COPIED, Script};
use crate::result::{Print, Times, note};

const ITEMS: u32 = 222_000;
const NEW: u32 = 100;

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    zlm_first_s: f64,
    rsync_first_s: Option<f64>,
    zlm_named_s: f64,
    rsync_noop_s: Option<f64>,
}

/// A move whose copies of files are timed.
const SCRIPT: &str = r#"
const OPTIONS = [ #{ name: "email", help: "the account", required: true } ];
import "account" as account;
import "mailbox" as mailbox;
import "tables" as tables;
import "files" as files;
import "cutover" as cutover;
let who = account::find(args.email);
let mv = mailbox::prepare(who, "store2.lab.test", #{});
// The blobs, without the index, as rsync copies them beside it.
let first = #{ seconds: 0.0, files: 0 };
for volume in mv.volumes {
    let one = rsync(volume.source, volume.dest, #{ vanishing: true });
    first.seconds += one.seconds;
    first.files += one.files;
}
rsync(mv.index.source, mv.index.dest, #{ vanishing: true, delete: true });
tables::copy(mv);
print("bench: copied");
sleep(8);
account::close(who);
let frozen = freeze(mv);
tables::delta(frozen);
let named = files::delta(frozen);
files::index(frozen);
refresh_mailbox(frozen);
switch_to(mv.dest, verify(frozen));
cutover::open(mv, who);
#{ first_s: first.seconds, first: first.files, named_s: named.seconds, named: named.files }
"#;

const RSYNC: &str = "rsync -a -e 'ssh -i .ssh/zimbra_identity' /opt/zimbra/store/0/$1/msg/ \
    zimbra@store2.lab.test:/opt/zimbra/store/rsync-$1/";

pub fn measure(bench: &Bench, print: &Print) -> Result<()> {
    let script = Script::Text { name: "bench-files", text: SCRIPT.into() };
    let [mut first, mut named, mut rsync, mut noop] = [(); 4].map(|()| Times::default());
    let mut blobs = 0;
    for round in 0..bench.rounds {
        note(format!("files: {ITEMS} items, round {}", round + 1));
        // Below 4096, where a volume's first directory is 0.
        let mailbox = 301 + 100 * u32::try_from(round)?;
        let local = format!("f{mailbox}");
        bench.lab.add_mailbox(&local, "store1", mailbox, &[], |spec| spec.items = ITEMS)?;
        bench.come_to_rest("store1")?;
        if !bench.alone {
            let number = mailbox.to_string();
            // Read once, so that both find the source in memory.
            bench.shell("tar cf - -C /opt/zimbra/store/0/$1 msg | wc -c", &[&number])?;
            rsync.add(bench.timed(RSYNC, &[&number])?);
            noop.add(bench.timed(RSYNC, &[&number])?);
            bench.come_to_rest("store1")?;
        }
        let email = format!("{local}@lab.test");
        let mut sent = None;
        let summary = bench.run(&script, &[("email", &email)], &mut |line| {
            if line.contains(COPIED) {
                sent = Some(deliver(bench, &email));
            }
        })?;
        sent.context("the script did not pause")??;
        let number =
            |name: &str| summary.value[name].as_f64().with_context(|| format!("{name} in {:?}", summary.value));
        ensure!(number("named")? >= f64::from(NEW), "only {} new blobs", number("named")?);
        blobs = number("first")? as u64;
        first.add(number("first_s")?);
        named.add(number("named_s")?);
    }
    let maybe = |times: &Times| times.median().ok();
    let line = Line {
        bench: "files",
        zlm_first_s: first.median()?,
        rsync_first_s: maybe(&rsync),
        zlm_named_s: named.median()?,
        rsync_noop_s: maybe(&noop),
    };
    print.result(
        &line,
        &format!(
            "files {blobs}, s: first copy zlm {}  rsync -a {}; {NEW} new ones, frozen zlm {}  rsync -a without any {}",
            first.told(),
            rsync.told(),
            named.told(),
            noop.told()
        ),
    )
}

/// A hundred messages by LMTP, quickly.
fn deliver(bench: &Bench, email: &str) -> Result<()> {
    let mail = zlm_lab::Mail {
        recipients: vec![email.to_owned()],
        rate: 100.0,
        count: Some(NEW.into()),
        size: 4096,
        journal: bench.lab.dir().join(format!("journal-{email}")),
        drain: Duration::from_secs(20),
    };
    let sums = bench.lab.start_writer(mail, Default::default())?.join()?;
    ensure!(sums.undelivered == 0, "{} messages were not delivered", sums.undelivered);
    Ok(())
}
