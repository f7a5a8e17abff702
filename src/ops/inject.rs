//! Making a store's rows equal to a dump's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::pace::{Pace, batch};
use super::readings::Readings;
use super::stage::Move;
use crate::error::Result;
use crate::gate::{Gate, Operation, Watch};
use crate::rows::{self, Compared, Dump, Held, InjectOptions, Injected};
use crate::site::{Store, Throttle};

/// The usual options, with as many connections that write as asked for, and batches that suit the limits.
pub fn options(writers: Option<usize>, limits: Option<&Throttle>) -> InjectOptions {
    let usual = InjectOptions::default();
    let (batch_rows, batch_bytes) = batch(limits, usual.batch_rows, usual.batch_bytes);
    InjectOptions { writers: writers.unwrap_or(usual.writers).max(1), batch_rows, batch_bytes, ..usual }
}

/// Remembers how fast it went, for what is expected of the freeze.
fn note(dest: &Store, done: &Injected) {
    dest.comparing().note(done.compared, done.comparing);
    dest.inserting().note(done.inserted, done.writing);
}

/// Brings rows over.
pub struct Inject {
    /// Where the rows are.
    pub source: Arc<Store>,
    /// Where they shall be.
    pub dest: Arc<Store>,
    /// Which.
    pub dump: Dump,
    /// How.
    pub options: InjectOptions,
    /// How it leaves room for others; not at all under a freeze.
    pub limits: Option<Throttle>,
}

impl Operation for Inject {
    type Output = Injected;

    fn name(&self) -> &'static str {
        "inject"
    }

    fn describe(&self) -> String {
        let to = format!("{}.{}", self.dump.destination(), self.dump.table);
        format!("{}:{} to {}:{to}", self.source.name(), self.dump.name(), self.dest.name())
    }

    fn details(&self) -> Result<Vec<String>> {
        let count = rows::count(&mut *self.source.session()?, &self.dump)?;
        let mut details = rows::statements(&mut *self.source.session()?, &self.dump)?;
        details.push(format!("{} rows, {} bytes", count.rows, count.bytes));
        Ok(details)
    }

    fn outcome(&self, done: &Injected) -> String {
        format!("{} inserted, {} deleted, {} unchanged", done.inserted, done.deleted, done.unchanged)
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn pretend(&self) -> Result<Injected> {
        Ok(Injected::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Injected> {
        let pace = Pace::new(self.limits.as_ref(), &self.source, &self.dest, watch);
        let told = |p: rows::Progress| {
            watch.progress("rows", p.unchanged + p.inserted, None);
            pace.keep(p.batch_rows, p.batch_bytes)
        };
        pace.keep(0, 0)?;
        self.dest.note_write(self.dump.destination(), &self.dump.table);
        let done = rows::inject(self.source.db(), self.dest.db(), &self.dump, &self.options, &told, watch.cancel())?;
        note(&self.dest, &done);
        Ok(done)
    }
}

/// Brings rows of many tables over.
pub struct InjectAll {
    /// Where the rows are.
    pub source: Arc<Store>,
    /// Where they shall be.
    pub dest: Arc<Store>,
    /// Which, the largest first.
    pub dumps: Vec<Dump>,
    /// How.
    pub options: InjectOptions,
    /// How it leaves room for others; not at all under a freeze.
    pub limits: Option<Throttle>,
    /// What is remembered of it.
    pub remember: Remember,
}

/// What is remembered of tables that were brought over.
pub enum Remember {
    /// Nothing.
    Nothing,
    /// What the destination holds.
    Held(Arc<Readings<Held>>),
    /// What was compared while the source stands still, going by what the destination held.
    Compared(Arc<Readings<Held>>, Arc<Readings<Compared>>),
}

/// How far a table is, in rows.
struct Far {
    done: u64,
    left: u64,
}

impl Operation for InjectAll {
    type Output = Injected;

    fn name(&self) -> &'static str {
        "inject"
    }

    fn describe(&self) -> String {
        format!("{} tables of {} to {}", self.dumps.len(), self.source.name(), self.dest.name())
    }

    fn details(&self) -> Result<Vec<String>> {
        let mut details = Vec::new();
        for dump in &self.dumps {
            let count = rows::count(&mut *self.source.session()?, dump)?;
            details.push(format!("{}: {} rows, {} bytes", dump.name(), count.rows, count.bytes));
            details.extend(rows::statements(&mut *self.source.session()?, dump)?);
        }
        Ok(details)
    }

    fn outcome(&self, done: &Injected) -> String {
        format!("{} inserted, {} deleted, {} unchanged", done.inserted, done.deleted, done.unchanged)
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn pretend(&self) -> Result<Injected> {
        Ok(Injected::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Injected> {
        let started = Instant::now();
        let far: Mutex<BTreeMap<String, Far>> = Mutex::default();
        let pace = Pace::new(self.limits.as_ref(), &self.source, &self.dest, watch);
        let told = |p: rows::Progress| {
            let mut tables = far.lock().unwrap_or_else(PoisonError::into_inner);
            tables.insert(p.table, Far { done: p.unchanged + p.inserted, left: p.left });
            let (done, left) = tables.values().fold((0, 0), |(done, left), far| (done + far.done, left + far.left));
            drop(tables);
            watch.progress("rows", done, None);
            watch.cancel().afford(self.dest.inserting().expected(left), &format!("{left} rows"))?;
            pace.keep(p.batch_rows, p.batch_bytes)
        };
        pace.keep(0, 0)?;
        let done = self.bring(&told, watch)?;
        note(&self.dest, &done);
        Ok(Injected { seconds: started.elapsed().as_secs_f64(), ..done })
    }
}

impl Move {
    /// Injects into the destination while the user works, and remembers what it holds then.
    pub fn inject(
        &self,
        gate: &Gate,
        dumps: Vec<Dump>,
        options: InjectOptions,
        limits: Option<Throttle>,
    ) -> Result<Injected> {
        self.check_copies()?;
        let (source, dest) = (self.source.clone(), self.dest.clone());
        let remember = Remember::Held(self.held.clone());
        gate.pass(&InjectAll { source, dest, dumps, options, limits, remember })
    }
}

impl InjectAll {
    fn bring(&self, told: &rows::Told<'_>, watch: &Watch<'_>) -> Result<Injected> {
        let (from, to, dumps, options) = (self.source.db(), self.dest.db(), &self.dumps, &self.options);
        let server = self.dest.session()?.identity()?;
        let known: Vec<(&Dump, Held)> = match &self.remember {
            Remember::Compared(held, _) => {
                dumps.iter().filter_map(|dump| Some((dump, held.of(dump, &self.dest, &server)?))).collect()
            }
            _ => Vec::new(),
        };
        let writes: Vec<u64> = dumps.iter().map(|dump| self.dest.note_write(dump.destination(), &dump.table)).collect();
        let mut done = Injected::default();
        match &self.remember {
            Remember::Nothing => {
                let each = rows::inject_all(from, to, dumps, options, told, watch.cancel())?;
                each.into_iter().for_each(|injected| done.add(injected));
            }
            Remember::Held(memory) => {
                let each = rows::inject_held(from, to, dumps, options, told, watch.cancel())?;
                for (((injected, held), dump), writes) in each.into_iter().zip(dumps).zip(writes) {
                    done.add(injected);
                    memory.keep(dump.clone(), writes, &server, held);
                }
            }
            Remember::Compared(_, memory) => {
                let held = |dump: &Dump| known.iter().find(|(of, _)| *of == dump).map(|(_, held)| held.clone());
                let each = rows::inject_compared(from, to, dumps, &held, options, told, watch.cancel())?;
                for ((injected, compared), writes) in each.into_iter().zip(writes) {
                    done.add(injected);
                    memory.keep(compared.dump.clone(), writes, &server, compared);
                }
            }
        }
        Ok(done)
    }
}
