//! The structures that are tried when nobody names any: families of wirings, each in growing sizes.
//!
//! | family | members |
//! |---|---|
//! | diagonal | signs (phases): no parameters over the real numbers |
//! | BOFT, b = 2, 4, 8, 16, 32 | 1, 2, 3, … stages, as many as n allows |
//! | butterfly of radix 2, 4, 8, 16 | 1, 2, 3, … butterflies in the same direction; for every n, primes too |
//! | Beneš | 1, 2, 3, … networks |
//! | butterfly and transpose | 1, 2, 3, … times B·Bᵀ of radix 2 |
//! | Monarch of order 2 and 3 | 1, 2, 3, … of them, with sides of at most 64 |
//! | group and shuffle, b = 4, 8, 16, 32 | 2, 3, … stages |
//! | random pairings, random shuffles of b = 4, 8, 16 | ⌈log_b n⌉ stages, twice as many, … |
//! | brick wall | its first ⌈log₂ n⌉ stages, twice as many, … |
//! | tree | 1, 2, 3, … trees |
//!
//! Numbers grow by a half and by a third in turn: 1, 2, 3, 4, 6, 8, 12, … They end where parameters are 1.35 times the dimension of the group:
//! repeated butterflies reach every matrix then. Wirings that are the same stage by stage come once. Blocks of more than 64 or
//! of all coordinates are not among them: they are dense matrices.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::{Target, layouts, num_parameters};
use super::Budget;
use crate::error::Result;
use crate::layout::{Sharing, StageLayout};
use crate::scalar::Wide;
use crate::topology::{
    AnyButterfly, Benes, BinaryTree, BlockDiagonal, Brick, Butterfly, GroupAndShuffle, Kaleidoscope, Monarch,
    RandomPairings, RandomShuffle, Repeated, Topology,
};

/// The largest block.
const LARGEST: usize = 64;

/// A structure to be tried.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is one size of.
    pub family: String,
    /// What it is called.
    pub name: String,
    /// Its wiring.
    pub topology: Arc<dyn Topology>,
}

impl Candidate {
    /// Names a wiring. Of a family, larger members are not tried after one that is good enough.
    pub fn new(family: impl Into<String>, name: impl Into<String>, topology: impl Topology + 'static) -> Self {
        Self { family: family.into(), name: name.into(), topology: Arc::new(topology) }
    }
}

/// Structures of all families that have at most as many parameters as the budget allows, for [`explore`](super::explore()). `seed` is that
/// of random wirings.
///
/// Every n has butterflies, Beneš networks, B·Bᵀ, random wirings, brick walls and trees; Monarch needs divisors that are not large, group
/// and shuffle multiples of b, and BOFT(m, b) multiples of b·2ᵐ⁻¹.
pub fn candidates<W: Wide>(target: &Target<W>, budget: &Budget, seed: u64) -> Vec<Candidate> {
    let n = target.n();
    let group = if W::IS_COMPLEX { n.saturating_mul(n) } else { n * (n - 1) / 2 };
    let most = budget.parameters.min(group.saturating_add(group / 100 * 35 + group % 100 * 35 / 100));
    let mut list = List::<W> { n, most, all: Vec::new(), known: Vec::new(), of: core::marker::PhantomData };
    list.family("diagonal", 1..=1, |_| ("diagonal".to_string(), BlockDiagonal::new(1)));
    for b in [2, 4, 8, 16, 32] {
        let boft = |m| (format!("BOFT({m}, {b})"), Butterfly { unit: b / 2, radix: 2, stages: Some(m) });
        list.family(&format!("BOFT, b = {b}"), 1.., boft);
    }
    for b in [2, 4, 8, 16] {
        let name = if b == 2 { "butterfly".to_string() } else { format!("butterfly of radix {b}") };
        list.family(&name, rising(), |k| (times(k, &name), Repeated::new(AnyButterfly::new(b), k)));
    }
    list.family("Beneš", rising(), |k| (times(k, "Beneš"), Repeated::new(Benes, k)));
    let back = Kaleidoscope::new(AnyButterfly::new(2));
    list.family("butterfly and transpose", rising(), |k| (times(k, "B·Bᵀ"), Repeated::new(back, k)));
    for order in [2, 3] {
        let name = format!("Monarch of order {order}");
        list.family(&name, rising(), |k| (times(k, &name), Repeated::new(Monarch::new(order), k)));
    }
    for b in [4, 8, 16, 32] {
        let shuffled = |m| (format!("GS({m}, {b})"), GroupAndShuffle::new(b).with_stages(m));
        list.family(&format!("group and shuffle, b = {b}"), rising().skip(1), shuffled);
    }
    let levels = |b: usize| (n.max(2) as u64 - 1).ilog(b as u64) as usize + 1; // ⌈log_b n⌉
    let pairs = |k| {
        let stages = k * levels(2);
        (format!("{stages} random pairings"), RandomPairings { stages, seed })
    };
    list.family("random pairings", rising(), pairs);
    for b in [4, 8, 16] {
        let shuffles = |k| {
            let stages = k * levels(b);
            (format!("{stages} random shuffles of {b}"), RandomShuffle { block: b, stages, seed })
        };
        list.family(&format!("random shuffles, b = {b}"), rising(), shuffles);
    }
    let bricks = |k| {
        let stages = k * levels(2);
        (format!("{stages} stages of the brick wall"), First { inner: Brick, stages })
    };
    list.family("brick wall", rising(), bricks);
    list.family("tree", rising(), |k| (times(k, "tree"), Repeated::new(BinaryTree, k)));
    list.all
}

/// 1, 2, 3, 4, 6, 8, 12, 16, …
fn rising() -> impl Iterator<Item = usize> {
    core::iter::once(1).chain((1..usize::BITS - 1).flat_map(|k| [1 << k, 3 << (k - 1)]))
}

fn times(k: usize, name: &str) -> String {
    if k == 1 { name.to_string() } else { format!("{k} × {name}") }
}

struct List<W> {
    n: usize,
    most: usize,
    all: Vec<Candidate>,
    /// Numbers of parameters and of stages.
    known: Vec<(usize, usize)>,
    of: core::marker::PhantomData<W>,
}

impl<W: Wide> List<W> {
    /// Adds members of growing size, up to the first that does not fit.
    fn family<T: Topology + 'static>(
        &mut self,
        family: &str,
        sizes: impl IntoIterator<Item = usize>,
        make: impl Fn(usize) -> (String, T),
    ) {
        let mut before = None;
        for size in sizes {
            let (name, topology) = make(size);
            let Ok(stages) = layouts(self.n, &topology) else { return };
            let kind = (num_parameters::<W>(&stages), stages.len());
            let large = |b: usize| b > LARGEST || (b >= self.n && b > 2);
            let dense = stages.iter().any(|layout| large(layout.block_size()));
            if kind.0 > self.most || dense || stages.is_empty() || before == Some(kind) {
                return;
            }
            before = Some(kind);
            let same = |(known, other): (&(usize, usize), &Candidate)| {
                *known == kind && layouts(self.n, &*other.topology).is_ok_and(|other| other == stages)
            };
            if !self.known.iter().zip(&self.all).any(same) {
                self.known.push(kind);
                self.all.push(Candidate::new(family, name, topology));
            }
        }
    }
}

/// The first stages of a wiring.
#[derive(Debug)]
struct First<T> {
    inner: T,
    stages: usize,
}

impl<T: Topology> Topology for First<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        Ok(self.inner.num_stages(n)?.min(self.stages))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        self.inner.stage(n, k)
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        self.inner.sharing(n, k)
    }
}
