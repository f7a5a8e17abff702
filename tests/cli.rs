//! The command as an operator meets it, without a site: help, refusals, checks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use zlm::host::Host;

/// What a command gave: exit status, standard output, standard error.
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs zlm in an empty directory, with no configuration but what `arguments` name.
fn zlm(arguments: &[&str]) -> Said {
    zlm_in(tempfile::tempdir().unwrap().path(), arguments)
}

fn zlm_in(directory: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zlm"));
    command.args(arguments).current_dir(directory).env_remove("ZLM_CONFIG").env("HOME", directory);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

impl Said {
    #[track_caller]
    fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    fn shows(self, texts: &[&str]) -> Self {
        // Help is wrapped to some width.
        let out = self.out.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(out.contains(text), "no `{text}` in:\n{}", self.out);
        }
        self
    }

    #[track_caller]
    fn complains(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "no `{text}` in:\n{}", self.err);
        }
        self
    }
}

/// A directory with one file in it.
fn with_file(name: &str, text: &str, mode: u32) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    dir
}

#[test]
fn help_lists_every_command() {
    zlm(&["--help"]).is(0).shows(&["run", "check", "scripts", "doc", "tunnel", "config", "--config", "--stdlib"]);
    zlm(&["run", "--help"]).is(0).shows(&["Usage: zlm run SCRIPT [OPTIONS]", "Shipped scripts: move"]);
    zlm(&[]).is(2).complains(&["Usage: zlm"]);
}

#[test]
fn help_of_a_script_lists_the_options_it_declares() {
    let options: &[(&str, &[&str])] = &[
        ("move", &["--email <TEXT>", "--dest <TEXT>", "--bwlimit <N>", "--short <TIME>", "--allow-missing-blobs"]),
        ("batch", &["--list <PATH>", "--script <PATH>", "--dest <TEXT>", "--jobs <N>", "-s, --separate-log"]),
        ("audit", &["--dest <TEXT>", "--email <TEXT>", "--list <PATH>", "--store <TEXT>"]),
    ];
    for (name, flags) in options {
        let said = zlm(&["run", &format!("scripts/{name}.rhai"), "--help"]).is(0).shows(flags);
        said.shows(&["--dry-run", "--json", "--yes"]);
    }
    for name in Host::shipped_scripts() {
        let said = zlm(&["run", name, "--help"]).is(0);
        assert!(said.out.contains(&format!("Usage: zlm run scripts/{name}.rhai")), "{}", said.out);
    }
}

#[test]
fn a_script_of_ones_own_has_its_own_options() {
    let text = "//! Greets somebody.\n\nconst OPTIONS = [\n    #{ name: \"some_body\", help: \"who\", required: true, short: \"b\" },\n    \
                #{ name: \"times\", type: \"int\", help: \"how often\", preset: 2 },\n];\nprint(args.some_body);\n";
    let dir = with_file("greet.rhai", text, 0o644);
    let said = zlm_in(dir.path(), &["run", "greet.rhai", "--help"]).is(0);
    said.shows(&["Greets somebody.", "-b, --some-body <TEXT>", "who", "--times <N>", "how often [default: 2]"]);
}

#[test]
fn wrong_options_are_refused_before_anything_else() {
    // There is no configuration here, so that whatever came later would fail with another message.
    let whole = ["run", "scripts/move.rhai", "--email", "a@example.com", "--dest", "store2.example.com"];
    zlm(&whole).is(2).complains(&["zlm.toml: not found"]);
    zlm(&[&whole[..], &["--emial", "b"]].concat()).is(2).complains(&["--emial", "'--email'"]);
    zlm(&[&whole[..], &["--bwlimit", "fast"]].concat())
        .is(2)
        .complains(&["error: --bwlimit fast: not a whole number", "help: KiB/s"]);
    zlm(&[&whole[..], &["--short", "1d"]].concat())
        .is(2)
        .complains(&["--short 1d: not a duration such as 90s, 5m, 2h"]);
    zlm(&[&whole[..], &["stray"]].concat()).is(2).complains(&["stray"]);
    zlm(&whole[..4]).is(2).complains(&["required", "--dest <TEXT>"]);
    zlm(&whole[..2]).is(2).complains(&["--email <TEXT>", "--dest <TEXT>"]);
    zlm(&["run", "scripts/move.rhai", "--email", "", "--dest", "x"]).is(2).complains(&["--email : not a value"]);
}

#[test]
fn an_unknown_script_is_refused_with_those_there_are() {
    for arguments in [&["run", "mvoe"][..], &["check", "mvoe"], &["scripts", "mvoe"]] {
        zlm(arguments).is(2).complains(&["error: mvoe: no such script", "help: shipped scripts: move, batch"]);
    }
    zlm(&["run"]).is(2);
}

#[test]
fn check_tells_good_scripts_from_bad() {
    let names = Host::shipped_scripts();
    let said = zlm(&[&["check"], &names[..]].concat()).is(0);
    assert_eq!(said.out.lines().filter(|line| line.ends_with(": good")).count(), names.len(), "{}", said.out);
    let dir = with_file(
        "mine.rhai",
        "let who = ldap_get(\"a@b\");\nldap_gett(\"a@b\");\nrsync(1, 2, #{ bwlimt: 3 });\n",
        0o644,
    );
    let said = zlm_in(dir.path(), &["check", "mine.rhai", "move"]).is(2);
    said.complains(&[
        "mine.rhai:2:1: unknown function `ldap_gett`",
        "did you mean `ldap_get`?",
        "`rsync` has no option `bwlimt`",
    ])
    .shows(&["scripts/move.rhai: good"]);
}

#[test]
fn a_bad_script_is_not_run() {
    let dir = with_file("mine.rhai", "print(\"begun\");\nlook(1, 2, 3, 4);\n", 0o644);
    let said = zlm_in(dir.path(), &["run", "mine.rhai"]).is(2).complains(&["mine.rhai:2:1"]);
    assert!(!said.err.contains("begun") && !said.out.contains("begun"), "{}{}", said.out, said.err);
}

#[test]
fn scripts_are_listed_and_printed() {
    let said = zlm(&["scripts"]).is(0);
    let listed: Vec<&str> = said.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, Host::shipped_scripts());
    let said = zlm(&["scripts", "move"]).is(0);
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/move.rhai")).unwrap();
    assert_eq!(said.out, text, "the shipped text, to start an own one from");
}

#[test]
fn the_reference_is_printed_whole_or_for_one_name() {
    let whole = zlm(&["doc"]).is(0).shows(&[
        "# What scripts can call",
        "`Account.email -> String`",
        "`freeze(mv: Move) -> Freeze`",
    ]);
    assert!(!whole.out.contains("NativeCallContext") && !whole.out.contains("Scripted<"), "{}", whole.out);
    let said = zlm(&["doc", "inject"]).is(0).shows(&["`inject(store: Store, dump: Dump) -> Dynamic`", "In a plan:"]);
    assert_eq!(said.out.matches("## ").count(), said.out.matches("## `inject(").count(), "{}", said.out);
    zlm(&["doc", "problems"]).is(0).shows(&["`Survey.problems -> Array`"]);
    zlm(&["doc", "injekt"]).is(2).complains(&["error: injekt: no such function"]);
}

#[test]
fn the_example_of_the_configuration_is_one() {
    let example = zlm(&["config", "--example"]).is(0).out;
    let parsed: toml::Table = example.parse().unwrap();
    assert!(parsed.contains_key("ldap") && parsed.contains_key("store"), "{parsed:?}");
    let dir = with_file("zlm.toml", &example, 0o600);
    zlm_in(dir.path(), &["config"]).is(0).shows(&["zlm.toml"]);
}

#[test]
fn a_configuration_that_others_can_read_or_that_is_not_there_is_refused() {
    let secret = "[soap]\nuser = \"zimbra\"\npassword = \"hunter2\"\n";
    let open = with_file("zlm.toml", secret, 0o644);
    let said = zlm_in(open.path(), &["config"]).is(2);
    let said = said.complains(&["zlm.toml: holds a secret, and others can read it", "help: chmod 600 "]);
    assert!(!said.err.contains("hunter2"), "{}", said.err);
    let whole = ["run", "move", "--email", "a@example.com", "--dest", "store2.example.com"];
    zlm_in(open.path(), &whole).is(2).complains(&["help: chmod 600 "]);
    let private = with_file("zlm.toml", secret, 0o600);
    let said = zlm_in(private.path(), &["config"]).is(0);
    assert!(!said.out.contains("hunter2"), "{}", said.out);
    zlm(&["config", "--config", "absent.toml"]).is(2).complains(&["absent.toml"]);
    zlm_in(with_file("zlm.toml", "[ldpa]\n", 0o600).path(), &["config"]).is(2).complains(&["ldpa"]);
    zlm(&["config"]).is(2).complains(&["zlm.toml: not found, and this is no Zimbra host", "--config"]);
}

#[test]
fn help_is_always_help() {
    // Whoever asks a script for help must not start it.
    for name in ["help", "version", "json", "dry_run", "yes", "config", "stdlib", "verbose"] {
        let text = format!("const OPTIONS = [#{{ name: \"{name}\", help: \"mine\" }}];\nprint(\"begun\");\n");
        let dir = with_file("mine.rhai", &text, 0o644);
        for words in [&["run", "mine.rhai", "--help"][..], &["run", "mine.rhai"], &["check", "mine.rhai"]] {
            let said = zlm_in(dir.path(), words).is(2);
            assert!(!said.err.contains("begun"), "{}", said.err);
            let flag = name.replace('_', "-");
            said.complains(&[&format!("option `{name}`: --{flag} is an option of zlm run itself")]);
        }
    }
    let declared = |option: &str| {
        let dir = with_file("mine.rhai", &format!("const OPTIONS = [{option}];\n"), 0o644);
        zlm_in(dir.path(), &["run", "mine.rhai", "--help"]).is(2)
    };
    for letter in ["h", "v", "V", "", "ab", "ä"] {
        let option = format!("#{{ name: \"mine\", help: \"x\", short: \"{letter}\" }}");
        declared(&option).complains(&["option `mine`: its short form"]);
    }
    let twice = "#{ name: \"a\", help: \"x\" }, #{ name: \"a\", help: \"x\" }";
    declared(twice).complains(&["option `a`: its name or its letter is declared twice"]);
    let letter = "#{ name: \"a\", help: \"x\", short: \"x\" }, #{ name: \"b\", help: \"x\", short: \"x\" }";
    declared(letter).complains(&["option `b`: its name or its letter is declared twice"]);
    for (kind, preset) in [("int", "\"five\""), ("bool", "1"), ("duration", "-1"), ("list", "\"a\""), ("string", "1")] {
        let option = format!("#{{ name: \"a\", help: \"x\", type: \"{kind}\", preset: {preset} }}");
        declared(&option).complains(&[&format!("option `a`: its preset {preset} is no {kind}")]);
    }
}

#[test]
fn a_terminal_that_cannot_draw_gets_plain_lines() {
    let dir = with_file("mine.rhai", "print(\"as it is\"); step(\"work\", || warn(\"look here\"));\n", 0o644);
    fs::write(dir.path().join("zlm.toml"), "").unwrap();
    let command = format!("{} run mine.rhai --dry-run", env!("CARGO_BIN_EXE_zlm"));
    for term in [None, Some("dumb"), Some("xterm")] {
        // util-linux: everything that the command prints goes to a terminal of its own.
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &command, "/dev/null"]).current_dir(dir.path()).env_remove("ZLM_CONFIG");
        terminal.env("HOME", dir.path()).env_remove("TERM");
        if let Some(term) = term {
            terminal.env("TERM", term);
        }
        let output = terminal.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        for told in ["as it is", "warning: look here", "work done in", "0 effects planned"] {
            assert!(shown.contains(told), "TERM {term:?}: no {told:?} in {shown:?}");
        }
        assert!(term == Some("xterm") || !shown.contains('\u{1b}'), "TERM {term:?}: {shown:?}");
    }
}
