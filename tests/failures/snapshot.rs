//! What operators read at the end of a failed run, kept in `tests/errors` to be reviewed.
//!
//! With `UPDATE_ERRORS=1` a test writes its text instead of comparing it.

use std::path::Path;

use crate::run::Ended;
use crate::site::Mailbox;

/// Compares what a run said at its end with `tests/errors/NAME.txt`.
#[track_caller]
pub fn assert_text(name: &str, mailbox: &Mailbox, ended: &Ended) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors").join(format!("{name}.txt"));
    let start = ended.err.find("error: ").expect("an error");
    let code = ended.code.map_or("none".to_owned(), |code| code.to_string());
    let text = format!("exit status {code}\n{}", plain(&ended.err[start..], mailbox));
    if std::env::var_os("UPDATE_ERRORS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{} is reviewed text: UPDATE_ERRORS=1 writes it anew", path.display());
}

/// The text without what differs from run to run: names and ids of accounts, numbers that do not belong to a name,
/// fingerprints, names of runs.
fn plain(text: &str, mailbox: &Mailbox) -> String {
    let mut text = text.replace(&mailbox.id, "ACCOUNT").replace(&mailbox.local, "ann");
    for before in ["zlm:ACCOUNT:", "zlm rollback ", "zlm resume ", ": run "] {
        if let Some((_, run)) = text.split_once(before) {
            let run: String = run.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            // `run zlm` names none.
            if run.contains('-') {
                text = text.replace(&run, "RUN");
            }
        }
    }
    text.lines().map(|line| format!("{}\n", line.split(' ').map(word).collect::<Vec<_>>().join(" "))).collect()
}

fn word(word: &str) -> String {
    if let Some((before, _)) = word.split_once("SHA256:") {
        let comma = if word.ends_with(',') { "," } else { "" };
        return format!("{before}SHA256:KEY{comma}");
    }
    let mut plain = String::new();
    let mut letter = false;
    // Which group a mailbox is in depends on its number.
    let word = word.replace("mboxgroup", "mboxgroup:");
    for c in word.chars() {
        match c {
            '0'..='9' if letter => plain.push(c),
            '0'..='9' if plain.ends_with('N') => {}
            '0'..='9' => plain.push('N'),
            _ => {
                plain.push(c);
                letter = c.is_ascii_lowercase();
            }
        }
    }
    plain.replace("mboxgroup:", "mboxgroup")
}
