//! The frame: how one chunk lies in a segment or an object.
//!
//! ```text
//! offset size  field
//! ------ ----  --------------------------------------------------------------------------------
//!      0    8  magic "DRYFRAME"
//!      8    2  format version, 1
//!     10    1  kind: 1 block, 2 page, 3 snapshot record
//!     11    1  codec: 0 none, 1 zstd
//!     12    4  payload offset, from the start of the frame: 4096 (block segments) or 256 (packed)
//!     16   16  store id
//!     32    8  container id
//!     40    8  offset of the frame in its container
//!     48    8  domain
//!     56   32  name
//!     88   32  digest of the content, SHA-256 (sealed when encrypted)
//!    120    4  content bytes
//!    124    4  stored bytes: the content after encoding
//!    128    8  data key id; 0 = not encrypted
//!    136   12  nonce of the payload, 0 when not encrypted
//!    148   16  tag of the payload, 0 when not encrypted
//!    164   12  nonce of the digest, 0 when not encrypted
//!    176   16  tag of the digest, 0 when not encrypted
//!    192   16  checksum of the stored bytes
//!    208   32  zeros, free for later use
//!    240   16  checksum of bytes 0 to 239
//!    256       zeros up to the payload offset, the stored bytes, zeros up to the frame's end
//! ```
//!
//! All numbers are little endian. A frame ends at the next multiple of 4 KiB (block segments: what is freed can be
//! punched out alone) or of 64 bytes (packed: pages are small and freed with their container).
//!
//! What the fields are for: magic, version and header checksum tell a frame from anything else; store id, container
//! id and offset catch a frame that was restored, copied or written to the wrong place; kind, domain and name catch a
//! location that names another chunk; the payload's checksum catches damage at 20 GB/s where the digest would cost a
//! core, and scrub checks the digest.
//!
//! Checksums are XXH3-128 under a secret made from the store id, so that the image of another Drystone disk, stored
//! here as a block, holds nothing that verifies as a frame of this store; a copy of this store's own disk fails by its
//! offset, since a location is never written twice.
//!
//! Versions: 1, the first. Golden files: `testdata/frame_v1_block.hex`, `testdata/frame_v1_page.hex`.

mod key;
#[cfg(test)]
mod tests;

pub(crate) use key::StoreKey;

use crate::{
    CHUNK_BYTES_MAX, ChunkId, ChunkKind, Codec, ContainerId, ContainerKind, FoundFrame, Location,
};
use types::{ChunkName, Digest, Domain};

/// Bytes of a header, without the zeros that may follow it.
pub(crate) const HEADER_BYTES: usize = 256;

/// Alignment of frames in block segments, of packs in page segments, and the unit of punching.
pub(crate) const BLOCK_ALIGNMENT: u32 = 4096;

/// Alignment of frames inside a pack or an object.
pub(crate) const PACKED_ALIGNMENT: u32 = 64;

/// The longest possible frame.
pub(crate) const FRAME_BYTES_MAX: usize = BLOCK_ALIGNMENT as usize + CHUNK_BYTES_MAX;

const MAGIC: [u8; 8] = *b"DRYFRAME";
const VERSION: u16 = 1;
const CHECKSUM_AT: usize = 240;

/// How frames lie side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    /// 4 KiB of header, padded to 4 KiB: can be written without a copy and punched out alone.
    Punchable,
    /// Close together, to be freed with the whole container.
    Packed,
}

impl Packing {
    /// How frames lie in segments of this kind.
    pub(crate) fn of(kind: ContainerKind) -> Packing {
        match kind {
            ContainerKind::Blocks => Packing::Punchable,
            ContainerKind::Pages => Packing::Packed,
        }
    }

    /// Distance from the start of a frame to its stored bytes.
    pub(crate) fn payload_offset(self) -> u32 {
        match self {
            Packing::Punchable => BLOCK_ALIGNMENT,
            Packing::Packed => HEADER_BYTES as u32,
        }
    }

    /// What frame starts and ends are multiples of.
    pub(crate) fn alignment(self) -> u32 {
        match self {
            Packing::Punchable => BLOCK_ALIGNMENT,
            Packing::Packed => PACKED_ALIGNMENT,
        }
    }

    /// Length of a frame that holds this many stored bytes.
    pub(crate) fn frame_bytes(self, stored_bytes: u32) -> u32 {
        self.payload_offset() + stored_bytes.next_multiple_of(self.alignment())
    }
}

/// Why bytes are not the frame that was looked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("no frame begins here")]
    NoMagic,
    #[error("the frame has format version {0}, this program reads {VERSION}")]
    Version(u16),
    #[error("the header's checksum does not match")]
    HeaderChecksum,
    #[error("the header's {0} cannot be")]
    Field(&'static str),
    #[error("the frame belongs to another store")]
    OtherStore,
    #[error("the frame was written for container {} at offset {offset}", container.0)]
    OtherPlace { container: ContainerId, offset: u64 },
    #[error("the frame holds {0:?}")]
    OtherChunk(Box<ChunkId>),
    #[error("the frame is {0} bytes long")]
    OtherLength(u32),
    #[error("the frame is encrypted with data key {0}, which this program cannot open")]
    Encrypted(u64),
    #[error("the frame ends after {0} bytes")]
    Short(usize),
    #[error("the payload's checksum does not match")]
    PayloadChecksum,
    #[error("the payload does not decode: {0}")]
    Decode(String),
}

/// The header of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) container: ContainerId,
    pub(crate) offset: u64,
    pub(crate) packing: Packing,
    pub(crate) chunk: ChunkId,
    pub(crate) digest: Digest,
    pub(crate) codec: Codec,
    pub(crate) content_bytes: u32,
    pub(crate) stored_bytes: u32,
    pub(crate) payload_checksum: [u8; 16],
}

impl Header {
    /// Where the frame is.
    pub(crate) fn location(&self) -> Location {
        Location {
            container: self.container,
            offset: self.offset,
            length: self.packing.frame_bytes(self.stored_bytes),
        }
    }

    /// What the header says to those outside.
    pub(crate) fn found(&self) -> FoundFrame {
        FoundFrame {
            id: self.chunk,
            location: self.location(),
            digest: self.digest,
            codec: self.codec,
            stored_bytes: self.stored_bytes,
        }
    }

    /// The bytes as in the diagram; what follows up to the payload is zeros.
    pub(crate) fn encode(&self, key: &StoreKey) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(10, &[self.chunk.kind as u8, self.codec as u8]);
        put(12, &self.packing.payload_offset().to_le_bytes());
        put(16, key.store_id());
        put(32, &self.container.0.to_le_bytes());
        put(40, &self.offset.to_le_bytes());
        put(48, &self.chunk.domain.number().to_le_bytes());
        put(56, self.chunk.name.as_bytes());
        put(88, self.digest.as_bytes());
        put(120, &self.content_bytes.to_le_bytes());
        put(124, &self.stored_bytes.to_le_bytes());
        put(192, &self.payload_checksum);
        let checksum = key.checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum);
        bytes
    }

    /// Reads a header from the first bytes of a frame. Total: any bytes give a header or an error.
    pub(crate) fn decode(key: &StoreKey, bytes: &[u8]) -> Result<Header, FrameError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Short(bytes.len()));
        };
        if field::<8>(header, 0) != MAGIC {
            return Err(FrameError::NoMagic);
        }
        if field::<16>(header, CHECKSUM_AT) != key.checksum(&header[..CHECKSUM_AT]) {
            let of_this_store = field::<16>(header, 16) == *key.store_id();
            return Err(if of_this_store {
                FrameError::HeaderChecksum
            } else {
                FrameError::OtherStore
            });
        }
        let version = u16::from_le_bytes(field(header, 8));
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let data_key = u64::from_le_bytes(field(header, 128));
        if data_key != 0 {
            return Err(FrameError::Encrypted(data_key));
        }
        let decoded = Header {
            container: ContainerId(u64::from_le_bytes(field(header, 32))),
            offset: u64::from_le_bytes(field(header, 40)),
            packing: packing_from(u32::from_le_bytes(field(header, 12)))?,
            chunk: ChunkId {
                domain: Domain::from_number(u64::from_le_bytes(field(header, 48))),
                name: ChunkName::from_slice(&header[56..88]).ok_or(FrameError::Field("name"))?,
                kind: kind_from(header[10])?,
            },
            digest: Digest::from_bytes(field(header, 88)),
            codec: codec_from(header[11])?,
            content_bytes: u32::from_le_bytes(field(header, 120)),
            stored_bytes: u32::from_le_bytes(field(header, 124)),
            payload_checksum: field(header, 192),
        };
        decoded.check_lengths()?;
        Ok(decoded)
    }

    fn check_lengths(&self) -> Result<(), FrameError> {
        let bytes_max = CHUNK_BYTES_MAX as u32;
        if self.content_bytes > bytes_max {
            return Err(FrameError::Field("content length"));
        }
        let possible = match self.codec {
            Codec::None => self.stored_bytes == self.content_bytes,
            Codec::Zstd => self.stored_bytes <= bytes_max,
        };
        if possible {
            Ok(())
        } else {
            Err(FrameError::Field("stored length"))
        }
    }

    /// The store that bytes which begin like a frame say they are of; nothing is checked.
    pub(crate) fn store_id_claimed(bytes: &[u8]) -> Option<[u8; 16]> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        (field::<8>(header, 0) == MAGIC).then(|| field(header, 16))
    }

    /// Reads a whole frame and proves that it is this chunk at this place; answers its header. The stored bytes follow
    /// at its payload offset.
    pub(crate) fn verify(
        key: &StoreKey,
        frame: &[u8],
        location: Location,
        chunk: &ChunkId,
    ) -> Result<Header, FrameError> {
        let header = Header::decode(key, frame)?;
        if (header.container, header.offset) != (location.container, location.offset) {
            let (container, offset) = (header.container, header.offset);
            return Err(FrameError::OtherPlace { container, offset });
        }
        if header.chunk != *chunk {
            return Err(FrameError::OtherChunk(Box::new(header.chunk)));
        }
        if header.location().length != location.length {
            return Err(FrameError::OtherLength(header.location().length));
        }
        let payload = frame
            .get(header.payload_range())
            .ok_or(FrameError::Short(frame.len()))?;
        if key.checksum(payload) != header.payload_checksum {
            return Err(FrameError::PayloadChecksum);
        }
        Ok(header)
    }

    /// Where the stored bytes are within the frame.
    pub(crate) fn payload_range(&self) -> std::ops::Range<usize> {
        let start = self.packing.payload_offset() as usize;
        start..start + self.stored_bytes as usize
    }
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[at..at + N]);
    field
}

fn kind_from(byte: u8) -> Result<ChunkKind, FrameError> {
    match byte {
        1 => Ok(ChunkKind::Block),
        2 => Ok(ChunkKind::Page),
        3 => Ok(ChunkKind::Snapshot),
        _ => Err(FrameError::Field("kind")),
    }
}

fn codec_from(byte: u8) -> Result<Codec, FrameError> {
    match byte {
        0 => Ok(Codec::None),
        1 => Ok(Codec::Zstd),
        _ => Err(FrameError::Field("codec")),
    }
}

fn packing_from(payload_offset: u32) -> Result<Packing, FrameError> {
    [Packing::Punchable, Packing::Packed]
        .into_iter()
        .find(|packing| packing.payload_offset() == payload_offset)
        .ok_or(FrameError::Field("payload offset"))
}

/// Where a chunk of this kind goes.
pub(crate) fn container_kind(kind: ChunkKind) -> ContainerKind {
    match kind {
        ChunkKind::Block => ContainerKind::Blocks,
        ChunkKind::Page | ChunkKind::Snapshot => ContainerKind::Pages,
    }
}
