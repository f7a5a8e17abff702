//! Small XML trees: enough for SOAP, with limits and without document types.

use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};

const MAX_DEPTH: usize = 64;

/// One element. Prefixes are dropped, and so are declarations of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Name without prefix.
    pub name: String,
    /// Attributes in order; a default namespace is the attribute `xmlns`.
    pub attrs: Vec<(String, String)>,
    /// Child elements in order.
    pub children: Vec<Element>,
    /// All the text directly inside, in one.
    pub text: String,
}

impl Element {
    /// An empty element.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An empty element of the admin namespace.
    pub fn admin(name: &str) -> Self {
        Self::new(name).attr("xmlns", "urn:zimbraAdmin")
    }

    /// With one more attribute.
    pub fn attr(mut self, name: &str, value: impl ToString) -> Self {
        self.attrs.push((name.into(), value.to_string()));
        self
    }

    /// With one more child.
    pub fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    /// With more children.
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// With this text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// The first child of that name.
    pub fn find(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A value that may be given as an attribute or as a child, as SOAP headers allow.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| self.find(name).map(|c| c.text.as_str()))
    }

    /// As XML.
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        for (name, value) in &self.attrs {
            // Writing to a string cannot fail.
            let _ = write!(out, " {name}=\"{}\"", escape(value.as_str()));
        }
        if self.children.is_empty() && self.text.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        out.push_str(&escape(self.text.as_str()));
        for child in &self.children {
            child.write(out);
        }
        let _ = write!(out, "</{}>", self.name);
    }

    /// Reads one document.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(xml: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(xml);
        let mut open: Vec<Element> = vec![Element::default()];
        loop {
            match reader.read_event().map_err(|e| e.to_string())? {
                Event::Start(start) => {
                    if open.len() > MAX_DEPTH {
                        return Err("elements nest too deep".into());
                    }
                    open.push(element(&start)?);
                }
                Event::Empty(start) => {
                    let done = element(&start)?;
                    top(&mut open).children.push(done);
                }
                Event::End(_) => {
                    let done = open.pop().ok_or("an end without a start")?;
                    open.last_mut().ok_or("an end without a start")?.children.push(done);
                }
                Event::Text(text) => top(&mut open).text.push_str(&text),
                Event::CData(text) => top(&mut open).text.push_str(&text),
                Event::GeneralRef(reference) => {
                    let text = match reference.resolve_char_ref().map_err(|e| e.to_string())? {
                        Some(c) => c.to_string(),
                        None => resolve_predefined_entity(&reference).ok_or("an unknown entity")?.to_string(),
                    };
                    top(&mut open).text.push_str(&text);
                }
                Event::DocType(_) => return Err("document types are refused".into()),
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        if open.len() != 1 {
            return Err("the document ends inside an element".into());
        }
        let mut roots = open.remove(0).children;
        match roots.len() {
            1 => Ok(roots.remove(0)),
            n => Err(format!("{n} elements at the top")),
        }
    }
}

fn top(open: &mut [Element]) -> &mut Element {
    open.last_mut().expect("the outermost element is only taken at the end")
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut made = Element::new(start.local_name().as_ref());
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let name: &str = attribute.key.as_ref();
        if name.starts_with("xmlns:") {
            continue;
        }
        let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|e| e.to_string())?;
        let name = name.rsplit(':').next().unwrap_or(name);
        made.attrs.push((name.to_string(), value.into_owned()));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_and_entities_are_resolved() {
        let e = Element::parse(
            "<?xml version=\"1.0\"?><s:A xmlns:s='u' xmlns='v' s:k='1&amp;2'><!-- x --><b>a&lt;b &#65;<![CDATA[<&]]></b></s:A>",
        )
        .unwrap();
        assert_eq!(e.name, "A");
        assert_eq!(e.get("k"), Some("1&2"));
        assert_eq!(e.get("xmlns"), Some("v"));
        assert_eq!(e.value("b"), Some("a<b A<&"));
    }

    #[test]
    fn bad_documents_are_refused() {
        for bad in ["", "<a>", "<a></b>", "<a/><b/>", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "<a>&x;</a>", "</a>"]
        {
            assert!(Element::parse(bad).is_err(), "{bad}");
        }
        assert!(Element::parse(&"<a>".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "[ -~\u{e4}\u{20ac}]*", value in "[ -~\u{e4}\u{20ac}]*") {
            let e = Element::new("r").attr("a", &value).child(Element::new("t").text(text));
            prop_assert_eq!(Element::parse(&e.to_xml()).unwrap(), e);
        }

        #[test]
        fn nothing_panics(any in ".*") {
            let _ = Element::parse(&any);
        }
    }
}
