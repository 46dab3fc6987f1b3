//! Butterflies of mixed radix: n = r₀·r₁···r_{m−1} with every radix at most b.
//!
//! Stage k joins coordinates at distance r₀···r_{k−1}, r_k in a block: in the mixed-radix digits of an index it mixes digit k
//! and keeps the others. After all stages every digit is free, so the product is dense, with Σ n(r_k − 1) free entries. No
//! coordinate ever passes through. This is the shape of a mixed-radix FFT (Cooley, Tukey 1965).
//!
//! The radices are found greedily: the largest divisor of what is left, at most b. An n with a prime factor above b has no
//! such butterfly; [`AnyButterfly`](super::AnyButterfly) has, with coordinates that pass through.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::limits::check_size;
use super::{StageLayout, Topology};
use crate::error::{Error, Result};

/// A butterfly with blocks of at most `block` coordinates, for every n whose prime factors are at most `block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MixedRadix {
    /// Largest block size b ≥ 2.
    pub block: usize,
}

impl MixedRadix {
    /// Blocks of at most `block` coordinates.
    pub fn new(block: usize) -> Self {
        Self { block }
    }
}

impl Topology for MixedRadix {
    fn name(&self) -> &'static str {
        "mixed-radix butterfly"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_size("mixed-radix butterfly", n)?;
        check_block("mixed-radix butterfly", self.block)?;
        radices(n, self.block).map(|radices| radices.len()).ok_or_else(|| Error::Size {
            what: "mixed-radix butterfly",
            expected: format!("n without a prime factor above the block size {}", self.block),
            got: format!("n = {n}"),
        })
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        strided(n, &radices(n, self.block).unwrap_or_default(), k)
    }
}

/// `Err` for blocks of fewer than two coordinates.
pub(super) fn check_block(what: &'static str, block: usize) -> Result<()> {
    if block >= 2 {
        return Ok(());
    }
    Err(Error::Size { what, expected: "a block size of at least 2".to_string(), got: block.to_string() })
}

/// Stage `k` of the butterfly with these radices, whose product is `n`.
pub(super) fn strided(n: usize, radices: &[usize], k: usize) -> StageLayout {
    let distance: usize = radices[..k].iter().product();
    StageLayout::Strided { unit: 1, radix: radices[k], distance, groups: n / (radices[k] * distance) }
}

/// Factors of n, each from 2 to `most`, the largest first; `None` if there are none. For 1 ≤ n < 2³².
pub(super) fn radices(n: usize, most: usize) -> Option<Vec<usize>> {
    let (mut rest, mut radices) = (n, Vec::new());
    while rest > 1 {
        let radix = largest_divisor(rest, most);
        if radix < 2 {
            return None;
        }
        radices.push(radix);
        rest /= radix;
    }
    Some(radices)
}

/// The largest divisor of n that is at most `most`, by at most √n divisions.
pub(super) fn largest_divisor(n: usize, most: usize) -> usize {
    if n <= most {
        return n;
    }
    let pairs = (1..).take_while(|i| i * i <= n).filter(|i| n.is_multiple_of(*i)).flat_map(|i| [i, n / i]);
    pairs.filter(|divisor| *divisor <= most).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Butterfly;

    #[test]
    fn radices_multiply_to_n() {
        for most in 2..20 {
            for n in 1..500usize {
                let smooth = (2..=n).filter(|p| n.is_multiple_of(*p) && (2..*p).all(|q| !p.is_multiple_of(q)));
                let expected = smooth.max().unwrap_or(1) <= most;
                let found = radices(n, most);
                assert_eq!(found.is_some(), expected, "{n} {most}");
                let found = found.unwrap_or_default();
                assert!(found.iter().all(|r| (2..=most).contains(r)));
                assert!(!expected || found.iter().product::<usize>() == n);
            }
        }
        assert_eq!(radices(4_294_967_291, usize::MAX - 1), Some(alloc::vec![4_294_967_291]));
        assert_eq!(radices(4_294_967_291, 4_294_967_290), None);
    }

    #[test]
    fn powers_give_the_classic_butterfly() {
        for (b, n) in [(2, 64), (3, 81), (4, 64), (8, 512)] {
            let m = Butterfly::classic(b).num_stages(n).unwrap();
            assert_eq!(MixedRadix::new(b).num_stages(n), Ok(m));
            assert!((0..m).all(|k| MixedRadix::new(b).stage(n, k) == Butterfly::classic(b).stage(n, k)));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = MixedRadix::new(4).num_stages(10).unwrap_err().to_string();
        assert!(message.contains("prime factor above the block size 4"), "{message}");
        for (block, n) in [(0, 8), (1, 8), (2, 0), (2, 1 << 32)] {
            assert!(MixedRadix::new(block).num_stages(n).is_err());
        }
    }
}
