//! What zlm keeps on a host, as zimbra and without configuration: on a real store `/opt/zimbra` is root's.

use crate::site::{Site, site};

const STATE: &str = "/opt/zimbra/data/zlm";

/// A site whose first store belongs to whom it belongs on a real one.
fn real_store() -> Site {
    let site = site();
    site.shell(
        "store1",
        "chown root: /opt/zimbra; chmod 755 /opt/zimbra; rm -rf /opt/zimbra/.local /opt/zimbra/data/zlm",
    );
    site
}

#[test]
fn zimbra_needs_no_configuration() {
    let site = real_store();
    let mailbox = site.mailbox();
    site.move_it(&mailbox).assert(0, &[]);
    site.assert_moved(&mailbox);
    let kept = site.shell(
        "store1",
        &format!("stat -c '%U %a' {STATE} {STATE}/journal; ls {STATE} /opt/zimbra/.local 2>&1 || true"),
    );
    assert!(kept.starts_with("zimbra 700\nzimbra 700\n"), "{kept}");
    assert!(kept.contains("zlm.log") && kept.contains("cannot access '/opt/zimbra/.local'"), "{kept}");
    assert!(site.run_of(&mailbox).contains('-'));
}

#[test]
fn place_that_others_can_write_is_refused() {
    let site = real_store();
    let mailbox = site.mailbox();
    site.shell("store1", &format!("mkdir -m 777 {STATE}; chmod 777 {STATE}; chown zimbra: {STATE}"));
    let ended = site.move_it(&mailbox);
    site.shell("store1", &format!("rm -rf {STATE}"));
    ended.assert(2, &[STATE, "others can write in it", "[log] in zlm.toml"]);
    site.assert_untouched(&mailbox);
}

#[test]
fn place_that_cannot_be_made_is_named_with_its_setting() {
    let site = real_store();
    let mailbox = site.mailbox();
    site.shell("store1", "chown root: /opt/zimbra/data /opt/zimbra/conf");
    let (shown, moved) = (site.zlm("store1", &["ps"]), site.move_it(&mailbox));
    site.shell("store1", "chown zimbra: /opt/zimbra/data /opt/zimbra/conf");
    shown.assert(2, &["/opt/zimbra/data/zlm/journal: making the directory", "`dir` of [journal] in zlm.toml"]);
    moved.assert(2, &["/opt/zimbra/data/zlm: making the directory", "`file` of [log] in zlm.toml"]);
    site.assert_untouched(&mailbox);
}
