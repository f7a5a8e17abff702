//! Looks for secrets where none may be.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::files::walk;
use super::report::Report;
use crate::Result;

const PIECE: usize = 1 << 20;

/// Looks for secrets, given as (what it is, the secret), in files and in all files below directories
/// (I8). A path that does not exist is skipped; the report never shows a secret.
///
/// # Errors
/// A file cannot be read.
pub fn no_secrets(paths: &[PathBuf], secrets: &[(String, String)]) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report::new("no secrets");
    let mut files = 0;
    for path in paths {
        let below = if path.is_dir() { walk(path)? } else { Vec::new() };
        let below = below.into_iter().filter(|(_, meta)| meta.is_file()).map(|(path, _)| path);
        for file in below.chain(path.is_file().then(|| path.clone())) {
            files += 1;
            for found in search(&file, secrets)? {
                report.differ(format!("I8 file {}: contains {found}", file.display()));
            }
        }
    }
    report.note(format!("{files} files searched"));
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// The names of the secrets in a file, read in pieces that overlap by the longest secret.
fn search<'s>(path: &Path, secrets: &'s [(String, String)]) -> Result<Vec<&'s str>> {
    let longest = secrets.iter().map(|(_, secret)| secret.len()).max().unwrap_or(0);
    let mut file = match File::open(path) {
        // Gone since it was listed.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut found = Vec::new();
    let mut window: Vec<u8> = Vec::new();
    loop {
        let kept = window.len().min(longest);
        window.drain(..window.len() - kept);
        if Read::take(&mut file, PIECE as u64).read_to_end(&mut window)? == 0 {
            return Ok(found);
        }
        for (name, secret) in secrets {
            let there = !secret.is_empty() && contains(&window, secret.as_bytes());
            if there && !found.contains(&name.as_str()) {
                found.push(name);
            }
        }
    }
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    memchr::memmem::find(bytes, secret).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn secrets_are_found_across_pieces_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = vec![b'.'; PIECE - 3];
        text.extend_from_slice(b"hunter2");
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/log"), text).unwrap();
        fs::write(dir.path().join("clean"), b"hunter").unwrap();
        let secrets = [("the password".to_owned(), "hunter2".to_owned())];
        let report = no_secrets(&[dir.path().into()], &secrets).unwrap();
        assert_eq!(report.differences, 1, "{report}");
        assert!(report.lines[0].ends_with("sub/log: contains the password"));
        assert!(!report.to_string().contains("hunter2"));
    }
}
