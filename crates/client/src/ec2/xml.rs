//! Reads the XML of answers, element by element, in one pass.
//!
//! Any bytes give a value or an error. Nothing is expanded beyond character references and the five entities of XML, and elements nest no
//! deeper than [`DEPTH_MAX`]. Names are taken without their namespace.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

/// Answers nest eight deep.
const DEPTH_MAX: usize = 32;

/// A document that is being read; where it stands is inside some element.
pub(crate) struct Document<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
    /// Whether the element that was opened last has ended already, as `<a/>` does.
    ended: bool,
}

impl<'a> Document<'a> {
    /// Before the root.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub(crate) fn new(text: &'a [u8]) -> Result<Document<'a>, String> {
        let text = std::str::from_utf8(text).map_err(|_| "a body that is no text".to_owned())?;
        Ok(Document {
            reader: Reader::from_str(text),
            depth: 0,
            ended: false,
        })
    }

    /// Enters the root and answers its name.
    pub(crate) fn root(&mut self) -> Result<String, String> {
        self.child()?
            .ok_or_else(|| "a body without XML in it".to_owned())
    }

    /// Enters the root, which must have this name.
    pub(crate) fn expect_root(&mut self, name: &str) -> Result<(), String> {
        let found = self.root()?;
        match found == name {
            true => Ok(()),
            false => Err(format!(
                "the element {} in place of {name}",
                crate::ebs::cut(&found)
            )),
        }
    }

    /// Enters the next element inside the present one and answers its name; at the end of the present one leaves it and answers nothing.
    pub(crate) fn child(&mut self) -> Result<Option<String>, String> {
        if std::mem::take(&mut self.ended) {
            self.depth -= 1;
            return Ok(None);
        }
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let name = start.local_name().as_ref().to_owned();
                    self.enter()?;
                    return Ok(Some(name));
                }
                Event::Empty(start) => {
                    let name = start.local_name().as_ref().to_owned();
                    self.enter()?;
                    self.ended = true;
                    return Ok(Some(name));
                }
                Event::End(_) => {
                    self.leave()?;
                    return Ok(None);
                }
                Event::Eof if self.depth == 0 => return Ok(None),
                Event::Eof => return Err("XML that breaks off".to_owned()),
                _ => {}
            }
        }
    }

    /// The text of the present element, which is left.
    pub(crate) fn text(&mut self) -> Result<String, String> {
        if std::mem::take(&mut self.ended) {
            self.depth -= 1;
            return Ok(String::new());
        }
        let mut text = String::new();
        loop {
            match self.event()? {
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::CData(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(reference) => {
                    let character = reference
                        .resolve_char_ref()
                        .map_err(|error| malformed(&error))?;
                    match character {
                        Some(character) => text.push(character),
                        None => text.push_str(
                            resolve_xml_entity(&reference)
                                .ok_or_else(|| "an entity that XML does not have".to_owned())?,
                        ),
                    }
                }
                Event::End(_) => {
                    self.leave()?;
                    return Ok(text);
                }
                Event::Start(_) => {
                    self.enter()?;
                    self.skip()?;
                }
                Event::Eof => return Err("XML that breaks off".to_owned()),
                _ => {}
            }
        }
    }

    /// Leaves the present element, whatever is in it.
    pub(crate) fn skip(&mut self) -> Result<(), String> {
        let outside = self.depth - 1;
        while self.depth > outside {
            self.child()?;
        }
        Ok(())
    }

    fn event(&mut self) -> Result<Event<'a>, String> {
        self.reader.read_event().map_err(|error| malformed(&error))
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err("XML that nests too deep".to_owned()),
            false => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<(), String> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| "XML that ends what did not begin".to_owned())?;
        Ok(())
    }
}

fn malformed(error: &dyn std::fmt::Display) -> String {
    format!("a body that is not the expected XML: {error}")
}
