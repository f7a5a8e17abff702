//! The `metadata` column: bencoded dictionaries, and how they are stored where a table cannot hold their characters.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `i42e`.
    Int(i64),
    /// `4:spam`; the length counts as Java does, in units of UTF-16.
    Text(String),
    /// `l...e`.
    List(Vec<Value>),
    /// `d...e`, keys in order.
    Dict(Dict),
}

/// A dictionary.
pub type Dict = BTreeMap<String, Value>;

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Dict> for Value {
    fn from(dict: Dict) -> Self {
        Self::Dict(dict)
    }
}

/// A dictionary of these pairs.
pub fn dict<const N: usize>(pairs: [(&str, Value); N]) -> Dict {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// As a column holds it that takes no characters of four bytes: as an encoded word, when there are some.
pub fn encode_narrow(dict: &Dict) -> String {
    let text = encode(dict);
    match text.chars().any(|c| c > '\u{ffff}') {
        true => format!("=?UTF-8?B?{}?=", STANDARD.encode(text)),
        false => text,
    }
}

/// As text.
pub fn encode(dict: &Dict) -> String {
    let mut out = String::new();
    write(&Value::Dict(dict.clone()), &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    let text = |t: &str, out: &mut String| {
        out.push_str(&length(t).to_string());
        out.push(':');
        out.push_str(t);
    };
    match value {
        Value::Int(n) => {
            out.push('i');
            out.push_str(&n.to_string());
            out.push('e');
        }
        Value::Text(t) => text(t, out),
        Value::List(all) => {
            out.push('l');
            all.iter().for_each(|v| write(v, out));
            out.push('e');
        }
        Value::Dict(dict) => {
            out.push('d');
            for (key, value) in dict {
                text(key, out);
                write(value, out);
            }
            out.push('e');
        }
    }
}

/// Reads a dictionary, as it is or as an encoded word; nothing when the text is something else.
pub fn decode(text: &str) -> Option<Dict> {
    if let Some(word) = text.strip_prefix("=?UTF-8?B?").and_then(|rest| rest.strip_suffix("?=")) {
        return decode(&String::from_utf8(STANDARD.decode(word).ok()?).ok()?);
    }
    match read(text, 0)? {
        (Value::Dict(dict), "") => Some(dict),
        _ => None,
    }
}

fn read(text: &str, depth: usize) -> Option<(Value, &str)> {
    if depth > 32 {
        return None;
    }
    match text.bytes().next()? {
        b'i' => {
            let (number, rest) = text[1..].split_once('e')?;
            Some((Value::Int(number.parse().ok()?), rest))
        }
        b'l' => {
            let (mut all, mut rest) = (Vec::new(), &text[1..]);
            while !rest.starts_with('e') {
                let (value, after) = read(rest, depth + 1)?;
                all.push(value);
                rest = after;
            }
            Some((Value::List(all), &rest[1..]))
        }
        b'd' => {
            let (mut dict, mut rest) = (Dict::new(), &text[1..]);
            while !rest.starts_with('e') {
                let (Value::Text(key), after) = read(rest, depth + 1)? else { return None };
                let (value, after) = read(after, depth + 1)?;
                dict.insert(key, value);
                rest = after;
            }
            Some((Value::Dict(dict), &rest[1..]))
        }
        _ => {
            let (units, rest) = text.split_once(':')?;
            let (text, rest) = rest.split_at(bytes_of(rest, units.parse().ok()?)?);
            Some((Value::Text(text.to_string()), rest))
        }
    }
}

/// The length of a text as it stands before it.
pub fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// How many bytes at the start of a text make that many units.
fn bytes_of(text: &str, units: usize) -> Option<usize> {
    let mut seen = 0;
    for (at, c) in text.char_indices() {
        if seen >= units {
            return (seen == units).then_some(at);
        }
        seen += c.len_utf16();
    }
    (seen == units).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folders_are_read_and_written() {
        let text = "d1:ai0e4:listli1e1:xe4:mseqi12e4:name4:K\u{e4}see";
        assert_eq!(encode(&decode(text).unwrap()), text);
        for bad in ["", "x", "i1e", "d1:a", "d1:ai1ee ", "di1ei1ee", "d9:ae", "d1:ai--1ee"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_column_cannot_hold_is_encoded() {
        let (plain, wide) = (dict([("n", "\u{e4}".into())]), dict([("n", "\u{1f600}".into())]));
        assert_eq!(encode_narrow(&plain), "d1:n1:\u{e4}e");
        assert_eq!(encode_narrow(&wide), "=?UTF-8?B?ZDE6bjI68J+YgGU=?=");
        assert_eq!(decode(&encode_narrow(&wide)), Some(wide));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".*") {
            let _ = decode(&text);
        }

        #[test]
        fn what_is_written_is_read(pairs in prop::collection::btree_map("[a-z]{0,4}\u{e4}?\u{1f600}?", any::<i64>(), 0..6)) {
            let dict: Dict = pairs.into_iter().map(|(k, n)| (k.clone(), Value::List(vec![Value::Int(n), Value::Text(k)]))).collect();
            prop_assert_eq!(decode(&encode(&dict)), Some(dict));
        }
    }
}
