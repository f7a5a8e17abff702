//! The request to stop: asked for by a signal, or by a time that is over; seen at safe points.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// How often a wait looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// A flag shared by all that a process does; clones are the same flag.
///
/// Asked once, work stops at the next safe point and is undone. It does not stop what is past its switch: that is
/// nearly over, and only its end leaves a user at work. Asked twice, everything stops, the way back too; the journal
/// knows how far it came.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<Flag>,
    /// Whether this is for work that only a second request stops.
    patient: bool,
    /// What concerns one run; none for work that runs share.
    run: Option<Arc<OfRun>>,
    /// What else ends this work.
    stop: Option<Stop>,
}

/// Ends work that is done beside other work which failed; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends it at its next safe point.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How one run stands, among those that a request stops together.
#[derive(Debug, Default)]
struct OfRun {
    budget: Mutex<Option<Budget>>,
    /// Whether its user waits.
    urgent: AtomicBool,
    /// Whether it is past its switch: how often that was said.
    critical: AtomicUsize,
}

/// How long something may take, and since when it does.
#[derive(Debug)]
struct Budget {
    limit: Duration,
    since: Option<Instant>,
    /// What it would have taken, as far as was seen.
    needed: Duration,
}

#[derive(Debug, Default)]
struct Flag {
    requests: AtomicUsize,
    /// How many runs are past their switch.
    critical: AtomicUsize,
}

impl Cancel {
    /// The same flag for a run of its own: runs that share a site are stopped together, but each is late, urgent and past
    /// its switch by itself.
    pub fn of_run(&self) -> Self {
        Self { run: Some(Arc::default()), ..self.clone() }
    }

    /// The same for work that `stop` ends as well.
    pub fn beside(&self, stop: &Stop) -> Self {
        Self { stop: Some(stop.clone()), ..self.clone() }
    }

    /// Says whether the user waits: what is scarce goes to those runs first.
    pub fn set_urgent(&self, urgent: bool) {
        if let Some(run) = &self.run {
            run.urgent.store(urgent, Ordering::SeqCst);
        }
    }

    /// Whether the user waits.
    pub fn is_urgent(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.urgent.load(Ordering::SeqCst))
    }

    /// Asks to stop; gives how often that was asked by now.
    pub fn request(&self) -> usize {
        self.flag.requests.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether anybody asked.
    pub fn is_requested(&self) -> bool {
        self.flag.requests.load(Ordering::SeqCst) > 0
    }

    /// The same flag for work that only a second request stops, such as undoing.
    pub fn patient(&self) -> Self {
        Self { flag: Arc::clone(&self.flag), patient: true, ..Self::default() }
    }

    /// Lets a first request wait for as long as what it gives back lives: this run's work, and work that runs share.
    pub fn defer(&self) -> Deferral {
        let deferral = Deferral { flag: Arc::clone(&self.flag), run: self.run.clone() };
        for count in deferral.counts() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        deferral
    }

    fn is_critical(&self) -> bool {
        // Other runs are not: one that goes forward is no reason to begin with the next.
        let count = self.run.as_ref().map_or(&self.flag.critical, |run| &run.critical);
        count.load(Ordering::SeqCst) > 0
    }

    /// Long operations call this once a batch; fails with [`Kind::Cancelled`] when they shall stop, and with
    /// [`Kind::Late`] when the budget is used up.
    pub fn check(&self) -> Result<()> {
        if self.stop.as_ref().is_some_and(Stop::is_set) {
            return Err(Error::stopped_beside());
        }
        let waits = self.patient || self.is_critical();
        match self.flag.requests.load(Ordering::SeqCst) {
            0 => self.afford(Duration::ZERO, "nothing"),
            1 if waits => self.afford(Duration::ZERO, "nothing"),
            _ => Err(Error::new(Kind::Cancelled, "stopped on request")),
        }
    }

    /// Waits; fails as [`Cancel::check`] does as soon as that would.
    pub fn wait(&self, time: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            self.check()?;
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Sets how much time there is from [`Cancel::start_budget`] on.
    pub fn set_budget(&self, limit: Option<Duration>) {
        if let Some(run) = &self.run {
            *run.budget() = limit.map(|limit| Budget { limit, since: None, needed: Duration::ZERO });
        }
    }

    /// Starts the clock, where a budget is set and it does not run yet.
    pub fn start_budget(&self) {
        if let Some(run) = &self.run
            && let Some(budget) = &mut *run.budget()
        {
            budget.since.get_or_insert_with(Instant::now);
        }
    }

    /// What is left of the budget; none where there is none or its clock does not run.
    pub fn left(&self) -> Option<Duration> {
        let budget = self.run.as_ref()?.budget();
        let Budget { limit, since, .. } = budget.as_ref()?;
        Some(limit.saturating_sub(since.as_ref()?.elapsed()))
    }

    /// What would have been needed, as far as was seen.
    pub fn needed(&self) -> Option<Duration> {
        let budget = self.run.as_ref()?.budget();
        let Budget { since, needed, .. } = budget.as_ref()?;
        Some(since.as_ref()?.elapsed().max(*needed))
    }

    /// Fails with [`Kind::Late`] when `what`, which takes about `more` from now, does not fit into the budget.
    pub fn afford(&self, more: Duration, what: &str) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let mut budget = run.budget();
        let Some(Budget { limit, since: Some(since), needed }) = budget.as_mut() else { return Ok(()) };
        let gone = since.elapsed();
        *needed = (*needed).max(gone.saturating_add(more));
        if gone.saturating_add(more) <= *limit {
            return Ok(());
        }
        let (gone, limit) = (gone.as_secs_f64(), limit.as_secs_f64());
        let message = match more.is_zero() {
            true => format!("frozen for {gone:.2} s, of {limit} s that it may be"),
            false => format!(
                "frozen for {gone:.2} s, and {what} would take about {:.2} s more, of {limit} s that it may be",
                more.as_secs_f64()
            ),
        };
        Err(Error::new(Kind::Late, message))
    }
}

impl OfRun {
    fn budget(&self) -> MutexGuard<'_, Option<Budget>> {
        // Plain data, valid whatever panicked.
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Cancel::defer`].
#[derive(Debug)]
pub struct Deferral {
    flag: Arc<Flag>,
    run: Option<Arc<OfRun>>,
}

impl Deferral {
    fn counts(&self) -> impl Iterator<Item = &AtomicUsize> {
        std::iter::once(&self.flag.critical).chain(self.run.iter().map(|run| &run.critical))
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        for count in self.counts() {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_request_stops_work_and_a_second_the_way_back_too() {
        let cancel = Cancel::default();
        let undoing = cancel.patient();
        assert!(cancel.check().is_ok() && undoing.check().is_ok() && !cancel.is_requested());
        assert_eq!(cancel.clone().request(), 1);
        assert_eq!(cancel.check().unwrap_err().kind(), Kind::Cancelled);
        assert!(undoing.check().is_ok() && undoing.is_requested());
        assert_eq!(undoing.request(), 2);
        assert_eq!(undoing.check().unwrap_err().kind(), Kind::Cancelled);
    }

    #[test]
    fn a_request_waits_for_what_is_past_its_switch() {
        let cancel = Cancel::default();
        let (one, other) = (cancel.defer(), cancel.defer());
        cancel.request();
        drop(one);
        assert!(cancel.check().is_ok());
        drop(other);
        assert!(cancel.check().is_err());
        let _late = cancel.defer();
        cancel.request();
        assert!(cancel.check().is_err());
    }

    #[test]
    fn one_run_past_its_switch_keeps_no_other_from_stopping() {
        let site = Cancel::default();
        let (moved, copying) = (site.of_run(), site.of_run());
        let deferral = moved.defer();
        site.request();
        assert!(moved.check().is_ok() && site.check().is_ok(), "what it needs of the site goes on as well");
        assert_eq!(copying.check().unwrap_err().kind(), Kind::Cancelled);
        drop(deferral);
        assert!(moved.check().is_err() && site.check().is_err());
    }

    #[test]
    fn a_run_is_urgent_by_itself() {
        let site = Cancel::default();
        let (frozen, copying) = (site.of_run(), site.of_run());
        frozen.set_urgent(true);
        assert!(frozen.is_urgent() && frozen.clone().is_urgent() && !copying.is_urgent() && !site.is_urgent());
    }

    #[test]
    fn what_is_done_beside_a_failure_is_stopped() {
        let (cancel, stop) = (Cancel::default(), Stop::default());
        let beside = cancel.beside(&stop);
        assert!(beside.check().is_ok());
        stop.set();
        assert!(beside.check().unwrap_err().is_stopped_beside() && cancel.check().is_ok());
    }

    #[test]
    fn a_budget_counts_from_its_start_and_what_is_known_to_come() {
        let site = Cancel::default();
        let cancel = site.of_run();
        cancel.set_budget(Some(Duration::from_secs(60)));
        assert!(cancel.afford(Duration::from_secs(3600), "rows").is_ok(), "the clock does not run yet");
        cancel.start_budget();
        assert!(cancel.afford(Duration::from_secs(30), "rows").is_ok());
        let late = cancel.afford(Duration::from_secs(90), "20000 rows").unwrap_err();
        assert_eq!(late.kind(), Kind::Late);
        assert!(late.to_string().contains("20000 rows would take about 90.00 s more, of 60 s"), "{late}");
        assert!(cancel.needed().unwrap() >= Duration::from_secs(90));
        assert!(cancel.left().unwrap() <= Duration::from_secs(60));
        assert!(site.check().is_ok() && site.left().is_none(), "a budget is one run's");
        cancel.set_budget(Some(Duration::ZERO));
        cancel.start_budget();
        assert_eq!(cancel.check().unwrap_err().kind(), Kind::Late);
        site.request();
        assert_eq!(cancel.check().unwrap_err().kind(), Kind::Cancelled, "a stop goes first, and to all");
        cancel.set_budget(None);
        assert!(cancel.afford(Duration::MAX, "rows").is_ok());
    }
}
