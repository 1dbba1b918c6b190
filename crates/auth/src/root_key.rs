//! The root key of a data directory: it seals what the catalog must keep secret.
//!
//! The key is 32 random bytes in a file of mode 0600. Access-key secrets and the keys of tokens are sealed with it, so a
//! copy of the catalog alone reveals none of them. Losing the file makes them unreadable; block data is not affected.
//!
//! Sealed bytes, version 1 (AES-256-GCM; the nonce is random, and far fewer than 2^32 secrets are ever sealed):
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1     12  nonce
//!     13      n  ciphertext, as long as the plaintext
//!   13+n     16  tag, over the ciphertext and the context
//! ```
//!
//! The context says what is sealed and for whom (say, the id of the access key), so sealed bytes cannot be moved from one
//! record to another. A crash while the file is being made leaves `root.key.new` at most, which the next start replaces.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};
use types::Random;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + NONCE_LEN;

/// The key that seals secrets; wiped when dropped.
pub struct RootKey {
    key: Zeroizing<[u8; KEY_BYTES]>,
    random: Random,
}

impl RootKey {
    /// Reads the root key from `path`, or makes a new one there when there is no such file.
    ///
    /// The caller holds the lock of the data directory: nobody else makes the same file at the same time.
    pub fn load_or_create(path: &Path, random: &Random) -> Result<RootKey, RootKeyError> {
        match File::open(path) {
            Ok(file) => load(file, path, random),
            Err(error) if error.kind() == ErrorKind::NotFound => create(path, random),
            Err(source) => Err(RootKeyError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Seals `plaintext`; only [`RootKey::open`] with the same context gives it back.
    pub fn seal(&self, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        self.seal_with(self.random.bytes(), context, plaintext)
    }

    fn seal_with(&self, nonce: [u8; NONCE_LEN], context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + plaintext.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut sealed[HEADER_BYTES..],
            )
            .expect("a secret is shorter than the 64 GiB that AES-GCM can seal");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`RootKey::seal`] answered; the bytes may come from anywhere.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        if version != VERSION {
            return Err(SealError::Version { found: version });
        }
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::Damaged)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .cipher()
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context),
                &mut plaintext,
            )
            .map_err(|_| SealError::Damaged)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }

    /// The cipher is made for each use (0.2 µs), so that its key schedule does not stay in memory.
    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.key.as_slice());
        LessSafeKey::new(key.expect("32 bytes are an AES-256 key"))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(hidden)")
    }
}

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Others than the owner may read or write the file.
    #[error("the root key {path} has mode {mode:04o}: others can reach it; run `chmod 600 {path}`", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold 32 bytes.
    #[error("the root key {path} holds {found} bytes where 32 are needed; restore it from a backup", path = .path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
    },
    /// The file or its directory could not be read or written.
    #[error("the root key {path} cannot be used: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why sealed bytes do not open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// They were changed, sealed for another context, or sealed with another root key.
    #[error("sealed bytes are damaged, or were sealed with another root key")]
    Damaged,
    /// They have a version that this program does not know.
    #[error("sealed bytes have version {found}, this program knows version 1")]
    Version {
        /// The version found.
        found: u8,
    },
}

fn load(mut file: File, path: &Path, random: &Random) -> Result<RootKey, RootKeyError> {
    let failed = |source| RootKeyError::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(RootKeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() != KEY_BYTES as u64 {
        return Err(RootKeyError::Length {
            path: path.to_owned(),
            found: metadata.len(),
        });
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact(key.as_mut_slice()).map_err(failed)?;
    Ok(RootKey {
        key,
        random: random.clone(),
    })
}

/// Writes a complete file beside the final name first, so that the name never stands for a part of a key.
fn create(path: &Path, random: &Random) -> Result<RootKey, RootKeyError> {
    let failed = |source| RootKeyError::Io {
        path: path.to_owned(),
        source,
    };
    let key = Zeroizing::new(random.bytes::<KEY_BYTES>());
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed)?;
    file.write_all(key.as_slice()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    Ok(RootKey {
        key,
        random: random.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};
    use std::os::unix::fs::PermissionsExt;

    fn key(seed: u64) -> RootKey {
        let random = Random::seeded(seed);
        RootKey {
            key: Zeroizing::new(random.bytes()),
            random,
        }
    }

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("root.key");
        let made = RootKey::load_or_create(&path, &Random::system()).expect("a new key");
        let metadata = fs::metadata(&path).expect("the file");
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (32, 0o600));
        assert_eq!(fs::read_dir(&directory).expect("a listing").count(), 1);
        let sealed = made.seal(b"context", b"secret");
        let read = RootKey::load_or_create(&path, &Random::system()).expect("the same key");
        assert_eq!(
            read.open(b"context", &sealed).expect("opened").as_slice(),
            b"secret"
        );
        assert!(!format!("{read:?}").contains(&format!("{:?}", read.key)));
    }

    #[test]
    fn a_crash_while_the_key_is_made_leaves_nothing_in_the_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("root.key");
        fs::write(directory.path().join("root.key.new"), b"half").expect("a leftover");
        RootKey::load_or_create(&path, &Random::system()).expect("a new key");
        assert_eq!(fs::read_dir(&directory).expect("a listing").count(), 1);
    }

    #[test]
    fn a_key_that_others_can_reach_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("root.key");
        RootKey::load_or_create(&path, &Random::system()).expect("a new key");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a new mode");
            let error = RootKey::load_or_create(&path, &Random::system()).expect_err("refused");
            let text = error.to_string();
            assert!(text.contains(&format!("has mode {mode:04o}")), "{text}");
            assert!(
                text.contains(&format!("chmod 600 {}", path.display())),
                "{text}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("a new mode");
        RootKey::load_or_create(&path, &Random::system()).expect("read-only is fine");
    }

    #[test]
    fn a_key_of_another_length_is_refused_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("root.key");
        for length in [0, 31, 33] {
            fs::write(&path, vec![7; length]).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
            let error = RootKey::load_or_create(&path, &Random::system()).expect_err("refused");
            assert!(matches!(error, RootKeyError::Length { found, .. } if found == length as u64));
            assert_eq!(fs::read(&path).expect("the file"), vec![7; length]);
        }
        let nowhere = directory.path().join("missing/root.key");
        let error = RootKey::load_or_create(&nowhere, &Random::system()).expect_err("no directory");
        assert!(matches!(error, RootKeyError::Io { .. }));
    }

    #[test]
    fn sealed_bytes_are_the_golden_ones() {
        let golden = include_str!("../testdata/sealed-v1.hex");
        let digits = golden
            .lines()
            .filter_map(|line| line.split('#').next())
            .map(str::trim);
        let golden: Vec<u8> = digits
            .flat_map(|digits| digits.as_bytes().chunks(2))
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
            .collect();
        let key = RootKey {
            key: Zeroizing::new(std::array::from_fn(|position| position as u8)),
            random: Random::seeded(1),
        };
        let (context, secret) = (
            b"access key/AKIDEXAMPLE/123456789012",
            b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        );
        let nonce = std::array::from_fn(|position| 0x40 + position as u8);
        assert_eq!(key.seal_with(nonce, context, secret), golden);
        assert_eq!(
            key.open(context, &golden).expect("opened").as_slice(),
            secret
        );
    }

    #[test]
    fn two_seals_of_one_secret_differ() {
        let key = key(1);
        assert_ne!(key.seal(b"", b"secret"), key.seal(b"", b"secret"));
    }

    #[test]
    fn another_context_key_or_version_does_not_open() {
        let (one, two) = (key(1), key(2));
        let mut sealed = one.seal(b"context", b"secret");
        assert_eq!(one.open(b"contexts", &sealed), Err(SealError::Damaged));
        assert_eq!(two.open(b"context", &sealed), Err(SealError::Damaged));
        sealed[0] = 2;
        assert_eq!(
            one.open(b"context", &sealed),
            Err(SealError::Version { found: 2 })
        );
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(context in any::<Vec<u8>>(), secret in any::<Vec<u8>>()) {
            let key = key(3);
            let opened = key.open(&context, &key.seal(&context, &secret)).expect("opened");
            assert_eq!(opened.as_slice(), secret.as_slice());
        }

        #[test]
        fn no_bit_can_change(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let key = key(4);
            let mut sealed = key.seal(b"context", b"secret");
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            key.open(b"context", &sealed).expect_err("changed bytes do not open");
        }

        #[test]
        fn any_bytes_are_opened_without_panic(sealed in any::<Vec<u8>>()) {
            key(5).open(b"context", &sealed).expect_err("noise does not open");
        }
    }
}
