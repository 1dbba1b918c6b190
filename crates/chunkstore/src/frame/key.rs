//! The store's own checksum: XXH3-128 under a secret made from the store id.

use std::fmt;
use twox_hash::XxHash3_128;
use types::DigestContext;

/// Long enough for XXH3, which wants at least 136 bytes; a multiple of a digest.
const SECRET_BYTES: usize = 192;

/// Computes checksums that no other store computes.
#[derive(Clone)]
pub(crate) struct StoreKey {
    store_id: [u8; 16],
    secret: [u8; SECRET_BYTES],
}

impl StoreKey {
    /// The key of the store with this id. Part `i` of the secret is SHA-256("drystone checksum" ‖ store id ‖ `i`).
    pub(crate) fn new(store_id: [u8; 16]) -> StoreKey {
        let mut secret = [0; SECRET_BYTES];
        for (part, number) in secret.chunks_mut(types::Digest::BYTES).zip(0_u8..) {
            let mut context = DigestContext::new();
            context.update(b"drystone checksum");
            context.update(&store_id);
            context.update(&[number]);
            part.copy_from_slice(context.finish().as_bytes());
        }
        StoreKey { store_id, secret }
    }

    pub(crate) fn store_id(&self) -> &[u8; 16] {
        &self.store_id
    }

    /// The checksum as it stands in headers: little endian.
    pub(crate) fn checksum(&self, bytes: &[u8]) -> [u8; 16] {
        XxHash3_128::oneshot_with_secret(&self.secret, bytes)
            .expect("the secret is longer than XXH3 asks for")
            .to_le_bytes()
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey")
    }
}
