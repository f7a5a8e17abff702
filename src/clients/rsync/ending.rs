//! What rsync's exit status means.

use crate::error::{Error, Kind};

/// The error of an exit status; `vanished_is_normal` where users work while files are copied.
pub(super) fn ending(name: &str, status: i32, stderr: &str, vanished_is_normal: bool) -> Option<Error> {
    if status == 0 || (status == 24 && vanished_is_normal) {
        return None;
    }
    let (kind, retry, what) = match status {
        // Without inodes it is 23, without blocks 11, or 12 for whoever sends: one fault, one kind.
        11 | 12 | 23 if is_full(stderr) => (Kind::Io, false, "a file could not be written"),
        12 | 255 if is_refused(stderr) => (Kind::Denied, false, "the connection was refused"),
        1..=4 => (Kind::Peer, false, "the two rsyncs do not understand each other"),
        5 => (Kind::Peer, false, "the far rsync would not start"),
        11 => (Kind::Io, false, "a file could not be written"),
        23 => (Kind::Peer, false, "some files could not be copied"),
        24 => (Kind::Unequal, false, "files vanished while they were copied"),
        25 => (Kind::Refused, false, "too many files would be deleted"),
        10 | 12 | 30 | 35 | 255 => (Kind::Unreachable, true, "the connection broke"),
        126 | 127 => (Kind::Peer, false, "there is no rsync"),
        // Ended by a signal: 19 and 20 are rsync's own words for it, 128 and more those of a shell.
        19 | 20 | 129.. => (Kind::Io, true, "it was ended from outside"),
        _ => (Kind::Peer, false, "it failed"),
    };
    let said = if stderr.is_empty() { String::new() } else { format!(": {stderr}") };
    let error = Error::new(kind, format!("{name}: {what} (rsync status {status}){said}")).code(status.to_string());
    let error = if retry { error.retryable() } else { error };
    Some(match hint(status, stderr) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

fn hint(status: i32, stderr: &str) -> Option<&'static str> {
    let says = |text| stderr.contains(text);
    if is_full(stderr) {
        return Some("the destination's file system is full: free space there, then resume");
    }
    if is_refused(stderr) {
        return Some(
            "the source must know the destination's host key and may log in there with its key, which `store_key` of [ssh] in zlm.toml names",
        );
    }
    if says("command not found") || status == 127 {
        return Some("install rsync there, or name the program Zimbra brings (/opt/zimbra/common/bin/rsync)");
    }
    match status {
        23 if says("Permission denied") => Some("a file is not readable or writable for the user of the store"),
        24 => Some("somebody still changes this mailbox: it is not frozen"),
        _ => None,
    }
}

/// By ssh, when the source's host logs in to the destination's.
fn is_refused(stderr: &str) -> bool {
    // `Permission denied (publickey)` is ssh's; rsync's is of a file: `Permission denied (13)`.
    let mut denied = stderr.split("Permission denied (").skip(1);
    stderr.contains("Host key verification failed")
        || denied.any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn is_full(stderr: &str) -> bool {
    stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() {
        assert!(ending("a", 0, "warning: noise", false).is_none());
        assert!(ending("a", 24, "", true).is_none());
        for (status, kind, retry) in [
            (1, Kind::Peer, false),
            (11, Kind::Io, false),
            (12, Kind::Unreachable, true),
            (20, Kind::Io, true),
            (23, Kind::Peer, false),
            (24, Kind::Unequal, false),
            (30, Kind::Unreachable, true),
            (137, Kind::Io, true),
            (255, Kind::Unreachable, true),
            (99, Kind::Peer, false),
        ] {
            let error = ending("a", status, "", false).expect("an error");
            assert_eq!((error.kind(), error.is_retryable()), (kind, retry), "{status}");
        }
        assert!(ending("a", 23, "", true).is_some(), "23 is never normal");
    }

    #[test]
    fn a_full_disk_says_so() {
        for status in [11, 12, 23] {
            let error =
                ending("a", status, "write failed on \"/x\": No space left on device (28)", false).expect("an error");
            assert!(error.advice().is_some_and(|hint| hint.contains("full")));
            assert_eq!((error.kind(), error.is_retryable()), (Kind::Io, false));
        }
    }

    #[test]
    fn a_file_that_is_refused_is_no_login() {
        let said = "rsync: [sender] send_files failed to open \"/x/1.msg\": Permission denied (13)";
        let error = ending("a", 23, said, false).expect("an error");
        assert_eq!((error.kind(), error.advice()), (Kind::Peer, hint(23, said)));
        assert!(error.advice().is_some_and(|hint| hint.contains("not readable")), "{error:?}");
    }

    #[test]
    fn who_is_refused_need_not_try_again() {
        for (status, said) in [(255, "Host key verification failed."), (12, "zimbra@b: Permission denied (publickey).")]
        {
            let error = ending("a", status, said, false).expect("an error");
            assert_eq!((error.kind(), error.is_retryable()), (Kind::Denied, false));
        }
    }
}
