//! The effective dimension in closed form, where it follows from the wiring.
//!
//! Let every block range over all of SO(b), independently. The dimension of {Q} is then a property of the network, and
//! these facts decide it for many:
//!
//! 1. **Gauge.** If s coordinates go straight from one block to another, G ∈ SO(s) on them can be moved from the first to
//!    the second without changing Q. These moves act freely, so dim ≤ p − Σ s(s − 1)/2, the sum over all such bundles;
//!    p = Σ b(b − 1)/2. For BOFT(m, b) they are the half-blocks at each of m − 1 interfaces: (m − 1)·n·(b − 2)/4 is lost.
//! 2. **Absorption.** A block whose coordinates all go straight to (or come straight from) one other block changes nothing.
//!    So B·Bᵀ has one stage too many.
//! 3. **Chains.** Say that before each stage the coordinates of each of its blocks that are connected already come from one and
//!    the same block. Then 1 is an equality. For if F·P = F'·P' with P, P' made of the earlier stages, F'ᵀF = P'Pᵀ mixes
//!    only coordinates that share a block and are connected; these come straight from one block, which can take them over;
//!    and so on with P. Holds for any two stages (GS, Monarch), butterflies of any radix and unit, trees; read from the
//!    end as well, because Q and Qᵀ have the same dimension.
//! 4. **Palindromes.** L·(A ⊕ B)·L' with pairs {i, i'} in L and L', A on the i and B on the i', has the parameters of all four:
//!    at L = L' = I the off-diagonal blocks change by α_i·B_ij + A_ij·β_j and −(α_i·A_ij + B_ij·β_j) to first order, and unless
//!    |A_ij| = |B_ij| both vanish only for α_i = β_j = 0. So nothing is lost for dense independent A and B of size at
//!    least 2, and by induction none in a Beneš network.
//! 5. **Neighbours.** If all blocks are intervals of coordinates, SO(b) is a product of rotations of neighbours, and products of
//!    the groups SO(2)ᵢ, i = i₁, i₂, …, are unions of Bruhat cells whose largest has the dimension ℓ(w), w the Demazure
//!    product of the transpositions (i, i + 1): sort every block's interval downwards, in turn, and count the inversions at the
//!    end. Bricks (Clements) and triangles (Reck) reach n(n − 1)/2.
//!
//! 1, 2 and 3 are elementary; for 5 see Bott & Samelson 1958, doi 10.2307/2372843, and Knutson & Miller 2004,
//! doi 10.1016/S0001-8708(03)00142-7, on Demazure products. The tests compare all of them with the rank of the Jacobian.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::network::{Links, Network};

/// Coordinates named in all stages, at most.
const MOST_NAMED: usize = 1 << 25;

/// Sorted coordinates of each block of each stage.
type Stages = Vec<Vec<Vec<u32>>>;

/// No block yet.
const NONE: u32 = u32::MAX;

impl Network {
    /// dim {Q} when each block ranges over all of SO(b) on its own, if the wiring is one of those whose dimension is known:
    /// any one or two stages, butterflies, trees and other chains, Beneš networks and B·Bᵀ, blocks of neighbours; each
    /// connected part by itself. `None` for others, for blocks that share parameters, for fixed blocks, and beyond 2²⁵ named
    /// coordinates.
    ///
    /// ```
    /// use papilio::{topology::Butterfly, transmission::Network};
    /// let boft = Network::new(64, &Butterfly::boft(4, 8)?)?; // 896 parameters
    /// assert_eq!(boft.rotation_dimension(), Some(896 - 3 * 64 * (8 - 2) / 4));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    pub fn rotation_dimension(&self) -> Option<usize> {
        let parts = self.parts()?;
        parts.iter().map(|part| neighbours(part).or_else(|| chain(part)).or_else(|| palindrome(part))).sum()
    }

    /// An upper bound on dim {Q} when each block ranges over all of SO(b) on its own: the parameters less those that the
    /// gauge freedom between blocks takes, and at most c(c − 1)/2 for each connected part of c coordinates. `None` for
    /// blocks that share parameters, for fixed blocks, and beyond 2²⁵ named coordinates.
    pub fn rotation_bound(&self) -> Option<usize> {
        let bound = |part: &Part| (params(&part.stages) - gauge(part)).min(pairs(part.n));
        Some(self.parts()?.iter().map(bound).sum())
    }

    /// Σ each(c) over the connected parts, of c coordinates.
    pub(super) fn sum_over_parts(&self, each: impl Fn(u64) -> u64) -> u64 {
        let mut sets = Sets::new(self.n);
        for level in &self.levels {
            for j in 0..level.layout.num_blocks() {
                level.layout.indices(j).for_each(|i| sets.join(level.layout.index(j, 0), i));
            }
        }
        let mut sizes = BTreeMap::new();
        (0..self.n).for_each(|i| *sizes.entry(sets.find(i)).or_insert(0u64) += 1);
        sizes.into_values().map(each).fold(0, u64::saturating_add)
    }

    /// The connected parts, coordinates renumbered in order, without blocks that others absorb.
    fn parts(&self) -> Option<Vec<Part>> {
        let mut named = 0usize;
        for level in &self.levels {
            if !matches!(level.links, Links::Free { shared: false }) {
                return None;
            }
            named = named.saturating_add(level.layout.num_blocks().saturating_mul(level.layout.block_size()));
        }
        if self.n.max(named) > MOST_NAMED {
            return None;
        }
        let mut stages: Stages = Vec::new();
        for level in &self.levels {
            let sorted = |j| {
                let mut block: Vec<u32> = level.layout.indices(j).map(|i| i as u32).collect();
                block.sort_unstable();
                block
            };
            stages.push((0..level.layout.num_blocks()).map(sorted).filter(|block| block.len() > 1).collect());
        }
        while absorb(self.n, &mut stages) | absorb_reversed(self.n, &mut stages) {}
        Some(split(self.n, stages))
    }
}

/// A connected part of the network.
struct Part {
    n: usize,
    stages: Stages,
}

/// s(s − 1)/2, the dimension of SO(s).
fn pairs(s: usize) -> usize {
    s * s.saturating_sub(1) / 2
}

fn params(stages: &Stages) -> usize {
    stages.iter().flatten().map(|block| pairs(block.len())).sum()
}

/// Removes blocks whose coordinates all come straight from one block. Whether there were any.
fn absorb(n: usize, stages: &mut Stages) -> bool {
    let (mut last, mut next, mut found) = (vec![NONE; n], 0, false);
    for stage in stages.iter_mut() {
        stage.retain(|block| {
            let from = last[block[0] as usize];
            if from != NONE && block.iter().all(|&i| last[i as usize] == from) {
                found = true;
                return false;
            }
            block.iter().for_each(|&i| last[i as usize] = next);
            next += 1;
            true
        });
    }
    stages.retain(|stage| !stage.is_empty());
    found
}

fn absorb_reversed(n: usize, stages: &mut Stages) -> bool {
    stages.reverse();
    let found = absorb(n, stages);
    stages.reverse();
    found
}

fn split(n: usize, stages: Stages) -> Vec<Part> {
    let mut sets = Sets::new(n);
    for block in stages.iter().flatten() {
        block.iter().for_each(|&i| sets.join(block[0] as usize, i as usize));
    }
    // Part of each coordinate, and its number there.
    let (mut number, mut place, mut sizes) = (BTreeMap::new(), vec![(0, 0); n], Vec::new());
    for (i, place) in place.iter_mut().enumerate() {
        let part = *number.entry(sets.find(i)).or_insert_with(|| {
            sizes.push(0usize);
            sizes.len() - 1
        });
        *place = (part, sizes[part] as u32);
        sizes[part] += 1;
    }
    let mut parts: Vec<Part> = sizes.into_iter().map(|n| Part { n, stages: Vec::new() }).collect();
    let mut at = vec![usize::MAX; parts.len()];
    for (k, stage) in stages.into_iter().enumerate() {
        for mut block in stage {
            let part = place[block[0] as usize].0;
            block.iter_mut().for_each(|i| *i = place[*i as usize].1);
            if core::mem::replace(&mut at[part], k) != k {
                parts[part].stages.push(Vec::new());
            }
            parts[part].stages.last_mut().into_iter().for_each(|stage| stage.push(block.clone()));
        }
    }
    parts
}

/// Σ s(s − 1)/2 over bundles of s coordinates that go straight from one block to another.
fn gauge(part: &Part) -> usize {
    let (mut last, mut next, mut lost) = (vec![NONE; part.n], 0, 0);
    for block in part.stages.iter().flatten() {
        let mut bundles = BTreeMap::new();
        for &i in block {
            *bundles.entry(last[i as usize]).or_insert(0usize) += 1;
            last[i as usize] = next;
        }
        bundles.remove(&NONE);
        lost += bundles.into_values().map(pairs).sum::<usize>();
        next += 1;
    }
    lost
}

/// Fact 3, from either end.
fn chain(part: &Part) -> Option<usize> {
    let holds = |stages: &mut dyn Iterator<Item = &Vec<Vec<u32>>>| {
        let (mut sets, mut last, mut next) = (Sets::new(part.n), vec![NONE; part.n], 0);
        for stage in stages {
            // Blocks of a stage are disjoint, so the sets of all of them are looked up before any is joined.
            for block in stage {
                let mut from = BTreeMap::new();
                if block
                    .iter()
                    .any(|&i| *from.entry(sets.find(i as usize)).or_insert(last[i as usize]) != last[i as usize])
                {
                    return false;
                }
            }
            for block in stage {
                for &i in block {
                    sets.join(block[0] as usize, i as usize);
                    last[i as usize] = next;
                }
                next += 1;
            }
        }
        true
    };
    let found = holds(&mut part.stages.iter()) || holds(&mut part.stages.iter().rev());
    found.then(|| params(&part.stages) - gauge(part))
}

/// Fact 4: stages of pairs of all coordinates, equal from both ends, each joining two parts of what lies between.
fn palindrome(part: &Part) -> Option<usize> {
    let m = part.stages.len();
    if m.is_multiple_of(2) {
        return None;
    }
    let mut sorted = part.stages.clone();
    sorted.iter_mut().for_each(|stage| stage.sort_unstable());
    let covers = |stage: &Vec<Vec<u32>>| 2 * stage.len() == part.n && stage.iter().all(|block| block.len() == 2);
    if !sorted.iter().all(covers) || (0..m / 2).any(|k| sorted[k] != sorted[m - 1 - k]) {
        return None;
    }
    // From the middle outwards: parts have size 2, 4, 8, … and every pair joins two of them.
    let mut sets = Sets::new(part.n);
    sorted[m / 2].iter().for_each(|pair| sets.join(pair[0] as usize, pair[1] as usize));
    for stage in sorted[..m / 2].iter().rev() {
        let mut partner = BTreeMap::new();
        for pair in stage {
            let [a, b] = [0, 1].map(|t| sets.find(pair[t] as usize));
            if a == b || *partner.entry(a).or_insert(b) != b || *partner.entry(b).or_insert(a) != a {
                return None;
            }
        }
        stage.iter().for_each(|pair| sets.join(pair[0] as usize, pair[1] as usize));
    }
    Some(params(&part.stages))
}

/// Fact 5.
fn neighbours(part: &Part) -> Option<usize> {
    let mut order: Vec<u32> = (0..part.n as u32).collect();
    for block in part.stages.iter().flatten() {
        let (first, last) = (block[0] as usize, block[block.len() - 1] as usize);
        if last - first + 1 != block.len() {
            return None;
        }
        order[first..=last].sort_unstable_by(|a, b| b.cmp(a));
    }
    // Inversions, counted by a Fenwick tree over the values seen so far.
    let (mut tree, mut inversions) = (vec![0usize; part.n + 1], 0);
    for (seen, &value) in order.iter().enumerate() {
        let mut smaller = 0;
        let mut at = value as usize + 1;
        while at > 0 {
            smaller += tree[at];
            at &= at - 1;
        }
        inversions += seen - smaller;
        at = value as usize + 1;
        while at <= part.n {
            tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    Some(inversions)
}

/// Disjoint sets of coordinates.
struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Self {
        Self((0..n).collect())
    }

    fn find(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
