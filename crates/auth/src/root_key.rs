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
        let nonce = self.random.bytes::<NONCE_LEN>();
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
