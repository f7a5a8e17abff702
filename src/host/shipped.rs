//! The scripts and modules that are part of the program, so that an installed zlm needs no files beside it.

use std::path::Path;

macro_rules! texts {
    ($($folder:literal / $name:literal),* $(,)?) => {
        &[$(($name, concat!($folder, "/", $name, ".rhai"), include_str!(concat!("../../", $folder, "/", $name, ".rhai")))),*]
    };
}

/// Name, path and text of each shipped script.
const SCRIPTS: &[(&str, &str, &str)] =
    texts!["scripts" / "move", "scripts" / "batch", "scripts" / "audit", "scripts" / "reverse", "scripts" / "undo",];

/// Name, path and text of each module of the standard library.
const MODULES: &[(&str, &str, &str)] = texts![
    "stdlib" / "account",
    "stdlib" / "mailbox",
    "stdlib" / "tables",
    "stdlib" / "files",
    "stdlib" / "cutover",
    "stdlib" / "batch",
];

/// The shipped script that `path` names: `move`, `move.rhai` or `scripts/move.rhai`.
pub(super) fn script(path: &Path) -> Option<(&'static str, &'static str)> {
    let parent = path.parent().map(|p| p.as_os_str()).unwrap_or_default();
    if !parent.is_empty() && parent != "scripts" {
        return None;
    }
    let stem = path.file_stem()?.to_str()?;
    SCRIPTS.iter().find(|(name, _, _)| *name == stem).map(|(_, path, text)| (*path, *text))
}

/// The names of the shipped scripts.
pub(super) fn script_names() -> Vec<&'static str> {
    SCRIPTS.iter().map(|(name, _, _)| *name).collect()
}

/// Path and text of a module of the standard library.
pub(super) fn module(name: &str) -> Option<(&'static str, &'static str)> {
    MODULES.iter().find(|(n, _, _)| *n == name).map(|(_, path, text)| (*path, *text))
}

/// The names of the standard library's modules.
pub(super) fn module_names() -> Vec<&'static str> {
    MODULES.iter().map(|(name, _, _)| *name).collect()
}
