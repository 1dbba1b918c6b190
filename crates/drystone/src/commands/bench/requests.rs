//! Signed requests, made before they are needed.
//!
//! Blocks differ from each other in a number at their end alone. So all of them share one buffer, and the checksum of
//! each costs no more than its last bytes: SHA-256 goes on from where the shared part left it.

use anyhow::Context;
use auth::{AccessKeyId, PayloadHash, RequestHead, SecretKey, Signer, SignerOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use types::{BLOCK_BYTES, Digest, DigestContext, UnixMillis};

/// The region that requests are signed for: the server's default.
const REGION: &str = "us-east-1";

/// The number at the end of a block.
const STAMP_BYTES: usize = 8;

/// An access key. It has no `Debug`, since it holds the secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    id: String,
    secret: String,
}

impl Key {
    /// The key in a file of AWS shared credentials.
    pub fn read(path: &Path) -> anyhow::Result<Key> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("the credentials {} cannot be read", path.display()))?;
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let key = value("aws_access_key_id =").zip(value("aws_secret_access_key ="));
        let (id, secret) =
            key.with_context(|| format!("there is no access key in {}", path.display()))?;
        Ok(Key { id, secret })
    }

    /// A key that opens nothing, for servers that do not ask.
    #[cfg(test)]
    pub fn nobodys() -> Key {
        Key {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "secret".to_owned(),
        }
    }

    fn signer(&self, service: &str) -> anyhow::Result<Signer> {
        Ok(Signer::new(SignerOptions {
            access_key_id: AccessKeyId::parse(&self.id).context("the access key has no id")?,
            secret: SecretKey::new(self.secret.clone()),
            session_token: None,
            region: REGION.to_owned(),
            service: service.to_owned(),
        }))
    }
}

/// Writes the heads of requests.
pub struct Heads {
    signer: Signer,
    host: HeaderValue,
    now: UnixMillis,
}

/// What is asked.
pub struct Ask<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Headers of the operation.
    pub headers: &'a [(&'static str, &'a str)],
    /// What the signature says of the body.
    pub payload: PayloadHash,
    /// Length of the body.
    pub body_bytes: usize,
}

impl Heads {
    /// Heads of requests to `host`, signed at `now` for a service such as `ebs`.
    pub fn new(
        key: &Key,
        service: &str,
        host: SocketAddr,
        now: UnixMillis,
    ) -> anyhow::Result<Heads> {
        Ok(Heads {
            signer: key.signer(service)?,
            host: HeaderValue::try_from(host.to_string())?,
            now,
        })
    }

    /// The head of one request, its empty line included.
    pub fn head(&self, ask: &Ask<'_>) -> anyhow::Result<Vec<u8>> {
        let (path, query) = match ask.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (ask.target, None),
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, self.host.clone());
        for (name, value) in ask.headers {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::try_from(*value)?,
            );
        }
        let head = RequestHead {
            method: ask.method,
            path,
            query,
            headers: &headers,
        };
        let signed = self.signer.sign(&head, ask.payload, self.now)?;
        headers.extend(
            signed
                .headers
                .into_iter()
                .map(|(name, value)| (Some(name), value)),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(ask.body_bytes));
        let mut text = format!("{} {} HTTP/1.1\r\n", ask.method, ask.target).into_bytes();
        for (name, value) in &headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        Ok(text)
    }

    /// The head of a put of the block with this checksum, signed as the AWS SDK for Python does: without the body.
    pub fn put(&self, snapshot: &str, index: u32, checksum: &str) -> anyhow::Result<Vec<u8>> {
        self.head(&Ask {
            method: "PUT",
            target: &format!("/snapshots/{snapshot}/blocks/{index}"),
            headers: &[
                ("content-type", "application/octet-stream"),
                ("x-amz-checksum", checksum),
                ("x-amz-checksum-algorithm", "SHA256"),
                ("x-amz-data-length", "524288"),
            ],
            payload: PayloadHash::Unsigned,
            body_bytes: BLOCK_BYTES,
        })
    }

    /// The head of a request without a body.
    pub fn get(&self, target: &str) -> anyhow::Result<Vec<u8>> {
        self.head(&Ask {
            method: "GET",
            target,
            headers: &[],
            payload: PayloadHash::Digest(Digest::of(b"")),
            body_bytes: 0,
        })
    }
}

/// What the blocks of a run hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Incompressible bytes made of the seed, then a number that goes from `first` on; after `count` blocks they repeat.
    Stamped {
        /// Other seeds, other bytes.
        seed: u64,
        /// The number in the first block.
        first: u64,
        /// Different blocks.
        count: u64,
    },
    /// Zeros.
    Zero,
}

/// The blocks of a run.
pub struct Blocks {
    content: Content,
    /// A block without its stamp.
    shared: Vec<u8>,
    shared_hashed: DigestContext,
}

impl Blocks {
    /// Makes what they share.
    pub fn new(content: Content) -> Blocks {
        let mut shared = vec![0; BLOCK_BYTES - STAMP_BYTES];
        if let Content::Stamped { seed, .. } = content {
            fill(&mut shared, seed);
        }
        let mut shared_hashed = DigestContext::new();
        shared_hashed.update(&shared);
        Blocks {
            content,
            shared,
            shared_hashed,
        }
    }

    /// The part that all blocks begin with.
    pub fn shared(&self) -> &[u8] {
        &self.shared
    }

    /// What block number `number` ends with.
    pub fn stamp(&self, number: u64) -> [u8; STAMP_BYTES] {
        match self.content {
            Content::Stamped { first, count, .. } => (first + number % count.max(1)).to_le_bytes(),
            Content::Zero => [0; STAMP_BYTES],
        }
    }

    /// The checksum of block number `number`, as it stands in a header.
    pub fn checksum(&self, number: u64) -> String {
        let mut context = self.shared_hashed.clone();
        context.update(&self.stamp(number));
        STANDARD.encode(context.finish().as_bytes())
    }
}

/// Pseudo-random bytes (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>): they need not be secret, only different.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for part in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        part.copy_from_slice(&mixed.to_le_bytes()[..part.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(blocks: &Blocks, number: u64) -> Vec<u8> {
        [blocks.shared(), &blocks.stamp(number)].concat()
    }

    #[test]
    fn a_checksum_is_that_of_the_whole_block() {
        let content = Content::Stamped {
            seed: 7,
            first: 100,
            count: 3,
        };
        let blocks = Blocks::new(content);
        for number in 0..4 {
            let block = whole(&blocks, number);
            assert_eq!(block.len(), BLOCK_BYTES);
            let digest = STANDARD.encode(Digest::of(&block).as_bytes());
            assert_eq!(blocks.checksum(number), digest);
        }
        assert_ne!(blocks.checksum(0), blocks.checksum(1));
        assert_eq!(blocks.checksum(0), blocks.checksum(3));
        let others = Blocks::new(Content::Stamped {
            seed: 8,
            first: 100,
            count: 3,
        });
        assert_ne!(blocks.shared()[..16], others.shared()[..16]);
    }

    #[test]
    fn zeros_are_zeros() {
        let blocks = Blocks::new(Content::Zero);
        assert_eq!(whole(&blocks, 5), vec![0; BLOCK_BYTES]);
        let digest = STANDARD.encode(Digest::ZERO_BLOCK.as_bytes());
        assert_eq!(blocks.checksum(5), digest);
    }

    #[test]
    fn a_put_has_what_the_operation_asks_for() {
        let host = SocketAddr::from(([127, 0, 0, 1], 8512));
        let heads = Heads::new(&Key::nobodys(), "ebs", host, 1_790_337_440_000).expect("a signer");
        let head = heads.put("snap-0123", 7, "Zm9v").expect("it can be signed");
        let text = String::from_utf8(head).expect("text");
        assert!(text.starts_with("PUT /snapshots/snap-0123/blocks/7 HTTP/1.1\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
        for line in [
            "host: 127.0.0.1:8512",
            "content-length: 524288",
            "x-amz-data-length: 524288",
            "x-amz-checksum: Zm9v",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
        ] {
            assert!(
                text.contains(&format!("\r\n{line}\r\n")),
                "no {line} in {text}"
            );
        }
        assert!(
            text.contains("\r\nauthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
        );
    }

    #[test]
    fn the_key_is_found_in_the_credentials() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("credentials");
        let text = "# c\n[default]\naws_access_key_id = A\naws_secret_access_key = b+/=\n";
        fs::write(&path, text).expect("written");
        let key = Key::read(&path).expect("a key");
        assert_eq!((key.id.as_str(), key.secret.as_str()), ("A", "b+/="));
        fs::write(&path, "aws_access_key_id = A\n").expect("written");
        assert!(Key::read(&path).is_err());
    }
}
