//! The client against a server of its own, with real TLS and broken connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::config::Trust;

/// What the server does with a request.
enum Act {
    Answer(&'static str),
    Fault(&'static str, &'static str),
    /// Answers and closes the connection.
    AnswerAndClose(&'static str),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the request and never answers.
    Hang,
    /// Answers with this many bytes.
    Flood(usize),
}

struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// How many of them it has closed.
    closed: Arc<AtomicUsize>,
    /// The bodies of all requests, in order.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Plays `acts`, one a request; logins are answered beside them, with tokens T1, T2, ...
    fn start(pki: &Path, acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = Self { port, connections: connections.clone(), closed: closed.clone(), seen: seen.clone() };
        let acts = Arc::new(Mutex::new(acts.into_iter().collect::<std::collections::VecDeque<_>>()));
        let config = Arc::new(tls_config(pki));
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (config, acts, seen, closed) = (config.clone(), acts.clone(), seen.clone(), closed.clone());
                thread::spawn(move || {
                    serve(stream.unwrap(), config, &acts, &seen);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn admin(&self, trust: Trust) -> Admin {
        let host: Host = "localhost".parse().unwrap();
        Admin::new(SoapSettings {
            server: Some(host),
            port: 7071,
            ports: vec![("localhost".parse().unwrap(), self.port), ("127.0.0.1".parse().unwrap(), self.port)],
            user: "zimbra".into(),
            password: Secret::new("hunter2"),
            trust,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
        })
        .unwrap()
    }

    /// How often a request was seen.
    fn count(&self, name: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|body| body.contains(name)).count()
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    acts: &Mutex<std::collections::VecDeque<Act>>,
    seen: &Mutex<Vec<String>>,
) {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream));
    while let Some(body) = request(&mut stream) {
        let login = body.contains("AuthRequest");
        let logins = {
            let mut seen = seen.lock().unwrap();
            seen.push(body);
            seen.iter().filter(|body| body.contains("AuthRequest")).count()
        };
        let token = format!("<AuthResponse><authToken>T{logins}</authToken></AuthResponse>");
        let act = if login { None } else { acts.lock().unwrap().pop_front() };
        let (status, text, close) = match act {
            None => (200, token, false),
            Some(Act::Answer(text)) => (200, text.to_owned(), false),
            Some(Act::AnswerAndClose(text)) => (200, text.to_owned(), true),
            Some(Act::Fault(side, code)) => (500, fault(side, code), false),
            Some(Act::Flood(length)) => (200, "x".repeat(length), false),
            Some(Act::Close) => return,
            Some(Act::Hang) => {
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let text = format!("<s:Envelope xmlns:s='s'><s:Body>{text}</s:Body></s:Envelope>");
        let answer =
            format!("HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        let _ = stream.get_mut().write_all(answer.as_bytes());
        let _ = stream.get_mut().flush();
        if close {
            stream.get_mut().conn.send_close_notify();
            let _ = stream.get_mut().flush();
            return;
        }
    }
}

fn request(stream: &mut impl BufRead) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn fault(side: &str, code: &str) -> String {
    format!(
        "<s:Fault><s:Code><s:Value>s:{side}</s:Value></s:Code><s:Reason><s:Text>why</s:Text></s:Reason>\
         <s:Detail><Error><Code>{code}</Code><Trace>t</Trace><a n='mboxId' t='IID'>7</a></Error></s:Detail></s:Fault>"
    )
}

/// An authority and a certificate for localhost signed by it.
fn pki() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let ca = ["req", "-x509", "-subj", "/CN=Lab CA", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[ca.as_slice(), &key].concat());
    let server =
        ["req", "-x509", "-subj", "/CN=localhost", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key"];
    let names = [
        "-out",
        "server.pem",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    openssl(&[server.as_slice(), &names, &key].concat());
    dir
}

fn tls_config(pki: &Path) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(pki.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

fn started(acts: Vec<Act>) -> (tempfile::TempDir, Server, Admin, Host) {
    let pki = pki();
    let server = Server::start(pki.path(), acts);
    let admin = server.admin(Trust::Ca(pki.path().join("ca.pem")));
    (pki, server, admin, "localhost".parse().unwrap())
}

#[test]
fn one_login_and_one_connection_for_many_calls() {
    let (_pki, server, admin, host) = started(vec![Act::Answer("<A/>"), Act::Answer("<B x='1'/>")]);
    assert_eq!(admin.call(&host, &Request::new("One")).unwrap().name(), "A");
    assert_eq!(admin.call(&host, &Request::new("Two")).unwrap().get("x"), Some("1"));
    assert_eq!((server.count("AuthRequest"), server.connections.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(server.count("<authToken>T1</authToken>"), 2);
    assert!(!format!("{admin:?}").contains("hunter2"));
}

#[test]
fn an_expired_token_is_renewed_once() {
    let expired = || Act::Fault("Sender", "service.AUTH_EXPIRED");
    let (_pki, server, admin, host) =
        started(vec![expired(), Act::Answer("<A/>"), expired(), expired(), Act::Answer("<B/>")]);
    assert_eq!(admin.call(&host, &Request::new("One")).unwrap().name(), "A");
    assert_eq!((server.count("AuthRequest"), server.count("<authToken>T2</authToken>")), (2, 1));
    let e = admin.call(&host, &Request::new("Two")).unwrap_err();
    assert_eq!((e.kind(), e.peer_code(), server.count("AuthRequest")), (Kind::Denied, Some("service.AUTH_EXPIRED"), 3));
}

#[test]
fn a_request_that_may_have_arrived_is_ambiguous_and_sent_once() {
    for act in [Act::Close, Act::Hang] {
        let (_pki, server, admin, host) = started(vec![act]);
        let e = admin.call(&host, &Request::new("ModifyAccountRequest")).unwrap_err();
        assert_eq!((e.kind(), e.peer_code(), e.is_retryable()), (Kind::Unreachable, Some(AMBIGUOUS), false), "{e}");
        assert_eq!(server.count("ModifyAccountRequest"), 1);
        assert!(!format!("{e:?}").contains("T1") && !format!("{e:?}").contains("hunter2"));
    }
}

#[test]
fn a_repeatable_request_is_sent_again() {
    let (_pki, server, admin, host) = started(vec![Act::Close, Act::Answer("<A/>")]);
    assert_eq!(admin.call(&host, &Request::new("GetAccountRequest").repeatable()).unwrap().name(), "A");
    assert_eq!(server.count("GetAccountRequest"), 2);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_used() {
    let (_pki, server, admin, host) = started(vec![Act::AnswerAndClose("<A/>"), Act::Answer("<B/>")]);
    admin.call(&host, &Request::new("One")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.closed.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "the server did not close");
        thread::yield_now();
    }
    assert_eq!(admin.call(&host, &Request::new("Two")).unwrap().name(), "B");
    assert_eq!((server.count("<Two"), server.connections.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn nobody_there_is_not_ambiguous() {
    let (_pki, server, mut admin, host) = started(vec![]);
    admin.settings.ports = vec![(host.clone(), 1)];
    let e = admin.call(&host, &Request::new("ModifyAccountRequest")).unwrap_err();
    assert_eq!((e.kind(), e.peer_code(), e.is_retryable()), (Kind::Unreachable, None, true), "{e}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn only_the_right_server_is_trusted() {
    let (pki_dir, server, admin, host) = started(vec![Act::Answer("<A/>"), Act::Answer("<A/>")]);
    let refused = |admin: &Admin, host: &str, hint: &str| {
        let e = admin.call(&host.parse().unwrap(), &Request::new("One")).unwrap_err();
        assert_eq!((e.kind(), e.peer_code()), (Kind::Denied, None), "{e}");
        assert!(e.advice().unwrap().contains(hint), "{e:?}");
    };
    // The certificate is for localhost.
    refused(&admin, "127.0.0.1", "another name");
    let other = pki();
    refused(&server.admin(Trust::Ca(other.path().join("ca.pem"))), "localhost", "another authority");
    refused(&server.admin(Trust::Pin([7; 32])), "localhost", "pinned");
    assert_eq!(server.seen.lock().unwrap().len(), 0, "a password went to a server that is not trusted");

    let of_certificate = "openssl x509 -in server.pem -outform DER | sha256sum";
    let of_key = "openssl x509 -in server.pem -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum";
    for command in [of_certificate, of_key] {
        let printed = Command::new("sh").args(["-c", command]).current_dir(pki_dir.path()).output().unwrap().stdout;
        let digits = String::from_utf8(printed).unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        let pinned = server.admin(Trust::Pin(std::array::from_fn(byte)));
        assert_eq!(pinned.call(&host, &Request::new("One")).unwrap().name(), "A");
    }
}

#[test]
fn an_answer_is_bounded() {
    let (_pki, _server, admin, host) = started(vec![Act::Flood(MAX_ANSWER + 1)]);
    let e = admin.call(&host, &Request::new("One")).unwrap_err();
    assert_eq!(e.kind(), Kind::Peer, "{e}");
    assert!(e.message().contains("longer than"), "{e}");
}

#[test]
fn a_probe_tells_stores_apart() {
    let (_pki, _server, admin, host) = started(vec![
        Act::Fault("Sender", "service.WRONG_HOST"),
        Act::Fault("Sender", "mail.NO_SUCH_MBOX"),
        Act::Answer("<GetMailboxResponse><mbox mbxid='12' s='0'/></GetMailboxResponse>"),
        Act::Fault("Receiver", "mail.MAINTENANCE"),
    ]);
    let id = "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b".parse().unwrap();
    let probe = || admin.probe_mailbox(&host, &id, &id);
    assert_eq!(probe().unwrap(), MailboxProbe::Clean);
    assert_eq!(probe().unwrap(), MailboxProbe::StaleMap(Some("7".parse().unwrap())));
    assert_eq!(probe().unwrap(), MailboxProbe::InMemory("12".parse().unwrap()));
    // A move locked it and nothing has unlocked it since.
    assert_eq!(probe().unwrap(), MailboxProbe::Locked(Some("7".parse().unwrap())));
}

#[test]
fn clients_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Admin>();
    shared::<crate::clients::ldap::Directory>();
}
