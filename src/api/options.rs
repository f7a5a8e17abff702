//! Maps of options: what each function takes, read into a struct, so that a misspelt name is an error.

use std::collections::BTreeMap;

use rhai::{Dynamic, Map};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};

use crate::error::{Context, Kind, Result};

/// Options of `dump_table`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DumpTable {
    /// Only rows of this mailbox.
    pub(super) mailbox: Option<u32>,
    /// Only rows for which this SQL condition holds; `?` stands for a value.
    pub(super) r#where: Option<String>,
    /// The values for `where`, in order.
    pub(super) values: Vec<serde_json::Value>,
}

/// Options of `inject`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Inject {
    /// Connections that write at once.
    pub(super) writers: Option<usize>,
    /// Rows a second into the store at most.
    pub(super) rows_per_second: Option<u32>,
    /// Bytes of rows a second into the store at most.
    pub(super) bytes_per_second: Option<u64>,
}

/// Options of `rsync`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rsync {
    /// At most so many KiB a second.
    pub(super) bwlimit: Option<u32>,
    /// Whether files that are gone at the source are deleted at the destination.
    pub(super) delete: bool,
    /// Whether files that vanish while they are copied are normal: they are while the user works.
    pub(super) vanishing: bool,
    /// Whether contents are compared, not sizes and times.
    pub(super) checksum: bool,
    /// Whether processor and disk are left to others; as configured unless given.
    pub(super) gentle: Option<bool>,
}

/// Options of `soap_modify`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SoapModify {
    /// Allows `zimbraMailHost` to be set to a copy that nobody proved.
    pub(super) unverified: bool,
}

/// Options of `flush_caches`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FlushCaches {
    /// Stores whose mailboxd forgets the account.
    pub(super) stores: Vec<String>,
    /// Servers whose memcached forgets the account's routes.
    pub(super) memcached: Vec<String>,
}

/// Options of `look`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Look {
    /// Goes on though these blobs are missing at the source.
    pub(super) allow_missing_blobs: bool,
}

/// Options of `look_back`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LookBack {
    /// The store that the move took it to.
    pub(super) source: String,
    /// The mailbox's number there.
    pub(super) mailbox: u32,
    /// The number of the copy that was kept.
    pub(super) kept: u32,
    /// The copy's `change_checkpoint` when it was left.
    pub(super) changes: u64,
}

/// Options of `frozen_within`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FrozenWithin {
    /// How long the account may be frozen; for as long as it takes where it is not given.
    pub(super) seconds: Option<f64>,
    /// How often it is tried at most.
    pub(super) tries: u32,
    /// Seconds before the second try; twice as many before each next one.
    pub(super) pause: f64,
}

impl Default for FrozenWithin {
    fn default() -> Self {
        Self { seconds: None, tries: 5, pause: 30.0 }
    }
}

/// Options of `retry`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    /// How often it is tried at most.
    pub(super) times: u32,
    /// Seconds before the second try; twice as many before each next one.
    pub(super) wait: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 3, wait: 1.0 }
    }
}

/// Options of `parallel`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parallel {
    /// How many run at once.
    pub(super) jobs: Option<usize>,
}

/// Options of `notify`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Notify {
    /// The subject line.
    pub(super) subject: String,
    /// The text.
    pub(super) text: String,
}

/// Options of `run_script` that are not the script's own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunScript {
    /// A file for this run's events.
    pub(super) log: Option<String>,
}

/// Options of `read_list`: the script that its entries are for, and how it will be run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReadList {
    /// The script.
    pub(super) script: Option<String>,
    /// Options of every entry; its own win.
    pub(super) options: BTreeMap<String, Dynamic>,
    /// Whether each account's events go to a log of its own.
    pub(super) separate_log: bool,
}

/// Options of `run_each`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunEach {
    /// Options of every entry; its own win.
    pub(super) options: BTreeMap<String, Dynamic>,
    /// How many run at once.
    pub(super) jobs: Option<usize>,
    /// Whether each account's events go to a log of its own.
    pub(super) separate_log: bool,
}

/// Gives the names of a struct's fields.
type Names = fn() -> Vec<&'static str>;

/// Position of the map and the names it may hold, for each function that takes one.
pub(super) const TABLE: &[(&str, usize, Names)] = &[
    ("dump_table", 3, names::<DumpTable>),
    ("inject", 2, names::<Inject>),
    ("rsync", 2, names::<Rsync>),
    ("soap_modify", 2, names::<SoapModify>),
    ("flush_caches", 1, names::<FlushCaches>),
    ("look", 2, names::<Look>),
    ("look_back", 2, names::<LookBack>),
    ("frozen_within", 0, names::<FrozenWithin>),
    ("retry", 1, names::<Retry>),
    ("parallel", 1, names::<Parallel>),
    ("notify", 1, names::<Notify>),
    ("run_script", 2, names::<RunScript>),
    ("read_list", 1, names::<ReadList>),
    ("run_each", 2, names::<RunEach>),
];

/// Reads the options of `function` out of a script's map.
///
/// Fails with [`Kind::Usage`] on a name that it does not take or a value of the wrong type.
pub(super) fn decode<T: DeserializeOwned>(function: &str, map: &Map) -> Result<T> {
    rhai::serde::from_dynamic(&Dynamic::from(map.clone())).context(Kind::Usage, || format!("{function}: options"))
}

/// The names of a struct's fields, as its deserializer knows them.
fn names<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names = Vec::new();
    // The deserializer only listens; that it then refuses to give a value is how it ends.
    let _ = T::deserialize(Listener(&mut names));
    names
}

struct Listener<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("only structs have names"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend_from_slice(fields);
        Err(serde::de::Error::custom("the names were all that was asked"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_structs() {
        assert_eq!(names::<DumpTable>(), ["mailbox", "where", "values"]);
        assert_eq!(names::<FlushCaches>(), ["stores", "memcached"]);
    }

    #[test]
    fn a_misspelt_option_is_an_error() {
        let map = Map::from([("bwlimt".into(), 5_i64.into())]);
        let error = decode::<Rsync>("rsync", &map).unwrap_err();
        assert!(error.to_string().contains("bwlimt"), "{error}");
    }
}
