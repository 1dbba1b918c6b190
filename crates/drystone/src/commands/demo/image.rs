//! The disk image of a demo: made, or copied from one that exists, which is never written to; then changed, and compared.
//!
//! One that is made has what disks have: noise that nothing compresses, text, the same blocks over and over, and holes.

use crate::commands::figures::bytes;
use anyhow::{Context, ensure};
use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use types::BLOCK_BYTES;

/// Blocks of each kind of content in an image that is made; the rest of it is holes.
const NOISE_BLOCKS: u64 = 128;
const TEXT_BLOCKS: u64 = 128;
const REPEATED_BLOCKS: u64 = 96;
/// How many of the repeated blocks are distinct.
const DISTINCT_BLOCKS: u64 = 8;
const ALL_BLOCKS: u64 = 512;

/// Places in which an image is changed, and blocks changed in each.
const CHANGED_PLACES: u64 = 8;
const CHANGED_IN_A_PLACE: u64 = 4;

const WORDS: [&str; 16] = [
    "drystone", "walls", "are", "built", "of", "squared", "blocks", "laid", "course", "on", "with",
    "no", "mortar", "and", "stand", "long",
];

/// A file of the demo's own.
#[derive(Clone, Debug)]
pub struct Image {
    path: PathBuf,
    bytes: u64,
    data_bytes: u64,
    /// Of which file it is a copy.
    of: Option<PathBuf>,
}

impl Image {
    /// Copies the image given, or makes one. `check` is asked about the bytes of its data first.
    pub async fn prepare(
        given: Option<&Path>,
        path: PathBuf,
        check: impl FnOnce(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Image> {
        let of = given.map(Path::to_owned);
        match &of {
            None => check(ALL_BLOCKS * BLOCK_BYTES as u64)?,
            Some(given) => {
                let about = std::fs::metadata(given)
                    .with_context(|| format!("{} cannot be read", given.display()))?;
                ensure!(about.is_file(), "{} is no file", given.display());
                ensure!(about.len() > 0, "{} is empty", given.display());
                check(about.blocks().saturating_mul(512).min(about.len()))?;
            }
        }
        let made = tokio::task::spawn_blocking(move || {
            match &of {
                None => make(&path),
                Some(given) => copy(given, &path),
            }
            .with_context(|| format!("{} cannot be written", path.display()))?;
            let about = path.metadata()?;
            Ok(Image {
                bytes: about.len(),
                data_bytes: about.blocks().saturating_mul(512).min(about.len()),
                path,
                of,
            })
        });
        made.await.context("the image was not made")?
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A line about it.
    pub fn description(&self) -> String {
        match &self.of {
            Some(of) => format!(
                "A copy of {}: {}, of which {} are allocated.",
                of.display(),
                bytes(self.bytes),
                bytes(self.data_bytes)
            ),
            None => {
                let mib = |blocks: u64| (blocks * BLOCK_BYTES as u64) >> 20;
                format!(
                    "An image of {} MiB: {} noise, {} text, {} of {DISTINCT_BLOCKS} blocks over and over, and holes.",
                    self.bytes >> 20,
                    mib(NOISE_BLOCKS),
                    mib(TEXT_BLOCKS),
                    mib(REPEATED_BLOCKS)
                )
            }
        }
    }

    /// Writes something else to some blocks here and there, and answers which.
    pub async fn change(&self) -> anyhow::Result<BTreeSet<u32>> {
        let image = self.clone();
        tokio::task::spawn_blocking(move || image.change_now())
            .await
            .context("the image was not changed")?
    }

    fn change_now(&self) -> anyhow::Result<BTreeSet<u32>> {
        let file = File::options().write(true).open(&self.path)?;
        let blocks = self.bytes.div_ceil(BLOCK_BYTES as u64);
        let mut noise = Noise(2);
        let mut changed = BTreeSet::new();
        for place in 0..CHANGED_PLACES {
            // In the middle of each eighth: never at the beginning, where disks keep what they boot with.
            let start = blocks * (2 * place + 1) / (2 * CHANGED_PLACES);
            for index in start..(start + CHANGED_IN_A_PLACE).min(blocks) {
                let offset = index * BLOCK_BYTES as u64;
                let length = (self.bytes - offset).min(BLOCK_BYTES as u64);
                let mut data = vec![0; usize::try_from(length)?];
                noise.fill(&mut data);
                file.write_all_at(&data, offset)?;
                changed.insert(u32::try_from(index).context("the image is too large")?);
            }
        }
        file.sync_data()?;
        Ok(changed)
    }

    /// The first byte in which a file differs, if any, lengths included.
    pub async fn differs_from(&self, other: PathBuf) -> anyhow::Result<Option<u64>> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || first_difference(&path, &other))
            .await
            .context("nothing was compared")?
    }
}

fn make(path: &Path) -> anyhow::Result<()> {
    let file = File::create_new(path)?;
    let block_bytes = BLOCK_BYTES as u64;
    file.set_len(ALL_BLOCKS * block_bytes)?;
    let mut noise = Noise(1);
    let mut block = vec![0; BLOCK_BYTES];
    let mut repeated = Vec::new();
    let mut index = 0;
    // Content and holes take turns, as on disks: 11 of 16 blocks are content.
    let mut left = [NOISE_BLOCKS, TEXT_BLOCKS, REPEATED_BLOCKS];
    while left.iter().any(|left| *left > 0) {
        for (kind, left) in left.iter_mut().enumerate() {
            for _ in 0..(*left).min(8) {
                *left -= 1;
                match kind {
                    0 => noise.fill(&mut block),
                    1 => noise.write_text(&mut block),
                    _ => {
                        if (repeated.len() as u64) < DISTINCT_BLOCKS {
                            noise.fill(&mut block);
                            repeated.push(block.clone());
                        }
                        let which = noise.next() % repeated.len() as u64;
                        block.copy_from_slice(&repeated[usize::try_from(which)?]);
                    }
                }
                file.write_all_at(&block, index * block_bytes)?;
                index += 1;
            }
        }
        index += 8;
    }
    file.sync_data()?;
    Ok(())
}

/// Shares the blocks where the file system can, and copies what is no hole otherwise.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let from = File::open(from)?;
    let length = from.metadata()?.len();
    let to = File::create_new(to)?;
    if ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    to.set_len(length)?;
    let mut buffer = vec![0; 1 << 20];
    let mut end = 0;
    while end < length {
        let start = match seek(&from, SeekFrom::Data(end)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // A file system without holes.
            Err(Errno::INVAL) => end,
            Err(error) => return Err(error.into()),
        };
        end = seek(&from, SeekFrom::Hole(start)).unwrap_or(length);
        let mut at = start;
        while at < end {
            let wanted = usize::try_from((end - at).min(buffer.len() as u64))?;
            from.read_exact_at(&mut buffer[..wanted], at)?;
            to.write_all_at(&buffer[..wanted], at)?;
            at += wanted as u64;
        }
    }
    Ok(())
}

fn first_difference(left: &Path, right: &Path) -> anyhow::Result<Option<u64>> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut here, mut there) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let (count, other) = (
            read_full(&mut left, &mut here)?,
            read_full(&mut right, &mut there)?,
        );
        if here[..count] != there[..other] {
            let equal = here[..count].iter().zip(&there[..other]);
            return Ok(Some(at + equal.take_while(|(x, y)| x == y).count() as u64));
        }
        if count == 0 {
            return Ok(None);
        }
        at += count as u64;
    }
}

/// Fills the buffer, unless the file ends before.
fn read_full(file: &mut File, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..])? {
            0 => break,
            some => count += some,
        }
    }
    Ok(count)
}

/// Numbers that look random, and are the same in every demo.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
    }

    fn write_text(&mut self, buffer: &mut [u8]) {
        let mut at = 0;
        while at < buffer.len() {
            let word = WORDS[(self.next() % WORDS.len() as u64) as usize].as_bytes();
            let separator = match self.next() % 12 {
                0 => b'\n',
                _ => b' ',
            };
            for byte in word.iter().copied().chain([separator]) {
                if let Some(place) = buffer.get_mut(at) {
                    *place = byte;
                }
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_image_is_the_size_that_is_said_and_has_holes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image");
        make(&path).expect("made");
        let about = path.metadata().expect("it is there");
        assert_eq!(about.len(), ALL_BLOCKS * BLOCK_BYTES as u64);
        let data = (NOISE_BLOCKS + TEXT_BLOCKS + REPEATED_BLOCKS) * BLOCK_BYTES as u64;
        assert!((data..about.len()).contains(&(about.blocks() * 512)));
    }

    #[tokio::test]
    async fn the_image_given_is_copied_with_its_holes_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let given = dir.path().join("given");
        let file = File::create_new(&given).expect("made");
        file.set_len(9 * BLOCK_BYTES as u64 + 5).expect("long");
        file.write_all_at(b"data", 3 * BLOCK_BYTES as u64)
            .expect("written");
        let path = dir.path().join("copy");
        let image = Image::prepare(Some(&given), path, |_| Ok(()))
            .await
            .expect("copied");
        assert_eq!(image.differs_from(given.clone()).await.expect("read"), None);
        assert!(image.data_bytes < BLOCK_BYTES as u64);

        let before = std::fs::read(&given).expect("read");
        let changed = image.change().await.expect("changed");
        assert!(changed.iter().all(|index| *index <= 9), "{changed:?}");
        let first = u64::from(*changed.first().expect("some")) * BLOCK_BYTES as u64;
        let differs = image.differs_from(given.clone()).await.expect("read");
        assert!((first..first + 16).contains(&differs.expect("it does")));
        assert_eq!(std::fs::read(&given).expect("read"), before);
    }

    #[test]
    fn a_shorter_file_differs_at_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let (long, short) = (dir.path().join("long"), dir.path().join("short"));
        std::fs::write(&long, b"abc").expect("written");
        std::fs::write(&short, b"ab").expect("written");
        assert_eq!(first_difference(&long, &short).expect("read"), Some(2));
        assert_eq!(first_difference(&short, &long).expect("read"), Some(2));
        assert_eq!(first_difference(&long, &long).expect("read"), None);
    }
}
