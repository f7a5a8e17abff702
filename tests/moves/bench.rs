//! A lab as a test has it.

use std::ops::Deref;

use mysql::prelude::Queryable;
use zlm_lab::lab_mail::oracle::Before;
use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{Ended, Lab, Operator, Seat, SharedLabs, Turn, assert_clean};

static LABS: SharedLabs = SharedLabs::new();

/// A lab with settings for zlm, whose servers do nothing by themselves, and that no other test has meanwhile.
pub struct Bench(Turn);

impl Bench {
    /// Waits until a test is done with a lab.
    pub fn take() -> Self {
        Self(LABS.take(|lab| lab.install_settings().and_then(|()| lab.rest())).unwrap())
    }

    pub fn zlm(&self) -> Operator<'_> {
        Operator::new(&self.0, env!("CARGO_BIN_EXE_zlm"))
    }

    /// Moves `LOCAL@lab.test` from store1 to store2, which must end well.
    #[track_caller]
    pub fn moves(&self, seat: Seat, local: &str, more: &[&str]) -> Ended {
        self.zlm().run_move(seat, local, "store2", more).unwrap().expect(0)
    }

    /// The oracle's word on a move to store2 without any writer.
    #[track_caller]
    pub fn judge(&self, before: &Before) {
        assert_clean(&self.check_moved(before, "store1", "store2", None, false).unwrap());
    }

    /// The oracle's word on a move to store2 that was refused or undone.
    #[track_caller]
    pub fn judge_undone(&self, before: &Before) {
        assert_clean(&self.check_rolled_back(before, "store1", "store2", None, false).unwrap());
    }

    /// A small mailbox on store1.
    pub fn small(&self, local: &str, mailbox: u32, attributes: &[(&str, &str)]) -> String {
        self.add_mailbox(local, "store1", mailbox, attributes, |spec: &mut Spec| spec.items = 30).unwrap()
    }

    /// Runs statements on a store as root.
    #[track_caller]
    pub fn sql(&self, store: &str, statements: &[&str]) {
        let mut connection = self.host(store).unwrap().mysql().unwrap();
        for statement in statements {
            connection.query_drop(statement).unwrap_or_else(|e| panic!("{store}: {statement}: {e}"));
        }
    }

    /// The first column of a query's first row.
    #[track_caller]
    pub fn number(&self, store: &str, query: &str) -> Option<u64> {
        self.host(store)
            .unwrap()
            .mysql()
            .unwrap()
            .query_first(query)
            .unwrap_or_else(|e| panic!("{store}: {query}: {e}"))
    }

    /// Makes store2's next new mailbox one of this group, and gives its number.
    pub fn next_in_group(&self, group: u64) -> u64 {
        let next = self.number("store2", "SELECT next_mailbox_id FROM zimbra.current_volumes").unwrap();
        let id = (next..).find(|id| (id - 1) % 100 + 1 == group).unwrap();
        self.sql("store2", &[&format!("UPDATE zimbra.current_volumes SET next_mailbox_id = {id}")]);
        id
    }

    /// The number of the account's mailbox on a store.
    pub fn mailbox_of(&self, store: &str, account_id: &str) -> Option<u64> {
        self.number(store, &format!("SELECT id FROM zimbra.mailbox WHERE account_id = '{account_id}'"))
    }
}

impl Deref for Bench {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}
