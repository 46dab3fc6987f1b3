//! Monarch matrices (Dao et al., ICML 2022, arXiv 2204.00595) of any order p: products of p stages, each of blocks at another
//! stride.
//!
//! Order 2 is M = P L Pᵀ R with block-diagonal L and R and the transpose P of an n₁×n₂ grid: R acts in the rows of the grid, L
//! in its columns. Order p does so on a p-dimensional grid, n = n₁ ··· n_p: stage k joins what differs in one digit only,
//! so p stages are dense.
//!
//! - *Strict*: a cube, n = bᵖ (the radix-b butterfly).
//! - *Relaxed*: sides as equal as the divisors of n allow: each side but the last is the largest divisor of what is left that is
//!   at most its p'th root, for the p sides that are left. Sides of 1 are left out, so a prime n is one dense block.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::limits::check_size;
use super::mixed_radix::{largest_divisor, strided};
use super::{StageLayout, Topology};
use crate::error::{Error, Result};

/// A Monarch matrix of order p.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Monarch {
    /// Order p, from 1 to 32: the number of stages, unless n has fewer factors.
    pub order: usize,
    /// Whether n must be bᵖ.
    pub strict: bool,
}

impl Monarch {
    /// Order p for every n, with sides as equal as the divisors of n allow.
    pub fn new(order: usize) -> Self {
        Self { order, strict: false }
    }

    /// Order p for n = bᵖ only.
    pub fn strict(order: usize) -> Self {
        Self { order, strict: true }
    }

    /// The sides of the grid, without those of 1.
    fn sides(&self, n: usize) -> Vec<usize> {
        let mut rest = n;
        let mut sides = Vec::new();
        for left in (1..=self.order).rev() {
            let side = largest_divisor(rest, root(rest, left));
            rest /= side;
            sides.push(side);
        }
        sides.retain(|side| *side > 1);
        sides
    }
}

impl Topology for Monarch {
    fn name(&self) -> &'static str {
        "Monarch"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_size("Monarch topology", n)?;
        if !(1..=32).contains(&self.order) {
            let expected = "an order from 1 to 32".to_string();
            return Err(Error::Size { what: "Monarch topology", expected, got: self.order.to_string() });
        }
        let side = root(n, self.order);
        if self.strict && power(side, self.order) != n as u128 {
            let p = self.order;
            let expected = match power(side + 1, p) {
                next if next < 1 << 32 => format!("n = b^{p} for some b, as {} or {next}", power(side, p)),
                _ => format!("n = b^{p} for some b, as {}", power(side, p)),
            };
            return Err(Error::Size { what: "Monarch topology", expected, got: format!("n = {n}") });
        }
        Ok(self.sides(n).len())
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        strided(n, &self.sides(n), k)
    }
}

/// bᵖ, at most 2⁶⁴.
fn power(b: usize, p: usize) -> u128 {
    (0..p).fold(1, |product: u128, _| (product * b as u128).min(1 << 64))
}

/// The largest b with bᵖ ≤ n, for 1 ≤ n < 2³².
fn root(n: usize, p: usize) -> usize {
    let (mut low, mut high) = (1, n + 1); // lowᵖ ≤ n < highᵖ
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if power(middle, p) <= n as u128 { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Butterfly;

    #[test]
    fn cubes_are_radix_butterflies() {
        for (b, p) in [(2, 1), (7, 1), (5, 2), (4, 3), (3, 4)] {
            let n = usize::pow(b, p);
            for monarch in [Monarch::new(p as usize), Monarch::strict(p as usize)] {
                assert_eq!(monarch.num_stages(n), Ok(p as usize));
                for k in 0..p as usize {
                    assert_eq!(monarch.stage(n, k), Butterfly::classic(b).stage(n, k));
                }
            }
        }
    }

    #[test]
    fn sides_are_near_the_root() {
        for (n, p, sides) in [
            (12, 2, &[3, 4][..]),
            (62, 2, &[2, 31]),
            (30, 3, &[3, 2, 5]),
            (97, 2, &[97]),
            (1, 3, &[]),
            (1024, 2, &[32, 32]),
            (4096, 3, &[16, 16, 16]),
        ] {
            assert_eq!(Monarch::new(p).sides(n), sides);
        }
    }

    #[test]
    fn strict_sizes_are_named() {
        let message = Monarch::strict(2).num_stages(30).unwrap_err().to_string();
        assert!(message.contains("n = b^2 for some b, as 25 or 36"), "{message}");
        assert!(Monarch::strict(2).num_stages(u32::MAX as usize).is_err());
        for order in [0, 33, usize::MAX] {
            assert!(Monarch::new(order).num_stages(8).is_err());
        }
        assert!(Monarch::new(2).num_stages(0).is_err());
        assert_eq!(Monarch::strict(32).num_stages(1), Ok(0));
    }
}
