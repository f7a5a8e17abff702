//! What the seeder writes has the form that Zimbra's own classes gave the golden mailboxes: for every kind of item, which
//! columns are NULL and which keys its metadata has.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{ACCOUNT, TestStore};
use lab_mail::bencode::{Dict, Value, decode};
use lab_mail::golden::{Archive, Golden};
use lab_mail::seed::{Spec, seed};
use mysql::prelude::Queryable;

/// The forms that were met, by what has them.
#[derive(Debug, Default)]
struct Forms(BTreeMap<String, BTreeSet<String>>);

impl Forms {
    fn note(&mut self, what: impl Into<String>, form: impl Into<String>) {
        self.0.entry(what.into()).or_default().insert(form.into());
    }

    /// What is here and not in `known`.
    fn beyond(&self, known: &Forms) -> Vec<String> {
        let none = BTreeSet::new();
        let strange = self.0.iter().flat_map(|(what, forms)| {
            let known = known.0.get(what).unwrap_or(&none);
            forms.difference(known).map(move |form| format!("{what}: {form}"))
        });
        strange.collect()
    }

    /// All of a mailbox.
    fn of(store: &mut TestStore, mailbox: u32, group: u32) -> Self {
        let mut forms = Forms::default();
        for table in ["mail_item", "mail_item_dumpster", "revision", "revision_dumpster", "tag", "tombstone", "event"] {
            let rows: Vec<mysql::Row> = store
                .conn
                .query(format!("SELECT * FROM mboxgroup{group}.{table} WHERE mailbox_id = {mailbox}"))
                .unwrap();
            rows.into_iter().for_each(|row| forms.row(table.trim_end_matches("_dumpster"), row));
        }
        for table in ["mboxgroup.data_source_item", "zimbra.scheduled_task", "zimbra.mailbox_metadata"] {
            let name = table.replace("mboxgroup.", &format!("mboxgroup{group}."));
            let rows: Vec<mysql::Row> =
                store.conn.query(format!("SELECT * FROM {name} WHERE mailbox_id = {mailbox}")).unwrap();
            rows.into_iter().for_each(|row| forms.row(table, row));
        }
        forms
    }

    fn row(&mut self, table: &str, row: mysql::Row) {
        let columns: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
        let row: BTreeMap<String, Option<String>> =
            columns.into_iter().zip(row.unwrap()).map(|(column, value)| (column, text(value))).collect();
        let value = |column: &str| row.get(column).cloned().flatten();
        let null = |free: &[&str]| {
            let all = row.iter().filter(|(column, value)| value.is_none() && !free.contains(&column.as_str()));
            all.map(|(column, _)| column.as_str()).collect::<Vec<_>>().join(",")
        };
        match table {
            "mail_item" => {
                let kind = format!("item of type {}", value("type").unwrap());
                // Whether something has a tag, was moved or is in a conversation is nothing of its form.
                self.note(format!("{kind}, NULL"), null(&["tag_names", "prev_folders", "parent_id"]));
                self.keys(&kind, &value("metadata").unwrap());
            }
            "revision" => {
                self.note("revision, NULL", null(&[]));
                self.keys("revision", &value("metadata").unwrap());
            }
            "tag" => {
                let flag = value("id").filter(|id| id.starts_with('-'));
                let columns = ["color", "listed", "sequence", "policy"].map(value);
                if let Some(flag) = flag {
                    self.note("flag", format!("{flag} {:?} {columns:?}", value("name")));
                }
            }
            "tombstone" => {
                let ids = value("ids").unwrap();
                let with_uuid = ids.split(',').map(|id| id.contains(':')).collect::<BTreeSet<_>>();
                self.note(format!("tombstone of type {}", value("type").unwrap()), format!("{with_uuid:?}"));
            }
            "event" => {
                self.note("event, NULL", null(&[]));
                self.note("event", value("op").unwrap());
                self.keys("event", &value("arg").unwrap());
            }
            "mboxgroup.data_source_item" => self.keys(table, &value("metadata").unwrap()),
            "zimbra.scheduled_task" => {
                self.keys(&format!("{table} {}", value("class_name").unwrap()), &value("metadata").unwrap());
            }
            _ if value("section").as_deref() == Some("imap") => self.keys("section imap", &value("metadata").unwrap()),
            _ => {}
        }
    }

    /// The keys of metadata, and of what is in it.
    fn keys(&mut self, what: &str, metadata: &str) {
        let start: String = metadata.chars().take(100).collect();
        let all = decode(metadata).unwrap_or_else(|| panic!("{what}: not metadata: {start}"));
        self.note(format!("{what}, keys"), names(&all));
        if let Some(Value::Text(senders)) = all.get("prt") {
            self.note(format!("{what}, senders"), names(&decode(senders).unwrap()));
        }
        for inner in ["inv0", "tzm", "fld", "apptRecur"] {
            if let Some(Value::Dict(all)) = all.get(inner) {
                // Much of these depends on what somebody entered; each name must be known.
                all.keys().for_each(|key| self.note(format!("{what}, {inner}"), key));
            }
        }
    }
}

fn names(all: &Dict) -> String {
    all.keys().cloned().collect::<Vec<_>>().join(",")
}

fn text(value: mysql::Value) -> Option<String> {
    match value {
        mysql::Value::NULL => None,
        mysql::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

#[test]
fn what_is_seeded_has_the_form_of_what_zimbra_writes() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut store = TestStore::start("store1.lab.test");
    let mut known = Forms::default();
    for archive in Archive::ALL {
        let golden = Golden::unpack(archive, dir.path()).unwrap();
        let (mailbox, group) = (golden.manifest.mailbox, golden.manifest.group);
        golden.load(&mut store.conn, &store.home, mailbox, group).unwrap();
        for (what, forms) in Forms::of(&mut store, mailbox, group).0 {
            known.0.entry(what).or_default().extend(forms);
        }
    }
    for (mailbox, group) in [(7, 7), (5, 5)] {
        let account = format!("{mailbox}{}", &ACCOUNT[1..]);
        let spec = Spec { group, ..Spec::new(mailbox, &account, "user@lab.test") }.hurting();
        seed(&mut store.conn, &store.home, &spec).unwrap();
        let forms = Forms::of(&mut store, mailbox, group);
        assert_eq!(forms.beyond(&known), Vec::<String>::new(), "mailbox {mailbox}");
        // Every kind of item is there, so that none escapes the comparison.
        let kinds =
            |forms: &Forms| forms.0.keys().filter(|what| what.starts_with("item of")).cloned().collect::<BTreeSet<_>>();
        assert_eq!(kinds(&known).difference(&kinds(&forms)).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

/// The comparison must be able to fail.
#[test]
fn a_form_that_zimbra_does_not_know_is_seen() {
    let mut known = Forms::default();
    known.keys("folder", "d4:mseqi1e4:unxti2ee");
    let mut other = Forms::default();
    other.keys("folder", "d6:i4nexti2e6:modseqi1ee");
    assert_eq!(other.beyond(&known), ["folder, keys: i4next,modseq"]);
    assert_eq!(known.beyond(&known), Vec::<String>::new());
}
