//! Targets against a model: what is read after any writes is what a vector of bytes would hold.

mod device;
mod file;
mod model;
mod stream;

use super::{Before, Target, TargetOptions, TargetPath};
use crate::Error;
use crate::source::Extent;
use std::path::Path;
use types::{BLOCK_BYTES, BlockIndex, VolumeSize};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

fn options(bytes: u64, before: Before) -> TargetOptions {
    TargetOptions {
        volume_size: VolumeSize::from_gib(bytes.div_ceil(1 << 30).max(1)).unwrap(),
        bytes: Some(bytes),
        before,
    }
}

fn open(path: &Path, bytes: u64, before: Before) -> Result<Target, Error> {
    Target::open(
        &TargetPath::Path(path.to_path_buf()),
        &options(bytes, before),
    )
}

fn write(target: &Target, at: u32, byte: u8) -> Result<(), Error> {
    target.write_block(index(at), &vec![byte; BLOCK_BYTES])
}

fn zero(target: &Target, start: u32, count: u32) -> Result<(), Error> {
    target.zero(Extent { start, count })
}

fn read(target: &Target, at: u32) -> Vec<u8> {
    let mut buffer = vec![0xEE; BLOCK_BYTES];
    target.read_block(index(at), &mut buffer).unwrap();
    buffer
}

/// Blocks of one byte each.
fn blocks(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| vec![*byte; BLOCK_BYTES])
        .collect()
}

#[track_caller]
fn unfit<T: std::fmt::Debug>(result: Result<T, Error>, part: &str) {
    match result {
        Err(Error::Unfit(message)) => assert!(message.contains(part), "{message}"),
        other => panic!("{other:?} instead of {part}"),
    }
}
