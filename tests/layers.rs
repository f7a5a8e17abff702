//! Holds what CONTRIBUTING.md says of the layers: what each may name, where rhai, clap and printing are allowed, and how long
//! a file may be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The lines of the longest file.
const LONGEST: usize = 700;

#[test]
fn the_layers_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = Layers::read(&fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap()).unwrap();
    let violations = layers.violations(&root.join("src"));
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    let long: Vec<String> = ["src", "tests"].iter().flat_map(|dir| too_long(&root.join(dir))).collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

/// What each layer may name.
struct Layers(BTreeMap<String, Vec<String>>);

impl Layers {
    /// Reads the table of layers: rows of the layer's name, the names it may use, and what it is.
    fn read(page: &str) -> Result<Layers, String> {
        let rows: Vec<(String, Vec<String>)> = page
            .lines()
            .skip_while(|line| !line.starts_with("| layer "))
            .skip(2)
            .map_while(|line| line.strip_prefix('|'))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                (cells[0].to_owned(), cells[1].split_whitespace().map(str::to_owned).collect())
            })
            .collect();
        // Each uses only what stands below it, so that there is no circle.
        for (at, (layer, used)) in rows.iter().enumerate() {
            let below: Vec<&String> = rows[at + 1..].iter().map(|(name, _)| name).collect();
            if let Some(name) = used.iter().find(|name| !below.contains(name)) {
                return Err(format!("{layer} may use {name}, which does not stand below it"));
            }
        }
        Ok(Layers(rows.into_iter().collect()))
    }

    fn violations(&self, src: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for path in rust_files(src) {
            let inside = path.strip_prefix(src).unwrap().with_extension("");
            let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let layer = parts[0].as_str();
            if layer == "lib" {
                continue;
            }
            let Some(allowed) = self.0.get(layer) else {
                found.push(format!("{}: CONTRIBUTING.md has no layer {layer}", path.display()));
                continue;
            };
            let words = words(&fs::read_to_string(&path).unwrap());
            let depth = parts.iter().filter(|part| *part != "mod").count();
            for name in self.named(&words, depth) {
                if name != layer && !allowed.contains(&name) {
                    found.push(format!("{}: {layer} may not name {name}", path.display()));
                }
            }
            found.extend(misplaced(layer, &words).into_iter().map(|what| format!("{}: {what}", path.display())));
        }
        found
    }

    /// The layers that a file names: `crate::x`, `crate::{x, y::z}`, `zlm::x`, and `super`s that lead out of the layer.
    fn named(&self, words: &[String], depth: usize) -> Vec<String> {
        let mut named = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let mut supers = 0;
            while words[at + supers * 2..].starts_with(&["super".to_owned(), "::".to_owned()]) {
                supers += 1;
            }
            let from_root = match words[at].as_str() {
                "crate" | "zlm" => words.get(at + 1).is_some_and(|word| word == "::").then_some(at + 2),
                _ if supers > 0 && supers >= depth => Some(at + supers * 2),
                _ => None,
            };
            if let Some(from) = from_root {
                let names = first_names(&words[from..]);
                named.extend(names.into_iter().filter(|name| self.0.contains_key(name)));
            }
            at += (supers * 2).max(1);
        }
        named
    }
}

/// The first name of a path, or of each path in braces.
fn first_names(words: &[String]) -> Vec<String> {
    if words.first().is_none_or(|word| word != "{") {
        return words.first().cloned().into_iter().collect();
    }
    let (mut names, mut depth) = (Vec::new(), 0);
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(words[at - 1].as_str(), "{" | ",") => names.push(word.clone()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// What a file names that its layer may not, whatever else it may.
fn misplaced(layer: &str, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).map_or("", String::as_str);
        match word.as_str() {
            "rhai" if !matches!(layer, "host" | "api") => {
                found.push("rhai is named only under host and api".to_owned())
            }
            "clap" if layer != "cli" => found.push("clap is named only under cli".to_owned()),
            "print" | "println" | "eprint" | "eprintln" | "dbg" if next == "!" && !matches!(layer, "cli" | "main") => {
                found.push(format!("{word}! is for cli and main"));
            }
            _ => {}
        }
    }
    found
}

/// Names, `::` and other marks, without comments and texts.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            while at < chars.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if chars[at] == 'r' && (starts(at + 1, "\"") || starts(at + 1, "#\"")) {
            let end = if chars[at + 1] == '#' { "\"#" } else { "\"" };
            at += end.len() + 1;
            while at < chars.len() && !starts(at, end) {
                at += 1;
            }
            at += end.len();
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if starts(at, "'\"'") || starts(at, "'\\\"'") {
            at += if starts(at, "'\"'") { 3 } else { 4 };
        } else if is_name(&chars[at]) {
            let name: String = chars[at..].iter().copied().take_while(is_name).collect();
            at += name.chars().count();
            words.push(name);
        } else if starts(at, "::") {
            at += 2;
            words.push("::".to_owned());
        } else {
            if !chars[at].is_whitespace() {
                words.push(chars[at].to_string());
            }
            at += 1;
        }
    }
    words
}

fn too_long(dir: &Path) -> Vec<String> {
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long = rust_files(dir).into_iter().map(|path| (lines(&path), path)).filter(|(lines, _)| *lines > LONGEST);
    long.map(|(lines, path)| format!("{}: {lines} lines", path.display())).collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

const PAGE: &str = "\
| layer | may use | what |
|---|---|---|
| main | cli | the process |
| cli | host gate | the command line |
| host | gate | the engine |
| gate | | the door |
";

/// What is found in a tree of one file.
fn found_in(path: &str, text: &str) -> Vec<String> {
    let src = tempfile::tempdir().unwrap();
    let file = src.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    let found = Layers::read(PAGE).unwrap().violations(src.path());
    found.into_iter().map(|line| line.rsplit(": ").next().unwrap().to_owned()).collect()
}

#[test]
fn what_is_allowed_passes() {
    assert!(found_in("cli/run.rs", "use clap::Args;\nuse crate::{gate::Gate, host};\nuse super::Common;").is_empty());
    assert!(
        found_in("host/mod.rs", "// crate::cli prints\nuse rhai::Engine; const S: &str = \"crate::cli\\\"\";")
            .is_empty()
    );
    assert!(found_in("gate.rs", "let c = '\"'; // println!(\n let s = r#\"clap \"rhai\"\"#;").is_empty());
    assert!(found_in("main.rs", "fn main() { zlm::cli::main(); eprintln!(\"x\") }").is_empty());
    assert!(found_in("gate/deep/a.rs", "use super::super::host;").is_empty(), "gate::host, whatever that is");
}

#[test]
fn every_violation_is_found() {
    assert_eq!(found_in("gate/a.rs", "use crate::host::Host;"), ["gate may not name host"]);
    assert_eq!(found_in("gate/a.rs", "use crate::{error, host::{self, Host}};"), ["gate may not name host"]);
    assert_eq!(found_in("gate/a.rs", "use super::super::host::Host;"), ["gate may not name host"]);
    assert_eq!(found_in("gate/mod.rs", "use super::cli;"), ["gate may not name cli"]);
    assert_eq!(found_in("host.rs", "fn f() { crate::cli::main() }"), ["host may not name cli"]);
    assert_eq!(found_in("gate.rs", "type E = rhai::Engine;"), ["rhai is named only under host and api"]);
    assert_eq!(found_in("host.rs", "use clap::Parser;"), ["clap is named only under cli"]);
    assert_eq!(found_in("gate.rs", "fn f() { eprintln!(\"x\") }"), ["eprintln! is for cli and main"]);
    assert_eq!(found_in("tool/mod.rs", ""), ["CONTRIBUTING.md has no layer tool"]);
}

#[test]
fn a_circle_is_refused() {
    let circle = PAGE.replace("| gate | |", "| gate | host |");
    assert!(Layers::read(&circle).is_err());
}

#[test]
fn a_long_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.rs"), "\n".repeat(LONGEST)).unwrap();
    fs::write(dir.path().join("b.rs"), "\n".repeat(LONGEST + 1)).unwrap();
    let found = too_long(dir.path());
    assert!(found.len() == 1 && found[0].ends_with("b.rs: 701 lines"), "{found:?}");
}
