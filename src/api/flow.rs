//! Steps, parallel work, retries, questions and waits. Native, so that traces, cancellation and plans see them.

use rhai::plugin::*;
use rhai::{Array, FnPtr, Map};

use super::fault::is_final;
use super::options::{self, Notify, Parallel, Retry, decode};
use super::{Fault, Scripted, attempt, run, together};
use crate::api::handles::Account;
use crate::error::{Error, Kind};
use crate::ops;
use crate::parallel;
use crate::report::Event;

/// How many closures run at once where a script does not say.
const AT_ONCE: usize = 16;

#[export_module]
pub mod flow {
    /// Runs `body` as a named step. Plans, logs and times carry the name.
    ///
    /// Returns what `body` returns. Fails with what `body` fails with.
    ///
    /// In a plan: the entries of `body` stand under the name.
    ///
    /// Example: `step("pre-copy", || files::copy(mv));`
    #[rhai_fn(volatile, return_raw)]
    pub fn step(ctx: NativeCallContext, name: &str, body: FnPtr) -> Scripted<Dynamic> {
        let run = run(&ctx)?;
        run.gate.step(name, || body.call_within_context::<Dynamic>(&ctx, ()))
    }

    /// Runs several bodies at once and waits for all.
    ///
    /// Arguments: an array of closures without parameters, of which 16 run at once. Returns an array of what they
    /// returned, in their order. Fails with the first error, after all have ended.
    ///
    /// A variable that only one of the closures uses may be written by it, as in `step`. One that several use is each one's own
    /// copy, and cannot be changed: give back a value instead. A closure sees a loop's own variable as the loop leaves it, at its
    /// last value: copy it with `let` inside the loop, as `zlm check` asks.
    ///
    /// In a plan: one after the other, in their order.
    ///
    /// Example: `parallel([|| files::copy(mv), || tables::copy(mv)]);`
    #[rhai_fn(volatile, return_raw, name = "parallel")]
    pub fn parallel(ctx: NativeCallContext, bodies: Array) -> Scripted<Array> {
        in_parallel(&ctx, bodies, Map::new())
    }

    /// The same with options: `jobs` is how many run at once, and no more threads are started than that.
    ///
    /// Example: `parallel(moves, #{ jobs: args.jobs });`
    #[rhai_fn(volatile, return_raw, name = "parallel")]
    pub fn parallel_options(ctx: NativeCallContext, bodies: Array, options: Map) -> Scripted<Array> {
        in_parallel(&ctx, bodies, options)
    }

    /// Runs `body` again when it fails with an error that may pass (`unreachable`, a Receiver fault). Behind `switch_to` that
    /// is not needed: there every operation is tried again by itself, as long as `[retry]` of `zlm.toml` says.
    ///
    /// Options: `times` (3) tries at most, `wait` (1.0) seconds before the second, doubled before each next.
    /// Returns what `body` returns. Fails with its last error.
    ///
    /// In a plan: `body` once.
    ///
    /// Example: `retry(|| flush_caches(who, #{ stores: servers("mailbox") }), #{ times: 5 });`
    #[rhai_fn(volatile, return_raw, name = "retry")]
    pub fn retry_options(ctx: NativeCallContext, body: FnPtr, options: Map) -> Scripted<Dynamic> {
        let options: Retry = decode("retry", &options).map_err(|e| Fault::thrown(&ctx, e))?;
        let mut wait = options.wait;
        for attempt_number in 1.. {
            let before = run(&ctx)?.gate.carried_out();
            let error = match body.call_within_context::<Dynamic>(&ctx, ()) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(passing) = Fault::of(&error).filter(|error| !is_final(error) && error.is_retryable()) else {
                return Err(error);
            };
            if attempt_number >= options.times {
                return Err(error);
            }
            attempt(&ctx, |run| {
                // A failure that the journal told has been waited for when it happened.
                if run.gate.carried_out() == before {
                    return Ok(());
                }
                run.gate.emit(&Event::Warned { text: format!("{passing}; trying again in {wait} s") });
                ops::flow::wait(run.gate.cancel(), wait)
            })?;
            wait *= 2.0;
        }
        unreachable!("the loop above only ends by returning")
    }

    /// The same with three tries, one second apart at first.
    ///
    /// Example: `retry(|| flush_caches(who, #{ stores: ["store1.example.com"] }));`
    #[rhai_fn(volatile, return_raw, name = "retry")]
    pub fn retry(ctx: NativeCallContext, body: FnPtr) -> Scripted<Dynamic> {
        retry_options(ctx, body, Map::new())
    }

    /// Waits for a number of seconds; a stop request ends the wait.
    ///
    /// In a plan: an entry, and no wait.
    ///
    /// Example: `sleep(30);`
    #[rhai_fn(volatile, return_raw, name = "sleep")]
    pub fn sleep(ctx: NativeCallContext, seconds: i64) -> Scripted<()> {
        attempt(&ctx, |run| run.gate.pass(&ops::flow::Sleep { seconds: seconds as f64 }))
    }

    /// The same with a fraction.
    #[rhai_fn(volatile, return_raw, name = "sleep")]
    pub fn sleep_fraction(ctx: NativeCallContext, seconds: f64) -> Scripted<()> {
        attempt(&ctx, |run| run.gate.pass(&ops::flow::Sleep { seconds }))
    }

    /// Asks the operator a question that is answered with yes or no.
    ///
    /// Returns true for yes. Fails with `usage` where nobody can be asked: no terminal, and no `--yes`.
    ///
    /// In a plan: an entry, and yes.
    ///
    /// Example: `if !confirm("switch now?") { throw "not now"; }`
    #[rhai_fn(volatile, return_raw)]
    pub fn confirm(ctx: NativeCallContext, question: &str) -> Scripted<bool> {
        attempt(&ctx, |run| run.gate.pass(&ops::flow::Confirm { question: question.to_owned(), ask: run.asker() }))
    }

    /// Delivers a short message to an account's inbox, over LMTP to the store it is on.
    ///
    /// Options: `subject`, `text`. Fails with `unreachable` or `peer` when the store does not take it.
    ///
    /// In a plan: the recipient, the subject and the text.
    ///
    /// Example: `notify(who, #{ subject: "Your mailbox moves tonight", text: "..." });`
    #[rhai_fn(volatile, return_raw)]
    pub fn notify(ctx: NativeCallContext, account: Account, options: Map) -> Scripted<()> {
        attempt(&ctx, |run| {
            let Notify { subject, text } = decode("notify", &options)?;
            run.gate.pass(&ops::notify::Notify { site: run.site.clone(), account: account.0, subject, text })
        })
    }

    /// Tells the operator something that is not a failure; it stands out among what `print` says.
    ///
    /// Example: `warn("the index is rebuilt after the move");`
    #[rhai_fn(volatile, return_raw)]
    pub fn warn(ctx: NativeCallContext, text: &str) -> Scripted<()> {
        attempt(&ctx, |run| {
            run.gate.emit(&Event::Warned { text: text.to_owned() });
            Ok(())
        })
    }

    /// Whether this run only plans.
    ///
    /// Example: `if !dry_run() { print("moved"); }`
    #[rhai_fn(volatile, return_raw)]
    pub fn dry_run(ctx: NativeCallContext) -> Scripted<bool> {
        attempt(&ctx, |run| Ok(run.gate.is_dry()))
    }
}

fn in_parallel(ctx: &NativeCallContext<'_>, bodies: Array, options: Map) -> Scripted<Array> {
    let run = run(ctx)?;
    let options: Parallel = options::decode("parallel", &options).map_err(|e| Fault::thrown(ctx, e))?;
    let mut closures = Vec::with_capacity(bodies.len());
    for body in bodies {
        let Some(closure) = body.try_cast::<FnPtr>() else {
            return Err(Fault::thrown(ctx, Error::new(Kind::Usage, "parallel: takes an array of closures")));
        };
        closures.push(closure);
    }
    together::part(&mut closures);
    // A plan must come out in the order the script is written in.
    let jobs = if run.gate.is_dry() { 1 } else { options.jobs.unwrap_or(AT_ONCE).max(1) };
    let engine = ctx.engine();
    #[expect(deprecated, reason = "marked volatile, and the only way to call closures from other threads")]
    let store = ctx.store_data();
    let results = run.gate.unordered(|| {
        parallel::all(jobs, closures, |closure| {
            #[expect(deprecated, reason = "as above")]
            let ctx = NativeCallContext::from_stored_data(engine, &store);
            closure.call_within_context::<Dynamic>(&ctx, ())
        })
    });
    results.into_iter().map(|result| result.map_err(|error| together::explained(ctx, error))).collect()
}
