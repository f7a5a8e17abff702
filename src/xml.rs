//! XML as small trees: what localconfig.xml and admin SOAP need, and no more.
//!
//! Namespace prefixes are dropped when reading, document types and entities of their own are refused, and size
//! and depth are bounded: the text comes from outside.

use std::fmt;

use quick_xml::escape::{escape, partial_escape};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::error::{Context, Error, Kind, Result};

const MAX_DEPTH: usize = 64;
const MAX_ELEMENTS: usize = 1_000_000;

/// An element with its attributes, children and text. Its text may be a password, so that it does not show
/// more than its name to a formatter.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    /// An empty element.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds an attribute.
    pub fn attr(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Adds a child.
    pub fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children.
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// Sets the text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Its name, without prefix when it was read.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All text directly in it, the pieces between children joined.
    pub fn content(&self) -> &str {
        &self.text
    }

    /// Every child.
    pub fn iter(&self) -> std::slice::Iter<'_, Element> {
        self.children.iter()
    }

    /// The first child of this name.
    pub fn first(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The element at the end of a path of first children.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.first(name))
    }

    /// A value that Zimbra gives either as an attribute or as a child with text.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| self.first(name).map(Element::content))
    }

    /// Reads a document of at most `limit` bytes; fails with [`Kind::Data`].
    pub fn parse(bytes: &[u8], limit: usize) -> Result<Self> {
        if bytes.len() > limit {
            return Err(Error::new(Kind::Data, format!("xml: {} bytes are more than {limit}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).context(Kind::Data, || "xml: reading it as utf-8".into())?;
        read(text.trim_start_matches('\u{feff}'))
    }

    /// Writes it, escaped; fails with [`Kind::Data`] when a text holds a character that XML cannot.
    pub fn to_xml(&self) -> Result<String> {
        let mut out = String::new();
        self.write(&mut out)?;
        Ok(out)
    }

    fn write(&self, out: &mut String) -> Result<()> {
        out.push('<');
        out.push_str(&self.name);
        for (name, value) in &self.attributes {
            out.push_str(&format!(" {name}=\"{}\"", escape(writable(value)?)));
        }
        out.push('>');
        out.push_str(&partial_escape(writable(&self.text)?));
        for child in &self.children {
            child.write(out)?;
        }
        out.push_str(&format!("</{}>", self.name));
        Ok(())
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.name)
    }
}

fn writable(text: &str) -> Result<&str> {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    match text.chars().find(|c| !allowed(*c)) {
        None => Ok(text),
        Some(c) => Err(Error::new(Kind::Data, format!("xml: cannot hold the character U+{:04X}", u32::from(c)))),
    }
}

fn broken(why: impl Into<String>) -> Error {
    Error::new(Kind::Data, format!("xml: {}", why.into()))
}

fn read(text: &str) -> Result<Element> {
    let mut reader = Reader::from_str(text);
    // A holder above the document's own element.
    let mut open = vec![Element::default()];
    let mut elements = 0;
    loop {
        let event = reader.read_event().context(Kind::Data, || "xml: parsing".into())?;
        let last = open.len() - 1;
        match event {
            Event::Start(start) => {
                elements += 1;
                if open.len() > MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err(broken("is nested too deep or has too many elements"));
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return Err(broken("has too many elements"));
                }
                open[last].children.push(element(&start)?);
            }
            Event::End(_) => {
                // The reader pairs every end with its start, so that the holder is never closed.
                let closed = open.pop().expect("an open element");
                open.last_mut().expect("the holder").children.push(closed);
            }
            Event::Text(text) => open[last].text.push_str(&text.xml10_content()),
            Event::CData(text) => open[last].text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref().context(Kind::Data, || "xml: parsing".into())? {
                    Some(c) => c,
                    None => predefined(&reference.xml10_content()).ok_or_else(|| broken("names an unknown entity"))?,
                };
                open[last].text.push(c);
            }
            Event::DocType(_) => return Err(broken("has a document type")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let [holder] = open.as_mut_slice() else { return Err(broken("ends within an element")) };
    match (holder.children.pop(), holder.children.is_empty(), holder.text.trim().is_empty()) {
        (Some(root), true, true) => Ok(root),
        _ => Err(broken("is not one element")),
    }
}

fn predefined(entity: &str) -> Option<char> {
    Some(match entity {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => return None,
    })
}

fn element(start: &BytesStart<'_>) -> Result<Element> {
    let mut element = Element::new(local(start.name().as_ref()));
    for attribute in start.attributes() {
        let attribute = attribute.context(Kind::Data, || "xml: reading an attribute".into())?;
        let name = attribute.key.as_ref();
        if name == "xmlns" || name.starts_with("xmlns:") {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.context(Kind::Data, || "xml: reading an attribute".into())?;
        element.attributes.push((local(name).to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Element> {
        Element::parse(text.as_bytes(), 10_000)
    }

    #[test]
    fn reads_names_without_prefix_and_every_kind_of_text() {
        let tree =
            parse("<?xml version='1.0'?><s:a xmlns:s='u' x='1&lt;2'>b&amp;&#65;<![CDATA[<c>]]><d/> e</s:a>").unwrap();
        assert_eq!((tree.name(), tree.get("x"), tree.content()), ("a", Some("1<2"), "b&A<c> e"));
        assert!(tree.first("d").is_some() && tree.get("xmlns").is_none());
    }

    #[test]
    fn refuses_what_could_hurt() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        let entity = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>";
        for text in [deep.as_str(), entity, "<a>&x;</a>", "<a>", "<a></b>", "<a/><b/>", "", "text", "<a b='&x;'/>"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Element::parse(b"<a>bcdefgh</a>", 8).is_err());
    }

    #[test]
    fn shows_no_content() {
        let password = Element::new("password").text("hunter2");
        assert_eq!(format!("{:?}", Element::new("AuthRequest").child(password)), "<AuthRequest>");
    }

    #[test]
    fn refuses_to_write_what_xml_cannot_hold() {
        assert!(Element::new("a").text("b\0c").to_xml().is_err());
        assert!(Element::new("a").attr("b", "\u{1}").to_xml().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in "[^\\x00-\\x1f\\u{fffe}\\u{ffff}]*", attribute in "[^\\x00-\\x1f\\u{fffe}\\u{ffff}]*") {
            let tree = Element::new("a").attr("b", attribute).child(Element::new("c").text(text));
            prop_assert_eq!(Element::parse(tree.to_xml().unwrap().as_bytes(), 1 << 20).unwrap(), tree);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "[<>/a&;!'\" =\\[\\]CDATA?x-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
