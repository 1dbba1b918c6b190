//! Where one response ends and the next begins in the bytes that hyper writes.
//!
//! hyper answers a request head that it cannot read by itself, with a bare status and no body (400, 414, 431). Every
//! error of this server has a JSON body (SPEC C.5), so those heads must be told from the ones our service made.
//!
//! The service [`announce`](Announced::announce)s every response before hyper sees it. A head that nobody announced is
//! hyper's own. `100 Continue` is hyper's own too, and stays.
//!
//! Invariants
//! - hyper encodes a head in one piece, so a head's first bytes are never split between two writes.
//! - The responses of a connection are written in the order in which they were announced.
//! - hyper closes after a head of its own: nothing follows it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

const HEAD_END: &[u8; 4] = b"\r\n\r\n";
const INTERIM: &[u8] = b"HTTP/1.1 1";

/// The body lengths of responses that the service made and that are not written yet. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct Announced(Arc<Mutex<VecDeque<u64>>>);

impl Announced {
    /// Says that a response with `body_bytes` of body on the wire is on its way to hyper.
    pub fn announce(&self, body_bytes: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(body_bytes);
    }

    fn next(&self) -> Option<u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn at(&self, position: usize) -> Option<u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(position)
            .copied()
    }
}

/// The position in the stream of responses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Position {
    /// Before a head.
    #[default]
    Start,
    /// In the head of an announced response; so many bytes of the head's end have been seen.
    Head { matched: usize },
    /// In a `100 Continue`.
    Interim { matched: usize },
    /// In a body with so many bytes to come.
    Body { left: u64 },
}

/// Follows the responses of one connection.
#[derive(Debug, Default)]
pub struct Framing {
    announced: Announced,
    position: Position,
}

impl Framing {
    /// At the start of a connection.
    pub fn new(announced: Announced) -> Framing {
        Framing {
            announced,
            position: Position::Start,
        }
    }

    /// How many of these bytes may go out: all, or those before a head that nobody announced.
    pub fn passable<'a>(&self, slices: impl Iterator<Item = &'a [u8]>) -> usize {
        let mut position = self.position;
        let mut responses = 0;
        let mut passed = 0;
        for slice in slices {
            let mut rest = slice;
            while !rest.is_empty() {
                let known = rest.starts_with(INTERIM) || self.announced.at(responses).is_some();
                if position == Position::Start && !known {
                    return passed;
                }
                let step = step(&mut position, rest, rest.len(), || {
                    let body = self.announced.at(responses);
                    responses += 1;
                    body
                });
                passed += step;
                rest = &rest[step..];
            }
        }
        passed
    }

    /// Takes note that the first `count` of these bytes went out; all of them are passable. The others are looked at: they
    /// tell what kind of head has begun to go out.
    pub fn sent<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>, mut count: usize) {
        for slice in slices {
            let mut rest = slice;
            while !rest.is_empty() && count > 0 {
                let step = step(&mut self.position, rest, count, || self.announced.next());
                count -= step;
                rest = &rest[step..];
            }
        }
    }

    /// Whether all of the announced responses have gone out in full.
    pub fn is_between_responses(&self) -> bool {
        self.position == Position::Start && self.announced.at(0).is_none()
    }
}

/// Moves over a part of `bytes` (not empty), at most `count` of them, and answers its length. `body` tells the length of
/// the body when a head ends.
fn step(
    position: &mut Position,
    bytes: &[u8],
    count: usize,
    body: impl FnOnce() -> Option<u64>,
) -> usize {
    let moved = &bytes[..count.min(bytes.len())];
    match *position {
        Position::Start if bytes.starts_with(INTERIM) => {
            *position = Position::Interim { matched: 0 };
            0
        }
        Position::Start => {
            *position = Position::Head { matched: 0 };
            0
        }
        Position::Interim { matched } => {
            let (length, matched) = head_end(matched, moved);
            *position = match matched {
                Some(matched) => Position::Interim { matched },
                None => Position::Start,
            };
            length
        }
        Position::Head { matched } => {
            let (length, matched) = head_end(matched, moved);
            *position = match matched {
                Some(matched) => Position::Head { matched },
                None => body_of(body().unwrap_or(0)),
            };
            length
        }
        Position::Body { left } => {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(moved.len());
            *position = body_of(left - length as u64);
            length
        }
    }
}

fn body_of(left: u64) -> Position {
    if left == 0 {
        Position::Start
    } else {
        Position::Body { left }
    }
}

/// The number of bytes up to the end of the head, and how much of that end has been seen when it is not there yet.
fn head_end(mut matched: usize, bytes: &[u8]) -> (usize, Option<usize>) {
    for (position, &byte) in bytes.iter().enumerate() {
        matched = match byte {
            byte if byte == HEAD_END[matched] => matched + 1,
            b'\r' => 1,
            _ => 0,
        };
        if matched == HEAD_END.len() {
            return (position + 1, None);
        }
    }
    (bytes.len(), Some(matched))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    const OURS: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhello";
    const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

    /// What passes of `stream` after these bodies were announced, whatever pieces it is written in.
    fn check(announced: &[u64], stream: &[&[u8]], passes: usize) {
        let stream = stream.concat();
        let ledger = Announced::default();
        announced.iter().for_each(|&bytes| ledger.announce(bytes));
        let framing = Framing::new(ledger.clone());
        assert_eq!(framing.passable([&*stream].into_iter()), passes);
        assert_eq!(
            framing.passable(stream.chunks(INTERIM.len())),
            passes,
            "in slices"
        );
        for written in 1..=stream.len() {
            let ledger = Announced::default();
            announced.iter().for_each(|&bytes| ledger.announce(bytes));
            let mut framing = Framing::new(ledger);
            let mut sent = 0;
            while sent < stream.len() {
                let passable = framing.passable([&stream[sent..]].into_iter());
                if passable == 0 {
                    break;
                }
                let now = passable.min(written);
                framing.sent([&stream[sent..sent + passable]].into_iter(), now);
                sent += now;
            }
            assert_eq!(sent, passes, "at most {written} bytes a write");
        }
    }

    #[test]
    fn announced_responses_pass() {
        check(&[5], &[OURS], OURS.len());
        check(&[0], &[EMPTY], EMPTY.len());
        check(
            &[5, 0, 5],
            &[OURS, EMPTY, OURS],
            2 * OURS.len() + EMPTY.len(),
        );
    }

    #[test]
    fn a_head_of_its_own_does_not_pass() {
        check(&[], &[OWN], 0);
        check(&[5], &[OURS, OWN], OURS.len());
        check(&[0], &[EMPTY, OWN], EMPTY.len());
    }

    #[test]
    fn an_interim_response_passes_unannounced() {
        check(&[], &[INTERIM], INTERIM.len());
        check(&[5], &[INTERIM, OURS], INTERIM.len() + OURS.len());
        check(
            &[0, 5],
            &[EMPTY, INTERIM, OURS],
            EMPTY.len() + INTERIM.len() + OURS.len(),
        );
    }

    #[test]
    fn a_body_may_look_like_a_head() {
        check(&[OWN.len() as u64], &[EMPTY, OWN], EMPTY.len() + OWN.len());
        check(
            &[OWN.len() as u64],
            &[EMPTY, OWN, OWN],
            EMPTY.len() + OWN.len(),
        );
    }

    #[test]
    fn knows_when_nothing_is_under_way() {
        let ledger = Announced::default();
        let mut framing = Framing::new(ledger.clone());
        assert!(framing.is_between_responses());
        ledger.announce(5);
        assert!(!framing.is_between_responses());
        framing.sent([OURS].into_iter(), OURS.len() - 1);
        assert!(!framing.is_between_responses());
        framing.sent([&OURS[OURS.len() - 1..]].into_iter(), 1);
        assert!(framing.is_between_responses());
    }
}
