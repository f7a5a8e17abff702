//! Text of every kind that a mailbox holds: names, subjects, metadata, messages.

use std::sync::OnceLock;

/// Text at the edges of character sets; none needs four bytes in UTF-8.
pub(super) const EDGES: &[&str] = &[
    "plain",
    "Grüße aus Köln, ça va, naïve œuvre",
    "e\u{301} decomposed, \u{e9} composed, \u{212b} angstrom, \u{df} sharp s",
    "日本語の件名、中文主題、한국어 제목",
    "עברית וערבית عربي",
    "\u{feff}byte order mark, \u{fffd} replacement, \u{ffff} last of the plane",
    "\u{200b}zero\u{200d}width\u{2028}line\u{2029}paragraph",
    "tab\tnewline\ncarriage\rnul\u{0}bell\u{7}escape\u{1b}substitute\u{1a}delete\u{7f}",
    "quotes ' \" ` and \\ and \\' and %s and _ and ;-- /* */ #",
    "=?utf-8?B?bm90IHJlYWxseQ==?=",
    "trailing spaces   ",
    "",
    "\\N",
    "NULL",
    "İstanbul ıI, Straße STRASSE",
];

/// Text that needs four bytes a character in UTF-8.
pub(super) const FOUR_BYTES: &str = "\u{1f600} emoji, \u{20000} ideograph, \u{10ffff} last";

const WORDS: &[&str] = &[
    "report",
    "meeting",
    "invoice",
    "lunch",
    "budget",
    "draft",
    "plan",
    "review",
    "offer",
    "trip",
    "contract",
    "photo",
    "minutes",
    "order",
    "release",
    "question",
    "answer",
    "list",
    "summary",
    "schedule",
    "Übersicht",
    "réunion",
    "会議",
];

/// A few words.
pub(super) fn words(rng: &mut fastrand::Rng, count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        if n > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[rng.usize(..WORDS.len())]);
    }
    text
}

/// A UUID made of the generator's numbers.
pub(super) fn uuid(rng: &mut fastrand::Rng) -> String {
    let (a, b) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}

/// A message of about `length` bytes.
pub(super) fn message(mailbox: u32, item: u32, from: &str, subject: &str, length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "Return-Path: <sender@elsewhere.test>\r\nMessage-ID: <seed.{mailbox}.{item}@seed.lab.test>\r\n\
         From: {from}\r\nSubject: {}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        subject.escape_default()
    )
    .into_bytes();
    fill(&mut bytes, length, item as usize);
    bytes
}

/// A document or picture of exactly `length` bytes that is no text.
pub(super) fn binary(item: u32, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length.min(512)).map(|n| (n * 7 + item as usize) as u8).collect();
    fill(&mut bytes, length, item as usize);
    bytes
}

fn fill(bytes: &mut Vec<u8>, length: usize, from: usize) {
    let filler = filler();
    let mut at = from.wrapping_mul(7919) % filler.len();
    while bytes.len() < length {
        let end = filler.len().min(at + length - bytes.len());
        bytes.extend_from_slice(&filler[at..end]);
        at = 0;
    }
}

fn filler() -> &'static [u8] {
    static FILLER: OnceLock<Vec<u8>> = OnceLock::new();
    FILLER.get_or_init(|| {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut text = String::new();
        while text.len() < 256 << 10 {
            text.push_str(&words(&mut rng, 9));
            text.push_str("\r\n");
        }
        text.into_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_for_three_byte_tables_fit_them() {
        assert!(EDGES.iter().all(|text| text.chars().all(|c| c.len_utf8() < 4)));
    }

    #[test]
    fn lengths_are_as_asked() {
        assert_eq!(binary(3, 0), b"");
        assert_eq!(binary(3, 1_000_000).len(), 1_000_000);
        assert_eq!(message(1, 2, "a", "b", 5000).len(), 5000);
    }
}
