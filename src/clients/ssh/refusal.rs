//! Why `ssh` gave up, from its own exit status 255 and its text.

use crate::error::{Error, Kind};

/// The error of a connection that was not made. The text only decides between "it said no" and "it is not
/// reachable"; `known` are the fingerprints that the known hosts have for this name.
pub(super) fn refusal(host: &str, text: &str, known: &[String]) -> Error {
    let has = |needle: &str| text.contains(needle);
    let sent = text.split_whitespace().map(|w| w.trim_end_matches(['.', ';'])).find(|w| w.starts_with("SHA256:"));
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("has changed and you have requested strict checking") {
        let known = if known.is_empty() { "unknown".to_owned() } else { known.join(", ") };
        return Error::new(
            Kind::Denied,
            format!("{host}: host key changed: it sent {}, known is {known}", sent.unwrap_or("an unnamed key")),
        )
        .hint("ask that host's administrator which key is right before changing the known hosts");
    }
    if has("host key is known for") || has("Host key verification failed") {
        return Error::new(Kind::Denied, format!("{host}: host key is not known"))
            .hint(format!(
                "compare `ssh-keyscan {host} | ssh-keygen -lf -` with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on {host}, then add it to the known hosts"
            ));
    }
    if has("REVOKED HOST KEY")
        || has("Permission denied")
        || has("Too many authentication failures")
        || has("no matching ")
    {
        return Error::new(Kind::Denied, format!("{host}: ssh was refused: {text}"))
            .hint("check the key, its permissions, and that it stands in authorized_keys of the user there");
    }
    if has("bad permissions") || has("Bad owner or permissions") || has("Bad configuration option") {
        return Error::new(Kind::Config, format!("{host}: ssh would not start: {text}"));
    }
    let text = if text.is_empty() { "no reason given" } else { text };
    Error::new(Kind::Unreachable, format!("{host}: ssh could not connect: {text}")).retryable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_key_shows_both_fingerprints() {
        let text = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @; The fingerprint for the ED25519 key sent by the remote host is; SHA256:Cmmm7.; Please contact your system administrator.; Host key verification failed.";
        let error = refusal("store2", text, &["SHA256:old".into()]);
        assert_eq!((error.kind(), error.is_retryable()), (Kind::Denied, false));
        assert_eq!(error.message(), "store2: host key changed: it sent SHA256:Cmmm7, known is SHA256:old");
    }

    #[test]
    fn each_reason_has_its_kind() {
        for (text, kind) in [
            (
                "No ED25519 host key is known for store2 and you have requested strict checking.; Host key verification failed.",
                Kind::Denied,
            ),
            ("zimbra@store2: Permission denied (publickey).", Kind::Denied),
            ("Unable to negotiate with 10.0.0.1 port 22: no matching host key type found.", Kind::Denied),
            ("ssh: connect to host store2 port 22: Connection refused", Kind::Unreachable),
            ("ssh: Could not resolve hostname store2: Name or service not known", Kind::Unreachable),
            ("", Kind::Unreachable),
        ] {
            let error = refusal("store2", text, &[]);
            assert_eq!((error.kind(), error.is_retryable()), (kind, kind == Kind::Unreachable), "{text}");
        }
    }
}
