//! Against a real sshd.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::rig::Sshd;
use super::*;
use crate::cancel::Cancel;
use crate::error::Kind;

fn go() -> Cancel {
    Cancel::default()
}

#[test]
fn a_command_gets_its_arguments_and_gives_output_and_status() {
    let sshd = Sshd::start();
    let shell = sshd.shell();
    let odd = "a b'c\"$HOME\n;*";
    let out = shell.run(&["printf", "%s", odd], Input::None, Limit::default(), &go()).unwrap();
    assert_eq!((out.status, String::from_utf8(out.stdout).unwrap().as_str()), (0, odd));
    let out =
        shell.run(&["sh", "-c", "cat; echo why >&2; exit 7"], Input::Bytes(b"in".into()), Limit::default(), &go());
    assert_eq!(out.unwrap(), Output { status: 7, stdout: b"in".into(), stderr: "why".into() });
    let error = shell.expect(&["no-such-program"], Input::None, Limit::default(), &go()).unwrap_err();
    assert_eq!((error.kind(), error.peer_code()), (Kind::Peer, Some("127")));
    let out = shell.run(&["sh", "-c", "exit 255"], Input::None, Limit::default(), &go()).unwrap();
    assert_eq!(out.status, 255, "a command may end with ssh's own status");
}

#[test]
fn many_commands_share_one_connection() {
    let sshd = Sshd::start();
    let shell = sshd.shell();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let shell = &shell;
            scope.spawn(move || {
                let n = n.to_string();
                let script = ["sh", "-c", "sleep 0.1; echo $0", &n];
                let out = shell.expect(&script, Input::None, Limit::default(), &go()).unwrap();
                assert_eq!(String::from_utf8(out).unwrap().trim(), n);
            });
        }
    });
}

#[test]
fn who_says_no_and_who_is_not_there() {
    let sshd = Sshd::start();
    let open = |options| Link::open(options, &go()).unwrap_err();

    sshd.trust("other");
    let error = open(sshd.options());
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(error.message().matches("SHA256:").count(), 2, "{error}");

    std::fs::write(sshd.path("known_hosts"), "").unwrap();
    let error = open(sshd.options());
    assert!(error.kind() == Kind::Denied && error.advice().unwrap().contains("ssh-keyscan"), "{error}");

    sshd.trust("host");
    let mut options = sshd.options();
    options.identity = Some(sshd.path("other"));
    assert_eq!(open(options).kind(), Kind::Denied);

    let mut options = sshd.options();
    options.port = Some(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let error = open(options);
    assert_eq!((error.kind(), error.is_retryable()), (Kind::Unreachable, true), "{error}");

    // A peer that accepts and then says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = sshd.options();
    options.port = Some(silent.local_addr().unwrap().port());
    options.connect_timeout = Duration::from_secs(1);
    let started = Instant::now();
    assert_eq!(open(options).kind(), Kind::Unreachable);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_key_bound_to_a_command_is_told_apart() {
    let sshd = Sshd::start();
    let key = std::fs::read_to_string(sshd.path("login.pub")).unwrap();
    std::fs::write(sshd.path("authorized"), format!("command=\"echo hello\" {key}")).unwrap();
    let error = Link::open(sshd.options(), &go()).unwrap_err();
    assert!(error.kind() == Kind::Peer && error.message().contains("hello"), "{error}");
}

#[test]
fn a_tunnel_is_a_private_socket_and_survives_the_connection() {
    let mut sshd = Sshd::start();
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in echo.incoming() {
            let mut stream = stream.unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
    });
    let say = |path: &std::path::Path| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"x").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    };
    let link = sshd.link();
    let socket = link.forward(port, &go()).unwrap();
    let meta = std::fs::metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket() && meta.permissions().mode() & 0o077 == 0);
    say(&socket);

    sshd.restart();
    let shell = Shell::Remote(link.clone());
    // The first look may still find the dying connection; the one after finds it dead and opens it again.
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = shell.expect(&["true"], Input::None, Limit::default(), &go()) {
        assert_eq!((error.kind(), error.is_retryable()), (Kind::Unreachable, true), "{error}");
        assert!(Instant::now() < deadline);
    }
    say(&socket);
}

#[test]
fn nothing_stays_when_a_link_is_dropped() {
    let sshd = Sshd::start();
    let options = sshd.options();
    let dir = options.run_dir.path().to_owned();
    let link = Link::open(options, &go()).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    drop(link);
    assert!(!dir.exists());
}

#[test]
fn a_stop_ends_a_remote_command() {
    let sshd = Sshd::start();
    let shell = sshd.shell();
    let cancel = go();
    cancel.request();
    let error = shell.run(&["sleep", "20"], Input::None, Limit::default(), &cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    assert!(shell.expect(&["true"], Input::None, Limit::default(), &go()).is_ok(), "the link is still good");
}

#[test]
fn local_children_of_root_run_as_another_user() {
    use crate::clients::rsync::{Place, Transfer, What};
    use std::os::unix::fs::{MetadataExt, chown};
    let whoami = std::fs::metadata("/proc/self").unwrap().uid();
    if whoami != 0 {
        return; // Only root can become somebody else.
    }
    let user = User::lookup("nobody").unwrap();
    let sshd = Sshd::start();
    std::fs::set_permissions(sshd.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(sshd.path("login"), Some(user.uid), None).unwrap();
    let mut options = sshd.options();
    options.run_dir = std::sync::Arc::new(RunDir::new(Some(user.clone())).unwrap());
    assert_eq!(std::fs::metadata(options.run_dir.path()).unwrap().uid(), user.uid);
    let shell = Shell::Remote(std::sync::Arc::new(Link::open(options, &go()).unwrap()));
    assert_eq!(shell.expect(&["id", "-u"], Input::None, Limit::default(), &go()).unwrap(), b"0\n");

    let local = Shell::Local { user: Some(user.clone()) };
    let who = local.expect(&["sh", "-c", "id -u; id -G"], Input::None, Limit::default(), &go()).unwrap();
    assert_eq!(String::from_utf8(who).unwrap(), format!("{}\n{}\n", user.uid, user.gid));

    // What it cannot read, a link or a mode in a store's tree cannot make it read.
    std::fs::create_dir(sshd.path("a")).unwrap();
    std::fs::write(sshd.path("a/1-1.msg"), "mine").unwrap();
    std::fs::write(sshd.path("a/2-2.msg"), "root's").unwrap();
    std::fs::set_permissions(sshd.path("a/2-2.msg"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let place = |shell: &Shell, name: &str| Place::new(shell.clone(), sshd.path(name).to_str().unwrap());
    let push = Transfer::new(place(&local, "a"), place(&shell, "b"));
    let error = push.run(What::Tree, &go(), &mut |_| {}).unwrap_err();
    assert_eq!(error.peer_code(), Some("23"), "{error}");
    assert!(sshd.path("b/1-1.msg").exists() && !sshd.path("b/2-2.msg").exists());

    std::fs::create_dir(sshd.path("c")).unwrap();
    chown(sshd.path("c"), Some(user.uid), Some(user.gid)).unwrap();
    let pull = Transfer::new(place(&shell, "b"), place(&local, "c"));
    pull.run(What::Tree, &go(), &mut |_| {}).unwrap();
    assert_eq!(std::fs::metadata(sshd.path("c/1-1.msg")).unwrap().uid(), user.uid);
}
