//! From the driver's errors to ours.
//!
//! A server's message may quote a row ("Incorrect string value: ..."), so whatever it quotes is left out;
//! names of columns and keys stay.

use mysql::DriverError;

use crate::error::{Error, Kind};

/// `store` and `what` say what was attempted on what.
pub(super) fn fault(store: &str, what: &str, error: mysql::Error) -> Error {
    let message = format!("{store}: {what}");
    match error {
        mysql::Error::MySqlError(e) => server(message, e.code, &e.message),
        mysql::Error::IoError(e) => Error::new(Kind::Unreachable, message).because(e).retryable(),
        mysql::Error::DriverError(e) if is_of_the_connection(&e) => {
            Error::new(Kind::Unreachable, message).because(e.to_string()).retryable()
        }
        mysql::Error::DriverError(e) => Error::new(Kind::Peer, message).because(e.to_string()),
        mysql::Error::CodecError(e) => Error::new(Kind::Unreachable, message).because(e.to_string()).retryable(),
        mysql::Error::UrlError(e) => Error::new(Kind::Config, message).because(e.to_string()),
        mysql::Error::FromValueError(_) | mysql::Error::FromRowError(_) => {
            Error::new(Kind::Peer, message).because("the answer is not of the expected type")
        }
    }
}

/// Whether another connection may do better. What else the driver refuses, it refuses each time.
fn is_of_the_connection(error: &DriverError) -> bool {
    use DriverError::{ConnectTimeout, CouldNotConnect, PacketOutOfSync, SetupError, Timeout, UnexpectedPacket};
    matches!(error, ConnectTimeout | CouldNotConnect(_) | PacketOutOfSync | SetupError | Timeout | UnexpectedPacket)
}

/// An error or a warning that the server numbered.
pub(super) fn server(message: String, code: u16, text: &str) -> Error {
    let error = Error::new(kind(code), message).because(safe(text)).code(code.to_string());
    let error = match code {
        1021 | 1114 => error.hint("the disk of that server, or the table space, is full"),
        1040 => error.hint("all connections are taken; Zimbra itself may hold 100 of 110"),
        1045 | 1698 => error.hint("check the user and password of that store's MariaDB"),
        _ => error,
    };
    if retryable(code) { error.retryable() } else { error }
}

fn kind(code: u16) -> Kind {
    match code {
        1040 | 1053 | 1152 | 1158..=1161 | 1184 | 1203 | 1226 | 1927 | 2006 | 2013 => Kind::Unreachable,
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => Kind::Denied,
        1049 | 1146 => Kind::NotFound,
        1048 | 1062 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1586 | 3988 => Kind::Data,
        _ => Kind::Peer,
    }
}

fn retryable(code: u16) -> bool {
    kind(code) == Kind::Unreachable || matches!(code, 1205 | 1213)
}

/// The message without what it quotes from rows. Columns stand in backticks behind the quotation, keys behind
/// `for key`.
fn safe(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let (Some(first), Some(last)) = (text.find('\''), text.rfind('\'')) else { return text };
    let named = text.rfind(" for key ").or_else(|| text.rfind(" for column '"));
    let tail = named.unwrap_or(last + 1);
    format!("{}...{}", &text[..first.min(tail)], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_do_not_quote_rows() {
        let shown = server("store1: insert".into(), 1062, "Duplicate entry '7-it's mine' for key 'PRIMARY'");
        assert_eq!(shown.to_string(), "store1: insert: Duplicate entry ... for key 'PRIMARY'");
        assert_eq!(shown.kind(), Kind::Data);
        assert_eq!(shown.peer_code(), Some("1062"));
        assert_eq!(
            safe("Incorrect string value: '\\xF0\\x9F' for column `g`.`t`.`subject` at row 3"),
            "Incorrect string value: ... for column `g`.`t`.`subject` at row 3"
        );
        assert_eq!(safe("Data too long for column 'name' at row 1"), "Data too long... for column 'name' at row 1");
        assert_eq!(safe("near 'secret' at line 1"), "near ... at line 1");
    }

    #[test]
    fn a_broken_connection_may_be_tried_again() {
        let error = server("store1: select".into(), 2013, "Lost connection");
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.is_retryable());
        assert!(server(String::new(), 1213, "Deadlock").is_retryable());
        assert!(!server(String::new(), 1062, "Duplicate").is_retryable());
        let driver = |error: DriverError| fault("store1", "connect", error.into());
        assert!(driver(DriverError::Timeout).is_retryable());
        let wrong = driver(DriverError::UnknownAuthPlugin("ed25519".into()));
        assert!(!wrong.is_retryable() && wrong.kind() == Kind::Peer, "nothing but a change there mends it");
    }
}
