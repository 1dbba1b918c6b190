//! Faults that come by chance, the same in every run with the same seed and order of calls.

use super::Call;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use types::Random;

/// How often calls fail.
#[derive(Clone, Debug)]
pub struct Chaos {
    random: Random,
    per_million: BTreeMap<Call, u32>,
}

impl Chaos {
    /// For each call, how many of a million fail.
    pub fn new(seed: u64, per_million: BTreeMap<Call, u32>) -> Chaos {
        Chaos {
            random: Random::seeded(seed),
            per_million,
        }
    }

    /// The error of this call, if it is to fail: of reads, half are the kind that a bad sector gives.
    pub(super) fn fault(&self, call: Call) -> Option<io::Error> {
        let per_million = *self.per_million.get(&call)?;
        let bits = self.random.bits();
        if (bits >> 32) % 1_000_000 >= u64::from(per_million) {
            return None;
        }
        Some(match call {
            Call::Read if bits & 1 == 0 => io::Error::other("the bus was reset"),
            _ => io::Error::from_raw_os_error(Errno::IO.raw_os_error()),
        })
    }
}
