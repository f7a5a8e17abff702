//! A text that must not be seen.

use std::fmt;

/// A password or token. It shows itself only to who asks by name, never to a formatter.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to hand to a peer.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatters_do_not_show_it() {
        let shown = format!("{:?}", (Secret::new("hunter2"), Some(Secret::new("hunter2"))));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
