//! The state of a sweep: what the target looks like from between two stages, and how it moves on to the next.
//!
//! Of Q ≈ F_m ··· F_1, the blocks of stage i are free while all others stay. With Z = (F_m ··· F_i)ᴴ Q (F_{i−1} ··· F_1)ᴴ the objective is
//! Re tr(QᴴR) = Re Σⱼ tr((BⱼZⱼⱼ)ᴴ B'ⱼ) over the new blocks B', where Zⱼⱼ is the part of Z on the coordinates of block j: the best block is
//! the one nearest to BⱼZⱼⱼ (`polar.rs`). On to stage i + 1 it goes by
//!
//! > Z ← F_i Z F'_iᴴ,
//!
//! two products with one stage each, by the kernels that serve any plan: columns of Z for the left one, rows for the right one. A sweep
//! starts from Z = RᴴQ, for which all stages run in one pass; so rounding errors do not pile up from sweep to sweep, and
//! ‖Z − I‖_F = ‖Q − R‖_F is the error, without cancellation.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::cast_slice;

use super::polar::{Gain, nearest};
use super::raw::Raw;
use super::relax::beyond;
use super::target::distance;
use crate::batch::BatchMut;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Source, Workspace};
use crate::scalar::Wide;

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

pub(super) struct Sweeper<'a, W: Wide> {
    n: usize,
    target: &'a [W],
    /// All stages.
    whole: Plan<W>,
    pub(super) stages: Vec<Blocks<W>>,
    /// Distance of the rows of Z: never a multiple of a page, whose lines would all compete for the same places of a cache.
    pitch: usize,
    z: Vec<W>,
    parallelism: Parallelism,
    workspace: Workspace,
}

impl<'a, W: Wide> Sweeper<'a, W> {
    /// Before the first stage. `blocks` are those of the stages, whose determinants must be `parity`.
    pub(super) fn new(
        n: usize,
        target: &'a [W],
        layouts: &[StageLayout],
        blocks: Vec<Vec<W>>,
        parity: i8,
        parallelism: Parallelism,
    ) -> Result<Self> {
        let whole = Plan::from_stages(n, layouts.iter().map(|layout| (layout.clone(), Source::chart(Raw))))?;
        let stages = layouts.iter().zip(blocks).map(|(layout, blocks)| Blocks::new(n, layout, blocks, parity));
        let stages = stages.collect::<Result<_>>()?;
        let line = 64 / size_of::<W>();
        let pitch = if (n * size_of::<W>()).is_multiple_of(512) { n + line } else { n };
        let (z, workspace) = (vec![W::zero(); n * pitch], Workspace::new());
        let mut sweeper = Self { n, target, whole, stages, pitch, z, parallelism, workspace };
        sweeper.restart()?;
        Ok(sweeper)
    }

    /// Z ← RᴴQ
    fn restart(&mut self) -> Result<()> {
        for (z, row) in self.z.chunks_exact_mut(self.pitch).zip(self.target.chunks_exact(self.n)) {
            z[..self.n].copy_from_slice(row);
        }
        let mut theta: Vec<f64> = Vec::with_capacity(self.whole.num_params());
        self.stages.iter().for_each(|stage| theta.extend_from_slice(cast_slice(&stage.blocks)));
        let factors = self.whole.realize(&theta)?;
        let columns = BatchMut::strided(&mut self.z, self.n, self.n, 1, self.pitch)?;
        self.whole.apply_in_place(&factors, columns, Op::Adjoint, self.parallelism, &mut self.workspace)
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
        let (b, isa) = (stage.layout.block_size(), self.workspace.isa());
        let mut wanted = vec![W::zero(); stage.blocks.len()];
        let mut part = vec![W::zero(); b * b];
        for (j, (wanted, old)) in wanted.chunks_exact_mut(b * b).zip(stage.blocks.chunks_exact(b * b)).enumerate() {
            for (row, i) in part.chunks_exact_mut(b).zip(stage.layout.indices(j)) {
                let z = &self.z[i * self.pitch..][..self.n];
                row.iter_mut().zip(stage.layout.indices(j)).for_each(|(x, k)| *x = z[k]);
            }
            product(b, old, &part, wanted);
        }
        let mut blocks = wanted.clone();
        let gains = nearest(b, &mut blocks, &stage.parity, isa, self.parallelism);
        if relaxed {
            beyond(b, &stage.blocks, &wanted, &mut blocks, (&stage.gains, &gains), isa, self.parallelism);
        }
        let factors = stage.plan.realize::<f64>(cast_slice(&blocks))?;
        if i + 1 < self.stages.len() {
            let Self { n, pitch, z, parallelism, workspace, .. } = self;
            let columns = BatchMut::strided(z, *n, *n, 1, *pitch)?;
            stage.plan.apply_in_place(&stage.factors, columns, Op::None, *parallelism, workspace)?;
            let rows = BatchMut::strided(z, *n, *n, *pitch, 1)?;
            stage.plan.apply_in_place(&factors, rows, Op::Conj, *parallelism, workspace)?;
        }
        let stage = &mut self.stages[i];
        (stage.blocks, stage.factors, stage.gains) = (blocks, factors, gains);
        Ok(())
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
            out.iter_mut().zip(y).for_each(|(out, y)| *out += *x * *y);
        }
    }
}
