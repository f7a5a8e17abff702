//! Blobs that cannot be copied, are lost, or are not what they seem.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::chown;

use zlm_lab::ZIMBRA_ID;

use crate::run::Ended;
use crate::site::{Mailbox, Site, site};
use crate::snapshot::assert_text;

/// Moves onto a file system of store2 that shrinks once the move has begun.
fn onto_small(site: &Site, mailbox: &Mailbox, size: &str) -> Ended {
    let mut zlm = site.start_paused_move(mailbox, "step(\"pre-copy\"");
    zlm.wait_for("paused");
    let mount = format!("mount -t tmpfs -o {size},uid=7900,gid=7900,mode=755 tmpfs /opt/zimbra/store");
    // With the directories that were made for the copy: nothing but its staging makes them.
    let copy = format!("/opt/zimbra/store/0/{}", site.next_number() - 1);
    let made = format!("install -d -o 7900 -g 7900 /opt/zimbra/store/0 {copy} {copy}/msg");
    site.shell("store2", &format!("rm -r {copy} && {mount} && {made}"));
    site.go_on();
    let ended = zlm.end();
    let left = site.shell("store2", "find /opt/zimbra/store -mindepth 3; umount /opt/zimbra/store");
    assert_eq!(left, "", "left on the small file system");
    ended
}

#[test]
fn disk_full() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = onto_small(&site, &mailbox, "size=4k");
    ended.assert(1, &["No space left on device", "status active"]);
    assert_text("disk-full", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn inodes_full() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = onto_small(&site, &mailbox, "size=64m,nr_inodes=20");
    ended.assert(1, &["No space left on device", "status active"]);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn too_little_space_is_seen_before() {
    let site = site();
    let mailbox = site.mailbox();
    site.shell("store2", "mount -t tmpfs -o size=1m,uid=7900,gid=7900,mode=755 tmpfs /opt/zimbra/store");
    let ended = site.move_it(&mailbox);
    site.shell("store2", "umount /opt/zimbra/store");
    ended.assert(3, &["/opt/zimbra/store has", "bytes free"]);
    assert_text("too-little-space", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
}

#[test]
fn blob_that_the_source_has_lost() {
    let site = site();
    let mailbox = site.mailbox();
    fs::remove_file(&site.blobs("store1", mailbox.number)[0]).unwrap();
    let mailbox = site.again(&mailbox);
    let ended = site.move_it(&mailbox);
    ended.assert(3, &["1 blobs that rows name are missing on store1.lab.test", "--allow-missing-blobs"]);
    assert_text("blob-missing", &mailbox, &ended);
    site.assert_rolled_back(&mailbox);
    let words = ["run", "move", "--email", &mailbox.email, "--dest", "store2.lab.test", "--allow-missing-blobs"];
    site.zlm("store1", &words).assert(0, &["warning: 1 blobs that rows name are missing"]);
    site.assert_moved(&mailbox);
}

#[test]
fn other_bytes_of_the_same_size_and_time_are_copied_again() {
    let site = site();
    let mailbox = site.mailbox();
    let number = u32::try_from(site.next_number()).unwrap();
    let _ = fs::remove_file(site.host("store1").unwrap().dir.join("tmp/go"));
    let code = r#"import "files" as early; early::copy(mv, ());
        print("paused"); loop { try { read_list("/var/tmp/go"); break; } catch { sleep(0.02); } }"#;
    let mut zlm = site.start_edited_move(&mailbox, "step(\"pre-copy\"", code);
    zlm.wait_for("paused");
    let blob = &site.blobs("store2", number)[3];
    let times = fs::metadata(blob).unwrap();
    let mut bytes = fs::read(blob).unwrap();
    bytes[10] ^= 0x20;
    fs::write(blob, bytes).unwrap();
    let times = FileTimes::new().set_modified(times.modified().unwrap()).set_accessed(times.accessed().unwrap());
    File::options().write(true).open(blob).unwrap().set_times(times).unwrap();
    site.go_on();
    zlm.end().assert(0, &["1 blobs had other bytes than at the source; they are copied again"]);
    site.assert_moved(&mailbox);
}

#[test]
fn links_devices_and_odd_names_are_not_copied() {
    let site = site();
    let mailbox = site.mailbox();
    let dir = site.blobs("store1", mailbox.number)[0].parent().unwrap().to_owned();
    std::os::unix::fs::symlink("/etc/shadow", dir.join("999999-1.msg")).unwrap();
    std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
    fs::write(dir.join("odd\nname -rf --delete"), "odd").unwrap();
    chown(dir.join("odd\nname -rf --delete"), Some(ZIMBRA_ID), Some(ZIMBRA_ID)).unwrap();
    let inside = format!("/opt/zimbra/store/0/{}/msg/0", mailbox.number);
    site.shell("store1", &format!("mknod {inside}/null c 1 3; mkfifo {inside}/pipe; chown zimbra: {inside}/pipe"));
    let mailbox = site.again(&mailbox);
    let number = site.next_number();
    site.move_it(&mailbox).assert(0, &[]);
    let odd = site.shell(
        "store2",
        &format!(
            "find /opt/zimbra/store/0/{number} ! -type d ! -type f; find /opt/zimbra/store/0/{number} -name 'odd*'"
        ),
    );
    assert_eq!(odd, "");
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").unwrap(), "active");
    site.shell("store1", &format!("rm {inside}/null {inside}/pipe {inside}/odd* {inside}/link {inside}/999999-1.msg"));
}
