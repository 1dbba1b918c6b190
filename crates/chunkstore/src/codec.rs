//! Compression, with an early way out for data that does not compress.
//!
//! zstd costs four to eight times what the digest costs, so data that gains nothing must be told apart cheaply: a few
//! samples, spread over the content, are compressed first. The result is kept only when it saves at least an eighth.
//! Everything here is slow and belongs on a blocking thread.

use crate::Codec;
use crate::frame::FrameError;
use bytes::Bytes;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use zstd::bulk::{Compressor, Decompressor};

/// How new blocks are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecSetting {
    /// As they are.
    None,
    /// With zstd where that saves at least an eighth.
    Zstd {
        /// zstd's compression level, -7 to 22; 1 is a good one.
        level: i32,
    },
}

const SAMPLE_BYTES: usize = 4096;
const SAMPLES: usize = 8;

/// The level for samples: the question is only whether there is anything to gain.
const SAMPLE_LEVEL: i32 = 1;

/// Encodes content and keeps the compressors' memory (about 1 MB each) for the next.
pub(crate) struct Encoder {
    setting: CodecSetting,
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Encoder {
    pub(crate) fn new(setting: CodecSetting) -> Encoder {
        Encoder {
            setting,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Whether [`Encoder::encode`] does any work.
    pub(crate) fn is_idle(&self) -> bool {
        self.setting == CodecSetting::None
    }

    /// The bytes to store for this content. A compressor that fails leaves the content as it is.
    pub(crate) fn encode(&self, content: &Bytes) -> (Codec, Bytes) {
        let CodecSetting::Zstd { level } = self.setting else {
            return (Codec::None, content.clone());
        };
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let Some(mut compressor) = idle.or_else(|| Compressor::new(level).ok()) else {
            return (Codec::None, content.clone());
        };
        let compressed = compress(&mut compressor, level, content);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(compressor);
        match compressed {
            Some(bytes) => (Codec::Zstd, bytes),
            None => (Codec::None, content.clone()),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encoder").field(&self.setting).finish()
    }
}

fn compress(compressor: &mut Compressor<'static>, level: i32, content: &[u8]) -> Option<Bytes> {
    if content.len() > SAMPLE_BYTES * SAMPLES {
        compressor.set_compression_level(SAMPLE_LEVEL).ok()?;
        let mut compressed_bytes = 0;
        for sample in samples(content) {
            compressed_bytes += compressor.compress(sample).ok()?.len();
        }
        if !is_worth_it(SAMPLE_BYTES * SAMPLES, compressed_bytes) {
            return None;
        }
    }
    compressor.set_compression_level(level).ok()?;
    let compressed = compressor.compress(content).ok()?;
    is_worth_it(content.len(), compressed.len()).then(|| Bytes::from(compressed))
}

/// Samples at equal distances, the first at the start.
fn samples(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let distance = content.len() / SAMPLES;
    (0..SAMPLES).map(move |sample| &content[sample * distance..][..SAMPLE_BYTES])
}

/// Whether at least an eighth is saved.
fn is_worth_it(content_bytes: usize, stored_bytes: usize) -> bool {
    stored_bytes <= content_bytes - content_bytes.div_ceil(8)
}

/// The content of `content_bytes` bytes that these stored bytes encode.
pub(crate) fn decode(
    codec: Codec,
    stored: Bytes,
    content_bytes: usize,
) -> Result<Bytes, FrameError> {
    let content = match codec {
        Codec::None => stored,
        Codec::Zstd => {
            let decoded = Decompressor::new()
                .and_then(|mut decompressor| decompressor.decompress(&stored, content_bytes))
                .map_err(|error| FrameError::Decode(error.to_string()))?;
            Bytes::from(decoded)
        }
    };
    if content.len() != content_bytes {
        let reason = format!("{} bytes instead of {content_bytes}", content.len());
        return Err(FrameError::Decode(reason));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use types::Random;

    fn noise(bytes: usize) -> Vec<u8> {
        let random = Random::seeded(1);
        let mut noise: Vec<u8> = Vec::with_capacity(bytes + 4096);
        while noise.len() < bytes {
            noise.extend(random.bytes::<4096>());
        }
        noise.truncate(bytes);
        noise
    }

    fn check(content: Vec<u8>, wanted: Codec) {
        let encoder = Encoder::new(CodecSetting::Zstd { level: 1 });
        let content = Bytes::from(content);
        for _ in 0..2 {
            let (codec, stored) = encoder.encode(&content);
            assert_eq!(codec, wanted);
            assert_eq!(decode(codec, stored, content.len()).unwrap(), content);
        }
    }

    #[test]
    fn keeps_only_what_saves_an_eighth() {
        check(vec![7; 512 * 1024], Codec::Zstd);
        check(noise(512 * 1024), Codec::None);
        check(noise(4096), Codec::None);
        check(Vec::new(), Codec::None);
        check(
            [noise(256 * 1024), vec![0; 256 * 1024]].concat(),
            Codec::Zstd,
        );
        check(
            [noise(480 * 1024), vec![0; 32 * 1024]].concat(),
            Codec::None,
        );
    }

    #[test]
    fn a_wrong_length_does_not_decode() {
        let (codec, stored) =
            Encoder::new(CodecSetting::Zstd { level: 1 }).encode(&Bytes::from(vec![7; 100_000]));
        assert_eq!(codec, Codec::Zstd);
        assert!(decode(codec, stored.clone(), 99_999).is_err());
        assert!(decode(codec, stored, 100_001).is_err());
        assert!(decode(Codec::None, Bytes::from_static(b"abc"), 4).is_err());
    }

    proptest! {
        #[test]
        fn any_stored_bytes_decode_or_fail(stored in proptest::collection::vec(any::<u8>(), 0..300), bytes in 0_usize..5000) {
            let _ = decode(Codec::Zstd, Bytes::from(stored), bytes);
        }

        #[test]
        fn content_survives(content in proptest::collection::vec(0_u8..4, 0..3000), level in -3_i32..4) {
            let content = Bytes::from(content.repeat(20));
            let (codec, stored) = Encoder::new(CodecSetting::Zstd { level }).encode(&content);
            prop_assert_eq!(decode(codec, stored, content.len()).unwrap(), content);
        }
    }
}
