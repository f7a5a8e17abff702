use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What an operator would be told of a list.
fn read(bytes: &[u8]) -> Result<Vec<Entry>> {
    let (entries, faults) = parse(bytes);
    if faults.is_empty() { Ok(entries) } else { Err(refused("list", faults)) }
}

fn told(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn an_address_a_line_with_blank_lines_and_comments() {
    let entries = read(b"a@x.test\n\n# no\n  b@x.test  \nc@x.test 0 123\r\n").unwrap();
    assert_eq!(entries.iter().map(|e| e.email.as_str()).collect::<Vec<_>>(), ["a@x.test", "b@x.test", "c@x.test"]);
    assert_eq!(entries[1].line, 4);
}

#[test]
fn columns_by_their_header() {
    let entries =
        read("\u{feff}dest,Email,Max-Frozen,#room\nstore2.x.test,a@x.test,30s,7\n,b@x.test\n".as_bytes()).unwrap();
    assert_eq!(entries[0].options["dest"], "store2.x.test");
    assert_eq!(entries[0].options["max_frozen"], "30s");
    assert!(!entries[0].options.contains_key("#room"), "a column for people");
    assert!(!entries[1].options.contains_key("dest"));
    for delimiter in [";", "\t"] {
        let text = format!("email{delimiter}dest\n\"a@x.test\"{delimiter}\"store2.x.test\"\n");
        assert_eq!(read(text.as_bytes()).unwrap()[0].options["dest"], "store2.x.test");
    }
}

#[test]
fn every_wrong_line_is_named_and_each_fault_once() {
    let error = told(b"a@x.test\nnobody\nb@x.test,x\nc@x.test,y\nd@x.test,z\nA@X.test\n");
    assert!(error.starts_with("list: 5 lines are wrong, and nothing was begun"), "{error}");
    assert!(error.contains("\n  line 2: address 'nobody': has no @"), "{error}");
    assert!(error.contains("\n  lines 3-5: 2 columns where 1 are named"), "{error}");
    assert!(error.contains("\n  line 6: a@x.test is in line 1 already"), "{error}");
}

#[test]
fn an_open_quote_swallows_no_line() {
    let error = told(b"email,dest\n\"a@x.test,s\nb@x.test,s\nnobody,s\n");
    assert!(error.contains("line 2: a quote is opened"), "{error}");
    assert!(error.contains("line 4: address 'nobody'"), "{error}");
    assert!(!error.contains("line 3"), "{error}");
}

#[test]
fn other_encodings_are_named() {
    let utf16: Vec<u8> = "\u{feff}a@x.test\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(told(&utf16).contains("line 1: is UTF-16"));
    let error = told(b"a@x.test\nj\xf6rg@x.test\nb@x.test\nk\xf6rg@x.test\n");
    assert!(error.contains("lines 2, 4: is not UTF-8"), "{error}");
}

/// One line of a list, and whether it is wrong.
fn line() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let good = |text: &str| (text.as_bytes().to_vec(), false);
    let wrong = |text: &str| (text.as_bytes().to_vec(), true);
    prop_oneof![
        8 => Just(good("#,store2.x.test,")),
        2 => Just(good("\"#\",\"store2.x.test\",\"a \"\"b\"\", c\"")),
        1 => Just(good("")),
        1 => Just(good("# somebody@x.test")),
        1 => Just(good(",,")),
        1 => Just(good("#")),
        1 => Just(wrong("\"#,store2.x.test,")),
        1 => Just(wrong("#,store2.x.test,\"")),
        1 => Just(wrong("#,store2.x.test,,more")),
        1 => Just(wrong("nobody,store2.x.test,")),
        1 => Just(wrong("@x.test,store2.x.test,")),
        1 => Just(wrong("#@,store2.x.test,")),
        1 => Just(wrong("#,store2\u{7}.x.test,")),
        1 => Just(wrong("#,store2.x.test,\rb@x.test")),
        1 => Just(wrong(",store2.x.test,")),
        1 => Just(wrong("first@x.test,store2.x.test,")),
        1 => Just((b"#,store2.x.test,\xe4".to_vec(), true)),
    ]
}

proptest! {
    #[test]
    fn exactly_the_wrong_lines_are_told(lines in prop::collection::vec(line(), 0..40), crlf: bool) {
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let mut text = b"email,dest,note".to_vec();
        text.extend(end);
        text.extend(b"first@x.test,store2.x.test,");
        let (mut expected, mut good) = (BTreeSet::new(), vec![2]);
        for (number, (line, is_wrong)) in (3..).zip(&lines) {
            text.extend(end);
            // Each account once.
            let own = format!("user{number}@x.test");
            let is_comment = line.starts_with(b"# ");
            for byte in line {
                if *byte == b'#' && !is_comment { text.extend(own.as_bytes()) } else { text.push(*byte) }
            }
            match is_wrong {
                true => drop(expected.insert(number)),
                false if !is_comment && line.contains(&b'#') => good.push(number),
                false => {}
            }
        }
        let (entries, faults) = parse(&text);
        prop_assert_eq!(faults.iter().map(|fault| fault.line).collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), good);
    }

    #[test]
    fn whatever_is_read_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (entries, faults) = parse(&bytes);
        let lines = bytes.split(|byte| *byte == b'\n').count();
        prop_assert!(entries.len() <= lines);
        if !faults.is_empty() {
            prop_assert!(refused("list", faults).to_string().contains("wrong"));
        }
    }

    #[test]
    fn numbers_name_every_line(lines in prop::collection::btree_set(1u64..60, 1..30)) {
        let text = numbers(&lines.iter().copied().collect::<Vec<_>>());
        let spans = text.trim_start_matches("lines ").trim_start_matches("line ").split(", ");
        let named: BTreeSet<u64> = spans
            .flat_map(|span| {
                let (first, last) = span.split_once('-').unwrap_or((span, span));
                first.parse().unwrap()..=last.parse().unwrap()
            })
            .collect();
        prop_assert_eq!(named, lines);
    }
}
