//! Two stores that are not set up alike.

use zlm_lab::{STORES, Service};

use crate::site::{Site, site};

/// Starts the MariaDBs of both stores in other time zones, as `TZ` says them, for as long as `body` runs.
fn in_zones<T>(site: &Site, zones: [&str; 2], body: impl FnOnce() -> T) -> T {
    let restart = |store: &str| {
        site.stop(store, Service::Mariadb).unwrap();
        site.start(store, Service::Mariadb).unwrap();
    };
    for (store, zone) in STORES.iter().zip(zones) {
        site.shell(store, &format!("echo \"export TZ='{zone}'\" > /opt/lab/etc/mariadb.env"));
        restart(store);
    }
    let result = body();
    for store in STORES {
        site.shell(store, "rm /opt/lab/etc/mariadb.env");
        restart(store);
    }
    result
}

#[test]
fn clocks_that_agree_may_be_called_differently() {
    let site = site();
    let mailbox = site.mailbox();
    in_zones(&site, ["Europe/Berlin", "WINTER-1SUMMER,M3.5.0,M10.5.0/3"], || {
        let name = |store| {
            site.shell(store, "mariadb -S /opt/zimbra/data/tmp/mysql/mysql.sock -NBe 'SELECT @@system_time_zone'")
        };
        assert_ne!(name("store1"), name("store2"));
        site.move_it(&mailbox).assert(0, &[]);
    });
    site.assert_moved(&mailbox);
}

#[test]
fn clocks_that_differ_may_be_called_alike() {
    let site = site();
    let mailbox = site.mailbox();
    in_zones(&site, ["America/Chicago", "Asia/Shanghai"], || {
        site.move_it(&mailbox).assert(
            3,
            &[
                "different time zones (CST and CST)",
                ": when the source's clock shows 20",
                ", the destination's shows 20",
            ],
        );
    });
    site.assert_rolled_back(&mailbox);
}

#[test]
fn clocks_that_differ_in_summer_only_are_refused() {
    let site = site();
    let mailbox = site.mailbox();
    in_zones(&site, ["CET-1", "CET-1CEST,M3.5.0,M10.5.0/3"], || {
        site.move_it(&mailbox).assert(3, &["different time zones (CET and CET)"]);
    });
    site.assert_rolled_back(&mailbox);
}

/// Settings for everybody, and what they were.
const FOR_ALL: [(&str, &str); 6] = [
    ("sql_select_limit", "10"),
    ("max_statement_time", "0.001"),
    ("sql_safe_updates", "1"),
    ("sql_big_selects", "0"),
    ("max_join_size", "100"),
    ("max_error_count", "0"),
];

#[test]
fn settings_for_everybody_change_no_answer() {
    let site = site();
    let mailbox = site.mailbox();
    let was: Vec<(&str, &str, String)> = STORES
        .iter()
        .flat_map(|store| FOR_ALL.map(|(name, _)| (*store, name)))
        .map(|(store, name)| {
            let shown = format!("mariadb -S /opt/zimbra/data/tmp/mysql/mysql.sock -NBe 'SELECT @@global.{name}'");
            (store, name, site.shell(store, &shown).trim().to_owned())
        })
        .collect();
    for store in STORES {
        FOR_ALL.iter().for_each(|(name, value)| site.sql(store, &format!("SET GLOBAL {name} = {value}")));
    }
    let ended = site.move_it(&mailbox);
    was.iter().for_each(|(store, name, value)| site.sql(store, &format!("SET GLOBAL {name} = {value}")));
    ended.assert(0, &[]);
    site.assert_moved(&mailbox);
}
