//! Ways back that die or fail: before the switch they are undone, after it they only go forward.

use std::time::Duration;

use zlm_lab::{Ended, SOURCE, STORES, assert_clean, poll};

use super::Moved;
use crate::bench::Bench;

/// The number of the last operation of this name that a reverse comes to, for a failpoint.
fn number_of(ended: &Ended, operation: &str) -> usize {
    let told = ended.stderr.lines().filter_map(|line| line.split_once("zlm::gate] ")?.1.split_once(": "));
    let all: Vec<&str> = told.map(|(operation, _)| operation).collect();
    all.iter().rposition(|name| *name == operation).unwrap_or_else(|| panic!("no {operation} in {all:?}")) + 1
}

/// A reverse that meets a failpoint.
fn struck(bench: &Bench, moved: &Moved, place: &str) -> Ended {
    let mut command = bench.zlm().command(SOURCE, &["reverse", &moved.run]).unwrap();
    Ended::of(command.env("ZLM_FAILPOINT", place).output().unwrap())
}

/// The run that was left.
fn left(bench: &Bench, moved: &Moved) -> String {
    let told = moved.zlm(bench, &["ps", "--json"]).expect(0).stdout;
    let runs: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let email = moved.email();
    let of: Vec<&serde_json::Value> = runs.iter().filter(|run| run["email"] == email.as_str()).collect();
    assert_eq!(of.len(), 1, "{told}");
    of[0]["run"].as_str().unwrap().to_owned()
}

/// Waits until the claims of a killed run are gone with its connections.
fn wait_unheld(bench: &Bench, moved: &Moved) {
    for store in STORES {
        let held = format!("SELECT IS_USED_LOCK('zlm.{}') IS NOT NULL", moved.id);
        let free = poll(Duration::from_secs(60), || Ok((bench.number(store, &held) == Some(0)).then_some(())));
        assert!(free.unwrap().is_some(), "{store}: still claimed");
    }
}

#[test]
fn a_reverse_that_dies_is_taken_up_or_undone() {
    let bench = Bench::take();
    let whole = Moved::new(&bench, "dea", 473, &[]);
    let told = whole.reverse(&bench, &["-vv"]).expect(0);
    whole.assert_home(&bench, None);
    let dying = [
        ("eva", "freeze", "before"),
        ("fae", "verify", "after"),
        ("guy", "switch_to", "before"),
        ("han", "switch_to", "after"),
        ("ira", "open_mailbox", "after"),
        ("jon", "soap_modify", "before"),
    ];
    for ((local, operation, place), number) in dying.into_iter().zip(474..) {
        let moved = Moved::new(&bench, local, number, &[]);
        let at = format!("{}.{place}", number_of(&told, operation));
        assert_eq!(struck(&bench, &moved, &format!("{at}=kill")).code, None, "{operation} {place}");
        wait_unheld(&bench, &moved);
        let run = left(&bench, &moved);
        let switched = bench.account_value(local, "zimbraMailHost").unwrap().as_deref() == Some("store1.lab.test");
        assert_eq!(
            switched,
            matches!((operation, place), ("switch_to", "after") | ("open_mailbox" | "soap_modify", _))
        );
        if switched {
            let refused = moved.zlm(&bench, &["rollback", &run]).expect(3);
            assert!(refused.stderr.contains("only goes forward"), "{}", refused.told());
        } else {
            moved.zlm(&bench, &["rollback", &run]).expect(0);
            assert_clean(&bench.check_moved(&moved.before, "store1", "store2", None, false).unwrap());
            let locked =
                |store: &str| bench.host(store).unwrap().mailboxd_control(&format!("locked {}", moved.id)).unwrap();
            assert_eq!((locked("store1").as_str(), locked("store2").as_str()), ("yes", "no"));
            // It dies again, and is taken up.
            assert_eq!(struck(&bench, &moved, &format!("{at}=kill")).code, None, "{operation} {place}");
            wait_unheld(&bench, &moved);
        }
        moved.zlm(&bench, &["resume", &left(&bench, &moved)]).expect(0);
        moved.assert_home(&bench, None);
        assert_eq!(moved.deliver(&bench, 1).messages.len(), 1);
    }
}

#[test]
fn a_reverse_that_fails_after_its_switch_says_how_to_finish() {
    let bench = Bench::take();
    let whole = Moved::new(&bench, "kit", 480, &[]);
    let told = whole.reverse(&bench, &["-vv"]).expect(0);
    let place = format!("{}.before=error", number_of(&told, "open_mailbox"));

    let moved = Moved::new(&bench, "lou", 481, &[]);
    let ended = struck(&bench, &moved, &place).expect(4);
    let run = left(&bench, &moved);
    assert!(ended.stderr.contains("now: lou@lab.test is on store1.lab.test, status maintenance"), "{}", ended.told());
    assert!(ended.stderr.contains(&format!("next: zlm resume {run}")), "{}", ended.told());
    moved.zlm(&bench, &["resume", &run]).expect(0);
    moved.assert_home(&bench, None);

    // Without its script.
    let moved = Moved::new(&bench, "mia", 482, &[]);
    struck(&bench, &moved, &place).expect(4);
    let run = left(&bench, &moved);
    moved.zlm(&bench, &["finish", &run]).expect(0);
    moved.assert_home(&bench, None);
    assert_eq!(moved.deliver(&bench, 1).messages.len(), 1);
}

#[test]
fn a_reverse_that_dies_at_its_end_lets_the_user_work() {
    let bench = Bench::take();
    let whole = Moved::new(&bench, "ned", 483, &[]);
    let told = whole.reverse(&bench, &["-vv"]).expect(0);
    let moved = Moved::new(&bench, "ona", 484, &[]);
    let place = format!("{}.after=kill", number_of(&told, "soap_modify"));
    assert_eq!(struck(&bench, &moved, &place).code, None);
    wait_unheld(&bench, &moved);
    // The user deletes a message before the run is taken up again.
    let gone = "DELETE FROM mboxgroup84.mail_item WHERE mailbox_id = 484 AND type = 5 ORDER BY id DESC LIMIT 1";
    bench.sql("store1", &["SET foreign_key_checks = 0", gone]);
    moved.zlm(&bench, &["resume", &left(&bench, &moved)]).expect(0);
    assert_eq!(moved.deliver(&bench, 1).messages.len(), 1);
}
