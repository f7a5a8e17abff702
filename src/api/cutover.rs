//! The move's rails: look, claim, stage, freeze, verify, switch, open. A script chooses what happens between
//! them; it cannot switch what was not proved under the freeze in force.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{FnPtr, Map};

use super::handles::{Account, Freeze, Move, Store, Survey, Verified};
use super::options::{FrozenWithin, Look, LookBack, decode};
use super::{Fault, Scripted, array, attempt, encode, run};
use crate::error::Kind;
use crate::ops;

#[export_module]
pub mod cutover {
    /// Preflight: finds out everything about moving an account to a store, and every reason against it. Every mailboxd and
    /// memcached that must be told of it is asked whether it answers, but for those that the run leaves out.
    ///
    /// Arguments: the account; the name of the destination. Returns a `Survey`; its `problems` say what stands in
    /// the way. Fails only when it cannot look (`unreachable`, `denied`).
    ///
    /// In a plan: it reads.
    ///
    /// Example: `let survey = look(who, "store2.example.com"); if survey.problems.len() > 0 { ... }`
    #[rhai_fn(volatile, return_raw, name = "look")]
    pub fn look(ctx: NativeCallContext, account: Account, dest: &str) -> Scripted<Survey> {
        look_options(ctx, account, dest, Map::new())
    }

    /// The same with options: `allow_missing_blobs` goes on though the source has lost blobs that rows name.
    #[rhai_fn(volatile, return_raw, name = "look")]
    pub fn look_options(ctx: NativeCallContext, account: Account, dest: &str, options: Map) -> Scripted<Survey> {
        attempt(&ctx, |run| {
            let Look { allow_missing_blobs } = decode("look", &options)?;
            ops::look::survey(run, &account.0, dest, allow_missing_blobs).map(|s| Survey(Arc::new(s)))
        })
    }

    /// Preflight of taking a move back: the account goes back to the copy that its old store kept, without copying
    /// anything, as long as nothing was written at the new one.
    ///
    /// Arguments: the account; the store to go back to; a map of `source`, the store that the move took it to,
    /// `mailbox`, its number there, `kept`, the number of the copy, and `changes`, the copy's `change_checkpoint` when
    /// it was left. `zlm reverse` takes them from the move's journal. Returns a `Survey`, for `claim` and `stage`. Fails
    /// only when it cannot look (`unreachable`, `denied`).
    ///
    /// In a plan: it reads.
    ///
    /// Example: `let survey = look_back(who, "store1.example.com", #{ source: who.host, mailbox: 106, kept: 208, changes: 399 });`
    #[rhai_fn(volatile, return_raw)]
    pub fn look_back(ctx: NativeCallContext, account: Account, dest: &str, options: Map) -> Scripted<Survey> {
        attempt(&ctx, |run| {
            let LookBack { source, mailbox, kept, changes } = decode("look_back", &options)?;
            let taken = ops::look_back::Taken { source: source.parse()?, mailbox, kept, changes };
            ops::look_back::survey(run, &account.0, dest, taken).map(|s| Survey(Arc::new(s)))
        })
    }

    /// Claims the account on both stores, so that no second run can move it; held until the run ends.
    ///
    /// Fails with `held` when another run has it.
    ///
    /// In a plan: an entry.
    ///
    /// Example: `claim(survey);`
    #[rhai_fn(volatile, return_raw)]
    pub fn claim(ctx: NativeCallContext, survey: Survey) -> Scripted<()> {
        attempt(&ctx, |run| ops::claim::claim(run, &survey.0))
    }

    /// Takes over what a run that died holds of an account, which is let go when this run ends well. For what is to be
    /// ended without that run's journal.
    ///
    /// Returns how many claims it was. Fails with `held` when the run is alive.
    ///
    /// In a plan: an entry.
    ///
    /// Example: `take_over(who);`
    #[rhai_fn(volatile, return_raw)]
    pub fn take_over(ctx: NativeCallContext, account: Account) -> Scripted<i64> {
        attempt(&ctx, |run| {
            let (site, claims) = (run.site.clone(), run.claims.clone());
            Ok(run.gate.pass(&ops::claim::TakeOver { site, claims, account: account.0 })? as i64)
        })
    }

    /// Gives the mailbox its place at the destination: a number from the store's own counter and a row under a
    /// placeholder, which no mailboxd can open. After `look_back` it is the copy that was kept there.
    ///
    /// Returns a `Move`. Fails with `refused`, naming every problem of the survey at once, or when the number or
    /// its directories are taken. A run that fails later takes the row, and all that was copied under it, away.
    ///
    /// In a plan: the statements.
    ///
    /// Example: `let mv = stage(survey);`
    #[rhai_fn(volatile, return_raw)]
    pub fn stage(ctx: NativeCallContext, survey: Survey) -> Scripted<Move> {
        attempt(&ctx, |run| ops::stage::stage(run, &survey.0).map(|mv| Move(Arc::new(mv))))
    }

    /// Locks the mailbox at the source and proves that it stands still. The account must be in maintenance.
    ///
    /// Returns a `Freeze`. Fails with `refused` when the store does not know the account to be in maintenance,
    /// `peer`, `unreachable`. A run that fails before the switch unlocks it.
    ///
    /// In a plan: the SOAP request.
    ///
    /// Example: `let frozen = freeze(mv);`
    #[rhai_fn(volatile, return_raw)]
    pub fn freeze(ctx: NativeCallContext, mv: Move) -> Scripted<Freeze> {
        attempt(&ctx, |run| ops::freeze::freeze(run, &mv.0).map(|f| Freeze(Arc::new(f))))
    }

    /// Runs `body`, in which the account is frozen, for at most so many seconds. Where it takes longer, or where what was
    /// seen so far says that it will, all that `body` did is undone: the mailbox is unlocked, the account has the status
    /// that it had, and every store knows. Once `switch_to` changes zimbraMailHost nothing is broken off any more.
    ///
    /// Arguments: the seconds, counted from when the account is put into maintenance; a closure. Returns what `body` returns. Fails with `late` when it was undone, saying how long it would have taken;
    /// with what `body` fails with, which is undone with the whole run.
    ///
    /// In a plan: the entries of `body`.
    ///
    /// Example: `let proof = frozen_within(30.0, || { account::close(who); verify(freeze(mv)) });`
    #[rhai_fn(volatile, return_raw, name = "frozen_within")]
    pub fn frozen_within(ctx: NativeCallContext, seconds: f64, body: FnPtr) -> Scripted<Dynamic> {
        within(&ctx, seconds, &body)
    }

    /// The same with several tries. `copy` brings over what changed before each but the first.
    ///
    /// Options: `seconds`, `tries` (5) at most, `pause` (30.0) seconds before the second, doubled before each next.
    ///
    /// Example: `frozen_within(#{ seconds: 30.0, tries: 3 }, || mailbox::precopy(mv, 10.0, ()), || { ... });`
    #[rhai_fn(volatile, return_raw, name = "frozen_within")]
    pub fn frozen_within_options(ctx: NativeCallContext, options: Map, copy: FnPtr, body: FnPtr) -> Scripted<Dynamic> {
        let run = run(&ctx)?;
        let options: FrozenWithin = decode("frozen_within", &options).map_err(|e| Fault::thrown(&ctx, e))?;
        let Some(seconds) = options.seconds else { return body.call_within_context(&ctx, ()) };
        let mut pause = options.pause;
        for tried in 1.. {
            let error = match within(&ctx, seconds, &body) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_late = Fault::of(&error).is_some_and(|error| error.kind() == Kind::Late);
            if !is_late || tried >= options.tries {
                return Err(error);
            }
            attempt(&ctx, |run| ops::within::pause(run, tried, options.tries, pause))?;
            pause *= 2.0;
            run.gate.step("pre-copy", || copy.call_within_context::<Dynamic>(&ctx, ()).map(drop))?;
        }
        unreachable!("the loop above only ends by returning")
    }

    /// Brings the mailbox's own row up to date: its counters, raised over every number that was ever used, so that
    /// none is used twice.
    ///
    /// In a plan: the columns.
    ///
    /// Example: `refresh_mailbox(frozen);`
    #[rhai_fn(volatile, return_raw)]
    pub fn refresh_mailbox(ctx: NativeCallContext, freeze: Freeze) -> Scripted<()> {
        attempt(&ctx, |run| run.gate.pass(&ops::freeze::Refresh { freeze: freeze.0 }))
    }

    /// Compares both copies: every row of every table by content, and every new blob by its bytes. That the source does not
    /// change meanwhile is what `switch_to` sees to.
    ///
    /// Returns a `Verified`, which `switch_to` asks for. Fails with `unequal`, saying where they differ.
    ///
    /// In a plan: the tables.
    ///
    /// Example: `let proof = verify(frozen);`
    #[rhai_fn(volatile, return_raw)]
    pub fn verify(ctx: NativeCallContext, freeze: Freeze) -> Scripted<Verified> {
        attempt(&ctx, |run| ops::verify::verify(run, &freeze.0).map(|v| Verified(Arc::new(v))))
    }

    /// Gives the account its new home: the real account id goes into the row, the destination is made to keep what
    /// it was told, and zimbraMailHost changes. From here on a run only goes forward.
    ///
    /// Arguments: the destination; the proof. Fails with `refused` for a proof of another freeze or one that is no
    /// longer in force, `unequal` when the source changed since, `peer`, `unreachable`.
    ///
    /// In a plan: the row, the barrier, the attribute.
    ///
    /// Example: `switch_to(mv.dest, proof);`
    #[rhai_fn(volatile, return_raw)]
    pub fn switch_to(ctx: NativeCallContext, dest: Store, proof: Verified) -> Scripted<()> {
        attempt(&ctx, |run| ops::switch::switch(run, &dest.0, &proof.0))
    }

    /// Lets the store open the account's mailbox, and sees that it is the one with the number `id`; a copy that was kept
    /// is unlocked. Shares that wait to be published are there with it.
    ///
    /// Fails with `unequal` when mailboxd has another mailbox for the account.
    ///
    /// In a plan: the SOAP request.
    ///
    /// Example: `open_mailbox(mv);`
    #[rhai_fn(volatile, return_raw)]
    pub fn open_mailbox(ctx: NativeCallContext, mv: Move) -> Scripted<()> {
        attempt(&ctx, |run| ops::left::open(run, mv.0))
    }

    /// Unlocks the account's mailbox at its home, where a move left it locked that was taken back since. One that is not
    /// locked is left alone.
    ///
    /// Fails with `peer`, `unreachable`.
    ///
    /// In a plan: the SOAP request.
    ///
    /// Example: `unlock(who);`
    #[rhai_fn(volatile, return_raw)]
    pub fn unlock(ctx: NativeCallContext, account: Account) -> Scripted<()> {
        attempt(&ctx, |run| run.gate.pass(&ops::freeze::LetIn { site: run.site.clone(), account: account.0.clone() }))
    }

    /// Brings shares that wait to be published from the copies that other stores kept to the account's home, for a move whose
    /// run cannot do it any more. Stores that cannot be reached are told, and left out.
    ///
    /// Returns how many. Fails with `not_found` where the home has no mailbox of the account, `unreachable`.
    ///
    /// In a plan: where to.
    ///
    /// Example: `carry_shares(who);`
    #[rhai_fn(volatile, return_raw)]
    pub fn carry_shares(ctx: NativeCallContext, account: Account) -> Scripted<i64> {
        attempt(&ctx, |run| {
            let carried = run.gate.pass(&ops::shares::CarryShares::new(run, account.0.clone())?)?;
            Ok(i64::try_from(carried).unwrap_or(i64::MAX))
        })
    }

    /// Undoes an unfinished move of an account to a store, from what is there to be seen: unlocks the mailbox at the
    /// source, gives the account a status, and removes what was staged and copied. For what a run left that died.
    ///
    /// Arguments: the account; the store it was to move to; the status it had. Returns a map of `copies`, how many
    /// were removed. Fails with `refused` when the account is on that store already, `held` when the run is alive.
    ///
    /// In a plan: what would be undone.
    ///
    /// Example: `abandon(who, "store2.example.com", "active");`
    #[rhai_fn(volatile, return_raw)]
    pub fn abandon(ctx: NativeCallContext, account: Account, dest: &str, status: &str) -> RhaiResult {
        let abandoned = attempt(&ctx, |run| {
            let (dest, status) = (dest.parse()?, status.parse()?);
            let (site, claims) = (run.site.clone(), run.claims.clone());
            run.gate.pass(&ops::abandon::Abandon { site, claims, account: account.0, dest, status })
        })?;
        encode(&ctx, &abandoned)
    }

    /// The servers that this run leaves out, since they do not answer: nothing tells them anything, on the way back too. They
    /// are named by the option `without`, of type `list`, of a script that declares it, and by `zlm resume --without`.
    ///
    /// Returns an array of names. In a plan: the same.
    ///
    /// Example: `if left_out().len() > 0 { warn("they read the directory when they start"); }`
    #[rhai_fn(volatile, return_raw)]
    pub fn left_out(ctx: NativeCallContext) -> Scripted<rhai::Array> {
        attempt(&ctx, |run| Ok(array(run.without().iter().cloned())))
    }

    /// Seconds that the account was in maintenance during this run.
    #[rhai_fn(volatile, return_raw)]
    pub fn frozen_seconds(ctx: NativeCallContext) -> Scripted<f64> {
        attempt(&ctx, |run| Ok(run.frozen_seconds()))
    }
}

fn within(ctx: &NativeCallContext<'_>, seconds: f64, body: &FnPtr) -> Scripted<Dynamic> {
    let within = attempt(ctx, |run| ops::within::begin(run, seconds))?;
    let result = body.call_within_context::<Dynamic>(ctx, ());
    let failed = result.as_ref().err().and_then(|error| Fault::of(error));
    attempt(ctx, |run| ops::within::end(run, &within, failed.as_deref()))?;
    result
}
