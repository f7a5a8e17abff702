//! Tokens of administrators. They are signed with a secret that all stores of an installation share, so
//! a token of one store is good on another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// Makes and checks tokens.
pub struct Tokens {
    key: hmac::Key,
}

/// What a good signature says.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The zimbraId of the account that logged in.
    Account(String),
    /// Signed by us, but too old.
    Expired,
}

impl Tokens {
    /// Tokens signed with what every store knows: the password of the directory's user.
    pub fn new(shared: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, shared.as_bytes());
        let derived = hmac::sign(&key, b"admin auth token");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// A token of this account, good for `lifetime` from now.
    pub fn issue(&self, account: &str, lifetime: Duration) -> String {
        let until = now_ms() + lifetime.as_millis();
        let claim = format!("{account}:{until}");
        let signature = hmac::sign(&self.key, claim.as_bytes());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(claim), URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// What a token claims, or nothing when it was not signed by a store of this installation.
    pub fn check(&self, token: &str) -> Option<Claim> {
        let (claim, signature) = token.split_once('.')?;
        let claim = URL_SAFE_NO_PAD.decode(claim).ok()?;
        hmac::verify(&self.key, &claim, &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let claim = String::from_utf8(claim).ok()?;
        let (account, until) = claim.rsplit_once(':')?;
        let until: u128 = until.parse().ok()?;
        Some(if until > now_ms() { Claim::Account(account.to_string()) } else { Claim::Expired })
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_one_store_is_good_on_another() {
        let token = Tokens::new("secret").issue("id:1", Duration::from_secs(60));
        assert_eq!(Tokens::new("secret").check(&token), Some(Claim::Account("id:1".into())));
        assert_eq!(Tokens::new("other").check(&token), None);
    }

    #[test]
    fn tokens_expire_and_cannot_be_changed() {
        let tokens = Tokens::new("s");
        assert_eq!(tokens.check(&tokens.issue("a", Duration::ZERO)), Some(Claim::Expired));
        let good = tokens.issue("a", Duration::from_secs(9));
        let (_, signature) = good.split_once('.').unwrap();
        let forged = format!("{}.{signature}", URL_SAFE_NO_PAD.encode("b:99999999999999"));
        assert_eq!(tokens.check(&forged), None);
        for bad in ["", ".", "a.b", &good[1..]] {
            assert_eq!(tokens.check(bad), None);
        }
    }
}
