//! Digests, away from the threads that serve connections.

use buffers::AlignedBuf;
use types::Digest;

/// The digest of a buffer, computed on a blocking thread; at most as many at once as there are cores.
pub(crate) async fn digest(data: AlignedBuf) -> (AlignedBuf, Digest) {
    let _ = &data;
    unimplemented!()
}
