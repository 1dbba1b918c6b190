//! Properties: no bit of a signed request can change, and no noise makes a parser panic.

use super::{BODY, Sample};
use crate::{PayloadHash, authorization, canonical};
use http::HeaderValue;
use proptest::prelude::{any, prop_assume, prop_oneof, proptest};
use proptest::sample::Index;
use proptest::strategy::{Just, Strategy};
use types::Digest;

/// A part of a request to change one byte of.
#[derive(Clone, Copy, Debug)]
enum Part {
    Method,
    Path,
    Query,
    Header,
    Authorization,
    Body,
}

fn flip(text: &str, at: Index, bit: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= 1 << bit;
    String::from_utf8(bytes).ok()
}

/// The sample with one bit changed, or `None` when the change makes no request, or one that means the same.
fn tampered(sample: &Sample, part: Part, which: Index, at: Index, bit: u8) -> Option<Sample> {
    let mut changed = sample.clone();
    match part {
        Part::Method => changed.method = flip(&sample.method, at, bit)?,
        Part::Path => changed.path = flip(&sample.path, at, bit)?,
        Part::Query => {
            let query = sample.query.as_deref()?;
            let flipped = flip(query, at, bit)?;
            let meaning = |query| {
                let mut parameters = canonical::query_parameters(query);
                parameters.sort();
                parameters
            };
            if meaning(&flipped) == meaning(query) {
                return None;
            }
            changed.query = Some(flipped);
        }
        Part::Header => {
            let names: Vec<_> = sample
                .headers
                .keys()
                .filter(|name| *name != "authorization")
                .collect();
            let name = which.get(&names);
            let value = flip(sample.headers[*name].to_str().ok()?, at, bit)?;
            changed
                .headers
                .insert((*name).clone(), HeaderValue::from_str(&value).ok()?);
        }
        Part::Authorization => {
            let header = flip(sample.authorization(), at, bit)?;
            let parsed =
                |header: &str| authorization::parse_header(header.as_bytes(), Some("d".to_owned()));
            if parsed(&header) == parsed(sample.authorization()) {
                return None;
            }
            changed
                .headers
                .insert("authorization", HeaderValue::from_str(&header).ok()?);
        }
        Part::Body => {
            let at = at.index(changed.body.len());
            changed.body[at] ^= 1 << bit;
        }
    }
    Some(changed)
}

/// Text that looks like an Authorization header from afar.
fn header_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"AWS4-HMAC-SHA256".to_vec()),
        Just(b" ".to_vec()),
        Just(b"Credential=AKIDEXAMPLE/20240522/us-east-1/ebs/aws4_request".to_vec()),
        Just(b"SignedHeaders=host;x-amz-date".to_vec()),
        Just(b"Signature=".to_vec()),
        Just(b"0123456789abcdef".to_vec()),
        Just(b",".to_vec()),
        Just(b";/=%".to_vec()),
        any::<Vec<u8>>(),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bit_of_a_signed_request_can_change(
        part in prop_oneof![
            Just(Part::Method), Just(Part::Path), Just(Part::Query), Just(Part::Header), Just(Part::Authorization),
            Just(Part::Body),
        ],
        which in any::<Index>(),
        at in any::<Index>(),
        bit in 0u8..8,
        form in 0..3,
    ) {
        let mut sample = Sample::put();
        let sample = match form {
            0 => sample.signed(PayloadHash::Unsigned),
            1 => sample.signed_body(),
            _ => {
                sample.set("x-amz-content-sha256", &Digest::of(BODY).to_string());
                sample.signed_body()
            }
        };
        // An unsigned body is the one thing that a signature leaves open.
        prop_assume!(!(form == 0 && matches!(part, Part::Body)));
        assert_eq!(sample.answer(), Ok(()));
        if let Some(changed) = tampered(&sample, part, which, at, bit) {
            changed.answer().expect_err("a changed request is refused");
        }
    }

    #[test]
    fn no_header_makes_it_panic(header in header_like(), date in any::<String>(), hash in any::<String>()) {
        let mut sample = Sample::get();
        if let Ok(value) = HeaderValue::from_bytes(&header) {
            sample.headers.insert("authorization", value);
        }
        for (name, text) in [("x-amz-date", date), ("x-amz-content-sha256", hash)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                sample.headers.insert(name, value);
            }
        }
        sample.answer().expect_err("noise has no valid signature");
    }

    #[test]
    fn no_target_makes_it_panic(path in any::<String>(), query in any::<String>(), presigned in any::<bool>()) {
        let mut sample = Sample::get().signed_body();
        sample.path = format!("/{path}/x");
        sample.query = Some(query.clone());
        if presigned {
            sample.headers.remove("authorization");
            sample.query = Some(format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={query}&X-Amz-{query}"));
        }
        sample.answer().expect_err("noise has no valid signature");
    }
}
