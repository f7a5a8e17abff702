//! What mailboxd and the proxy's route lookup keep in memcached. Failures are as good as a miss.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::entry::Entry;

const TIMEOUT: Duration = Duration::from_secs(1);
const MAX_VALUE: usize = 1 << 20;
const ROUTE_SECONDS: u32 = 3600;

/// The servers that share the keys of mailboxd between them.
pub struct Memcached {
    servers: Vec<String>,
    hashed: Arc<AtomicBool>,
}

impl Memcached {
    /// With these `host:port`s; none: every look-up is a miss. `hashed`: whether keys are written as their SHA-256.
    pub fn new(servers: Vec<String>, hashed: Arc<AtomicBool>) -> Self {
        Self { servers, hashed }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        get(self.home(key)?, &self.written(key)).ok().flatten()
    }

    /// Keeps a value until it is pushed out.
    pub fn set(&self, key: &str, value: &[u8]) {
        if let Some(server) = self.home(key) {
            // The cache is a convenience: the database has the truth.
            let _ = set(server, &self.written(key), value, 0);
        }
    }

    /// Forgets a key.
    pub fn delete(&self, key: &str) {
        if let Some(server) = self.home(key) {
            let _ = exchange(server, format!("delete {}\r\n", self.written(key)).as_bytes());
        }
    }

    /// A key as memcached knows it.
    fn written(&self, key: &str) -> String {
        match self.hashed.load(Ordering::SeqCst) {
            true => digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            false => key.to_string(),
        }
    }

    /// The server that a key hashes to.
    fn home(&self, key: &str) -> Option<&str> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let count = self.servers.len() as u64;
        let at = hasher.finish().checked_rem(count)?;
        self.servers.get(usize::try_from(at).ok()?).map(String::as_str)
    }
}

/// The key of the folders and tags of an account's mailbox.
pub fn folders_key(account: &str) -> String {
    format!("zmFldrsTags:{account}")
}

/// The routes of an account as the proxy's lookup would leave them, with the ports behind the proxy. Names are in lower
/// case there, however the directory or the user writes them.
pub fn routes(account: &Entry) -> Vec<(String, String)> {
    let host = account.get("zimbraMailHost").unwrap_or_default();
    let address = account.address().to_lowercase();
    let aliases: Vec<String> = account.all("zimbraMailAlias").iter().map(|alias| alias.to_lowercase()).collect();
    let address = address.as_str();
    let user = address.split('@').next().unwrap_or(address);
    let id = account.id();
    let ports =
        [("http", 8080), ("httpssl", 8443), ("imap", 7143), ("imapssl", 7993), ("pop3", 7110), ("pop3ssl", 7995)];
    let mut all = Vec::new();
    for (proto, port) in ports {
        let value = format!("{host}:{port}");
        let names = [address, user].into_iter().chain(aliases.iter().map(String::as_str));
        all.extend(names.map(|name| (format!("route:proto={proto};user={name}"), value.clone())));
    }
    all.push((format!("route:proto=http;id={id}"), format!("{host}:8080")));
    all.push((format!("route:proto=httpssl;id={id}"), format!("{host}:8443")));
    all.push((format!("route:proto=httpssl;admin=1;id={id}"), format!("{host}:7071")));
    if let Some((_, domain)) = address.split_once('@') {
        all.push((format!("alias:user={user};ip={domain}"), address.to_string()));
    }
    all
}

/// Writes routes to one memcached.
///
/// # Errors
/// What the network says.
pub fn write_routes(server: &str, routes: &[(String, String)]) -> io::Result<()> {
    routes.iter().try_for_each(|(key, value)| set(server, key, value.as_bytes(), ROUTE_SECONDS))
}

fn set(server: &str, key: &str, value: &[u8], seconds: u32) -> io::Result<()> {
    let mut command = format!("set {key} 0 {seconds} {}\r\n", value.len()).into_bytes();
    command.extend_from_slice(value);
    command.extend_from_slice(b"\r\n");
    match exchange(server, &command)?.0.as_str() {
        "STORED" => Ok(()),
        other => Err(io::Error::other(format!("memcached {server}: cannot set {key}: {other}"))),
    }
}

fn get(server: &str, key: &str) -> io::Result<Option<Vec<u8>>> {
    let (line, mut rest) = exchange(server, format!("get {key}\r\n").as_bytes())?;
    let Some(length) = line.strip_prefix("VALUE ").and_then(|r| r.rsplit(' ').next()?.parse().ok()) else {
        return Ok(None);
    };
    if length > MAX_VALUE {
        return Ok(None);
    }
    let mut value = vec![0; length];
    rest.read_exact(&mut value)?;
    Ok(Some(value))
}

/// Sends a command and reads the first line of the answer.
fn exchange(server: &str, command: &[u8]) -> io::Result<(String, impl Read + use<>)> {
    let address = server.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    stream.write_all(command)?;
    let mut reader = BufReader::new(stream.take(MAX_VALUE as u64 + 1024));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok((line.trim_end().to_string(), reader))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_home() {
        let m = Memcached::new(vec!["a:1".into(), "b:1".into(), "c:1".into()], Arc::default());
        assert_eq!(m.home("k"), m.home("k"));
        assert!((0..50).map(|i| m.home(&i.to_string())).collect::<std::collections::HashSet<_>>().len() == 3);
        assert_eq!(Memcached::new(Vec::new(), Arc::default()).home("k"), None);
    }

    #[test]
    fn keys_are_hashed_where_they_are() {
        let m = Memcached::new(Vec::new(), Arc::default());
        assert_eq!(m.written("k"), "k");
        m.hashed.store(true, Ordering::SeqCst);
        // The known value of "abc".
        assert_eq!(m.written("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn routes_name_the_host_of_the_directory() {
        let account = Entry::new(
            "x",
            [
                ("zimbraId".into(), vec!["Z".into()]),
                ("mail".into(), vec!["U@d".into()]),
                ("zimbraMailAlias".into(), vec!["Al@d".into()]),
                ("zimbraMailHost".into(), vec!["s1".into()]),
            ],
        );
        let all = routes(&account);
        for expected in [
            ("route:proto=imap;user=u@d", "s1:7143"),
            ("route:proto=pop3;user=al@d", "s1:7110"),
            ("route:proto=httpssl;id=Z", "s1:8443"),
        ] {
            assert!(all.iter().any(|(k, v)| (k.as_str(), v.as_str()) == expected), "{expected:?}");
        }
    }
}
