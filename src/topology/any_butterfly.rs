//! A dense butterfly for every n, primes included, with blocks of at most b coordinates.
//!
//! All-to-all dependence by blocks of b is gossiping: everybody knows one item, a block is a meeting after which its b members
//! know what any of them knew, and rounds are stages. For b = 2 the optimal schemes are Knödel's (*New gossips and
//! telephones*, Discrete Math. 13, 1975): ⌈log₂ n⌉ rounds for even n and ⌈log₂ n⌉ + 1 for odd n. Here they are with any b.
//!
//! 1. **b divides n.** Write an index as (j, a) = j·b + a with j modulo m = n/b. Block j of stage k is
//!    {(j + a·s_k, a) : 0 ≤ a < b}, s_k = (bᵏ − 1)/(b − 1) = 0, 1, 1 + b, …. A path that starts at (j, a₀) and takes a_k in
//!    stage k ends at j − a₀s₀ + a₁(s₀ − s₁) + ··· + a_{K−1}(s_{K−2} − s_{K−1}) + a_K s_{K−1}, and s_{i−1} − s_i = −bⁱ⁻¹. For
//!    every end a_K the digits a₁, …, a_{K−1} are free: they reach every j if bᴷ⁻¹ ≥ m. So K = ⌈log_b n⌉ stages are dense, as
//!    few as can be, and no coordinate passes through.
//! 2. **b does not divide n**, n > b. Let r = n mod b. A *core* of c coordinates, c a multiple of b, does as above. One stage
//!    before brings every other coordinate into a block with a core coordinate, and the same stage after brings the result back:
//!    2 more stages. In them r core coordinates pass through. The g = (n − r)/b blocks must each hold one of the c − r others.
//!    * c = bᴸ with bᴸ < n < bᴸ⁺¹ has room for this if n ≤ bᴸ⁺¹ − r(b − 1), always for b = 2: L + 2 = ⌈log_b n⌉ + 1 stages.
//!    * Otherwise c = n − r: at most ⌈log_b n⌉ + 2 stages. (For b = 3 this happens for n = 3ᴸ⁺¹ − 1 only.)
//!
//!    Coordinates outside the core meet each other meanwhile, in blocks of the stage's size.
//! 3. Where n has factors r_k ≤ b that give no more stages than that, [mixed radix](super::MixedRadix) is taken: its stages are
//!    strided, which kernels like, and n ≤ b is one block.
//!
//! In no stage do more than b − 1 coordinates pass through: they are fewer than the size of the stage's blocks.

use alloc::vec::Vec;

use super::limits::{ceil_log, check_size, check_stages};
use super::mixed_radix::{check_block, radices, strided};
use super::{StageLayout, Topology};
use crate::error::Result;

/// A dense butterfly with blocks of at most `block` coordinates, for every n ≥ 1 (up to 2³⁰ indices in all its tables: every n
/// below 2²⁵; sizes without large prime factors have strided stages instead).
///
/// ```
/// use papilio::topology::{AnyButterfly, Topology};
/// let wiring = AnyButterfly::new(2);
/// assert_eq!(wiring.num_stages(1024)?, 10);
/// assert_eq!(wiring.num_stages(1022)?, 10);
/// assert_eq!(wiring.num_stages(1021)?, 11); // a prime
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnyButterfly {
    /// Largest block size b ≥ 2.
    pub block: usize,
}

/// How n coordinates are wired.
enum Scheme {
    Radices(Vec<usize>),
    Cyclic(usize),
    Core(usize, usize),
}

impl AnyButterfly {
    /// Blocks of at most `block` coordinates.
    pub fn new(block: usize) -> Self {
        Self { block }
    }

    fn scheme(&self, n: usize) -> Scheme {
        let b = self.block;
        let other = if n.is_multiple_of(b) {
            Scheme::Cyclic(ceil_log(n, b))
        } else if n < b {
            Scheme::Cyclic(usize::MAX) // n is its own radix
        } else {
            let (rest, next) = (n % b, (b as u128).pow(ceil_log(n, b) as u32));
            let room = n as u128 + rest as u128 * (b - 1) as u128 <= next;
            let core = if room { (next / b as u128) as usize } else { n - rest };
            Scheme::Core(core, 2 + self.scheme(core).stages())
        };
        match radices(n, b) {
            Some(radices) if radices.len() <= other.stages() => Scheme::Radices(radices),
            _ => other,
        }
    }

    /// Block j is {(j + a·s, a)} in all n/b of them.
    fn cyclic(&self, n: usize, k: usize) -> StageLayout {
        let (b, m) = (self.block, n / self.block);
        if k == 0 {
            return StageLayout::contiguous(b, m);
        }
        let shift = (0..k).fold(0u64, |s, _| (s * b as u64 + 1) % m as u64);
        let index = |j: usize, a: usize| ((j as u64 + a as u64 * shift) % m as u64 * b as u64) as u32 + a as u32;
        StageLayout::Table { block: b, index: (0..m).flat_map(|j| (0..b).map(move |a| index(j, a))).collect() }
    }

    /// The stage that ties the coordinates from `core` on to those before.
    fn tie(&self, n: usize, core: usize) -> StageLayout {
        let (b, blocks, rest) = (self.block, n / self.block, n % self.block);
        // Block j holds core coordinate j; the remaining places go to the others in order, without the last `rest` of the core.
        let mut others = (blocks..core - rest).chain(core..n);
        let mut index = Vec::with_capacity(blocks * b);
        for j in 0..blocks {
            index.push(j as u32);
            index.extend(others.by_ref().take(b - 1).map(|i| i as u32));
        }
        StageLayout::Table { block: b, index: index.into() }
    }

    /// A stage of the core, with blocks of the same size for the coordinates outside it.
    fn inside(&self, n: usize, core: usize, k: usize) -> StageLayout {
        let layout = self.stage(core, k);
        let block = layout.block_size();
        let more = (n - core) / block * block;
        if more == 0 {
            return layout;
        }
        let inner = (0..layout.num_blocks()).flat_map(|j| layout.indices(j).collect::<Vec<_>>());
        StageLayout::Table { block, index: inner.chain(core..core + more).map(|i| i as u32).collect() }
    }
}

impl Scheme {
    fn stages(&self) -> usize {
        match self {
            Scheme::Radices(radices) => radices.len(),
            Scheme::Cyclic(stages) | Scheme::Core(_, stages) => *stages,
        }
    }
}

impl Topology for AnyButterfly {
    fn name(&self) -> &'static str {
        "butterfly of any size"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_size("butterfly of any size", n)?;
        check_block("butterfly of any size", self.block)?;
        match self.scheme(n) {
            Scheme::Radices(radices) => Ok(radices.len()),
            tables => check_stages("butterfly of any size", n, Some(tables.stages())),
        }
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        match self.scheme(n) {
            Scheme::Radices(radices) => strided(n, &radices, k),
            Scheme::Cyclic(_) => self.cyclic(n, k),
            Scheme::Core(core, stages) if k == 0 || k + 1 == stages => self.tie(n, core),
            Scheme::Core(core, _) => self.inside(n, core, k - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_gossips() {
        // Knödel: ⌈log₂ n⌉ for even n, one more for odd n > 1. 3 = 2 + 1, …
        for n in 2..3000usize {
            let least = ceil_log(n, 2);
            assert_eq!(AnyButterfly::new(2).num_stages(n), Ok(least + usize::from(n % 2 == 1)), "{n}");
        }
        for b in [3, 4, 5, 8, 16] {
            for n in 2..3000 {
                let (least, rest) = (ceil_log(n, b), n % b);
                let stages = AnyButterfly::new(b).num_stages(n).unwrap();
                let most = match rest {
                    _ if n <= b => 1,
                    0 => least,
                    _ if n + rest * (b - 1) <= b.pow(least as u32) => least + 1,
                    _ => least + 2,
                };
                assert!((least..=most).contains(&stages), "{n} {b}: {stages} of {least}..={most}");
            }
        }
    }

    #[test]
    fn few_coordinates_pass() {
        for b in 2..=9 {
            for n in 1..300 {
                let wiring = AnyButterfly::new(b);
                for k in 0..wiring.num_stages(n).unwrap() {
                    let layout = wiring.stage(n, k);
                    assert!((2..=b).contains(&layout.block_size()));
                    assert!(n - layout.num_blocks() * layout.block_size() < layout.block_size(), "{n} {b} {k}");
                }
            }
        }
    }

    #[test]
    fn hostile_numbers_are_errors_or_small() {
        for (block, n) in [(0, 8), (1, 8), (2, 0), (2, 1 << 32), (usize::MAX, usize::MAX)] {
            assert!(AnyButterfly::new(block).num_stages(n).is_err());
        }
        assert_eq!(AnyButterfly::new(usize::MAX).num_stages(4_294_967_291), Ok(1));
        assert_eq!(AnyButterfly::new(2).num_stages(1 << 31), Ok(31));
        assert_eq!(AnyButterfly::new(2).num_stages(16_777_213), Ok(25)); // a prime
        // Strided stages cost no memory, tables do.
        assert!(AnyButterfly::new(2).num_stages(4_294_967_291).is_err());
        assert!(AnyButterfly::new(4_294_967_290).num_stages(4_294_967_291).is_err());
    }
}
