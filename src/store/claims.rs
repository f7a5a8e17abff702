//! What a run holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::claim::Claim;
use super::hold::Hold;
use crate::clients::db::{Fences, Target};
use crate::error::{Error, Result};

/// The accounts that a run holds, on all stores, until it ends.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    holds: Vec<Hold>,
    /// Stores where it cannot be known whether a claim of this run is left, and why.
    unknown: Vec<(String, Error)>,
}

impl Claims {
    /// Adds an account that was claimed on a store.
    pub fn add(&self, hold: Hold) {
        self.held().holds.push(hold);
    }

    /// Notes that a store cannot be asked for the claim that this run had there.
    pub fn add_unknown(&self, store: &str, error: Error) {
        self.held().unknown.push((store.to_owned(), error));
    }

    /// Whether the run holds nothing.
    pub fn is_empty(&self) -> bool {
        self.held().holds.is_empty()
    }

    /// What the run holds.
    pub fn all(&self) -> Vec<Claim> {
        self.held().holds.iter().map(|hold| hold.claim().clone()).collect()
    }

    /// Looks that all is still held; one round trip each.
    ///
    /// # Errors
    /// As [`Hold::check`].
    pub fn check(&self) -> Result<()> {
        self.held().holds.iter_mut().try_for_each(Hold::check)
    }

    /// Looks that the run may undo: whoever takes an account over needs it on both stores, so that one that is held for
    /// certain is enough where the other cannot be asked.
    ///
    /// # Errors
    /// As [`Hold::check`].
    pub fn check_for_undo(&self) -> Result<()> {
        let mut held = self.held();
        let (mut ours, mut unknown) = (held.holds.is_empty(), None);
        for hold in &mut held.holds {
            match hold.check() {
                Ok(()) => ours = true,
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => unknown = Some(error),
            }
        }
        match unknown {
            Some(error) if !ours => Err(error),
            _ => Ok(()),
        }
    }

    /// Finds another way to stores that cannot be reached any more by the one that was.
    pub fn reach(&self, other: impl Fn(&str) -> Result<Target>) {
        self.held().holds.iter_mut().for_each(|hold| hold.reach(&other));
    }

    /// What transactions of this run must find on a store.
    pub fn fences(&self, store: &str) -> Fences {
        let held = self.held();
        Arc::new(held.holds.iter().filter(|hold| hold.store() == store).map(Hold::fence).collect())
    }

    /// Lets go of everything and leaves the claims, which say whose it is to end.
    pub fn set_down(&self) {
        let holds = std::mem::take(&mut self.held().holds);
        holds.into_iter().for_each(Hold::set_down);
    }

    /// Lets go of everything, each by `how`; gives back what is left, and why.
    pub fn release(&self, how: impl Fn(&mut Hold) -> Result<()>) -> Vec<(String, Error)> {
        self.release_if(|_| true, how)
    }

    /// The same after `run` failed: what it took over from another one still says how to end that one.
    pub fn release_own(&self, run: &str) -> Vec<(String, Error)> {
        self.release_if(|claim| claim.by.run == run, Hold::release)
    }

    fn release_if(
        &self,
        is_over: impl Fn(&Claim) -> bool,
        how: impl Fn(&mut Hold) -> Result<()>,
    ) -> Vec<(String, Error)> {
        let mut held = self.held();
        let mut left: Vec<(String, Error)> = std::mem::take(&mut held.unknown);
        for mut hold in std::mem::take(&mut held.holds) {
            if !is_over(hold.claim()) {
                continue;
            }
            if let Err(error) = how(&mut hold) {
                left.push((hold.store().to_owned(), error));
            }
        }
        left.into_iter().map(|(store, error)| (format!("claim on {store}"), error)).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Plain data and connections, which know themselves whether they are broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
