//! How many ways lead from an input to an output: the product of the stages' 0–1 matrices, over the integers.
//!
//! Counts grow like the product of the block sizes, far beyond any integer type, so they are floating-point numbers: exact up
//! to 2⁵³, with relative error below m·b·2⁻⁵³ beyond (sums of positive numbers do not cancel). Where even the exponent of
//! `f64` could overflow, each number carries an exponent of its own.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::network::{Level, Links, Network};

/// Additions spent on counting paths, at most: some seconds.
const MOST_ADDITIONS: u64 = 1 << 32;

/// Inputs whose counts are carried at a time.
const LANES: usize = 64;

/// Number of paths over all pairs of an input and an output, as logarithms to base 2; −∞ for none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paths {
    /// Of the pair with the fewest.
    pub min_log2: f64,
    /// Of the pair with the most.
    pub max_log2: f64,
    /// Logarithm of the mean over all n² pairs.
    pub mean_log2: f64,
}

impl Network {
    /// Counts the paths between all pairs. `None` beyond 2³² additions (n times the coordinates named in all stages).
    pub fn paths(&self) -> Option<Paths> {
        let named = self.levels.iter().map(|level| {
            let (b, blocks) = (level.layout.block_size() as u64, level.layout.num_blocks() as u64);
            match level.links {
                Links::Free { .. } => b.saturating_mul(blocks),
                Links::Fixed(_) => b.saturating_mul(b).saturating_mul(blocks),
            }
        });
        let additions = named.fold(self.n as u64, u64::saturating_add).saturating_mul(self.n as u64);
        if additions > MOST_ADDITIONS {
            return None;
        }
        let growth: f64 = self.levels.iter().map(|level| Float::log2(level.layout.block_size() as f64)).sum();
        Some(if growth < 1000.0 { count::<f64>(self) } else { count::<Scaled>(self) })
    }
}

/// A non-negative count.
trait Count: Copy + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn log2(self) -> f64;
}

impl Count for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    fn plus(self, other: f64) -> f64 {
        self + other
    }
    fn log2(self) -> f64 {
        Float::log2(self)
    }
}

/// mantissa·2^exponent with the mantissa in [1, 2), or zero with the least exponent; so the order is lexicographic.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Scaled {
    exponent: i64,
    mantissa: f64,
}

impl Count for Scaled {
    const ZERO: Self = Self { exponent: i64::MIN / 2, mantissa: 0.0 };
    const ONE: Self = Self { exponent: 0, mantissa: 1.0 };
    fn plus(self, other: Self) -> Self {
        let (large, small) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let shift = large.exponent - small.exponent;
        if shift > 60 {
            return large;
        }
        let sum = large.mantissa + small.mantissa / (1u64 << shift) as f64;
        if sum >= 2.0 {
            Self { exponent: large.exponent + 1, mantissa: sum / 2.0 }
        } else {
            Self { mantissa: sum, ..large }
        }
    }
    fn log2(self) -> f64 {
        self.exponent as f64 + Float::log2(self.mantissa)
    }
}

fn count<C: Count>(network: &Network) -> Paths {
    let n = network.n;
    let (mut min, mut max, mut sum) = (None, C::ZERO, C::ZERO);
    let mut scratch = Vec::new();
    for start in (0..n).step_by(LANES) {
        let lanes = LANES.min(n - start);
        // counts[i·lanes + l]: paths from input start + l to node i.
        let mut counts = vec![C::ZERO; n * lanes];
        for l in 0..lanes {
            counts[(start + l) * lanes + l] = C::ONE;
        }
        for level in &network.levels {
            level.add(lanes, &mut counts, &mut scratch);
        }
        for &count in &counts {
            min = Some(min.map_or(count, |min| if count < min { count } else { min }));
            max = if count > max { count } else { max };
            sum = sum.plus(count);
        }
    }
    let min: C = min.unwrap_or(C::ZERO);
    let mean_log2 = sum.log2() - 2.0 * Float::log2(n as f64);
    Paths { min_log2: min.log2(), max_log2: max.log2(), mean_log2 }
}

impl Level {
    fn add<C: Count>(&self, lanes: usize, counts: &mut [C], scratch: &mut Vec<C>) {
        let b = self.layout.block_size();
        // All outputs of a trainable block have the same counts.
        let sums = if matches!(self.links, Links::Free { .. }) { 1 } else { b };
        for j in 0..self.layout.num_blocks() {
            scratch.clear();
            scratch.resize(sums * lanes, C::ZERO);
            for (i, sums) in scratch.chunks_exact_mut(lanes).enumerate() {
                for k in (0..b).filter(|&k| self.links.has(b, j, i, k)) {
                    let from = &counts[self.layout.index(j, k) * lanes..][..lanes];
                    sums.iter_mut().zip(from).for_each(|(sum, count)| *sum = sum.plus(*count));
                }
            }
            for i in 0..b {
                let sums = &scratch[i % sums * lanes..][..lanes];
                counts[self.layout.index(j, i) * lanes..][..lanes].copy_from_slice(sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Butterfly, Explicit};

    #[test]
    fn both_ways_to_count_agree() {
        for radix in [2, 3] {
            let network = Network::new(if radix == 2 { 16 } else { 27 }, &Butterfly::classic(radix)).unwrap();
            let twice = Network { n: network.n, levels: [&network.levels[..], &network.levels[..1]].concat() };
            let (plain, scaled) = (count::<f64>(&twice), count::<Scaled>(&twice));
            assert_eq!(plain.min_log2, scaled.min_log2);
            assert!((plain.mean_log2 - scaled.mean_log2).abs() < 1e-12, "{plain:?} {scaled:?}");
            assert!((plain.max_log2 - scaled.max_log2).abs() < 1e-12, "{plain:?} {scaled:?}");
        }
    }

    #[test]
    fn counts_beyond_doubles_are_right() {
        // 3000 stages on one pair of three coordinates: 2^2999 paths between its members, one for the third.
        let deep = Explicit::new(3, (0..3000).map(|_| (2, vec![0, 1]))).unwrap();
        let paths = Network::new(3, &deep).unwrap().paths().unwrap();
        assert_eq!((paths.min_log2, paths.max_log2), (f64::NEG_INFINITY, 2999.0));
        assert!((paths.mean_log2 - (3001.0 - Float::log2(9.0))).abs() < 1e-9, "{paths:?}");
    }
}
