//! Scripts that would bring their process down: each must end as an error, in an embedding program with a small stack too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use zlm::{Config, Host, Mode, Script};

const PLAY: &str = "ZLM_PLAY";

/// Not a test of its own: plays a script in a process that may die of it.
#[test]
fn play() {
    let Some(path) = std::env::var_os(PLAY) else { return };
    let embedding = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        let host = Host::new(Config::default());
        let result = Script::load(Path::new(&path)).and_then(|script| {
            let checked = host.check(&script)?;
            host.run(&checked, &BTreeMap::new(), Mode::Dry)
        });
        match result {
            Err(error) => println!("PLAYED refused {error}"),
            Ok(outcome) => match outcome.failure {
                None => println!("PLAYED done {}", outcome.value.to_string().chars().take(200).collect::<String>()),
                Some(failure) => println!("PLAYED failed {}", failure.error),
            },
        }
    });
    embedding.unwrap().join().unwrap();
}

fn played(path: &Path) -> String {
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me).args(["--exact", "play", "--nocapture"]).env(PLAY, path).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    match out.split_once("PLAYED ") {
        Some((_, said)) => said.lines().take_while(|l| !l.starts_with("test ")).collect::<Vec<_>>().join("\n"),
        None => format!("DIED {:?}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

/// Plays `text` as a script in `folder`.
fn played_text(folder: &Path, text: &str) -> String {
    let path = folder.join("mine.rhai");
    std::fs::write(&path, text).unwrap();
    played(&path)
}

#[test]
fn what_goes_too_deep_or_grows_too_large_ends_as_an_error() {
    let refused = "refused";
    let deep = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(5000), close.repeat(5000));
    let complex = "expression exceeds maximum complexity";
    let calls = "Stack overflow";
    let texts = [
        ("fn f(n) { f(n + 1) + 1 }\nf(0)".to_owned(), calls),
        (format!("fn f(n) {{ {}f(n + 1){} }}\nf(0)", "(1 + ".repeat(20), ")".repeat(20)), calls),
        ("fn f(n) { step(\"x\", || f(n + 1)) }\nf(0)".to_owned(), calls),
        ("fn f(n) { parallel([|| f(n + 1)]) }\nf(0)".to_owned(), calls),
        ("fn f(n) { retry(|| f(n + 1)) }\nf(0)".to_owned(), calls),
        ("fn f(n) { [1].map(|x| f(n + 1)) }\nf(0)".to_owned(), calls),
        ("fn f(n) { try { f(n + 1) } catch (e) { throw e } }\nf(0)".to_owned(), calls),
        ("let f = || 1; for i in 0..100 { let g = f; f = || g.call(); } f.call()".to_owned(), calls),
        (format!("let x = {};", deep("(", "1", ")")), complex),
        (format!("let x = {};", deep("[", "1", "]")), complex),
        (format!("let x = {};", deep("`${", "1", "}`")), complex),
        (format!("let x = {};", deep("!", "true", "")), complex),
        (format!("let y = 1; let x = {};", deep("y + ", "y", "")), complex),
        (format!("let y = 1; y{}", ".abs()".repeat(5000)), complex),
        (format!("let y = #{{}}; y{}", ".a".repeat(5000)), complex),
        (deep("{", "1", "}"), complex),
        (format!("let y = 1; if y == 1 {{ 1 }} {}", "else if y == 2 { 2 } ".repeat(5000)), complex),
        ("let s = \"x\"; loop { s += s; }".to_owned(), "Length of string too large"),
        ("let s = \"\"; s.pad(1000000000000, 'x');".to_owned(), "Length of string too large"),
        ("let a = [1]; loop { a += a; }".to_owned(), "Size of array/BLOB too large"),
        ("let a = []; a.pad(1000000000000, 1);".to_owned(), "Size of array/BLOB too large"),
        ("let a = []; for i in 0..5000 { a = [a]; } throw a".to_owned(), "[[[["),
        ("(-9223372036854775807 - 1) / -1".to_owned(), "Division overflow"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in texts {
        let said = played_text(folder.path(), &text);
        let begins = if expected == complex { refused } else { "failed" };
        assert!(said.starts_with(begins) && said.contains(expected), "{expected}: {text:.200}\n{said:.2000}");
    }
}

#[test]
fn data_that_is_nested_deep_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let nested = "let a = []; for i in 0..5000 { a = [a]; }";
    for (text, expected) in [
        (format!("{nested} a.len()"), "done 1"),
        (format!("{nested} a == a"), "done true"),
        (format!("{nested} print(a); a.to_string().len()"), "done 10002"),
        // Nobody could read it.
        (format!("{nested} a"), "done null"),
        (format!("{nested} #{{ a: a }}"), "done null"),
        ("let a = 1; for i in 0..100 { a = [a]; } a".to_owned(), "done [[[["),
        ("let a = #{}; for i in 0..5000 { a = #{ a: a }; } a.len()".to_owned(), "done 1"),
        ("let f = || 1; for i in 0..5000 { let g = f; f = || g.call(); } 1".to_owned(), "done 1"),
        ("let f = |x| 1; let g = f; for i in 0..1000 { g = f.curry(g); } 1".to_owned(), "done 1"),
    ] {
        let said = played_text(folder.path(), &text);
        assert!(said.starts_with(expected), "{text}\n{said:.2000}");
    }
}

#[test]
fn modules_that_import_each_other_are_refused_with_their_chain() {
    let folder = tempfile::tempdir().unwrap();
    let module = |name: &str, other: &str| {
        let text = format!("import \"./{other}\" as other;\nfn f() {{ 1 }}\n");
        std::fs::write(folder.path().join(format!("{name}.rhai")), text).unwrap();
    };
    for length in [1, 2, 3, 7, 20, 31] {
        for n in 0..length {
            module(&format!("m{n}"), &format!("m{}", (n + 1) % length));
        }
        // In from anywhere: what leads to the circle is no part of it.
        module("before", &format!("m{}", length / 2));
        let said = played_text(folder.path(), "import \"./before\" as m;\nm::f()");
        let links = (0..=length).map(|n| format!("./m{}", (n + length / 2) % length)).collect::<Vec<_>>();
        let chain = format!("modules import each other in a circle: {}", links.join(" imports "));
        assert!(said.starts_with("refused") && said.contains(&chain), "{length}: {said}");
    }
    // A script is no module, but its file may be one.
    let said = played_text(folder.path(), "import \"./mine\" as m;\n1");
    assert!(said.contains("circle: ./mine imports ./mine"), "{said}");
    for n in 0..60 {
        module(&format!("m{n}"), &format!("m{}", n + 1));
    }
    std::fs::write(folder.path().join("m60.rhai"), "fn f() { 1 }\n").unwrap();
    let said = played_text(folder.path(), "import \"./m0\" as m;\nm::f()");
    assert!(said.contains("modules import each other too deep: ./m0 imports ./m1"), "{said}");
    let said = played_text(folder.path(), "import \"./m40\" as m;\nimport \"./m41\" as n;\nm::f() + n::f()");
    assert!(said.starts_with("done 2"), "{said}");
}

#[test]
fn scripts_that_run_each_other_end_with_their_chain() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, other: &str| {
        // Whoever runs a script sees its failure as a value: here it goes on as an error.
        let text = format!("let r = run_script(\"{other}.rhai\", #{{}}); if !r.ok {{ throw r.message; }}");
        std::fs::write(folder.path().join(format!("{name}.rhai")), text).unwrap();
    };
    for length in [1, 2, 5, 8] {
        script("mine", if length == 1 { "mine" } else { "s1" });
        for n in 1..length {
            script(&format!("s{n}"), &if n + 1 == length { "mine".to_owned() } else { format!("s{}", n + 1) });
        }
        let said = played(&folder.path().join("mine.rhai"));
        let count = said.matches(" runs ").count();
        assert!(said.starts_with("failed scripts run each other in a circle: "), "{length}: {said}");
        assert_eq!(count, length, "{said}");
        assert_eq!(said.matches("mine.rhai").count(), 2, "{said}");
    }
    script("mine", "s1");
    (1..20).for_each(|n| script(&format!("s{n}"), &format!("s{}", n + 1)));
    std::fs::write(folder.path().join("s20.rhai"), "1").unwrap();
    let said = played(&folder.path().join("mine.rhai"));
    assert!(said.contains("scripts run each other too deep") && said.contains("s7.rhai runs "), "{said}");
}

#[test]
fn a_panic_in_an_embedders_function_is_an_error() {
    let boom = |engine: &mut rhai::Engine| {
        engine.register_fn("boom", || -> i64 { panic!("nobody saw it coming") });
    };
    let host = Host::new(Config::default()).extend(boom);
    for text in ["boom()", "try { boom() } catch {} 1", "parallel([|| boom(), || boom()])"] {
        let checked = host.check(&Script::from_text("mine.rhai", text)).unwrap();
        let outcome = host.run(&checked, &BTreeMap::new(), Mode::Dry).unwrap();
        let error = outcome.failure.expect("must fail").error.to_string();
        assert!(error.starts_with("script: panicked"), "{text}: {error}");
    }
}
