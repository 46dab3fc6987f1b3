//! The state of a sweep: what the target looks like from between two stages, and how it moves on to the next.
//!
//! Of Q ≈ F_m ··· F_1, blocks of stage i are free while all others stay. With Z = (F_m ··· F_i)ᴴ Q (F_{i−1} ··· F_1)ᴴ the
//! objective is Re tr(QᴴR) = Re tr Σⱼ (BⱼZⱼⱼ)ᴴ Bⱼ' over the new blocks B', where Zⱼⱼ is the part of Z on the coordinates of block j:
//! the best block is the nearest one to BⱼZⱼⱼ (`polar.rs`). The way on is
//!
//! > forwards:  Z ← F_i Z F_i'ᴴ,  backwards:  Z ← F_i'ᴴ Z F_i with blocks nearest to ZⱼⱼBⱼ,
//!
//! two products with one stage each, by the kernels that serve any plan: columns for the left one, rows for the right one. At
//! either end a sweep turns: there Z ← F'ᴴF·Z or Z ← Z·F F'ᴴ, and no stage is visited twice in a row. At every moment
//! ‖Z − I‖_F = ‖Q − R‖_F, which is how errors are measured, without cancellation.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::cast_slice;

use super::polar::{Gain, nearest};
use super::raw::Raw;
use super::target::distance;
use crate::batch::BatchMut;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Source, Workspace};
use crate::scalar::{Scalar, Wide};

/// A stage and its present blocks, row-major one after the other.
pub(super) struct Blocks<W: Wide> {
    layout: StageLayout,
    plan: Plan<W>,
    factors: Factors<W>,
    pub(super) blocks: Vec<W>,
    /// The determinant that each block must have; 0 for any.
    pub(super) parity: Vec<i8>,
    pub(super) gains: Vec<Gain>,
}

impl<W: Wide> Blocks<W> {
    fn new(n: usize, layout: &StageLayout, blocks: Vec<W>, parity: i8) -> Result<Self> {
        let plan = Plan::from_stages(n, [(layout.clone(), Source::chart(Raw))])?;
        let factors = plan.realize::<f64>(cast_slice(&blocks))?;
        let count = layout.num_blocks();
        let gains = vec![Gain::default(); count];
        Ok(Self { layout: layout.clone(), plan, factors, blocks, parity: vec![parity; count], gains })
    }
}

pub(super) struct Sweeper<W: Wide> {
    n: usize,
    /// Distance of rows: never a multiple of a page, whose lines would all compete for the same places of a cache.
    pitch: usize,
    z: Vec<W>,
    pub(super) stages: Vec<Blocks<W>>,
    forward: bool,
    /// No stage has been visited yet.
    fresh: bool,
    parallelism: Parallelism,
    workspace: Workspace,
}

impl<W: Wide> Sweeper<W> {
    /// At the first stage. `blocks` are those of the stages, whose determinants must be `parity`.
    pub(super) fn new(
        n: usize,
        target: &[W],
        layouts: &[StageLayout],
        blocks: Vec<Vec<W>>,
        parity: i8,
        parallelism: Parallelism,
    ) -> Result<Self> {
        let line = 64 / size_of::<W>();
        let pitch = if (n * size_of::<W>()).is_multiple_of(512) { n + line } else { n };
        let stages = layouts.iter().zip(blocks).map(|(layout, blocks)| Blocks::new(n, layout, blocks, parity));
        let stages = stages.collect::<Result<_>>()?;
        let workspace = Workspace::new();
        let z = vec![W::zero(); n * pitch];
        let mut sweeper = Self { n, pitch, z, stages, forward: true, fresh: true, parallelism, workspace };
        sweeper.restart(target)?;
        Ok(sweeper)
    }

    /// Z afresh from the target, at the first stage.
    pub(super) fn restart(&mut self, target: &[W]) -> Result<()> {
        for (z, row) in self.z.chunks_exact_mut(self.pitch).zip(target.chunks_exact(self.n)) {
            z[..self.n].copy_from_slice(row);
        }
        for i in (0..self.stages.len()).rev() {
            let factors = self.stages[i].factors.clone();
            self.left(i, &factors, Op::Adjoint)?;
        }
        (self.forward, self.fresh) = (true, true);
        Ok(())
    }

    /// Visits all stages but the one that was visited last, and turns.
    pub(super) fn sweep(&mut self) -> Result<()> {
        let m = self.stages.len();
        for k in usize::from(!self.fresh)..m {
            let i = if self.forward { k } else { m - 1 - k };
            self.visit(i, k + 1 == m)?;
        }
        (self.fresh, self.forward) = (false, !self.forward);
        Ok(())
    }

    fn visit(&mut self, i: usize, last: bool) -> Result<()> {
        let (stage, forward) = (&self.stages[i], self.forward);
        let b = stage.layout.block_size();
        let mut blocks = vec![W::zero(); stage.blocks.len()];
        let mut part = vec![W::zero(); b * b];
        for (j, (new, old)) in blocks.chunks_exact_mut(b * b).zip(stage.blocks.chunks_exact(b * b)).enumerate() {
            for (row, i) in part.chunks_exact_mut(b).zip(stage.layout.indices(j)) {
                let z = &self.z[i * self.pitch..][..self.n];
                row.iter_mut().zip(stage.layout.indices(j)).for_each(|(x, k)| *x = z[k]);
            }
            if forward { product(b, old, &part, new) } else { product(b, &part, old, new) }
        }
        let gains = nearest(b, &mut blocks, &stage.parity, self.workspace.isa(), self.parallelism);
        let factors = if last {
            // Bᴴ B' on the left, B' Bᴴ on the right.
            let mut turn = vec![W::zero(); blocks.len()];
            for ((turn, new), old) in
                turn.chunks_exact_mut(b * b).zip(blocks.chunks_exact(b * b)).zip(stage.blocks.chunks_exact(b * b))
            {
                let back: Vec<W> = (0..b * b).map(|at| Scalar::conj(old[at % b * b + at / b])).collect();
                if forward { product(b, &back, new, turn) } else { product(b, new, &back, turn) }
            }
            let turn = stage.plan.realize::<f64>(cast_slice(&turn))?;
            if forward { self.left(i, &turn, Op::Adjoint)? } else { self.right(i, &turn, Op::Conj)? }
            self.stages[i].plan.realize::<f64>(cast_slice(&blocks))?
        } else {
            let factors = stage.plan.realize::<f64>(cast_slice(&blocks))?;
            let old = stage.factors.clone();
            if forward {
                self.left(i, &old, Op::None)?;
                self.right(i, &factors, Op::Conj)?;
            } else {
                self.left(i, &factors, Op::Adjoint)?;
                self.right(i, &old, Op::Transpose)?;
            }
            factors
        };
        let stage = &mut self.stages[i];
        (stage.blocks, stage.factors, stage.gains) = (blocks, factors, gains);
        Ok(())
    }

    /// Z ← op(F)·Z
    fn left(&mut self, i: usize, factors: &Factors<W>, op: Op) -> Result<()> {
        let columns = BatchMut::strided(&mut self.z, self.n, self.n, 1, self.pitch)?;
        self.stages[i].plan.apply_in_place(factors, columns, op, self.parallelism, &mut self.workspace)
    }

    /// Z ← Z·op(F)ᵀ
    fn right(&mut self, i: usize, factors: &Factors<W>, op: Op) -> Result<()> {
        let rows = BatchMut::strided(&mut self.z, self.n, self.n, self.pitch, 1)?;
        self.stages[i].plan.apply_in_place(factors, rows, op, self.parallelism, &mut self.workspace)
    }

    /// ‖Q − R‖²_F/(2n)
    pub(super) fn error(&self) -> f64 {
        distance(self.n, &self.z, self.pitch, |i, j| W::from_real(f64::from(u8::from(i == j))), self.parallelism)
    }
}

/// `out` ← x·y
pub(super) fn product<W: Wide>(b: usize, x: &[W], y: &[W], out: &mut [W]) {
    for (out, x) in out.chunks_exact_mut(b).zip(x.chunks_exact(b)) {
        out.fill(W::zero());
        for (x, y) in x.iter().zip(y.chunks_exact(b)) {
            out.iter_mut().zip(y).for_each(|(out, y)| *out = *out + *x * *y);
        }
    }
}
