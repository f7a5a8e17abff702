//! No password is written or shown, whatever runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use zlm_lab::{SECRETS, SOURCE, THIRD, assert_clean};

use crate::bench::Bench;

/// The arguments and environments of all processes, those in hosts among them. Mailboxes are large enough for hundreds
/// of looks during a move.
fn processes() -> Vec<Vec<u8>> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    let files =
        all.filter(|pid| *pid != own).flat_map(|pid| ["cmdline", "environ"].map(|file| format!("/proc/{pid}/{file}")));
    // A process that has ended meanwhile shows nothing.
    files.filter_map(|file| fs::read(file).ok()).collect()
}

#[test]
fn passwords_are_nowhere() {
    let bench = Bench::take();
    let secrets: Vec<(&str, String)> = SECRETS.iter().map(|name| (*name, bench.secret(name).unwrap())).collect();
    let mut looks = 0;
    let mut programs = BTreeSet::new();
    for (seat, local, mailbox) in [(SOURCE, "gil", 451), (THIRD, "hub", 452)] {
        bench.add_mailbox(local, "store1", mailbox, &[], |spec| spec.items = 300).unwrap();
        let email = format!("{local}@lab.test");
        let words = ["run", "move", "-vv", "--email", &email, "--dest", "store2.lab.test", "--bwlimit", "2000"];
        let child = bench.zlm().start(seat, &words).unwrap();
        let output = std::thread::spawn(move || child.wait_with_output().unwrap());
        while !output.is_finished() {
            looks += 1;
            for text in processes() {
                for (name, secret) in &secrets {
                    let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(!found, "{name} in {}", String::from_utf8_lossy(&text).replace(secret.as_str(), "***"));
                }
                let program = text.split(|byte| *byte == 0).next().unwrap_or_default();
                programs.extend(String::from_utf8_lossy(program).rsplit('/').next().map(str::to_owned));
            }
        }
        let output = output.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (name, secret) in &secrets {
            for text in [&output.stdout, &output.stderr] {
                assert!(!String::from_utf8_lossy(text).contains(secret.as_str()), "{name} was said");
            }
        }
    }
    // The looks were real ones.
    assert!(looks > 10, "{looks} looks");
    for program in ["zlm", "ssh", "rsync"] {
        assert!(programs.contains(program), "{program} was not seen in {programs:?}");
    }
    let mut places: Vec<PathBuf> = vec!["/tmp".into()];
    for host in bench.hosts().iter().filter(|host| host.name != "switch") {
        places.extend(["log", "run", "tmp"].map(|dir| host.dir.join(dir)));
        places.extend(["log", "zlm", "data/tmp"].map(|dir| host.zimbra_path(dir)));
    }
    let log = fs::read_to_string(bench.host("ops1").unwrap().zimbra_path(zlm_lab::LOG)).unwrap();
    assert!(log.contains("hub@lab.test"), "nothing logged: {log}");
    places.retain(|place| place.exists());
    assert_clean(&bench.check_no_secrets(&places).unwrap());
}
