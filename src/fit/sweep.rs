//! The state of a sweep: what the target looks like from between two stages, and how it moves on to the next.
//!
//! Of Q ≈ F_m ··· F_1, the blocks of stage i are free while all others stay. With Z = (F_m ··· F_i)ᴴ Q (F_{i−1} ··· F_1)ᴴ the objective is
//! Re tr(QᴴR) = Re Σⱼ tr((BⱼZⱼⱼ)ᴴ B'ⱼ) over the new blocks B', where Zⱼⱼ is the part of Z on the coordinates of block j: the best block is
//! the one nearest to BⱼZⱼⱼ (`polar.rs`). On to stage i + 1 it goes by
//!
//! > Z ← F_i Z F'_iᴴ,
//!
//! two products with one stage each, in one pass over memory (`pass.rs`). A sweep
//! starts from Z = RᴴQ, for which all stages run in one pass; so rounding errors do not pile up from sweep to sweep, and
//! ‖Z − I‖_F = ‖Q − R‖_F is the error, without cancellation.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::cast_slice;

use super::pass::{Pass, Picked, ROUND, Rows};
use super::polar::{Sign, exact, nearest};
use super::products::products;
use super::raw::Raw;
use super::relax::beyond;
use super::signs::Signs;
use super::target::distance;
use crate::batch::{Batch, BatchMut};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parallel::{Parallelism, Pool};
use crate::plan::{Op, Plan, Source, Workspace};
use crate::scalar::Wide;
use crate::simd::Isa;

/// A stage and its present blocks, row-major one after the other.
pub(super) struct Visited<W: Wide> {
    order: Rows,
    plan: Plan<W>,
    pub(super) blocks: Vec<W>,
    /// The determinant that each block must have; 0 for any.
    pub(super) parity: Vec<i8>,
    /// The determinants of blocks, where their product is held.
    signs: Vec<i8>,
    /// BⱼZⱼⱼ of the last visit.
    wanted: Vec<W>,
}

impl<W: Wide> Visited<W> {
    fn new(n: usize, layout: &StageLayout, blocks: Vec<W>) -> Result<Self> {
        let plan = Plan::from_stages(n, [(layout.clone(), Source::chart(Raw))])?;
        let count = layout.num_blocks();
        let wanted = vec![W::zero(); blocks.len()];
        Ok(Self { order: Rows::new(n, layout), plan, blocks, parity: vec![0; count], signs: vec![1; count], wanted })
    }

    /// The determinants of the best blocks of the last visit, and what others would have cost.
    pub(super) fn signs(&self, isa: Isa, parallelism: Parallelism) -> Vec<Sign> {
        exact(self.order.b, &mut self.wanted.clone(), &self.parity, isa, parallelism)
    }
}

pub(super) struct Sweeper<'a, W: Wide> {
    n: usize,
    target: &'a [W],
    /// All stages.
    whole: Plan<W>,
    pub(super) stages: Vec<Visited<W>>,
    /// Distance of the rows of Z: never a multiple of a page, whose lines would all compete for the same places of a cache.
    pitch: usize,
    z: Vec<W>,
    /// What the next stage to be visited needs of Z.
    picked: Picked<W>,
    parallelism: Parallelism,
    workspace: Workspace,
    pool: Pool,
    signs: Option<Signs>,
}

impl<'a, W: Wide> Sweeper<'a, W> {
    /// Before the first stage. `blocks` are those of the stages; with `signs` they are rotations, and the product remains one of rotations.
    pub(super) fn new(
        n: usize,
        target: &'a [W],
        layouts: &[StageLayout],
        blocks: Vec<Vec<W>>,
        signs: Option<Signs>,
        parallelism: Parallelism,
    ) -> Result<Self> {
        let whole = Plan::from_stages(n, layouts.iter().map(|layout| (layout.clone(), Source::chart(Raw))))?;
        let stages = layouts.iter().zip(blocks).map(|(layout, blocks)| Visited::new(n, layout, blocks));
        let stages = stages.collect::<Result<_>>()?;
        let round = n.next_multiple_of(ROUND);
        let pitch = if (round * size_of::<W>()).is_multiple_of(512) { round + ROUND } else { round };
        let (z, workspace, pool) = (vec![W::zero(); n * pitch], Workspace::new(), Pool::default());
        let picked = Picked::default();
        let mut sweeper = Self { n, target, whole, stages, pitch, z, picked, parallelism, workspace, pool, signs };
        sweeper.restart()?;
        Ok(sweeper)
    }

    /// Z ← RᴴQ
    fn restart(&mut self) -> Result<()> {
        let mut theta: Vec<f64> = Vec::with_capacity(self.whole.num_params());
        self.stages.iter().for_each(|stage| theta.extend_from_slice(cast_slice(&stage.blocks)));
        let factors = self.whole.realize(&theta)?;
        let target = Batch::strided(self.target, self.n, self.n, 1, self.n)?;
        let mut columns = BatchMut::strided(&mut self.z, self.n, self.n, 1, self.pitch)?;
        self.whole.run(&factors, Some(&target), &mut columns, Op::Adjoint, self.parallelism, &self.workspace)?;
        if let Some(first) = self.stages.first() {
            self.picked = Picked::of(&self.z, self.pitch, &first.order);
        }
        Ok(())
    }

    /// Visits all stages, the first one first; `relaxed` sweeps go past the best blocks.
    pub(super) fn sweep(&mut self, relaxed: bool) -> Result<()> {
        for i in 0..self.stages.len() {
            self.visit(i, relaxed)?;
        }
        self.restart()
    }

    fn visit(&mut self, i: usize, relaxed: bool) -> Result<()> {
        let stage = &self.stages[i];
        let (b, isa) = (stage.order.b, self.workspace.isa());
        let parts = self.picked.parts(&stage.order);
        let wanted = products(b, &stage.blocks, false, &parts, isa, self.parallelism);
        let mut blocks = wanted.clone();
        let signs = match &self.signs {
            Some(signs) => signs.nearest((i, b), &mut blocks, &stage.signs, isa, self.parallelism),
            None => nearest(b, &mut blocks, &stage.parity, isa, self.parallelism),
        };
        if relaxed {
            beyond(b, &stage.blocks, &wanted, &mut blocks, &signs, isa, self.parallelism);
        }
        if let Some(next) = self.stages.get(i + 1) {
            let factors = stage.plan.realize::<f64>(cast_slice(&blocks))?;
            let pass = Pass {
                order: &stage.order,
                left: &stage.blocks,
                blocks: &blocks,
                right: (&stage.plan, &factors),
                next: &next.order,
                pitch: self.pitch,
                parallelism: self.parallelism,
                workspace: &self.workspace,
                pool: &self.pool,
            };
            let last = if i + 2 == self.stages.len() { pass.corner(&self.z) } else { None };
            self.picked = last.map_or_else(|| pass.run(&mut self.z), Ok)?;
        }
        let stage = &mut self.stages[i];
        (stage.blocks, stage.wanted, stage.signs) = (blocks, wanted, signs);
        Ok(())
    }

    /// The blocks of all stages, rotations if asked for.
    pub(super) fn into_blocks(self, layouts: &[StageLayout]) -> Vec<Vec<W>> {
        let mut blocks: Vec<Vec<W>> = self.stages.into_iter().map(|stage| stage.blocks).collect();
        if let Some(signs) = self.signs {
            signs.rotations(layouts, &mut blocks);
        }
        blocks
    }

    /// ‖Q − R‖²_F/(2n)
    pub(super) fn error(&self) -> f64 {
        distance(self.n, &self.z, self.pitch, |i, j| W::from_real(f64::from(u8::from(i == j))), self.parallelism)
    }
}
