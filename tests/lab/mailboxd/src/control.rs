//! The socket on which tests ask what this server has in its memory, and say what should happen to it.
//! One line in, one line out.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::directory::By;
use crate::fault::{Fault, Outcome};
use crate::mailbox::mailboxes::Fetch;
use crate::mailbox::{change, shared};
use crate::memcached;
use crate::script::Mode;
use crate::status;
use crate::store::{Store, route_servers};

const MAX_LINE: u64 = 4096;

/// Makes the socket, for root and its owner only.
///
/// # Errors
/// The path and what is wrong with it.
pub fn bind(path: &Path) -> Result<UnixListener, String> {
    let at = |e: io::Error| format!("{}: cannot make control socket: {e}", path.display());
    if path.exists() {
        fs::remove_file(path).map_err(at)?;
    }
    let listener = UnixListener::bind(path).map_err(at)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at)?;
    Ok(listener)
}

/// Serves connections for as long as the process lives.
pub fn serve(listener: &UnixListener, store: &Arc<Store>) -> ! {
    loop {
        // A connection that ended before it was accepted is the client's business.
        let Ok((stream, _)) = listener.accept() else { continue };
        let store = Arc::clone(store);
        // Clients come and go; an error on their connection ends only that.
        std::thread::spawn(move || drop(converse(stream, &store)));
    }
}

fn converse(stream: UnixStream, store: &Arc<Store>) -> io::Result<()> {
    let mut connection = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut connection).take(MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = obey(store, &words).unwrap_or_else(|fault| format!("error {fault}"));
        connection.get_mut().write_all(format!("{}\n", answer.replace('\n', " ")).as_bytes())?;
    }
}

fn obey(store: &Arc<Store>, words: &[&str]) -> Outcome<String> {
    let ok = |()| "ok".to_string();
    match words {
        ["ping"] => Ok("pong".into()),
        ["map", account] => Ok(store.mailboxes.id_of(account).map_or("none".into(), |id| id.to_string())),
        ["loaded", account] => {
            let id = store.mailboxes.id_of(account);
            Ok(yes(id.and_then(|id| store.mailboxes.open(id)).is_some()))
        }
        ["locked", account] => Ok(yes(store.mailboxes.is_locked(account))),
        ["let-in", account] => store.mailboxes.let_in(account).map(ok),
        ["unload", account] => Ok(yes(store.mailboxes.unload(account))),
        ["restart"] => store.restart().map(ok),
        ["fault", "clear"] => {
            store.script.clear();
            Ok("ok".into())
        }
        ["fault", "left", request] => Ok(store.script.left(request).to_string()),
        ["fault", request, rest @ ..] => fault(store, request, rest).map_err(Fault::invalid_request).map(ok),
        ["act", email, count, seed] | ["act", email, count, seed, _] => {
            let kind = words.get(4).copied();
            let number =
                |text: &str| text.parse().map_err(|_| Fault::invalid_request(format!("{text} is not a number")));
            let (count, seed) = (u32::try_from(number(count)?).unwrap_or(u32::MAX), number(seed)?);
            act(store, email, count, seed, kind).map(|()| format!("ok {count}"))
        }
        ["route", email] => route(store, email).map(|count| format!("ok {count}")),
        ["push-acl"] => shared::push_acl(store).map(|count| format!("ok {count}")),
        ["grant", email, folder] => {
            let folder = folder.parse().map_err(|_| Fault::invalid_request(format!("{folder} is not a folder")))?;
            let account = store.directory.the_account(By::Name, email)?;
            shared::grant(store, account.id(), folder).map(ok)
        }
        ["task-done", class, name] => shared::task_done(store, class, name).map(|count| format!("ok {count}")),
        ["reindex", account, on @ ("on" | "off")] => {
            let mut reindexing = store.reindexing.lock();
            match *on {
                "on" => reindexing.insert(account.to_lowercase(), true),
                _ => reindexing.remove(&account.to_lowercase()),
            };
            Ok("ok".into())
        }
        ["memcached-keys", form @ ("plain" | "hashed")] => {
            store.hashed_keys.store(*form == "hashed", Ordering::SeqCst);
            Ok("ok".into())
        }
        ["hold", on @ ("on" | "off")] => {
            store.lmtp.hold(*on == "on");
            Ok("ok".into())
        }
        ["background", on @ ("on" | "off")] => {
            store.resting.store(*on == "off", Ordering::SeqCst);
            Ok("ok".into())
        }
        ["deliveries"] => Ok(store.lmtp.counters().to_string()),
        _ => Err(Fault::invalid_request("unknown command")),
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}

/// `REQUEST [then] MODE [COUNT]`.
fn fault(store: &Store, request: &str, words: &[&str]) -> Result<(), String> {
    let (is_next, words) = match words {
        ["then", rest @ ..] => (true, rest),
        all => (false, all),
    };
    let (mode, taken) = Mode::parse(words)?;
    let count = match words[taken..] {
        [] => None,
        [count] => Some(count.parse().map_err(|_| format!("{count} is not a count"))?),
        _ => return Err("too many words".into()),
    };
    match is_next {
        true => store.script.then(request, mode, count),
        false => store.script.add(request, mode, count),
    }
    Ok(())
}

/// What a user's session does: it is let in by the cached status, and uses the mailbox in memory.
fn act(store: &Store, email: &str, count: u32, seed: u64, kind: Option<&str>) -> Outcome<()> {
    let account = store.directory.the_account(By::Name, email)?;
    status::check_login(&store.directory.status(&account)?, email)?;
    let mailbox = store.mailboxes.the_mailbox(store, account.id(), Fetch::Autocreate)?;
    change::act(store, &mailbox, count, seed, kind)
}

/// What the proxy's look-up does when the user logs in: it goes by the directory, not by the cache, and
/// also for accounts in maintenance.
fn route(store: &Store, email: &str) -> Outcome<usize> {
    let account = store.directory.read_account(By::Name, email)?.ok_or_else(|| Fault::no_such_account(email))?;
    let routes = memcached::routes(&account);
    for server in route_servers(&store.directory)? {
        memcached::write_routes(&server, &routes)?;
    }
    Ok(routes.len())
}
