//! The scripts: the steps of the shipped move one a line, with one thing done to one of them; or steps in any order.

use std::fmt;

use super::super::faults::random::{FATES, Numbers, REQUESTS};
use super::super::faults::trouble::Trouble;
use super::super::faults::{DEST, SOURCE};

/// The steps of a move.
const MOVE: &[&str] = &[
    "who = account::find(args.email);",
    "survey = look(who, args.dest);",
    "claim(survey);",
    "mv = stage(survey);",
    "files::copy(mv, ());",
    "tables::copy(mv);",
    "check_blobs(mv);",
    "settle(mv);",
    "soap_modify(who, #{ zimbraAccountStatus: \"maintenance\" });",
    "flush_caches(who, #{ stores: servers(\"mailbox\") });",
    "frozen = freeze(mv);",
    "tables::delta(frozen);",
    "refresh_mailbox(frozen);",
    "files::delta(frozen);",
    "files::index(frozen);",
    "proof = verify(frozen);",
    "switch_to(mv.dest, proof);",
    "flush_caches(who, #{ stores: servers(\"mailbox\"), memcached: servers(\"memcached\") });",
    "open_mailbox(mv);",
    "soap_modify(who, #{ zimbraAccountStatus: who.status });",
    "flush_caches(who, #{ stores: servers(\"mailbox\") });",
    "sweep_blobs(mv);",
    "cutover::report(mv, proof);",
];

/// What scripts do beside.
const OTHERS: &[&str] = &[
    "mailbox::precopy(mv, 10.0, ());",
    "account::close(who);",
    "account::reopen(who);",
    "cutover::delta(frozen);",
    "cutover::open(mv, who);",
    "cutover::arrive(mv, who);",
    "unlock(who);",
    "carry_shares(who);",
    "frozen_within(0.05, || { account::close(who); frozen = freeze(mv); sleep(0.2); verify(frozen) });",
    "mv = mailbox::prepare(who, args.dest, #{});",
    "switch_to(mv.source, proof);",
    OWN_STATUS,
];

/// A status that a script means.
pub const OWN_STATUS: &str = "soap_modify(who, #{ zimbraAccountStatus: \"locked\" });";

const HEAD: &str = "\
const OPTIONS = [
    #{ name: \"email\", required: true, help: \"who\" },
    #{ name: \"dest\", required: true, help: \"where to\" },
];
import \"account\" as account;
import \"mailbox\" as mailbox;
import \"tables\" as tables;
import \"files\" as files;
import \"cutover\" as cutover;
let who = (); let survey = (); let mv = (); let frozen = (); let proof = ();
";

/// What is done after a step.
#[derive(Clone, Copy, Debug)]
enum Twist {
    End,
    Throw,
    Typo,
    Catch,
    Repeat,
    LeaveOutNext,
}

const TWISTS: [Twist; 6] = [Twist::End, Twist::Throw, Twist::Typo, Twist::Catch, Twist::Repeat, Twist::LeaveOutNext];

/// One script, and what fails while it runs.
pub struct Script {
    name: String,
    lines: Vec<String>,
    pub troubles: Vec<Trouble>,
}

impl Script {
    /// The steps of a move, and nothing done to them.
    pub fn whole() -> Self {
        let lines = MOVE.iter().map(|step| (*step).to_owned()).collect();
        Self { name: "all steps".to_owned(), lines, troubles: Vec::new() }
    }

    fn twisted(twist: Twist, at: usize) -> Self {
        let mut script = Self::whole();
        script.name = format!("{twist:?} after {}: {}", at + 1, MOVE[at]);
        let step = script.lines[at].clone();
        match twist {
            Twist::End => script.lines.truncate(at + 1),
            Twist::Throw => script.lines.insert(at + 1, "throw \"thrown\";".to_owned()),
            Twist::Typo => script.lines.insert(at + 1, "args.emial + 1;".to_owned()),
            Twist::Catch => script.lines[at] = format!("try {{ {step} throw \"thrown\"; }} catch {{}}"),
            Twist::Repeat => script.lines.insert(at + 1, step),
            Twist::LeaveOutNext => drop(script.lines.remove(at + 1)),
        }
        script
    }

    /// Its text.
    pub fn text(&self) -> String {
        format!("{HEAD}{}\n", self.lines.join("\n"))
    }

    /// Whether it may leave the account with a status of its own.
    pub fn sets_status(&self) -> bool {
        self.lines.iter().any(|line| line.contains(OWN_STATUS))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Every twist after every step.
pub fn all() -> Vec<Script> {
    let mut all = Vec::new();
    for at in 0..MOVE.len() {
        for twist in TWISTS {
            if at + 1 < MOVE.len() || !matches!(twist, Twist::LeaveOutNext) {
                all.push(Script::twisted(twist, at));
            }
        }
    }
    all
}

/// The script that a seed means: a move up to somewhere, then steps in any order, each caught or not; and peers that fail.
pub fn random(seed: u64) -> Script {
    let mut numbers = Numbers::new(seed);
    let begun = [1, 4, 8, 11, 16, 17][numbers.below(6)];
    let mut lines: Vec<String> = MOVE[..begun].iter().map(|step| (*step).to_owned()).collect();
    for _ in 0..=numbers.below(8) {
        let step = match numbers.below(3) {
            0 => OTHERS[numbers.below(OTHERS.len())],
            1 => MOVE[numbers.below(MOVE.len())],
            // As a move would go on.
            _ => MOVE[(begun + numbers.below(4)).min(MOVE.len() - 1)],
        };
        let is_caught = numbers.below(2) == 0;
        lines.push(if is_caught { format!("try {{ {step} }} catch {{}}") } else { step.to_owned() });
    }
    if numbers.below(3) == 0 {
        let rest = numbers.below(MOVE.len());
        lines.extend(MOVE[rest..].iter().map(|step| (*step).to_owned()));
    }
    let mut troubles = Vec::new();
    while numbers.below(3) == 0 {
        let host = numbers.one_of(&[SOURCE, DEST]);
        let (request, fate) = (numbers.one_of(&REQUESTS), numbers.one_of(&FATES));
        troubles.push(Trouble::Soap { host, request, fate });
    }
    let name = format!("--seed {} --only 'random {seed} ': random {seed} : {troubles:?} {lines:?}", seed / 1_000_000);
    Script { name, lines, troubles }
}
