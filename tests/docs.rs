//! Everything that the documentation names must exist: functions, properties, modules, settings, commands, options.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use zlm::config::{Config, EXAMPLE};
use zlm::host::{Host, Script, flag};

const PAGE: &str = "docs/coming-from-zcslightningmove.md";

#[test]
fn what_the_page_for_newcomers_names_exists() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let known = Known::new();
    let named = names(&text);
    assert!(named.len() > 80, "the page has names: {named:?}");
    let wrong: Vec<&String> = named.iter().filter(|name| !known.knows(name)).collect();
    assert!(wrong.is_empty(), "{PAGE} names what does not exist: {wrong:#?}");
}

#[test]
fn a_name_that_does_not_exist_is_found() {
    let known = Known::new();
    for good in ["`inject`", "`Account.host`", "`account::find`", "`[ldap] bind_dn`", "`zlm tunnel --store`"] {
        assert!(names(good).iter().all(|name| known.knows(name)), "{good}");
    }
    for wrong in [
        "`injekt`",
        "`Account.hosts`",
        "`Account`",
        "`account::fnd`",
        "`files::plus_files`",
        "`acount::find`",
        "`[ldap] bind`",
        "`[ssh] port`",
        "`[dap]`",
        "`zlm tunnel --stor`",
        "`zlm tunel`",
        "`zlm run scripts/move.rhai --destination`",
        "`zlm run scripts/moove.rhai`",
        "    zlm run scripts/move.rhai --mail a@b",
        "`--no-such-option`",
        "`-x`",
    ] {
        assert!(names(wrong).iter().any(|name| !known.knows(name)), "{wrong} passes");
    }
}

/// What stands between backticks, and lines of commands.
fn names(page: &str) -> BTreeSet<String> {
    let commands = page.lines().filter(|line| line.starts_with("    zlm ")).map(|line| line.trim().to_owned());
    let code = page.split('`').skip(1).step_by(2).map(str::to_owned);
    commands.chain(code).collect()
}

struct Known {
    reference: String,
    options: BTreeSet<String>,
}

impl Known {
    fn new() -> Self {
        let scripts = Host::shipped_scripts();
        let options = scripts.iter().flat_map(|name| script_options(name)).chain([String::from("--dry-run")]).collect();
        Self { reference: Host::new(Config::default()).reference(), options }
    }

    fn knows(&self, name: &str) -> bool {
        if matches!(name, "zlm.toml" | "email,dest" | "stores" | "memcached") {
            // A file, the header of a list, the options of `flush_caches`.
            return true;
        }
        if let Some(command) = name.strip_prefix("zlm ") {
            return self.knows_command(command);
        }
        if name.starts_with('[') {
            return knows_setting(name);
        }
        if name.starts_with('-') {
            return self.options.contains(name);
        }
        if let Some((module, function)) = name.split_once("::") {
            return knows_module_function(module, function);
        }
        if let Some(of) = name.strip_suffix("[]") {
            return self.reference.contains(&format!("\n## `{of}["));
        }
        let ending = if name.contains('.') { " " } else { "(" };
        self.reference.contains(&format!("\n## `{name}{ending}"))
    }

    fn knows_command(&self, command: &str) -> bool {
        let words: Vec<&str> = command.split_whitespace().collect();
        let options = words.iter().filter(|word| word.starts_with('-'));
        match words[..] {
            ["run", script, ..] => {
                let known = script_options(script.trim_start_matches("scripts/").trim_end_matches(".rhai"));
                !known.is_empty() && options.into_iter().all(|option| *option == "--dry-run" || known.contains(*option))
            }
            [name, ..] => {
                let help = Command::new(env!("CARGO_BIN_EXE_zlm")).args([name, "--help"]).output().unwrap();
                let text = String::from_utf8(help.stdout).unwrap();
                help.status.success()
                    && options
                        .into_iter()
                        .all(|option| text.contains(&format!("{option} ")) || text.contains(&format!("{option}\n")))
            }
            [] => false,
        }
    }
}

/// The options of a shipped script, as typed; none when there is no such script.
fn script_options(name: &str) -> BTreeSet<String> {
    let Ok(script) = Script::load(Path::new(&format!("scripts/{name}.rhai"))) else { return BTreeSet::new() };
    let checked = Host::new(Config::default()).check(&script).unwrap();
    let long = checked.options.iter().map(|option| format!("--{}", flag(&option.name)));
    let short = checked.options.iter().filter_map(|option| option.short.as_ref()).map(|letter| format!("-{letter}"));
    long.chain(short).collect()
}

/// Whether `[section]` or `[section] key` is in the example of zlm.toml.
fn knows_setting(name: &str) -> bool {
    let end = name.find(']').map_or(name.len(), |at| at + 1);
    let (section, key) = (&name[..end], name[end..].trim());
    let mut lines = EXAMPLE.lines().skip_while(|line| *line != section);
    if lines.next().is_none() {
        return false;
    }
    let mut keys = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
        .map(|(key, _)| key);
    key.is_empty() || keys.any(|known| known == key)
}

/// Whether a module of the standard library has a function that scripts may call.
fn knows_module_function(module: &str, function: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("stdlib/{module}.rhai"));
    fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(&format!("fn {function}("))))
}
