//! Each SOAP request of a move, carried out long after its answer was waited for, without an answer, or twice; by itself, and
//! together with a request to stop, with a refusal of the next request of its name, and with the death of the run. The
//! requests come from the log of an undisturbed move.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use zlm_lab::{Lab, STORES, poll};

use super::plan::{Ending, Plan, Points};
use super::round::Round;
use super::verdict::{Judge, Verdict};

/// A request that takes so long is waited for no more.
const TIMEOUT: u64 = 3;
/// When one that is late is carried out.
const LATE: u64 = 8;
/// No request lives longer.
const LIFE: u64 = 40;
/// After so long a run that has ended is judged once more.
const AGAIN: Duration = Duration::from_secs(30);

/// Requests that change something, or make a store remember.
const CHANGES: [&str; 4] = ["ModifyAccountRequest", "LockoutMailboxRequest", "FlushCacheRequest", "GetMailboxRequest"];

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Late,
    Unanswered,
    Twice,
}

/// What comes on top of that, once it has reached mailboxd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Nothing,
    /// Somebody asks to stop.
    Stop,
    /// The next request of its name is refused.
    Refusal,
    /// The run dies, and is ended this way.
    Kill(Ending),
}

/// One thing to try.
#[derive(Clone, Debug)]
pub struct Case {
    host: &'static str,
    request: String,
    /// Which of the requests of that name to that store, from 1.
    nth: usize,
    fate: Fate,
    blow: Blow,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, request, nth, fate, blow } = self;
        write!(f, "{request} {nth} to {host} {fate:?}, {blow:?}")
    }
}

/// A line of mailboxd's log of requests, as far as it is looked at.
#[derive(Deserialize)]
struct Line {
    name: String,
}

/// How many requests of each name came to each store.
pub struct Requests(BTreeMap<(&'static str, String), usize>);

impl Requests {
    fn so_far(lab: &Lab) -> Result<Self> {
        let mut all = BTreeMap::new();
        for host in STORES {
            let path = lab.host(host)?.zimbra_path("log/mailbox.log");
            for line in fs::read_to_string(&path).with_context(|| path.display().to_string())?.lines() {
                *all.entry((host, serde_json::from_str::<Line>(line)?.name)).or_default() += 1;
            }
        }
        Ok(Self(all))
    }

    /// What an undisturbed move sends.
    pub fn of_a_move(round: &Round<'_>) -> Result<(Self, Points)> {
        let before = Self::so_far(round.lab)?;
        let points = round.points()?;
        let mut all = Self::so_far(round.lab)?;
        for (key, count) in &mut all.0 {
            *count -= before.0.get(key).copied().unwrap_or_default();
        }
        all.0.retain(|_, count| *count > 0);
        Ok((all, points))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// Every case. What only looks is not combined with more.
    pub fn cases(&self) -> Vec<Case> {
        let blows =
            [Blow::Nothing, Blow::Refusal, Blow::Stop, Blow::Kill(Ending::Resume), Blow::Kill(Ending::Rollback)];
        let mut all = Vec::new();
        for ((host, request), count) in &self.0 {
            for nth in 1..=*count {
                for fate in [Fate::Late, Fate::Unanswered, Fate::Twice] {
                    let most = if CHANGES.contains(&request.as_str()) && fate != Fate::Twice { blows.len() } else { 1 };
                    for blow in blows.into_iter().take(most) {
                        all.push(Case { host, request: request.clone(), nth, fate, blow });
                    }
                }
            }
        }
        all
    }
}

impl Case {
    /// Moves an account that way while mail comes in, ends the run for good, and judges; and once more after a while.
    pub fn play(&self, round: &Round<'_>) -> Result<Verdict> {
        let settings = format!("[retry]\npatience = 6\n[limits]\nsoap_timeout = {TIMEOUT}\nrequest_life = {LIFE}\n");
        round.settings(&settings)?;
        let mut judge = Judge::new(round)?;
        let mail = round.deliveries()?;
        self.script(round.lab)?;
        let process = round.start_move("")?;
        let kills = matches!(self.blow, Blow::Kill(_));
        if self.has_come(round.lab, || process.has_ended())? {
            match self.blow {
                Blow::Stop => process.signal(Signal::INT)?,
                Blow::Kill(_) => process.signal(Signal::KILL)?,
                Blow::Nothing | Blow::Refusal => {}
            }
        }
        let ended = process.end()?;
        if !kills {
            tell(round.lab, self.host, "fault clear")?;
        }
        let ending = if let Blow::Kill(ending) = self.blow { ending } else { Ending::Resume };
        round.finish(&Plan::plain(ending), ended, &mut judge)?;
        tell(round.lab, self.host, "fault clear")?;
        judge.run_again(round)?;
        let journal = mail.end().context("mail")?;
        judge.by_oracle(round, Some(&journal), false)?;
        if self.fate == Fate::Late {
            thread::sleep(AGAIN);
            judge.look_again(round)?;
        }
        judge.conclude(round, Some(&journal), false)
    }

    fn script(&self, lab: &Lab) -> Result<()> {
        let Self { host, request, .. } = self;
        if self.nth > 1 {
            tell(lab, host, &format!("fault {request} then pass {}", self.nth - 1))?;
        }
        let fate = match self.fate {
            Fate::Late => format!("late {LATE}"),
            Fate::Unanswered => "apply-then-drop".to_owned(),
            Fate::Twice => "twice".to_owned(),
        };
        tell(lab, host, &format!("fault {request} then {fate} 1"))?;
        // One that nobody comes to is no mark: that the other has come is what is waited for.
        if self.blow == Blow::Refusal {
            tell(lab, host, &format!("fault {request} then fail service.FAILURE 1"))?;
        }
        Ok(())
    }

    /// Waits until the request has come; false when the run ended without it.
    fn has_come(&self, lab: &Lab, has_ended: impl Fn() -> Result<bool>) -> Result<bool> {
        let left = usize::from(self.blow == Blow::Refusal);
        let come = poll(Duration::from_secs(200), || {
            let told = lab.host(self.host)?.mailboxd_control(&format!("fault left {}", self.request))?;
            if told.parse::<usize>().with_context(|| format!("fault left: {told}"))? <= left {
                return Ok(Some(true));
            }
            Ok(has_ended()?.then_some(false))
        })?;
        Ok(come.unwrap_or(false))
    }
}

fn tell(lab: &Lab, host: &str, line: &str) -> Result<()> {
    let answer = lab.host(host)?.mailboxd_control(line)?;
    ensure!(answer == "ok", "{host}: {line}: {answer}");
    Ok(())
}
