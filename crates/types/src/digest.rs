//! SHA-256 digests: what a block's content, a page and a whole snapshot are known by.

use std::fmt;

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Bytes of a digest.
    pub const BYTES: usize = 32;

    /// The digest of a block of 512 KiB of zeros (SPEC 3.4). Such a block has no stored chunk.
    pub const ZERO_BLOCK: Digest = Digest([
        0x07, 0x85, 0x4d, 0x2f, 0xef, 0x29, 0x7a, 0x06, 0xba, 0x81, 0x68, 0x5e, 0x66, 0x0c, 0x33,
        0x2d, 0xe3, 0x6d, 0x5d, 0x18, 0xd5, 0x46, 0x92, 0x7d, 0x30, 0xda, 0xad, 0x6d, 0x7f, 0xda,
        0x15, 0x41,
    ]);

    /// Computes the digest of `bytes`: about 340 µs for a block, so never on an async worker.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut context = DigestContext::new();
        context.update(bytes);
        context.finish()
    }

    /// A digest that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The digest in `bytes`, or `None` unless there are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Digest> {
        bytes.try_into().ok().map(Digest)
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A SHA-256 computation over bytes that arrive in parts.
#[derive(Clone)]
pub struct DigestContext(ring::digest::Context);

impl DigestContext {
    /// Starts with no bytes.
    pub fn new() -> DigestContext {
        DigestContext(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything appended.
    pub fn finish(self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        Digest(digest)
    }
}

impl Default for DigestContext {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_block_constant_is_the_digest_of_zeros() {
        assert_eq!(Digest::of(&vec![0; crate::BLOCK_BYTES]), Digest::ZERO_BLOCK);
    }

    #[test]
    fn prints_as_lower_case_hex() {
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
