//! Chance that repeats: a small, fast generator, one for each thing that happens by chance.

/// A sequence of numbers that its seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x5bf0_3635_aa5c_11d3)
    }

    /// A sequence of its own for the thing with this name, so that one more throw for one thing changes no other.
    pub fn fork(&self, name: &str) -> Dice {
        let mut fork = self.clone();
        for byte in name.bytes() {
            fork.0 = fork.bits().wrapping_add(u64::from(byte));
        }
        fork
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    /// A number from `low` up to and with `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `per_mille` times in a thousand.
    pub fn hits(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of these, if there is one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }

    /// The position of one of these, each as likely as its weight.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (position, weight) in weights.iter().enumerate() {
            if left < *weight {
                return position;
            }
            left -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_forks_go_their_own_way() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        let (mut a, mut b) = (one.fork("a"), one.fork("b"));
        assert_eq!(one.bits(), two.bits());
        assert_ne!(a.bits(), b.bits());
    }

    #[test]
    fn weights_are_kept_roughly() {
        let mut dice = Dice::new(1);
        let mut seen = [0; 3];
        (0..9_000).for_each(|_| seen[dice.weighted(&[1, 0, 2])] += 1);
        assert!(
            (2_500..3_500).contains(&seen[0]) && seen[1] == 0,
            "{seen:?}"
        );
    }
}
