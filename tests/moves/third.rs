//! Moves from a host that is no store: the stores log in to one another.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use zlm_lab::{THIRD, ZIMBRA_ID};

use crate::bench::Bench;

/// As Zimbra does for the key that its servers have for one another: a command that begins with `rsync`, of plain characters,
/// is run, and anything else is read from standard input, in lines.
const FOR_RSYNC: &str = r#"#!/bin/bash
if [[ $SSH_ORIGINAL_COMMAND =~ ^(rsync|/opt/zimbra/common/bin/rsync)\ [\'\"a-zA-Z0-9/._:@=\ -]*$ ]]; then
    eval "exec $SSH_ORIGINAL_COMMAND"
fi
read -r host command rest
echo "ERROR: Unknown command: \"$command\"" >&2
exit 1
"#;

/// What store1's own key is good for on store2, for as long as `body` runs.
fn with_key<T>(bench: &Bench, script: &str, body: impl FnOnce() -> T) -> T {
    let store2 = bench.host("store2").unwrap();
    let program = store2.dir.join("etc/forced");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let own = fs::read_to_string(bench.host("store1").unwrap().zimbra_path(".ssh/zimbra_identity.pub")).unwrap();
    let path = store2.zimbra_path(".ssh/authorized_keys");
    let keys = fs::read_to_string(&path).unwrap();
    assert!(keys.contains(own.trim()));
    fs::write(&path, keys.replace(own.trim(), &format!("command=\"/opt/lab/etc/forced\",no-pty {}", own.trim())))
        .unwrap();
    let result = body();
    fs::write(&path, keys).unwrap();
    result
}

#[test]
fn zimbras_own_key_is_enough_between_stores() {
    let bench = Bench::take();
    bench.small("kyl", 497, &[]);
    let before = bench.before_move("kyl").unwrap();
    with_key(&bench, FOR_RSYNC, || bench.moves(THIRD, "kyl", &[]));
    bench.judge(&before);
}

#[test]
fn key_that_is_not_for_rsync_is_refused_at_once_and_another_can_be_named() {
    let bench = Bench::take();
    bench.small("kay", 422, &[]);
    let before = bench.before_move("kay").unwrap();
    let store1 = bench.host("store1").unwrap();
    let settings = bench.host("ops1").unwrap().zimbra_path("conf/zlm.toml");
    let was = fs::read_to_string(&settings).unwrap();
    // It waits for lines that rsync does not write.
    with_key(&bench, "#!/bin/sh\nexec cat > /dev/null\n", || {
        let ended = bench.zlm().run_move(THIRD, "kay", "store2", &[]).unwrap().expect(3);
        let text = "files cannot get from store1.lab.test to store2.lab.test";
        assert!(ended.stderr.contains(text) && ended.stderr.contains("`store_key` of [ssh]"), "{}", ended.told());
        bench.judge_undone(&before);
        // Another key of store1, with which it may log in.
        let key = store1.zimbra_path(".ssh/another");
        fs::copy(bench.host("proxy1").unwrap().zimbra_path(".ssh/zimbra_identity"), &key).unwrap();
        chown(&key, Some(ZIMBRA_ID), Some(ZIMBRA_ID)).unwrap();
        fs::write(&settings, format!("{was}[ssh]\nstore_key = \"/opt/zimbra/.ssh/another\"\n")).unwrap();
        bench.moves(THIRD, "kay", &[]);
    });
    fs::write(&settings, was).unwrap();
    bench.judge(&before);
}
