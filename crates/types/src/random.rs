//! Randomness as something that is handed in.

use crate::{Digest, DigestContext};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Random(Source);

#[derive(Clone, Debug)]
enum Source {
    System(SystemRandom),
    Seeded { seed: u64, drawn: Arc<AtomicU64> },
}

impl Random {
    /// The operating system's generator.
    pub fn system() -> Random {
        Random(Source::System(SystemRandom::new()))
    }

    /// The same bytes in every run with the same seed and order of calls: for tests and simulation.
    pub fn seeded(seed: u64) -> Random {
        Random(Source::Seeded {
            seed,
            drawn: Arc::new(AtomicU64::new(0)),
        })
    }

    /// `N` fresh random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing safe can be done without.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System(system) => {
                system
                    .fill(&mut bytes)
                    .expect("the operating system gives random bytes");
            }
            Source::Seeded { seed, drawn } => {
                for part in bytes.chunks_mut(Digest::BYTES) {
                    let mut context = DigestContext::new();
                    context.update(&seed.to_le_bytes());
                    context.update(&drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes());
                    part.copy_from_slice(&context.finish().as_bytes()[..part.len()]);
                }
            }
        }
        bytes
    }

    /// 64 fresh random bits.
    pub fn bits(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_draws_differ() {
        let (one, two) = (Random::seeded(7), Random::seeded(7));
        let first: [u8; 40] = one.bytes();
        assert_eq!(first, two.bytes());
        assert_ne!(first, one.bytes());
        assert_ne!(Random::system().bits(), Random::system().bits());
    }
}
