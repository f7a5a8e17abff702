//! Faults on demand: what happens to the next requests of a name.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::fault::Fault;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answered with this fault; nothing is done.
    Fail(String),
    /// The connection ends without an answer; nothing is done.
    DropBefore,
    /// It is done, and the connection ends without an answer.
    ApplyThenDrop,
    /// The connection stands still, then ends without an answer; nothing is done.
    Hang(Duration),
    /// It is done at once, and answered after this time.
    ApplyThenHang(Duration),
    /// It is done, and answered, only after this time: when the client may have given up.
    Late(Duration),
    /// It is done as ever.
    Pass,
    /// It is done two times, one right after the other; the second is answered.
    Twice,
    /// As if the token had expired.
    AuthExpired,
    /// The connection ends; for all requests (`*`), before TLS begins.
    Unreachable,
}

impl Mode {
    /// Reads a mode and how many words it took.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(words: &[&str]) -> Result<(Self, usize), String> {
        let seconds = || {
            let text = words.get(1).ok_or("seconds are missing")?;
            let seconds: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds"))?;
            Duration::try_from_secs_f64(seconds).map_err(|e| format!("{text}: {e}"))
        };
        Ok(match *words.first().ok_or("a mode is missing")? {
            "fail" => (Self::Fail(words.get(1).ok_or("a code is missing")?.to_string()), 2),
            "drop-before" => (Self::DropBefore, 1),
            "apply-then-drop" => (Self::ApplyThenDrop, 1),
            "hang" => (Self::Hang(seconds()?), 2),
            "apply-then-hang" => (Self::ApplyThenHang(seconds()?), 2),
            "late" => (Self::Late(seconds()?), 2),
            "pass" => (Self::Pass, 1),
            "twice" => (Self::Twice, 1),
            "auth-expired" => (Self::AuthExpired, 1),
            "unreachable" => (Self::Unreachable, 1),
            other => return Err(format!("{other} is not a mode")),
        })
    }

    /// The fault that it answers with, if it does.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Fail(code) => Some(Fault::of_code(code)),
            Self::AuthExpired => Some(Fault::auth_expired()),
            _ => None,
        }
    }
}

/// What happens one after the other, each to so many requests; to all from then on without a number.
type Queue = VecDeque<(Mode, Option<u32>)>;

/// The faults that wait for their requests, by the requests' names.
#[derive(Default)]
pub struct Script(Mutex<HashMap<String, Queue>>);

impl Script {
    /// From now on, for `count` requests or until cleared. `*` stands for every request.
    pub fn add(&self, request: &str, mode: Mode, count: Option<u32>) {
        self.0.lock().insert(bare(request), VecDeque::from([(mode, count)]));
    }

    /// The same for those that come after the ones that are scripted already.
    pub fn then(&self, request: &str, mode: Mode, count: Option<u32>) {
        self.0.lock().entry(bare(request)).or_default().push_back((mode, count));
    }

    /// How many entries wait for requests of a name; the one that a request has come to last is not among them.
    pub fn left(&self, request: &str) -> usize {
        self.0.lock().get(&bare(request)).map_or(0, VecDeque::len)
    }

    /// No more faults.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// What happens to the request that just came.
    pub fn take(&self, request: &str) -> Option<Mode> {
        let mut faults = self.0.lock();
        let key = [bare(request), "*".to_string()].into_iter().find(|k| faults.contains_key(k))?;
        let queue = faults.get_mut(&key)?;
        let (mode, count) = queue.front_mut()?;
        let mode = mode.clone();
        if let Some(left) = count {
            *left = left.saturating_sub(1);
            if *left == 0 {
                queue.pop_front();
            }
        }
        if queue.is_empty() {
            faults.remove(&key);
        }
        Some(mode)
    }

    /// Whether no connection may even begin.
    pub fn unreachable(&self) -> bool {
        let unreachable =
            self.0.lock().get("*").and_then(|all| all.front()).is_some_and(|(mode, _)| *mode == Mode::Unreachable);
        unreachable && self.take("*").is_some()
    }
}

fn bare(request: &str) -> String {
    let request = request.to_lowercase();
    request.strip_suffix("request").unwrap_or(&request).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_meet_their_requests_and_run_out() {
        let script = Script::default();
        script.add("ModifyAccountRequest", Mode::DropBefore, Some(2));
        assert_eq!(script.take("GetAccountRequest"), None);
        assert_eq!(script.take("ModifyAccount"), Some(Mode::DropBefore));
        assert_eq!(script.take("modifyaccountrequest"), Some(Mode::DropBefore));
        assert_eq!(script.take("ModifyAccount"), None);
        script.add("ModifyAccount", Mode::Twice, Some(1));
        script.then("ModifyAccount", Mode::DropBefore, Some(1));
        assert_eq!(script.take("ModifyAccount"), Some(Mode::Twice));
        assert_eq!(script.take("ModifyAccount"), Some(Mode::DropBefore));
        assert_eq!(script.take("ModifyAccount"), None);
        script.add("*", Mode::Unreachable, None);
        assert!(script.unreachable() && script.unreachable());
        script.clear();
        assert!(!script.unreachable());
    }

    #[test]
    fn modes_are_read() {
        assert_eq!(Mode::parse(&["fail", "service.FAILURE", "2"]).unwrap(), (Mode::Fail("service.FAILURE".into()), 2));
        assert_eq!(Mode::parse(&["hang", "0.5"]).unwrap(), (Mode::Hang(Duration::from_millis(500)), 2));
        for bad in [&[][..], &["fail"], &["hang"], &["hang", "-1"], &["what"]] {
            assert!(Mode::parse(bad).is_err(), "{bad:?}");
        }
    }
}
