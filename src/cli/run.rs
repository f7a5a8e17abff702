//! `zlm run`: options that the script declares become flags of the command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgAction, Args, Command};

use super::{Common, console, logging};
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gate::Mode;
use crate::host::{Checked, Host, OptionType, Outcome, Script, ScriptOption, flag};

#[derive(Args)]
#[command(disable_help_flag = true)]
pub(super) struct Run {
    /// The script, then its options; `zlm run SCRIPT --help` lists them
    #[arg(value_name = "SCRIPT [OPTIONS]", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What `zlm run` itself takes, before or after the script.
pub(super) struct Flags {
    pub(super) dry_run: bool,
    pub(super) json: bool,
    pub(super) yes: bool,
    pub(super) options: BTreeMap<String, String>,
}

impl Run {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        let mut common = common.clone();
        let words = take_common(&self.words, &mut common)?;
        let Some(at) = words.iter().position(|word| !word.starts_with('-')) else {
            return match words.iter().any(|word| word == "--help" || word == "-h") {
                true => print_help(),
                false => Err(Error::new(Kind::Usage, "no script given").hint("zlm run scripts/move.rhai --help")),
            };
        };
        let script = Script::load(&PathBuf::from(&words[at]))?;
        let checked = common.reader().check(&script)?;
        let words = words[..at].iter().chain(&words[at + 1..]);
        let flags = match parse(&checked, words) {
            Parsed::Flags(flags) => flags,
            Parsed::Shown(status) => return Ok(status),
        };
        start(&common, cancel, &checked, flags)
    }
}

/// Runs a checked script, and shows how it ended.
pub(super) fn start(common: &Common, cancel: Cancel, checked: &Checked, flags: Flags) -> Result<u8> {
    // Wrong options are refused before anything else is looked at.
    crate::host::arguments(&checked.options, &flags.options)?;
    let config = common.load_config()?;
    logging::start(&config, common.verbose, flags.dry_run)?;
    let reporter = console::reporter(flags.dry_run, common.verbose > 0);
    let journal = config.journal_dir();
    let host = Host::new(config)
        .journal(journal)
        .stdlib(common.stdlib.clone())
        .cancel(cancel)
        .reporter(reporter.clone())
        .asker(Arc::new(move |question| if flags.yes { Some(true) } else { console::ask(question) }));
    let mode = if flags.dry_run { Mode::Dry } else { Mode::Live };
    let outcome = host.run(checked, &flags.options, mode)?;
    reporter.finish();
    show(&outcome, flags.json, flags.dry_run);
    Ok(outcome.exit_code())
}

/// Takes what every command takes out of the words behind `run`: clap sees none of them, since only the script
/// knows its own options.
fn take_common(words: &[String], common: &mut Common) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
        let place = match name {
            "--config" => &mut common.config,
            "--stdlib" => &mut common.stdlib,
            "-v" | "--verbose" => {
                common.verbose += 1;
                continue;
            }
            "-vv" | "-vvv" => {
                common.verbose += if name == "-vv" { 2 } else { 3 };
                continue;
            }
            _ => {
                left.push(word.clone());
                continue;
            }
        };
        let value = value.or_else(|| words.next().cloned());
        let value = value.ok_or_else(|| Error::new(Kind::Usage, format!("{name}: a path must follow")))?;
        *place = Some(PathBuf::from(value));
    }
    Ok(left)
}

pub(super) fn show(outcome: &Outcome, json: bool, dry_run: bool) {
    if json {
        let line = serde_json::to_string(&outcome.summary()).unwrap_or_default();
        console::print_line(&line);
        return;
    }
    console::print_entries(&outcome.entries);
    if dry_run && (outcome.failure.is_none() || !outcome.plan.is_empty()) {
        console::print_plan(&outcome.plan);
    }
    if !dry_run {
        console::print_value(&outcome.value);
    }
    if let Some(failure) = &outcome.failure {
        console::print_failure(outcome, failure);
    }
}

enum Parsed {
    Flags(Flags),
    /// Help or a usage error was printed.
    Shown(u8),
}

fn parse<'a>(checked: &Checked, words: impl Iterator<Item = &'a String>) -> Parsed {
    let command = command(checked);
    let matches = match command.try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            // Printing to a closed pipe is no failure of the command.
            let _ = error.print();
            return Parsed::Shown(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let mut options = BTreeMap::new();
    for option in &checked.options {
        if option.kind == OptionType::Bool {
            if matches.get_flag(&option.name) {
                options.insert(option.name.clone(), "true".to_owned());
            }
        } else if let Some(values) = matches.get_many::<String>(&option.name) {
            options.insert(option.name.clone(), values.cloned().collect::<Vec<_>>().join(","));
        }
    }
    Parsed::Flags(Flags {
        dry_run: matches.get_flag("zlm:dry-run"),
        json: matches.get_flag("zlm:json"),
        yes: matches.get_flag("zlm:yes"),
        options,
    })
}

fn command(checked: &Checked) -> Command {
    let own = |name: &'static str, help: &'static str| {
        Arg::new(format!("zlm:{name}"))
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
            .help_heading("Options of zlm run")
    };
    let mut command = Command::new(checked.script.name.clone())
        .bin_name(format!("zlm run {}", checked.script.name))
        .no_binary_name(true)
        .about(checked.about.clone())
        .arg(own("dry-run", "Show every effect in order, and have none"))
        .arg(own("json", "Print the outcome as one line of JSON"))
        .arg(own("yes", "Answer yes to what the script asks"));
    for option in &checked.options {
        command = command.arg(argument(option));
    }
    command
}

fn argument(option: &ScriptOption) -> Arg {
    let mut help = option.help.clone();
    if let Some(preset) = &option.preset {
        let default = preset.as_str().map_or_else(|| preset.to_string(), str::to_owned);
        help.push_str(&format!(" [default: {default}]"));
    }
    let mut arg = Arg::new(option.name.clone()).long(flag(&option.name)).help(help).required(option.required);
    if let Some(letter) = option.short.as_ref().and_then(|s| s.chars().next()) {
        arg = arg.short(letter);
    }
    match option.kind {
        OptionType::Bool => arg.action(ArgAction::SetTrue),
        OptionType::Int => arg.value_name("N").allow_negative_numbers(true),
        OptionType::Path => arg.value_name("PATH"),
        OptionType::Duration => arg.value_name("TIME"),
        OptionType::String | OptionType::Store => arg.value_name("TEXT"),
        OptionType::List => arg.value_name("TEXT").action(ArgAction::Append),
    }
}

fn print_help() -> Result<u8> {
    console::print_line("Usage: zlm run SCRIPT [OPTIONS]\n");
    console::print_line("Runs a script; `zlm run SCRIPT --help` lists the options it declares.");
    console::print_line("Every script takes --dry-run, --json and --yes.\n");
    console::print_line(&format!("Shipped scripts: {}", Host::shipped_scripts().join(", ")));
    Ok(0)
}
