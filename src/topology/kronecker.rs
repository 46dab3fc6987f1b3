//! Kronecker composites A ⊗ B on a grid of n = n₁·n₂ coordinates, for n that are not a power: in ButterflyQuant (arXiv 2509.09679)
//! a butterfly on each factor.
//!
//! Coordinate i₁·n₂ + i₂ is place (i₁, i₂) of the grid. A ⊗ B = (A ⊗ I)(I ⊗ B): the stages of B act first, in every row of the grid,
//! then those of A in every column. *Shared*: all rows use the same B and all columns the same A, so Q is a Kronecker product,
//! with the parameters of one A and one B. *Not shared*: every row and column has blocks of its own, which is the
//! wiring of a two-sided Monarch matrix. The product is dense if both factors are.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::limits::{check_size, check_stages};
use super::mixed_radix::largest_divisor;
use super::{Sharing, StageLayout, Topology};
use crate::error::{Error, Result};

/// A ⊗ B with a wiring for each factor.
///
/// ```
/// use papilio::{Plan, parametrization::Givens, topology::{AnyButterfly, Kronecker}};
/// let composite = Kronecker::new(40, AnyButterfly::new(2), AnyButterfly::new(2));
/// let plan = Plan::<f32>::new(5120, &composite, Givens)?; // 40·128
/// assert_eq!(plan.num_params(), 20 * 6 + 64 * 7);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kronecker<A, B> {
    /// The wiring of A.
    pub left: A,
    /// The wiring of B.
    pub right: B,
    /// Size n₁ of A; `None` for the largest divisor of n that is at most √n.
    pub left_size: Option<usize>,
    /// Whether all slices share their parameters.
    pub shared: bool,
}

impl<A: Topology, B: Topology> Kronecker<A, B> {
    /// A Kronecker product with A of size `left_size`.
    pub fn new(left_size: usize, left: A, right: B) -> Self {
        Self { left, right, left_size: Some(left_size), shared: true }
    }

    /// A Kronecker product with factors of sizes as equal as the divisors of n allow, the smaller one on the left.
    pub fn balanced(left: A, right: B) -> Self {
        Self { left, right, left_size: None, shared: true }
    }

    /// The same wiring with parameters for every slice.
    pub fn unshared(self) -> Self {
        Self { shared: false, ..self }
    }

    fn sizes(&self, n: usize) -> (usize, usize) {
        let left = self.left_size.unwrap_or_else(|| largest_divisor(n, integer_root(n)));
        (left, n / left.max(1))
    }

    fn find(&self, n: usize, k: usize) -> Stage {
        let (_, right) = self.sizes(n);
        match self.right.num_stages(right) {
            Ok(stages) if k >= stages => Stage::Left(k - stages),
            _ => Stage::Right(k),
        }
    }
}

enum Stage {
    Left(usize),
    Right(usize),
}

impl<A: Topology, B: Topology> Topology for Kronecker<A, B> {
    fn name(&self) -> &'static str {
        "Kronecker composite"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        const WHAT: &str = "Kronecker composite";
        check_size(WHAT, n)?;
        let (left, right) = self.sizes(n);
        if left == 0 || !n.is_multiple_of(left) {
            let expected =
                if left == 0 { "a left factor of at least 1".to_string() } else { format!("a multiple of {left}") };
            return Err(Error::Size { what: WHAT, expected, got: format!("n = {n}, left factor {left}") });
        }
        check_stages(WHAT, n, self.left.num_stages(left)?.checked_add(self.right.num_stages(right)?))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let (left, right) = self.sizes(n);
        match self.find(n, k) {
            Stage::Left(k) => columns(self.left.stage(left, k), right),
            Stage::Right(k) => rows(self.right.stage(right, k), left, right),
        }
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        let (left, right) = self.sizes(n);
        let (of_one, count, slices, is_left) = match self.find(n, k) {
            Stage::Left(k) => (self.left.sharing(left, k), self.left.stage(left, k).num_blocks(), right, true),
            Stage::Right(k) => (self.right.sharing(right, k), self.right.stage(right, k).num_blocks(), left, false),
        };
        if !self.shared && of_one == Sharing::PerBlock {
            return Sharing::PerBlock;
        }
        let groups: Vec<u32> = match of_one {
            Sharing::PerBlock => (0..count as u32).collect(),
            Sharing::All => alloc::vec![0; count],
            Sharing::Groups(groups) => groups.to_vec(),
        };
        let slices = slices as u32;
        let num_groups = groups.iter().max().map_or(0, |most| most + 1);
        // Slices are innermost in the numbers of column blocks, outermost in those of row blocks.
        let all: Arc<[u32]> = match (is_left, self.shared) {
            (true, true) => groups.iter().flat_map(|g| (0..slices).map(move |_| *g)).collect(),
            (true, false) => groups.iter().flat_map(|g| (0..slices).map(move |s| g * slices + s)).collect(),
            (false, true) => (0..slices).flat_map(|_| groups.iter().copied()).collect(),
            (false, false) => (0..slices).flat_map(|s| groups.iter().map(move |g| s * num_groups + g)).collect(),
        };
        Sharing::Groups(all)
    }
}

/// A stage of A in every column: block j of column s has number j·n₂ + s.
fn columns(layout: StageLayout, right: usize) -> StageLayout {
    match layout {
        StageLayout::Strided { unit: 1, radix, distance, groups } => {
            StageLayout::Strided { unit: 1, radix, distance: distance * right, groups }
        }
        other => table(&other, other.num_blocks() * right, |number| (number / right, right, number % right)),
    }
}

/// A stage of B in every row: block j of row s has number s·g + j, g being the blocks of one row.
fn rows(layout: StageLayout, left: usize, right: usize) -> StageLayout {
    match layout {
        StageLayout::Strided { unit, radix, distance, groups } if radix * distance * groups == right => {
            StageLayout::Strided { unit, radix, distance, groups: groups * left }
        }
        other => {
            let count = other.num_blocks();
            table(&other, count * left, |number| (number % count, 1, number / count * right))
        }
    }
}

/// Block `number` is block j of one slice, its coordinates times `scale` plus `shift`, with (j, scale, shift) as `place` says.
fn table(layout: &StageLayout, count: usize, place: impl Fn(usize) -> (usize, usize, usize)) -> StageLayout {
    let mut index = Vec::with_capacity(count * layout.block_size());
    for number in 0..count {
        let (j, scale, shift) = place(number);
        index.extend(layout.indices(j).map(|i| (i * scale + shift) as u32));
    }
    StageLayout::Table { block: layout.block_size(), index: index.into() }
}

/// ⌊√n⌋ for n < 2³².
fn integer_root(n: usize) -> usize {
    (0..16).rev().fold(0, |root, bit| {
        let larger = root | 1 << bit;
        if larger * larger <= n { larger } else { root }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{AnyButterfly, BlockDiagonal, Butterfly};

    #[test]
    fn rows_and_columns_of_a_grid() {
        // 3 rows of 4: B in rows, then A in columns.
        let grid = Kronecker::new(3, BlockDiagonal::new(3), Butterfly::classic(2));
        assert_eq!(grid.num_stages(12), Ok(3));
        let blocks = |k: usize| {
            let layout = grid.stage(12, k);
            layout.validate(12).unwrap();
            (0..layout.num_blocks()).map(|j| layout.indices(j).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        assert_eq!(blocks(0), [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]);
        assert_eq!(blocks(1), [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11]]);
        assert_eq!(blocks(2), [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]);
        let shares = |k| match grid.sharing(12, k) {
            Sharing::Groups(groups) => groups.to_vec(),
            _ => Vec::new(),
        };
        assert_eq!([shares(0), shares(1)], [[0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1]]);
        assert_eq!(shares(2), [0, 0, 0, 0]);
        assert_eq!(grid.unshared().sharing(12, 1), Sharing::PerBlock);
    }

    #[test]
    fn balanced_sizes() {
        let grid = Kronecker::balanced(AnyButterfly::new(2), AnyButterfly::new(2));
        for (n, sizes) in [(1, (1, 1)), (12, (3, 4)), (36, (6, 6)), (37, (1, 37)), (4_294_836_225, (65535, 65535))] {
            assert_eq!(grid.sizes(n), sizes);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let grid = |left| Kronecker::new(left, Butterfly::classic(2), Butterfly::classic(2));
        assert!(grid(4).num_stages(30).unwrap_err().to_string().contains("a multiple of 4"));
        assert!(grid(0).num_stages(30).is_err());
        assert!(grid(2).num_stages(12).is_err(), "6 is no power of two");
        assert_eq!(grid(2).num_stages(16), Ok(4));
    }
}
