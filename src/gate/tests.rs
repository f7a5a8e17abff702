use std::sync::{Arc, Mutex};

use super::*;
use crate::error::Error;
use crate::report::Silent;

struct Put<'a> {
    key: &'a str,
    world: &'a Mutex<Vec<String>>,
    fails: bool,
    pivot: bool,
}

impl Operation for Put<'_> {
    type Output = usize;

    fn name(&self) -> &'static str {
        "put"
    }

    fn describe(&self) -> String {
        format!("put {}", self.key)
    }

    fn pretend(&self) -> Result<usize> {
        Ok(0)
    }

    fn undo(&self) -> Result<Option<Undo>> {
        Ok(Some(Undo { operation: "take".into(), arguments: self.key.into(), what: format!("take {}", self.key) }))
    }

    fn is_pivot(&self) -> bool {
        self.pivot
    }

    fn apply(&self, _: &Watch<'_>) -> Result<usize> {
        self.world.lock().unwrap().push(self.key.to_owned());
        if self.fails {
            return Err(Error::new(Kind::Io, "put broke"));
        }
        Ok(self.world.lock().unwrap().len())
    }
}

fn put<'a>(world: &'a Mutex<Vec<String>>, key: &'a str) -> Put<'a> {
    Put { key, world, fails: false, pivot: false }
}

fn take(world: &Mutex<Vec<String>>, undo: &Undo) -> Result<()> {
    let key = undo.arguments.as_str().unwrap();
    if key == "stuck" {
        return Err(Error::new(Kind::Io, "stuck"));
    }
    world.lock().unwrap().retain(|k| k != key);
    Ok(())
}

fn gate(mode: Mode) -> Gate {
    Gate::new("r1", mode, &Cancel::default(), Arc::new(Silent))
}

#[test]
fn dry_run_plans_in_order_and_changes_nothing() {
    let world = Mutex::default();
    let gate = gate(Mode::Dry);
    gate.pass(&put(&world, "a")).unwrap();
    gate.step("second", || gate.pass(&put(&world, "b"))).unwrap();
    let plan = gate.planned();
    assert_eq!(plan.iter().map(|e| (e.number, e.what.as_str())).collect::<Vec<_>>(), [(1, "put a"), (2, "put b")]);
    assert_eq!(plan[1].step.as_deref(), Some("second"));
    assert!(world.lock().unwrap().is_empty());
}

#[test]
fn roll_back_is_newest_first_and_covers_the_failed_one() {
    let world = Mutex::default();
    let gate = gate(Mode::Live);
    gate.pass(&put(&world, "a")).unwrap();
    gate.pass(&Put { fails: true, ..put(&world, "b") }).unwrap_err();
    let rollback = gate.roll_back(|undo| take(&world, undo));
    assert_eq!(rollback.undone, ["take b", "take a"]);
    assert!(world.lock().unwrap().is_empty());
}

#[test]
fn roll_back_goes_on_past_a_failure_and_keeps_it_for_the_next_try() {
    let world = Mutex::default();
    let gate = gate(Mode::Live);
    for key in ["a", "stuck", "c"] {
        gate.pass(&put(&world, key)).unwrap();
    }
    let rollback = gate.roll_back(|undo| take(&world, undo));
    assert_eq!(rollback.undone, ["take c", "take a"]);
    assert_eq!(rollback.failed.len(), 1);
    assert_eq!(gate.roll_back(|_| Ok(())).undone, ["take stuck"]);
}

#[test]
fn nothing_before_the_switch_is_undone_after_it() {
    let world = Mutex::default();
    let gate = gate(Mode::Live);
    gate.pass(&put(&world, "a")).unwrap();
    gate.pass(&Put { pivot: true, ..put(&world, "switch") }).unwrap();
    assert!(gate.has_switched());
    assert!(gate.roll_back(|undo| take(&world, undo)).undone.is_empty());
}

/// A switch that fails with this.
struct Switch(Option<Error>, Mutex<u32>);

impl Switch {
    fn fails(error: Option<Error>) -> Self {
        Self(error, Mutex::default())
    }
}

impl Operation for Switch {
    type Output = ();

    fn name(&self) -> &'static str {
        "switch"
    }

    fn describe(&self) -> String {
        "host".to_owned()
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn is_pivot(&self) -> bool {
        true
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        *self.1.lock().unwrap() += 1;
        self.0.as_ref().map_or(Ok(()), |error| Err(Error::from_json(&error.to_json())))
    }
}

#[test]
fn from_a_switch_that_happened_nothing_leads_back_in_memory_and_journal() {
    let folder = tempfile::tempdir().unwrap();
    let gate = journaled(folder.path(), false);
    let refused = || Switch::fails(Some(Error::new(Kind::Refused, "is elsewhere")));
    gate.pass(&refused()).unwrap_err();
    assert_eq!(gate.switched(), Switched::No, "nothing was asked for");
    gate.pass(&Switch::fails(None)).unwrap();
    for error in [Error::new(Kind::Refused, "is elsewhere"), Error::new(Kind::Peer, "no answer").code(AMBIGUOUS)] {
        gate.pass(&Switch::fails(Some(error))).unwrap_err();
        assert_eq!(gate.switched(), Switched::Yes);
        assert_eq!(gate.journal().unwrap().switched().unwrap(), Switched::Yes);
    }
    gate.settle(Switched::No).unwrap();
    gate.journal().unwrap().note_switched(Switched::Maybe).unwrap();
    assert_eq!((gate.switched(), gate.journal().unwrap().switched().unwrap()), (Switched::Yes, Switched::Yes));
}

#[test]
fn a_switch_that_may_have_happened_stays_so_until_somebody_knows() {
    let folder = tempfile::tempdir().unwrap();
    let world = Mutex::default();
    let gate = journaled(folder.path(), false);
    gate.pass(&put(&world, "a")).unwrap();
    let lost = Error::new(Kind::Unreachable, "no answer").code(AMBIGUOUS);
    let error = gate.pass(&Switch::fails(Some(lost))).unwrap_err();
    assert!(error.is_unsettled());
    drop(gate);
    let gate = journaled(folder.path(), true);
    assert_eq!(gate.switched(), Switched::Maybe);
    gate.pass(&put(&world, "a")).unwrap();
    let error = gate.pass(&Switch::fails(Some(Error::new(Kind::Peer, "no")))).unwrap_err();
    assert_eq!((gate.switched(), error.is_unsettled()), (Switched::Maybe, true));
    gate.settle(Switched::No).unwrap();
    assert_eq!(gate.roll_back(|undo| take(&world, undo)).undone, ["take a"]);
}

#[test]
fn requests_are_kept_until_it_is_known_what_came_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let gate = journaled(folder.path(), false);
    let first = gate.sends("store1", "a".into()).unwrap();
    let other = gate.sends("store1", "b".into()).unwrap();
    let again = gate.sends("store1", "a".into()).unwrap();
    gate.is_known(again);
    gate.is_known(other);
    let open = gate.unanswered();
    assert_eq!(open.iter().map(|sent| (sent.number, sent.is_repeated)).collect::<Vec<_>>(), [(first, true)]);
    gate.journal().unwrap().end(crate::journal::State::Unfinished, None).unwrap();
    drop(gate);
    assert_eq!(journaled(folder.path(), true).unanswered(), open);
}

#[test]
fn a_stop_request_lets_nothing_more_through() {
    let world = Mutex::default();
    let gate = gate(Mode::Live);
    gate.cancel().request();
    assert_eq!(gate.pass(&put(&world, "a")).unwrap_err().kind(), Kind::Cancelled);
    assert!(world.lock().unwrap().is_empty());
}

#[test]
fn what_broke_by_the_signal_that_asks_to_stop_was_stopped() {
    let fails = |error: fn() -> Error| {
        let gate = gate(Mode::Live);
        let cancel = gate.cancel().clone();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            cancel.request()
        });
        let kind = gate.explained(error()).kind();
        late.join().unwrap();
        kind
    };
    assert_eq!(fails(|| Error::new(Kind::Io, "rsync was ended from outside").retryable()), Kind::Cancelled);
    assert_eq!(fails(|| Error::new(Kind::Unreachable, "nobody can tell who claims it")), Kind::Cancelled);
    assert_eq!(fails(|| Error::new(Kind::Unreachable, "no answer").code(AMBIGUOUS)), Kind::Unreachable);
    assert_eq!(fails(|| Error::new(Kind::Refused, "the id is taken")), Kind::Refused);
}

/// A journal in a folder of its own, and the run in it.
fn journaled(folder: &std::path::Path, again: bool) -> Gate {
    let journal = crate::journal::Journal::open(&folder.join("journal")).unwrap();
    let pinned = crate::journal::Pinned {
        script: "x.rhai".into(),
        text: String::new(),
        modules: Default::default(),
        options: Default::default(),
    };
    let run = if again { journal.take_up("r-1") } else { journal.begin("r-1", &pinned) };
    gate(Mode::Live).with_journal(run.unwrap()).unwrap()
}

fn late() -> Error {
    Error::new(Kind::Late, "too long")
}

#[test]
fn a_part_is_undone_by_itself_and_is_not_done_again_by_a_run_that_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let world = Mutex::default();
    let begin = |gate: &Gate| gate.begin_part("1 s", |undo| take(&world, undo));
    let first = journaled(folder.path(), false);
    first.pass(&put(&world, "a")).unwrap();
    let part = begin(&first).unwrap().unwrap();
    first.pass(&put(&world, "b")).unwrap();
    first.pass(&put(&world, "c")).unwrap();
    first.undo_part(&part, &late(), |undo| take(&world, undo)).unwrap();
    assert_eq!(*world.lock().unwrap(), ["a"]);
    let second = begin(&first).unwrap().unwrap();
    first.pass(&put(&world, "b")).unwrap();
    assert_eq!(*world.lock().unwrap(), ["a", "b"]);
    drop((first, second));

    // It died in the second part: that is undone first and done again, the first one fails as it did.
    let gate = journaled(folder.path(), true);
    gate.pass(&put(&world, "a")).unwrap();
    let error = begin(&gate).err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Late, "too long"));
    let part = begin(&gate).unwrap().unwrap();
    assert_eq!(*world.lock().unwrap(), ["a"], "what was done when it died is undone");
    gate.pass(&put(&world, "b")).unwrap();
    assert_eq!(*world.lock().unwrap(), ["a", "b"]);
    gate.keep_part(&part).unwrap();
    drop(gate);

    // What was kept is replayed.
    let gate = journaled(folder.path(), true);
    gate.pass(&put(&world, "a")).unwrap();
    assert!(begin(&gate).is_err());
    assert!(begin(&gate).unwrap().is_none());
    gate.pass(&put(&world, "b")).unwrap();
    assert_eq!(*world.lock().unwrap(), ["a", "b"]);
    assert_eq!(gate.roll_back(|undo| take(&world, undo)).undone, ["take b", "take a"]);
}

#[test]
fn once_the_run_can_only_go_forward_no_part_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let world = Mutex::default();
    let begin = |gate: &Gate| gate.begin_part("1 s", |undo| take(&world, undo));
    let gate = journaled(folder.path(), false);
    begin(&gate).unwrap().unwrap();
    gate.cancel().set_budget(Some(std::time::Duration::ZERO));
    gate.cancel().start_budget();
    assert_eq!(gate.pass(&put(&world, "a")).unwrap_err().kind(), Kind::Late);
    gate.cancel().set_budget(Some(std::time::Duration::from_secs(60)));
    gate.cancel().start_budget();
    gate.pass(&put(&world, "a")).unwrap();
    // It fails before anything changed, and dies before that is told.
    gate.pass(&Put { pivot: true, fails: true, ..put(&world, "switch") }).unwrap_err();
    assert_eq!(gate.cancel().left(), None, "nothing is broken off any more");
    drop(gate);
    let gate = journaled(folder.path(), true);
    assert!(begin(&gate).unwrap().is_none());
    assert_eq!(*world.lock().unwrap(), ["a", "switch"]);
}
