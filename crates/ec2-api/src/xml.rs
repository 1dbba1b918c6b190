//! Writes the XML of responses.
//!
//! Text is escaped, and characters that XML 1.0 cannot hold in any form (most control characters, U+FFFE, U+FFFF) become
//! U+FFFD, so that a document is well formed whatever a tag or a description contains. They can be in one: the EBS direct
//! APIs take any text.

use bytes::Bytes;
use quick_xml::Writer;
use quick_xml::escape::partial_escape;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use std::borrow::Cow;

/// A document that is being written, element by element.
pub(crate) struct Xml {
    writer: Writer<Vec<u8>>,
    /// Elements that are open, outermost first.
    open: Vec<&'static str>,
}

impl Xml {
    /// Starts a document with its declaration and its root element.
    pub(crate) fn new(root: &'static str, namespace: Option<&str>) -> Xml {
        let mut xml = Xml {
            writer: Writer::new(Vec::with_capacity(1024)),
            open: Vec::new(),
        };
        xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        xml.event(Event::Text(BytesText::from_escaped("\n")));
        let mut start = BytesStart::new(root);
        if let Some(namespace) = namespace {
            start.push_attribute(("xmlns", namespace));
        }
        xml.event(Event::Start(start));
        xml.open.push(root);
        xml
    }

    /// Opens an element inside the one that is open.
    pub(crate) fn open(&mut self, name: &'static str) {
        self.event(Event::Start(BytesStart::new(name)));
        self.open.push(name);
    }

    /// Closes the element opened last.
    pub(crate) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.event(Event::End(BytesEnd::new(name)));
        }
    }

    /// Writes an element that holds only text.
    pub(crate) fn text(&mut self, name: &'static str, text: &str) {
        self.event(Event::Start(BytesStart::new(name)));
        let escaped = partial_escape(printable(text));
        self.event(Event::Text(BytesText::from_escaped(escaped)));
        self.event(Event::End(BytesEnd::new(name)));
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.writer.get_ref().len()
    }

    /// Closes every open element and answers the document.
    pub(crate) fn finish(mut self) -> Bytes {
        while !self.open.is_empty() {
            self.close();
        }
        self.writer.into_inner().into()
    }

    fn event(&mut self, event: Event<'_>) {
        self.writer
            .write_event(event)
            .expect("writing to memory does not fail");
    }
}

/// Whether XML 1.0 can hold the character (its production `Char`).
pub(crate) fn is_xml_character(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{0}'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    }
}

/// The text with U+FFFD for each character that XML 1.0 cannot hold.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_xml_character) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.replace(|character| !is_xml_character(character), "\u{fffd}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;
    use quick_xml::Reader;

    fn written(text: &str) -> String {
        let mut xml = Xml::new("Root", Some("urn:n"));
        xml.open("set");
        xml.text("item", text);
        String::from_utf8(xml.finish().to_vec()).unwrap()
    }

    #[test]
    fn documents_close_what_they_open() {
        let document = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <Root xmlns=\"urn:n\"><set><item>a</item></set></Root>";
        assert_eq!(written("a"), document);
    }

    #[test]
    fn text_is_escaped_and_what_xml_cannot_hold_is_replaced() {
        let document = written("<a>&\u{0}\u{b}\u{ffff}\r\n]]>");
        assert!(
            document.contains("<item>&lt;a&gt;&amp;\u{fffd}\u{fffd}\u{fffd}&#13;\n]]&gt;</item>"),
            "{document}"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_out_of_a_parser(text in "([\\x00-\\x7f\u{fffe}\u{ffff}]|.){0,20}") {
            let document = written(&text);
            assert!(document.chars().all(is_xml_character));
            let mut reader = Reader::from_str(&document);
            let (mut inside, mut read) = (false, String::new());
            loop {
                match reader.read_event().unwrap() {
                    Event::Start(start) if start.name().as_ref() == "item" => inside = true,
                    Event::End(_) => inside = false,
                    Event::Text(text) if inside => read.push_str(&text.xml10_content()),
                    Event::GeneralRef(reference) if inside => match reference.resolve_char_ref().unwrap() {
                        Some(character) => read.push(character),
                        None => read.push_str(quick_xml::escape::resolve_xml_entity(&reference).unwrap()),
                    },
                    Event::Eof => break,
                    _ => {}
                }
            }
            assert_eq!(read, printable(&text));
        }
    }
}
