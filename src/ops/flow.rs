//! Waiting and asking.

use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::run::Asker;

/// Waits; fails with [`Kind::Cancelled`] as soon as a stop is asked for.
pub fn wait(cancel: &Cancel, seconds: f64) -> Result<()> {
    cancel.wait(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// Waits because the script says so.
pub struct Sleep {
    /// How long, in seconds.
    pub seconds: f64,
}

impl Operation for Sleep {
    type Output = ();

    fn name(&self) -> &'static str {
        "sleep"
    }

    fn describe(&self) -> String {
        format!("wait {} s", self.seconds)
    }

    fn is_guarded(&self) -> bool {
        false
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        wait(watch.cancel(), self.seconds)
    }
}

/// Asks the operator.
pub struct Confirm {
    /// The question.
    pub question: String,
    /// Who asks it, if anybody can.
    pub ask: Option<Asker>,
}

impl Operation for Confirm {
    type Output = bool;

    fn name(&self) -> &'static str {
        "confirm"
    }

    fn describe(&self) -> String {
        format!("ask: {}", self.question)
    }

    fn is_guarded(&self) -> bool {
        false
    }

    fn outcome(&self, answer: &bool) -> String {
        if *answer { "yes" } else { "no" }.to_owned()
    }

    fn pretend(&self) -> Result<bool> {
        Ok(true)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<bool> {
        self.ask.as_ref().and_then(|ask| ask(&self.question)).ok_or_else(|| {
            Error::new(Kind::Usage, format!("{}: nobody can be asked here", self.question))
                .hint("run it on a terminal, or with --yes")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_asked_to() {
        let cancel = Cancel::default();
        cancel.request();
        assert_eq!(wait(&cancel, 60.0).unwrap_err().kind(), Kind::Cancelled);
    }
}
