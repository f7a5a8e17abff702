//! A short message to a user, delivered to where the mailbox is.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clients::lmtp;
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::site::Site;
use crate::zimbra::account::Account;

/// Delivers a message.
pub struct Notify {
    /// The site.
    pub site: Arc<Site>,
    /// To whom.
    pub account: Arc<Account>,
    /// The subject line.
    pub subject: String,
    /// The text.
    pub text: String,
}

impl Operation for Notify {
    type Output = ();

    fn name(&self) -> &'static str {
        "notify"
    }

    fn describe(&self) -> String {
        format!("mail to {}: {}", self.account.address, one_line(&self.subject))
    }

    fn details(&self) -> Result<Vec<String>> {
        Ok(self.text.lines().map(str::to_owned).collect())
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        // The account may have moved since it was read.
        let account = self.site.account(&self.account.id)?;
        let host = account.mail_host.as_ref().ok_or_else(|| {
            Error::new(Kind::NotFound, format!("account {}: has no zimbraMailHost to deliver to", account.address))
        })?;
        let port = self.site.server(host)?.lmtp_port();
        let from = format!("postmaster@{}", account.address.domain());
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let message = format!(
            "From: <{from}>\nTo: <{to}>\nSubject: {subject}\nMessage-ID: <zlm.{seconds}.{id}@{domain}>\n\
             Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
             Content-Transfer-Encoding: 8bit\n\n{text}\n",
            to = account.address,
            subject = one_line(&self.subject),
            id = account.id,
            domain = account.address.domain(),
            text = self.text,
        );
        lmtp::deliver(host.as_str(), port, &from, account.address.as_str(), &message, self.site.config().timeout())
    }
}

/// A header's value: a line break in it would begin another header.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
