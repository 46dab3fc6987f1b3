//! Multiplying batches by a plan, the derivative of that, and its adjoint.

use alloc::vec;
use alloc::vec::Vec;

use super::entries::gather;
use super::{Factors, Plan, Stage, reflectors};
use crate::batch::{Batch, BatchMut};
use crate::error::{Error, Result, check_length};
use crate::kernel::{self, PairsOf, Reflectors, Saved, Step};
use crate::parallel::{Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::Isa;

/// Which matrix of the plan's Q acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Op {
    /// Q
    #[default]
    None,
    /// Qᴴ, the inverse if Q is orthogonal
    Adjoint,
    /// Qᵀ
    Transpose,
    /// Q̄
    Conj,
}

impl Op {
    /// All four.
    pub const ALL: [Op; 4] = [Op::None, Op::Adjoint, Op::Transpose, Op::Conj];

    fn transposes(self) -> bool {
        matches!(self, Op::Adjoint | Op::Transpose)
    }

    fn conjugates(self) -> bool {
        matches!(self, Op::Adjoint | Op::Conj)
    }
}

/// Scratch memory kept between calls, and the instruction set to use. One for any number of plans.
#[derive(Debug)]
pub struct Workspace {
    isa: Isa,
    pool: Pool,
}

impl Workspace {
    /// Empty, with the best instruction set of this CPU.
    pub fn new() -> Self {
        Self { isa: Isa::detect(), pool: Pool::default() }
    }

    /// Empty, with the given instruction set.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this CPU lacks it.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        Ok(Self { isa: isa.checked()?, pool: Pool::default() })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Its scratch memory.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Scalar> Plan<T> {
    /// y ← op(Q) x for every vector of the batch.
    ///
    /// `y` is overwritten. Views made from raw parts may be identical (then it works in place) or disjoint.
    /// A block mixes the coordinates it names: a NaN or infinity in one of them reaches them all, and no others.
    ///
    /// # Errors
    /// [`Error::Length`] if n or the batch sizes differ, [`Error::Size`] for factors of another plan,
    /// [`Error::Overlap`] for views that overlap without being identical. Nothing is written then.
    pub fn apply<E: Element<Scalar = T>>(
        &self,
        factors: &Factors<T>,
        x: Batch<'_, E>,
        mut y: BatchMut<'_, E>,
        op: Op,
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.run(factors, Some(&x), &mut y, op, parallelism, workspace)
    }

    /// y ← op(Q) y for every vector of the batch.
    ///
    /// # Errors
    /// [`Error::Length`] if n differs, [`Error::Size`] for factors of another plan. Nothing is written then.
    pub fn apply_in_place<E: Element<Scalar = T>>(
        &self,
        factors: &Factors<T>,
        mut y: BatchMut<'_, E>,
        op: Op,
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.run(factors, None, &mut y, op, parallelism, workspace)
    }

    /// Both of the above, with a workspace that may be shared. Views by reference: copies would take longer than small vectors.
    pub(crate) fn run<E: Element<Scalar = T>>(
        &self,
        factors: &Factors<T>,
        x: Option<&Batch<'_, E>>,
        y: &mut BatchMut<'_, E>,
        op: Op,
        parallelism: Parallelism,
        workspace: &Workspace,
    ) -> Result<()> {
        self.check_factors(factors)?;
        check_length("length n of y", self.n, y.n())?;
        if let Some(x) = x {
            check_length("length n of x", self.n, x.n())?;
            check_length("batch of y", x.batch(), y.batch())?;
            x.check_disjoint("x and y", y)?;
        }
        if let Some(passes) = self.passes.get(workspace.isa, op.transposes()) {
            let pairs = PairsOf { passes, entries: factors.entries(), rotations: factors.rotations() };
            if kernel::apply_along(&pairs, x, y, workspace.isa, parallelism, &workspace.pool) {
                return Ok(());
            }
        }
        let steps = self.steps(Some(factors), op, workspace.isa);
        let route = self.route(op).map(|route| (route, factors.entries()));
        kernel::apply(&steps, route, x.copied(), y.reborrow(), workspace.isa, parallelism, &workspace.pool);
        Ok(())
    }

    /// The adjoint of the derivative of y = op(Q) x with respect to x and to the blocks.
    ///
    /// Given the cotangent `gy` of y: `gx`, if wanted, is overwritten with op(Q)ᴴ gy; `d_factors` (length
    /// [`num_entries`](Plan::num_entries)), if wanted, is increased by the gradient of all stored entries, which
    /// [`realize_vjp`](Plan::realize_vjp) takes back to θ. Cotangents pair as ⟨G, dX⟩ = Re tr(Gᴴ dX). Stage inputs are
    /// computed again from `saved`, piece by piece; memory does not grow with the batch. Unless all stages run
    /// along the vector (pairs; strided blocks of 4 and 8) or are large blocks (multiples of 64 bytes of rows) in runs of at least 8
    /// coordinates, pieces are whole tiles of at least 64 bytes of vectors, so a single vector costs what 16 (`f32`) or 8 (`f64`) do.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Size`] and [`Error::Overlap`] as in [`apply`](Plan::apply), and
    /// [`Error::Unsupported`] for [`Saved::Output`] unless [`is_exact`](Plan::is_exact). Nothing is written then.
    #[allow(clippy::too_many_arguments)] // one verb with two optional results
    pub fn apply_vjp<E: Element<Scalar = T>>(
        &self,
        factors: &Factors<T>,
        saved: Saved<'_, E>,
        op: Op,
        gy: Batch<'_, E>,
        gx: Option<BatchMut<'_, E>>,
        d_factors: Option<&mut [T]>,
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.check_factors(factors)?;
        let (what_n, what_batch, kept) = match &saved {
            Saved::Input(x) => ("length n of the saved input", "batch of the saved input", x),
            Saved::Output(y) => ("length n of the saved output", "batch of the saved output", y),
        };
        check_length(what_n, self.n, kept.n())?;
        check_length("length n of gy", self.n, gy.n())?;
        check_length(what_batch, gy.batch(), kept.batch())?;
        if let Some(gx) = &gx {
            check_length("length n of gx", self.n, gx.n())?;
            check_length("batch of gx", gy.batch(), gx.batch())?;
            gy.check_disjoint("gy and gx", gx)?;
            kept.check_disjoint("saved batch and gx", gx)?;
        }
        if let Some(d) = &d_factors {
            check_length("d_factors", self.num_entries, d.len())?;
        }
        if matches!(saved, Saved::Output(_)) && !self.is_exact() {
            return Err(Error::Unsupported {
                what: "gradient from the saved output",
                expected: "a plan whose blocks are all orthogonal",
                got: alloc::string::String::from("a plan with other fixed blocks or approximate charts"),
            });
        }
        let mut d_couplings = vec![T::zero(); if d_factors.is_some() { self.num_couplings } else { 0 }];
        let mut d_factors = d_factors.map(|d| (d, &mut d_couplings[..]));
        let mut gx = gx;
        if let Some(passes) = self.passes.get(workspace.isa, op.transposes()) {
            let pairs = PairsOf { passes, entries: factors.entries(), rotations: factors.rotations() };
            let (gx, d) = (gx.as_mut().map(|gx| gx.reborrow()), &mut d_factors);
            if kernel::apply_vjp_along(pairs, saved, gy, gx, d, workspace.isa, parallelism, &workspace.pool) {
                return Ok(()); // pairs have no couplings
            }
        }
        let steps = self.steps(Some(factors), op, workspace.isa);
        let d = d_factors.as_mut().map(|d| (&mut *d.0, &mut *d.1));
        kernel::apply_vjp(&steps, saved, gy, gx, d, workspace.isa, parallelism, &workspace.pool);
        if let Some((d_factors, d_couplings)) = d_factors {
            self.couplings_vjp(factors, d_couplings, d_factors);
        }
        Ok(())
    }

    /// The derivative of y = op(Q) x along directions of x and of the blocks: dy ← op(Q) dx + op(dQ) x.
    ///
    /// `dx` and `d_factors` (length [`num_entries`](Plan::num_entries), from [`realize_jvp`](Plan::realize_jvp)) are taken
    /// for zero where they are absent. `dy` is overwritten. The adjoint of this map is [`apply_vjp`](Plan::apply_vjp).
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Size`] and [`Error::Overlap`] as in [`apply`](Plan::apply). Nothing is written then.
    #[allow(clippy::too_many_arguments)] // one verb with two optional directions
    pub fn apply_jvp<E: Element<Scalar = T>>(
        &self,
        factors: &Factors<T>,
        x: Batch<'_, E>,
        op: Op,
        dx: Option<Batch<'_, E>>,
        d_factors: Option<&[T]>,
        dy: BatchMut<'_, E>,
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.check_factors(factors)?;
        check_length("length n of x", self.n, x.n())?;
        check_length("length n of dy", self.n, dy.n())?;
        check_length("batch of dy", x.batch(), dy.batch())?;
        x.check_disjoint("x and dy", &dy)?;
        if let Some(dx) = &dx {
            check_length("length n of dx", self.n, dx.n())?;
            check_length("batch of dx", x.batch(), dx.batch())?;
            dx.check_disjoint("dx and dy", &dy)?;
        }
        if let Some(d) = d_factors {
            check_length("d_factors", self.num_entries, d.len())?;
        }
        let steps = self.steps(Some(factors), op, workspace.isa);
        let d_couplings = d_factors.map_or(Vec::new(), |d| self.couplings_jvp(factors, d));
        let d_factors = d_factors.map(|d| (d, &d_couplings[..]));
        kernel::apply_jvp(&steps, x, dx, d_factors, dy, workspace.isa, parallelism, &workspace.pool);
        Ok(())
    }

    /// The way of one vector through the stages as `op` runs them.
    pub(super) fn route(&self, op: Op) -> Option<&kernel::Route> {
        self.routes[usize::from(op.transposes())].as_ref()
    }

    /// The stages that are products of reflectors, block by block: vectors, and where the block's numbers and couplings are.
    fn reflected<'a>(
        &'a self,
        factors: &'a Factors<T>,
    ) -> impl Iterator<Item = (&'a Stage<T>, usize, reflectors::Shape, Vec<T::Wide>)> {
        let shapes = self.stages.iter().filter_map(|stage| stage.reflectors_shape().map(|shape| (stage, shape)));
        shapes.flat_map(move |(stage, shape)| {
            (0..stage.num_groups()).map(move |g| {
                let mut vectors = Vec::new();
                gather(stage, &(g..g + 1), factors.entries(), &mut vectors);
                (stage, g, shape, vectors)
            })
        })
    }

    /// Completes the gradient of reflectors' vectors by what came together in `d_couplings`.
    fn couplings_vjp(&self, factors: &Factors<T>, d_couplings: &[T], d_factors: &mut [T]) {
        for (stage, g, shape, vectors) in self.reflected(factors) {
            let each = shape.count * kernel::PANEL;
            let start = stage.couplings().start + g * each;
            let k: Vec<T::Wide> = d_couplings[start..start + each].iter().map(|k| k.to_wide()).collect();
            let d = reflectors::couplings_vjp(shape.count, shape.b, &vectors, &k);
            for (i, d) in d.chunks_exact(shape.b).enumerate() {
                let (first, step) = stage.row(g, i);
                for (k, d) in d.iter().enumerate() {
                    let to = &mut d_factors[first + k * step];
                    *to = T::from_wide(to.to_wide() + *d);
                }
            }
        }
    }

    /// How the couplings move when the entries move along `d_factors`.
    fn couplings_jvp(&self, factors: &Factors<T>, d_factors: &[T]) -> Vec<T> {
        let (mut all, mut d_vectors) = (vec![T::zero(); self.num_couplings], Vec::new());
        for (stage, g, shape, vectors) in self.reflected(factors) {
            gather(stage, &(g..g + 1), d_factors, &mut d_vectors);
            let d = reflectors::couplings_jvp(shape.count, shape.b, &vectors, &d_vectors);
            let start = stage.couplings().start + g * d.len();
            for (to, from) in all[start..].iter_mut().zip(&d) {
                *to = T::from_wide(*from);
            }
        }
        all
    }

    /// The stages in the order in which `op` runs them; without numbers if there are no factors.
    pub(super) fn steps<'a>(&'a self, factors: Option<&'a Factors<T>>, op: Op, isa: Isa) -> Vec<Step<'a, T>> {
        let (entries, couplings) = factors.map_or_else(Default::default, |f| (f.entries(), f.couplings()));
        let step = |stage: &'a Stage<T>| {
            let step = Step {
                layout: stage.layout(),
                first: 0,
                stride: 1,
                entries: entries.get(stage.entries()).unwrap_or_default(),
                offset: stage.entries().start,
                strides: stage.strides(),
                groups: stage.groups(),
                conj: stage.is_adjoint() != op.conjugates(),
                reflectors: stage.vectors().map(|count| Reflectors {
                    count,
                    couplings: couplings.get(stage.couplings()).unwrap_or_default(),
                    offset: stage.couplings().start,
                    reversed: false,
                    isa,
                }),
            };
            if stage.is_adjoint() != op.transposes() { step.transposed() } else { step }
        };
        if op.transposes() {
            self.stages.iter().rev().map(step).collect()
        } else {
            self.stages.iter().map(step).collect()
        }
    }
}
