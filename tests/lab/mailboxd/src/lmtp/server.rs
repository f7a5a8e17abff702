//! The LMTP server: recipients by the status of their accounts, messages into mailboxes or on to the
//! store that has them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::{count, relay};
use crate::directory::By;
use crate::fault::{Fault, Outcome};
use crate::mailbox::deliver::Headers;
use crate::mailbox::item::folder;
use crate::mailbox::mailboxes::Fetch;
use crate::status::{self, Recipient};
use crate::store::{Incoming, Store};

const IDLE: Duration = Duration::from_secs(300);
const MAX_LINE: u64 = 4096;
const MAX_MESSAGE: u64 = 50 << 20;
const MAX_RECIPIENTS: usize = 1000;

const DISABLED: &str = "450 4.2.1 Mailbox disabled, not accepting messages";
const NOT_HERE: &str = "450 4.2.0 Mailbox is not on this server";
const NO_SUCH_USER: &str = "550 5.1.1 No such user here";
const ACCEPTED: &str = "250 2.1.5 OK";
const DELIVERED: &str = "250 2.1.5 Delivery OK";
const TEMPORARY: &str = "451 4.0.0 Temporary message delivery failure try again";
const PERMANENT: &str = "554 5.0.0 Permanent message delivery failure";

/// Serves connections for as long as the process lives.
pub fn serve(listener: &TcpListener, store: &Arc<Store>) {
    for stream in listener.incoming() {
        // A connection that ended before it was accepted is the client's business.
        let Ok(stream) = stream else { continue };
        let store = Arc::clone(store);
        // Clients come and go; an error on their connection ends only that.
        std::thread::spawn(move || drop(converse(stream, &store)));
    }
}

/// A recipient that was accepted: where his mailbox is was decided then.
struct Accepted {
    address: String,
    /// The other store that has it.
    remote: Option<String>,
}

#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<Accepted>,
}

fn converse(stream: TcpStream, store: &Arc<Store>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut connection = BufReader::new(stream);
    let mut envelope = Envelope::default();
    reply(&mut connection, &format!("220 {} Zimbra LMTP server ready", store.host))?;
    while let Some(line) = read_line(&mut connection)? {
        let upper = line.to_ascii_uppercase();
        let verb = upper.split(' ').next().unwrap_or_default();
        let answer = match verb {
            "LHLO" => format!("250-{}\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SIZE", store.host),
            "MAIL" => match address(&line) {
                Some(from) => {
                    envelope = Envelope { from: Some(from), to: Vec::new() };
                    "250 2.0.0 Sender OK".into()
                }
                None => "501 5.5.4 Syntax error".into(),
            },
            "RCPT" => match address(&line) {
                _ if envelope.from.is_none() => "503 5.5.1 No sender".into(),
                _ if envelope.to.len() >= MAX_RECIPIENTS => "452 4.5.3 Too many recipients".into(),
                Some(to) => recipient(store, &mut envelope, to).into(),
                None => "501 5.5.4 Syntax error".into(),
            },
            "DATA" if envelope.to.is_empty() => "503 5.5.1 No recipients".into(),
            "DATA" => {
                reply(&mut connection, "354 End data with <CR><LF>.<CR><LF>")?;
                let message = read_message(&mut connection)?;
                store.lmtp.wait();
                deliver(store, &std::mem::take(&mut envelope), &message).join("\r\n")
            }
            "RSET" => {
                envelope = Envelope::default();
                "250 2.0.0 OK".into()
            }
            "NOOP" => "250 2.0.0 OK".into(),
            "VRFY" => "252 2.1.5 Not verified".into(),
            "QUIT" => return reply(&mut connection, "221 2.0.0 Bye"),
            _ => "500 5.5.2 Unknown command".into(),
        };
        reply(&mut connection, &answer)?;
    }
    Ok(())
}

fn reply(connection: &mut BufReader<TcpStream>, text: &str) -> io::Result<()> {
    connection.get_mut().write_all(format!("{text}\r\n").as_bytes())
}

fn read_line(connection: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    connection.take(MAX_LINE).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&line).trim_end().to_string())),
        Some(_) => Err(io::Error::other("line too long, or cut")),
    }
}

/// The message up to its lone dot, with doubled dots made single.
fn read_message(connection: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut input = connection.take(MAX_MESSAGE);
    let mut message = Vec::new();
    loop {
        let start = message.len();
        input.read_until(b'\n', &mut message)?;
        let line = &message[start..];
        if line == b".\r\n" || line == b".\n" {
            message.truncate(start);
            return Ok(message);
        }
        if !line.ends_with(b"\n") {
            return Err(io::Error::other("message too long, or cut"));
        }
        if line.starts_with(b".") {
            message.remove(start);
        }
    }
}

/// What stands between angle brackets.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_string())
}

fn recipient(store: &Store, envelope: &mut Envelope, to: String) -> &'static str {
    let answer = match look_up(store, &to) {
        Ok(Some((Recipient::TryAgain, _))) => DISABLED,
        Ok(Some((_, None))) => NOT_HERE,
        Ok(Some((Recipient::Accepted, Some(remote)))) => {
            envelope.to.push(Accepted { address: to, remote });
            return ACCEPTED;
        }
        Ok(Some((Recipient::Refused, _)) | None) => NO_SUCH_USER,
        Err(fault) if fault.receiver => DISABLED,
        Err(_) => NO_SUCH_USER,
    };
    count(if answer.starts_with('4') { &store.lmtp.deferred } else { &store.lmtp.refused });
    answer
}

/// What the status says, and where the mailbox is: here (no name), elsewhere, or nowhere known.
fn look_up(store: &Store, to: &str) -> Outcome<Option<(Recipient, Option<Option<String>>)>> {
    let Some(account) = store.directory.account(By::Name, to)? else { return Ok(None) };
    let answer = status::recipient(&store.directory.status(&account)?);
    if store.directory.is_local(&account) {
        return Ok(Some((answer, Some(None))));
    }
    let host = account.get("zimbraMailHost").unwrap_or_default();
    let known = store.directory.server_of(host)?.is_some();
    Ok(Some((answer, known.then(|| Some(host.to_string())))))
}

/// One answer for each recipient that was accepted, in order.
fn deliver(store: &Store, envelope: &Envelope, message: &[u8]) -> Vec<&'static str> {
    let headers = Headers::of(message);
    let incoming = store.incoming(message);
    let from = envelope.from.as_deref().unwrap_or_default();
    let answers = envelope.to.iter().map(|to| {
        let answer = match (&incoming, &to.remote) {
            (Err(_), _) => TEMPORARY,
            (Ok(_), Some(host)) => pass_on(store, host, from, &to.address, message),
            (Ok(incoming), None) => keep(store, &to.address, incoming, &headers),
        };
        match answer.as_bytes().first() {
            Some(b'4') => count(&store.lmtp.deferred),
            Some(b'5') => count(&store.lmtp.refused),
            _ => {}
        }
        answer
    });
    answers.collect()
}

/// The sender is told to try again only when the fault is ours.
fn keep(store: &Store, address: &str, incoming: &Incoming, headers: &Headers) -> &'static str {
    match put(store, address, incoming, headers) {
        Ok(()) => DELIVERED,
        Err(fault) if fault.receiver => TEMPORARY,
        Err(_) => PERMANENT,
    }
}

fn put(store: &Store, address: &str, incoming: &Incoming, headers: &Headers) -> Outcome<()> {
    let account = store.directory.the_account(By::Name, address)?;
    let mailbox = store
        .mailboxes
        .fetch(store, account.id(), Fetch::Autocreate)?
        .ok_or_else(|| Fault::not_found(format!("no mailbox for {address}")))?;
    let known = headers.message_id.as_deref().filter(|id| !id.is_empty());
    if known.is_some_and(|id| store.lmtp.is_known(id, mailbox.id)) {
        count(&store.lmtp.duplicates);
        return Ok(());
    }
    mailbox.write(store, |tx| {
        let id = tx.add_message(incoming, headers, folder::INBOX, true)?;
        tx.filter(id)
    })?;
    if let Some(id) = known {
        store.lmtp.remember(id, mailbox.id);
    }
    count(&store.lmtp.delivered);
    Ok(())
}

fn pass_on(store: &Store, host: &str, from: &str, to: &str, message: &[u8]) -> &'static str {
    let port = match store.directory.server_of(host) {
        Ok(Some(server)) => server.port("zimbraLmtpBindPort", 7025),
        _ => return TEMPORARY,
    };
    match relay::send(host, port, from, to, message) {
        Ok(answer) if answer.starts_with('2') => {
            count(&store.lmtp.relayed);
            DELIVERED
        }
        Ok(answer) if answer.starts_with('5') => PERMANENT,
        _ => TEMPORARY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_with_a_dot() {
        let mut input = &b"a\r\n..b\r\n\r\n.\r\nRSET\r\n"[..];
        assert_eq!(read_message(&mut input).unwrap(), b"a\r\n.b\r\n\r\n");
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("RSET"));
        assert_eq!(read_line(&mut input).unwrap(), None);
        assert!(read_message(&mut &b"a\r\n"[..]).is_err());
        assert!(read_line(&mut "x".repeat(5000).as_bytes()).is_err());
    }

    #[test]
    fn addresses_stand_in_brackets() {
        assert_eq!(address("RCPT TO:<a@b> NOTIFY=NEVER").as_deref(), Some("a@b"));
        assert_eq!(address("MAIL FROM:<>").as_deref(), Some(""));
        assert_eq!(address("RCPT TO:a@b"), None);
    }
}
