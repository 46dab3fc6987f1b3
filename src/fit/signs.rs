//! Rotations: the signs that two stages share.
//!
//! A sign of coordinate c between two stages belongs to either: F_{k+1}·F_k = (F_{k+1}D)(DF_k), D = diag(±1). It is an edge between the two
//! blocks that c runs through, and reversing it changes both determinants. So in the graph of blocks and coordinates determinants of −1 can
//! be walked along paths until two of them meet: *a product of blocks from O(b) is one of rotations if and only if every connected part of
//! the graph has an even number of reflections*, up to a change of signs that leaves the product as it is, to the last bit.
//!
//! Hence sweeps over rotations need not hold every determinant, only their product in every part. Holding all makes rests: targets
//! planted in the class were found in one sweep from any start in O(b), but with every determinant held only one in ten at n = 64, b = 2; the
//! others came to rest at e = 4/n, 8/n, 12/n, where Z = RᴴQ has as many eigenvalues −1 in pairs, each a pair of reflections at
//! different blocks.

use alloc::vec;
use alloc::vec::Vec;

use super::polar::{exact, nearest};
use crate::dense::determinant_sign;
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::scalar::Wide;
use crate::simd::Isa;

/// A block that is reached from another one through a coordinate.
struct Reached {
    stage: usize,
    block: usize,
    /// Stage and block nearer to the root, and the coordinate between; roots have none.
    from: Option<(usize, usize, usize)>,
}

/// Spanning trees of all parts.
pub(super) struct Signs {
    /// Roots before what is reached from them.
    order: Vec<Reached>,
    /// The part of each block of each stage.
    parts: Vec<Vec<usize>>,
    count: usize,
}

impl Signs {
    pub(super) fn new(n: usize, stages: &[StageLayout]) -> Self {
        let mut edges: Vec<Vec<Vec<(usize, usize, usize)>>> =
            stages.iter().map(|layout| vec![Vec::new(); layout.num_blocks()]).collect();
        let mut last: Vec<Option<(usize, usize)>> = vec![None; n];
        for (k, layout) in stages.iter().enumerate() {
            for j in 0..layout.num_blocks() {
                for c in layout.indices(j) {
                    if let Some((below, i)) = last[c].replace((k, j)) {
                        edges[k][j].push((below, i, c));
                        edges[below][i].push((k, j, c));
                    }
                }
            }
        }
        let mut parts: Vec<Vec<usize>> = edges.iter().map(|stage| vec![usize::MAX; stage.len()]).collect();
        let (mut order, mut count) = (Vec::new(), 0);
        for (k, j) in edges.iter().enumerate().flat_map(|(k, stage)| (0..stage.len()).map(move |j| (k, j))) {
            if parts[k][j] != usize::MAX {
                continue;
            }
            let mut next = order.len();
            parts[k][j] = count;
            order.push(Reached { stage: k, block: j, from: None });
            while let Some(&Reached { stage, block, .. }) = order.get(next) {
                for &(k, j, c) in &edges[stage][block] {
                    if parts[k][j] == usize::MAX {
                        parts[k][j] = count;
                        order.push(Reached { stage: k, block: j, from: Some((stage, block, c)) });
                    }
                }
                next += 1;
            }
            count += 1;
        }
        Self { order, parts, count }
    }

    /// The best blocks of a stage whose determinants have the same product in every part as `before`: of those parts where the best of all
    /// have not, the block that loses least by it gets the other one. Never worse than blocks with determinants `before`.
    pub(super) fn nearest<W: Wide>(
        &self,
        (stage, b): (usize, usize),
        blocks: &mut [W],
        before: &[i8],
        isa: Isa,
        parallelism: Parallelism,
    ) -> Vec<i8> {
        let (wanted, free, parts) = (blocks.to_vec(), vec![0; before.len()], &self.parts[stage]);
        let signs = nearest(b, blocks, &free, isa, parallelism);
        let mut odd = vec![false; self.count];
        for ((part, sign), before) in parts.iter().zip(&signs).zip(before) {
            odd[*part] ^= sign != before;
        }
        if !odd.contains(&true) {
            return signs;
        }
        let found = exact(b, &mut wanted.clone(), &free, isa, parallelism);
        let mut least: Vec<Option<usize>> = vec![None; self.count];
        for (j, part) in parts.iter().enumerate().filter(|(_, part)| odd[**part]) {
            let least = &mut least[*part];
            if least.is_none_or(|best| found[j].loss < found[best].loss) {
                *least = Some(j);
            }
        }
        let mut held: Vec<i8> = found.iter().map(|found| found.sign).collect();
        least.iter().flatten().for_each(|j| held[*j] = -held[*j]);
        blocks.copy_from_slice(&wanted);
        nearest(b, blocks, &held, isa, parallelism)
    }

    /// Turns all blocks into rotations without a change of the product. Where a part has an odd number of reflections its root is left as
    /// one, and replaced by the nearest rotation.
    pub(super) fn rotations<W: Wide>(&self, stages: &[StageLayout], blocks: &mut [Vec<W>]) {
        for reached in self.order.iter().rev() {
            let (k, j, b) = (reached.stage, reached.block, stages[reached.stage].block_size());
            let block = &mut blocks[k][j * b * b..(j + 1) * b * b];
            if determinant_sign(b, &mut block.to_vec()) >= 0 {
                continue;
            }
            match reached.from {
                None => {
                    nearest(b, block, &[1], Isa::detect(), Parallelism::None);
                }
                Some((to, i, c)) => {
                    reverse(&stages[k], &mut blocks[k], j, c, k < to);
                    reverse(&stages[to], &mut blocks[to], i, c, to < k);
                }
            }
        }
    }
}

/// Reverses the row of block j that coordinate c leaves by, or the column that it enters by.
fn reverse<W: Wide>(layout: &StageLayout, blocks: &mut [W], j: usize, c: usize, row: bool) {
    let b = layout.block_size();
    let Some(i) = layout.indices(j).position(|index| index == c) else { return };
    let block = &mut blocks[j * b * b..(j + 1) * b * b];
    (0..b).map(|x| if row { i * b + x } else { x * b + i }).for_each(|at| block[at] = -block[at]);
}
