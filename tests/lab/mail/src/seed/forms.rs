//! Metadata as Zimbra writes it, by kind of item.

use crate::bencode::{Dict, Value, dict, encode};

/// The version of metadata.
const VERSION: i64 = 10;

/// Somebody who writes mail.
#[derive(Clone, Debug)]
pub(super) struct Person {
    /// The name that a list of messages shows.
    pub(super) name: String,
    /// The address.
    pub(super) address: String,
}

impl Person {
    /// As a header has it.
    pub(super) fn header(&self) -> String {
        format!("{} <{}>", self.name, self.address)
    }

    /// As the column of senders has it.
    pub(super) fn column(&self) -> String {
        self.name.chars().take(128).collect()
    }
}

/// Of a message or a chat. `from` and `to` are headers.
pub(super) fn message(fragment: &str, from: &str, to: &str) -> Dict {
    dict([("f", fragment.into()), ("s", from.into()), ("t", to.into()), ("v", VERSION.into())])
}

/// Of a conversation: its list of senders is metadata within metadata.
pub(super) fn conversation(senders: &[Person], last: u32, count: u32) -> Dict {
    let entry = |person: &Person| -> Value {
        let first = person.name.split(' ').next().unwrap_or_default();
        dict([("a", person.address.as_str().into()), ("d", first.into()), ("p", person.name.as_str().into())]).into()
    };
    let senders = encode(&dict([
        ("X", "false".into()),
        ("en", Value::List(senders.iter().map(entry).collect())),
        ("ld", (i64::from(last) * 1000).into()),
        ("no", i64::from(count).into()),
        ("v", VERSION.into()),
    ]));
    dict([("prt", senders.into()), ("v", VERSION.into())])
}

/// Of a contact without a picture.
pub(super) fn contact(fields: Dict) -> Dict {
    dict([("fld", fields.into()), ("v", VERSION.into())])
}

/// Of a contact's picture of so many bytes.
pub(super) fn attachment(size: usize) -> Value {
    let picture = dict([
        ("ctype", "image/png".into()),
        ("field", "image".into()),
        ("name", "picture.png".into()),
        ("part", "1".into()),
        ("size", i64::try_from(size).unwrap_or(i64::MAX).into()),
    ]);
    Value::List(vec![picture.into()])
}

/// Of a document, or of one of its revisions. Only what has been saved again says which version it is.
pub(super) fn document(creator: &str, content_type: &str, fragment: &str, version: u32) -> Dict {
    let mut all = dict([
        ("cr", creator.into()),
        ("ct", content_type.into()),
        ("dee", "true".into()),
        ("f", fragment.into()),
        ("lt", 0.into()),
        ("mdver", i64::from(version * 2).into()),
        ("v", VERSION.into()),
    ]);
    if version > 1 {
        all.insert("ver".into(), i64::from(version).into());
    }
    all
}

/// Of a note.
pub(super) fn note() -> Dict {
    dict([("c", 2.into()), ("l", "10,20,300,200".into()), ("v", VERSION.into())])
}

/// Of a comment by an account.
pub(super) fn comment(account_id: &str) -> Dict {
    dict([("cr", account_id.into()), ("v", VERSION.into())])
}

/// Of a saved search.
pub(super) fn search(query: &str) -> Dict {
    dict([("q", query.into()), ("s", "dateDesc".into()), ("t", "message".into()), ("v", VERSION.into())])
}

/// Of a mountpoint of another account's folder.
pub(super) fn mountpoint(owner: &str, folder: i64, folder_uuid: &str) -> Dict {
    dict([
        ("aid", owner.into()),
        ("c", 2.into()),
        ("das", "true".into()),
        ("id", folder.into()),
        ("rem", "true".into()),
        ("ruuid", folder_uuid.into()),
        ("v", VERSION.into()),
        ("vt", 11.into()),
    ])
}

/// Of a folder. `attributes` are those of system folders; `next_uid` and `changed` what IMAP clients are told; `bytes` what is
/// in it; `view` the kind of item that it shows, where it says one.
pub(super) fn folder(attributes: Option<i64>, next_uid: u32, changed: u32, bytes: u64, view: Option<i64>) -> Dict {
    let mut all = dict([
        ("das", "false".into()),
        ("mseq", i64::from(changed).into()),
        ("unxt", i64::from(next_uid).into()),
        ("v", VERSION.into()),
    ]);
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    for (key, value) in [("a", attributes), ("sz", Some(bytes).filter(|bytes| *bytes > 0)), ("vt", view)] {
        if let Some(value) = value {
            all.insert(key.into(), value.into());
        }
    }
    all
}

/// A grant on a folder to another account, beside what the folder's metadata has anyway.
pub(super) fn share(all: &mut Dict, grantee: &str) {
    let grant = dict([("e", 0.into()), ("g", grantee.into()), ("r", 1.into()), ("t", 1.into())]);
    let list = dict([("g", Value::List(vec![grant.into()])), ("ge", 0.into()), ("ie", 0.into())]);
    all.extend(dict([("aclm", list.into()), ("c", 4.into()), ("mdver", 2.into())]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::decode;

    #[test]
    fn a_conversation_keeps_its_senders_as_text() {
        let person = Person { name: "Zo\u{eb} B".into(), address: "z@x.test".into() };
        let all = conversation(std::slice::from_ref(&person), 7, 2);
        let Some(Value::Text(senders)) = all.get("prt") else { panic!("{all:?}") };
        assert_eq!(senders, "d1:X5:false2:enld1:a8:z@x.test1:d3:Zo\u{eb}1:p5:Zo\u{eb} Bee2:ldi7000e2:noi2e1:vi10ee");
        assert!(decode(senders).is_some());
        assert_eq!(person.header(), "Zo\u{eb} B <z@x.test>");
    }

    #[test]
    fn what_is_not_there_is_not_said() {
        assert_eq!(encode(&folder(None, 3, 1, 0, None)), "d3:das5:false4:mseqi1e4:unxti3e1:vi10ee");
        assert!(!document("a", "b", "c", 1).contains_key("ver"));
    }
}
