//! The hosts of a booted lab reach each other as the hosts of a Zimbra do, and lose power as hosts do.

use std::process::Command;

use mysql::prelude::Queryable;
use zlm_lab::{Host, Lab, Memcached, STORES, ScratchLab, Service, account_dn};

const SSH: &str = "ssh -i /opt/zimbra/.ssh/zimbra_identity -o BatchMode=yes -o StrictHostKeyChecking=yes";

/// One lab serves all the checks: each leaves it working.
#[test]
fn hosts_reach_each_other_and_lose_power() {
    let lab = ScratchLab::boot_without_mailboxd().expect("a lab");
    ssh_knows_every_host(&lab);
    root_may_not_log_in(&lab);
    files_belong_to_whom_they_do_on_a_real_host(&lab);
    rsync_copies_between_stores(&lab);
    directory_wants_tls(&lab);
    each_store_has_its_own_password(&lab);
    accounts_can_be_added_and_changed(&lab);
    fingerprint_tells_what_changed(&lab);
    second_boot_leaves_the_lab_as_it_is(&lab);
    services_stop_and_start(&lab);
    power_comes_back(&lab);
    another_lab_is_another_world(&lab);
}

fn host<'lab>(lab: &'lab Lab, name: &str) -> &'lab Host {
    lab.host(name).expect("a host")
}

fn ran(command: &mut Command) -> (bool, String) {
    let out = command.output().expect("a command that can be started");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.success(), text)
}

fn zimbra_runs(host: &Host, script: &str) -> String {
    let (well, text) = ran(&mut host.command("zimbra", &["bash", "-c", script]));
    assert!(well, "{}: {script}: {text}", host.name);
    text
}

fn ssh_knows_every_host(lab: &Lab) {
    for from in ["store1", "store2", "ops1"] {
        for to in ["store1.lab.test", "store2", "10.77.0.31"] {
            let text = zimbra_runs(host(lab, from), &format!("{SSH} zimbra@{to} 'id -un; hostname'"));
            let name = if to == "10.77.0.31" { "proxy1" } else { &to[..6] };
            assert_eq!(text, format!("zimbra\n{name}.lab.test\n"), "{from} to {to}");
        }
    }
}

/// `/opt/zimbra` is root's on a real store, and `/etc` is no part of the machine: what happens to it there is not seen here.
fn files_belong_to_whom_they_do_on_a_real_host(lab: &Lab) {
    let etc = |command: &mut Command| ran(command.args(["-c", "%d:%i", "/etc"])).1;
    for name in STORES {
        let host = host(lab, name);
        let owners = zimbra_runs(host, "stat -c '%U %n' . conf store index data log .ssh");
        assert_eq!(
            owners.replace('\n', " "),
            "root . zimbra conf zimbra store zimbra index zimbra data zimbra log zimbra .ssh "
        );
        assert_ne!(etc(&mut host.command("root", &["stat"])), etc(&mut Command::new("stat")), "{name}");
        assert_eq!(zimbra_runs(host, "id -un; ls -d /var/lib/zlm 2>/dev/null || true"), "zimbra\n");
    }
}

fn root_may_not_log_in(lab: &Lab) {
    let (well, text) = ran(&mut host(lab, "ops1").command("zimbra", &["bash", "-c", &format!("{SSH} root@store1 id")]));
    assert!(!well && text.contains("Permission denied"), "{text}");
}

fn rsync_copies_between_stores(lab: &Lab) {
    let script =
        format!("mkdir store/x && echo blob > store/x/1-1.msg && rsync -a -e '{SSH}' store/x zimbra@store2:store/");
    zimbra_runs(host(lab, "store1"), &script);
    assert_eq!(zimbra_runs(host(lab, "store2"), "cat store/x/1-1.msg; stat -c %U store/x"), "blob\nzimbra\n");
    assert!(host(lab, "store2").zimbra_path("store/x/1-1.msg").exists());
}

fn directory_wants_tls(lab: &Lab) {
    let password = lab.secret("zimbra_ldap_password").expect("a secret");
    let search = |options: &str| {
        let script = format!(
            "LDAPTLS_CACERT=/opt/zimbra/conf/ca/ca.pem ldapsearch -LLL {options} -x -H ldap://ldap1.lab.test \
             -D uid=zimbra,cn=admins,cn=zimbra -w {password} -b '' '(zimbraServiceEnabled=memcached)' 1.1"
        );
        ran(&mut host(lab, "store1").command("zimbra", &["bash", "-c", &script]))
    };
    let (well, text) = search("-ZZ");
    assert!(well, "{text}");
    assert_eq!(text.matches("dn: ").count(), 3, "{text}");
    let (well, text) = search("");
    assert!(!well && text.contains("confidentiality required"), "{text}");
}

fn each_store_has_its_own_password(lab: &Lab) {
    for store in STORES {
        for owner in STORES {
            let password = lab.secret(&format!("{owner}.zimbra_mysql_password")).expect("a secret");
            let script = format!(
                "mariadb -h 127.0.0.1 -P 7306 -u zimbra -p{password} -BN -e 'SELECT @@sql_mode, @@max_connections'"
            );
            let (well, text) = ran(&mut host(lab, store).command("zimbra", &["bash", "-c", &script]));
            assert_eq!(well, store == owner, "{text}");
            assert!(!well || text == "\t110\n", "{text:?}");
        }
    }
}

fn accounts_can_be_added_and_changed(lab: &Lab) {
    let attributes = [("zimbraMailAlias", "anna@lab.test"), ("displayName", "Ann \u{e9}")];
    let id = lab.add_account("ann", "store2", &attributes).expect("an account");
    let found = lab.ldap_get("(mail=anna@lab.test)").expect("a search");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].dn, account_dn("ann"));
    assert_eq!(found[0].value("zimbraId"), Some(id.as_str()));
    assert_eq!(found[0].value("zimbraMailHost"), Some("store2.lab.test"));
    assert_eq!(found[0].value("displayName"), Some("Ann \u{e9}"));
    assert_eq!(found[0].values("mail").len(), 2);
    lab.ldap_modify(&account_dn("ann"), &[("zimbraAccountStatus", &["maintenance"]), ("displayName", &[])])
        .expect("a change");
    let entry = &lab.ldap_get(&account_dn("ann")).expect("an entry")[0];
    assert_eq!(entry.value("zimbraAccountStatus"), Some("maintenance"));
    assert_eq!(entry.values("displayName"), Vec::<String>::new());
    assert!(lab.add_account("ann", "store1", &[]).is_err(), "an account twice");
}

fn fingerprint_tells_what_changed(lab: &Lab) {
    let mut memcached = Memcached::of(host(lab, "proxy1")).expect("memcached");
    memcached.set("route:proto=http;user=ann@lab.test", b"10.77.0.22:8080").expect("a value");
    let before = lab.fingerprint().expect("a fingerprint");
    let unchanged = lab.fingerprint().expect("a fingerprint");
    assert_eq!(unchanged.differences_from(&before), Vec::<String>::new());

    memcached.set("route:proto=http;user=ann@lab.test", b"10.77.0.21:8080").expect("a value");
    lab.ldap_modify(&account_dn("ann"), &[("zimbraAccountStatus", &["maintenance"])]).expect("the same value again");
    zimbra_runs(host(lab, "store1"), "chmod 600 store/x/1-1.msg; echo more > /var/tmp/new");
    let mut connection = host(lab, "store2").mysql().expect("MariaDB");
    connection.query_drop("UPDATE zimbra.config SET value = '119', modified = modified").expect("a change");
    connection.query_drop("CREATE DATABASE mboxgroup7").expect("a database");

    let differences = lab.fingerprint().expect("a fingerprint").differences_from(&before);
    let named = |name: &str| differences.iter().filter(|line| line.starts_with(name)).count();
    for name in [
        "proxy1 memcached route:proto=http;user=ann@lab.test: was",
        "ldap1 dn: uid=ann,ou=people,dc=lab,dc=test: was",
        "store1 file /opt/zimbra/store/x/1-1.msg: was 100644",
        "store1 file /var/tmp/new: new",
        "store2 table zimbra.config: was 2 rows",
        "store2 database mboxgroup7: new",
    ] {
        assert_eq!(named(name), 1, "{name} in {differences:#?}");
    }
    // The directory a file was made in is as it was: only names, modes and owners of directories count.
    assert_eq!(differences.len(), 6, "{differences:#?}");
    connection.query_drop("DROP DATABASE mboxgroup7").expect("no database");
}

fn second_boot_leaves_the_lab_as_it_is(lab: &Lab) {
    let before = lab.fingerprint().expect("a fingerprint");
    let again = Lab::boot_without_mailboxd(lab.dir()).expect("the same lab");
    assert_eq!(again.fingerprint().expect("a fingerprint").differences_from(&before), Vec::<String>::new());
    assert_eq!(Lab::open(lab.dir()).expect("a lab").hosts().len(), 6);
}

fn services_stop_and_start(lab: &Lab) {
    for (name, service) in [
        ("store1", Service::Mariadb),
        ("store2", Service::Sshd),
        ("proxy1", Service::Memcached),
        ("ldap1", Service::Slapd),
    ] {
        lab.stop(name, service).expect("an end");
        assert!(!lab.answers(name, service).expect("an answer"), "{service} answers after its end");
        lab.start(name, service).expect("a start");
        lab.kill(name, service).expect("a crash");
        assert!(!lab.answers(name, service).expect("an answer"), "{service} answers after a crash");
        lab.start(name, service).expect("a start after a crash");
    }
    assert!(lab.start("ops1", Service::Sshd).is_err(), "the operator's host serves nothing");
}

fn power_comes_back(lab: &Lab) {
    let store = host(lab, "store2");
    let mut connection = store.mysql().expect("MariaDB");
    connection.query_drop("INSERT INTO zimbra.config (name, value) VALUES ('kept', 'yes')").expect("a row");
    // A table that comes and goes forces what was committed onto the disk.
    connection.query_drop("CREATE TABLE zimbra.barrier (a INT); DROP TABLE zimbra.barrier").expect("a barrier");
    lab.power_cut("store2").expect("a cut");
    assert!(!store.is_up());
    assert!(store.mysql().is_err());
    let (well, _) = ran(&mut store.command("zimbra", &["true"]));
    assert!(!well, "a command ran on a host without power");
    let dead = format!("{SSH} -o ConnectTimeout=1 zimbra@store2 true");
    assert!(!ran(&mut host(lab, "store1").command("zimbra", &["bash", "-c", &dead])).0);

    lab.boot_host("store2").expect("power");
    let kept: Option<String> = store
        .mysql()
        .expect("MariaDB")
        .query_first("SELECT value FROM zimbra.config WHERE name = 'kept'")
        .expect("a row");
    assert_eq!(kept.as_deref(), Some("yes"));
    ssh_knows_every_host(lab);
}

fn another_lab_is_another_world(lab: &Lab) {
    let other = ScratchLab::boot_without_mailboxd().expect("a second lab");
    assert_ne!(
        other.secret("zimbra_ldap_password").expect("a secret"),
        lab.secret("zimbra_ldap_password").expect("a secret")
    );
    assert_eq!(other.ldap_get("(uid=ann)").expect("a search"), []);
    assert_eq!(lab.ldap_get("(uid=ann)").expect("a search").len(), 1);
    let gone = other.dir().to_owned();
    drop(other);
    assert!(!gone.exists());
    ssh_knows_every_host(lab);
}
