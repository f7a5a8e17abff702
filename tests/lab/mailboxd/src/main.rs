//! A stand-in for Zimbra's mailboxd: admin SOAP and LMTP, with the caches and the memory of the real one.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod cache;
mod callback;
mod client;
mod control;
mod directory;
mod entry;
mod fault;
mod http;
mod lmtp;
mod localconfig;
mod mailbox;
mod memcached;
mod request_log;
mod script;
mod soap;
mod status;
mod store;
mod tls;
mod token;
mod xml;

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;

use store::{Places, Store};

/// A stand-in for Zimbra's mailboxd.
#[derive(Parser)]
struct Options {
    /// This server's name in zimbraMailHost.
    #[arg(long)]
    host: String,
    /// The directory that holds conf/localconfig.xml and db/create_database.sql.
    #[arg(long, default_value = "/opt/zimbra")]
    zimbra_home: PathBuf,
    /// The directory's URL, instead of ldap_url in the local config.
    #[arg(long)]
    ldap: Option<String>,
    /// The certificate authority of the installation.
    #[arg(long)]
    ca: PathBuf,
    /// The certificate of the admin port.
    #[arg(long)]
    cert: PathBuf,
    /// Its private key.
    #[arg(long)]
    key: PathBuf,
    /// The socket on which tests say what should happen.
    #[arg(long)]
    control: PathBuf,
    /// The log of requests, appended to.
    #[arg(long)]
    log: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind: IpAddr,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab-mailboxd: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    // Two crates below could bring a provider; this one is meant. It is only refused when set before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Store::start(&Places {
        host: &options.host,
        home: &options.zimbra_home,
        ldap: options.ldap.as_deref(),
        ca: &options.ca,
        log: &options.log,
    })?;
    let server_tls = tls::server(&options.cert, &options.key)?;
    let entry = store.server().map_err(|f| f.to_string())?;
    let listen = |name: &str, absent| {
        let port = entry.port(name, absent);
        TcpListener::bind((options.bind, port)).map_err(|e| format!("port {port}: cannot listen: {e}"))
    };
    let admin_port = listen("zimbraAdminPort", 7071)?;
    let lmtp_port = listen("zimbraLmtpBindPort", 7025)?;
    let control = control::bind(&options.control)?;
    let pid_file = options.zimbra_home.join("log/zmmailboxd_java.pid");
    std::fs::write(&pid_file, format!("{}\n", std::process::id()))
        .map_err(|e| format!("{}: cannot write: {e}", pid_file.display()))?;

    let background = Arc::clone(&store);
    thread::spawn(move || mailbox::index::run(&background));
    let background = Arc::clone(&store);
    thread::spawn(move || mailbox::purge::run(&background));
    let background = Arc::clone(&store);
    thread::spawn(move || mailbox::shared::run(&background));
    let delivery = Arc::clone(&store);
    thread::spawn(move || lmtp::server::serve(&lmtp_port, &delivery));
    let (admit, handle) = (Arc::clone(&store), Arc::clone(&store));
    thread::spawn(move || {
        http::serve(&admin_port, &server_tls, || !admit.script.unreachable(), move |body| admin::serve(&handle, body));
    });
    control::serve(&control, &store)
}
