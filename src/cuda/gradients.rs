//! Where gradients of windows go.
//!
//! Of orthogonal blocks Q only what keeps them orthogonal is added up over the batch: of the gradient G of the entries
//! its tangent Q·½(QᵀG − GᵀQ), whose ∂θ is the same (P.-A. Absil, R. Mahony, R. Sepulchre, Optimization Algorithms on
//! Matrix Manifolds, 2008, example 3.6.2). With x and ∂x of a stage, its inputs, QᵀG = Σ ∂x xᵀ: of each block the
//! *moments* M_ik = Σ ∂x_i x_k − ∂x_k x_i for i < k, b(b − 1)/2 numbers instead of b². Of a block that acts transposed,
//! GQᵀ = Σ x ∂xᵀ takes their place, and the tangent is ½ M Q.

use std::vec::Vec;

use super::windows::Split;

/// The place of the moment (i, k), i < k, among those of a b×b block.
pub(super) fn pair(b: usize, i: usize, k: usize) -> usize {
    i * (2 * b - i - 1) / 2 + k - i - 1
}

/// Sums of gradients: number n is the sum of those at `places`[`starts`[n]..`starts`[n + 1]].
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) starts: Vec<u32>,
    pub(super) places: Vec<u32>,
}

impl Sums {
    pub(super) fn new(count: usize, mut of: Vec<(u32, u32)>) -> Self {
        of.sort_unstable();
        let mut starts = std::vec![0; count + 1];
        of.iter().for_each(|(n, _)| starts[*n as usize + 1] += 1);
        (0..count).for_each(|n| starts[n + 1] += starts[n]);
        Self { starts, places: of.into_iter().map(|(_, at)| at).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }
}

/// How moments become gradients of entries. Blocks are row-major here, group after group of stage after stage.
#[derive(Debug, Default)]
pub(super) struct Tangents {
    /// Moments of all groups.
    pub(super) moments: usize,
    pub(super) sums: Sums,
    /// The plan's entry that each entry of the blocks is.
    pub(super) order: Vec<u32>,
    /// The number of windows that it is, or minus it ([`MINUS`](super::schedule::MINUS)).
    pub(super) numbers: Vec<u32>,
    /// Of every stage: its first entry, the block size, its first moment, whether blocks act transposed.
    pub(super) stages: Vec<[u32; 4]>,
    /// By number of the stage.
    index: Vec<usize>,
}

impl Tangents {
    pub(super) fn new(stages: &[Split<'_>], tangent: &[bool]) -> Self {
        let mut made = Self::default();
        let mut entries = 0;
        for (split, tangent) in stages.iter().zip(tangent) {
            made.index.push(made.stages.len());
            if *tangent {
                let (stage, b) = (split.stage, split.stage.layout().block_size());
                made.stages.push([entries, b, made.moments, usize::from(stage.is_adjoint())].map(|x| x as u32));
                entries += stage.num_groups() * b * b;
                made.moments += stage.num_groups() * (b * (b - 1) / 2);
            }
        }
        made.order = std::vec![0; entries];
        made.numbers = std::vec![0; entries];
        made
    }

    /// Entry (i, k) of a group.
    pub(super) fn unit(&self, stage: usize, group: usize, i: usize, k: usize) -> usize {
        let [first, b, ..] = self.stages[self.index[stage]].map(|x| x as usize);
        first + (group * b + i) * b + k
    }

    /// Its moment, for i < k.
    pub(super) fn moment(&self, stage: usize, group: usize, i: usize, k: usize) -> u32 {
        let [_, b, first, _] = self.stages[self.index[stage]].map(|x| x as usize);
        (first + group * (b * (b - 1) / 2) + pair(b, i, k)) as u32
    }
}
