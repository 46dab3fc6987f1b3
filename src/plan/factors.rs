//! Realised blocks, and the way from θ to them and back.

use core::ops::Range;

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::{One, Zero};

use super::entries::{accumulate, all_finite, gather, run, scatter, widen};
use super::reflectors;
use super::{Plan, Source, Stage};
use crate::error::{Error, Result, check_length};
use crate::kernel;
use crate::parallel::Aligned;
use crate::scalar::{Real, Scalar};

/// Numbers of the blocks that are handed to a chart at a time: they stay in cache.
const CHUNK_NUMBERS: usize = 4096;
/// Blocks handed to a chart at a time: whole packs, and enough to pay for its scratch.
const MANY: usize = 16;
const MOST: usize = 256;

/// The realised blocks of a plan, as the kernels read them, and in double precision as the pullback needs them.
///
/// They belong to the plan that made them, its clones and its adjoint: plans with the same layouts, sharing, fixed blocks and
/// names of charts at the same offsets. Other plans refuse them.
#[derive(Debug, Clone)]
pub struct Factors<T: Scalar> {
    entries: Aligned<T>,
    /// The unrounded blocks, row-major, group after group; empty where `T` is double precision itself.
    wide: Vec<T::Wide>,
    /// What the vectors of reflectors are to each other: `reflectors.rs`.
    couplings: Vec<T>,
    digest: u64,
    /// Whether all planar pairs are rotations to the last bit.
    rotations: bool,
}

impl<T: Scalar> Factors<T> {
    pub(super) fn rotations(&self) -> bool {
        self.rotations
    }

    /// All entries, at the positions that [`Stage::entry`] tells.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    pub(super) fn couplings(&self) -> &[T] {
        &self.couplings
    }

    /// The stored blocks of a stage before they were rounded: row-major, group after group.
    pub(crate) fn wide_blocks(&self, stage: &Stage<T>) -> Vec<T::Wide> {
        let mut blocks = Vec::new();
        self.load_wide(stage, &(0..stage.num_groups()), &mut blocks);
        blocks
    }
}

impl<T: Scalar> Plan<T> {
    /// The blocks at θ (length [`num_params`](Plan::num_params)), evaluated in double precision and rounded once.
    ///
    /// # Errors
    /// [`Error::Length`] for another length, [`Error::Domain`] for a NaN or infinite parameter, and for orthonormal
    /// reflectors whose vectors depend on each other.
    pub fn realize<P: Real>(&self, theta: &[P]) -> Result<Factors<T>> {
        check_length("theta", self.num_params, theta.len())?;
        if !all_finite(theta)
            && let Some(at) = theta.iter().position(|p| !num_traits::Float::is_finite(*p))
        {
            let got = format!("{:?} at position {at}", theta[at]);
            return Err(Error::Domain { what: "theta".to_string(), expected: "finite numbers", got });
        }
        let mut factors = Factors {
            entries: Aligned::zeros(self.num_entries),
            wide: Vec::new(),
            couplings: vec![T::zero(); self.num_couplings],
            digest: self.digest,
            rotations: false,
        };
        if !T::IS_WIDE {
            factors.wide = vec![T::Wide::zero(); self.num_entries];
        }
        let mut scratch = Scratch::default();
        for (k, stage) in self.stages.iter().enumerate() {
            let size = stage.numbers();
            for groups in chunks(stage) {
                match stage.source() {
                    Source::Chart { chart, .. } => {
                        let b = stage.layout().block_size();
                        let theta = theta_of(stage, &groups, theta, &mut scratch.theta);
                        factors.fill(stage, &groups, &mut scratch.blocks, |blocks| {
                            chart.forward_batch(b, theta, blocks);
                        });
                    }
                    Source::Fixed(blocks) => {
                        factors.store(stage, &groups, &blocks[groups.start * size..groups.end * size]);
                    }
                    Source::Reflectors { .. } => {
                        for g in groups {
                            scratch.load_theta(stage, &(g..g + 1), theta);
                            factors.reflect(k, stage, g, &scratch.theta)?;
                        }
                    }
                }
            }
        }
        factors.rotations = self.stages.iter().all(|stage| {
            let other = stage.pairs().is_none_or(|pairs| pairs.unit > 1);
            other || kernel::are_rotations(&factors.entries[stage.entries()])
        });
        Ok(factors)
    }

    /// The adjoint of the derivative of [`realize`](Plan::realize): `d_theta` += Jᵀ `d_factors`.
    ///
    /// `theta` and `factors` are those of the forward pass; `d_factors` (length [`num_entries`](Plan::num_entries)) is
    /// what [`apply_vjp`](Plan::apply_vjp) accumulated. Fixed blocks have no parameters; their part is ignored.
    ///
    /// # Errors
    /// [`Error::Length`] for wrong lengths, [`Error::Size`] for factors of another plan.
    pub fn realize_vjp<P: Real>(
        &self,
        theta: &[P],
        factors: &Factors<T>,
        d_factors: &[T],
        d_theta: &mut [P],
    ) -> Result<()> {
        check_length("theta", self.num_params, theta.len())?;
        check_length("d_theta", self.num_params, d_theta.len())?;
        check_length("d_factors", self.num_entries, d_factors.len())?;
        self.check_factors(factors)?;
        let mut scratch = Scratch::default();
        let mut d_blocks = Vec::new();
        for stage in self.stages.iter() {
            if let Some(shape) = stage.reflectors_shape() {
                for g in 0..stage.num_groups() {
                    let group = g..g + 1;
                    scratch.load_theta(stage, &group, theta);
                    factors.load_wide(stage, &group, &mut scratch.blocks);
                    gather(stage, &group, d_factors, &mut d_blocks);
                    scratch.d_theta.clear();
                    scratch.d_theta.resize(scratch.theta.len(), 0.0);
                    reflectors::units_vjp(shape, &scratch.theta, &scratch.blocks, &mut d_blocks, &mut scratch.d_theta);
                    scratch.add_theta(stage, g, d_theta);
                }
                continue;
            }
            let Source::Chart { chart, .. } = stage.source() else { continue };
            let (b, params) = (stage.layout().block_size(), stage.theta().len() / stage.num_groups().max(1));
            for groups in chunks(stage) {
                scratch.load_theta(stage, &groups, theta);
                let blocks = factors.wide_run(stage, &groups, &mut scratch.blocks);
                gather(stage, &groups, d_factors, &mut d_blocks);
                scratch.d_theta.clear();
                scratch.d_theta.resize(groups.len() * params, 0.0);
                chart.vjp_batch(b, &scratch.theta, blocks, &d_blocks, &mut scratch.d_theta);
                let start = stage.theta().start + groups.start * params;
                accumulate(&scratch.d_theta, &mut d_theta[start..start + groups.len() * params]);
            }
        }
        Ok(())
    }

    /// The derivative of [`realize`](Plan::realize): `d_factors` ← J `d_theta`, rounded once; fixed blocks do not move.
    ///
    /// # Errors
    /// [`Error::Length`] for wrong lengths, [`Error::Size`] for factors of another plan. Nothing is written then.
    pub fn realize_jvp<P: Real>(
        &self,
        theta: &[P],
        factors: &Factors<T>,
        d_theta: &[P],
        d_factors: &mut [T],
    ) -> Result<()> {
        check_length("theta", self.num_params, theta.len())?;
        check_length("d_theta", self.num_params, d_theta.len())?;
        check_length("d_factors", self.num_entries, d_factors.len())?;
        self.check_factors(factors)?;
        d_factors.fill(T::zero());
        let (mut at, mut direction) = (Scratch::default(), Scratch::<T::Wide>::default());
        let mut d_block = Vec::new();
        for stage in self.stages.iter() {
            if let Some(shape) = stage.reflectors_shape() {
                for g in 0..stage.num_groups() {
                    let group = g..g + 1;
                    at.load_theta(stage, &group, theta);
                    direction.load_theta(stage, &group, d_theta);
                    factors.load_wide(stage, &group, &mut at.blocks);
                    let d = reflectors::units_jvp(shape, &at.theta, &at.blocks, &direction.theta);
                    scatter(stage, &group, &d, d_factors);
                }
                continue;
            }
            let Source::Chart { chart, .. } = stage.source() else { continue };
            let b = stage.layout().block_size();
            d_block.resize(stage.matrix_len(), T::Wide::zero());
            for g in 0..stage.num_groups() {
                let group = g..g + 1;
                at.load_theta(stage, &group, theta);
                direction.load_theta(stage, &group, d_theta);
                factors.load_wide(stage, &group, &mut at.blocks);
                chart.jvp(b, &at.theta, &at.blocks, &direction.theta, &mut d_block);
                for (i, d) in d_block.iter().enumerate() {
                    d_factors[stage.entry(g, i / b, i % b)] = T::from_wide(*d);
                }
            }
        }
        Ok(())
    }

    /// Stored block `group` of stage `k`, row-major b×b, as the kernels use it (before [`Stage::is_adjoint`]). A product of
    /// reflectors is formed here, in double precision and rounded once; nothing else ever forms it.
    ///
    /// # Errors
    /// [`Error::Index`] or [`Error::Length`] for arguments out of range, [`Error::Size`] for factors of another
    /// plan.
    pub fn block(&self, factors: &Factors<T>, k: usize, group: usize, out: &mut [T]) -> Result<()> {
        self.check_factors(factors)?;
        let index = |what, expected, got| Err(Error::Index { what, expected, got });
        let Some(stage) = self.stages.get(k) else { return index("stage", self.num_stages(), k) };
        if group >= stage.num_groups() {
            return index("block", stage.num_groups(), group);
        }
        let b = stage.layout().block_size();
        check_length("block", b * b, out.len())?;
        if stage.vectors().is_some() {
            let (mut vectors, mut column) = (Vec::new(), vec![T::Wide::zero(); b]);
            gather(stage, &(group..group + 1), &factors.entries, &mut vectors);
            for k in 0..b {
                column.fill(T::Wide::zero());
                column[k] = T::Wide::one();
                reflectors::reflect(b, &vectors, &mut column);
                for (i, x) in column.iter().enumerate() {
                    out[i * b + k] = T::from_wide(*x);
                }
            }
            return Ok(());
        }
        for (at, out) in out.iter_mut().enumerate() {
            *out = factors.entries[stage.entry(group, at / b, at % b)];
        }
        Ok(())
    }

    pub(super) fn check_factors(&self, factors: &Factors<T>) -> Result<()> {
        if factors.entries.len() == self.num_entries && factors.digest == self.digest {
            return Ok(());
        }
        Err(Error::Size {
            what: "factors",
            expected: format!(
                "those of a plan with n = {} and {} entries in the same stages",
                self.n, self.num_entries
            ),
            got: format!("factors of another plan, with {} entries", factors.entries.len()),
        })
    }
}

impl<T: Scalar> Factors<T> {
    fn store(&mut self, stage: &Stage<T>, groups: &Range<usize>, blocks: &[T::Wide]) {
        scatter(stage, groups, blocks, &mut self.entries);
        if !self.wide.is_empty() {
            self.wide[wide_range(stage, groups)].copy_from_slice(blocks);
        }
    }

    /// Stores blocks that are made where they stay, if they stay as they are made; in `scratch` otherwise.
    fn fill(
        &mut self,
        stage: &Stage<T>,
        groups: &Range<usize>,
        scratch: &mut Vec<T::Wide>,
        make: impl FnOnce(&mut [T::Wide]),
    ) {
        if !self.wide.is_empty() {
            let blocks = &mut self.wide[wide_range(stage, groups)];
            make(blocks);
            return scatter(stage, groups, blocks, &mut self.entries);
        }
        if let (true, Some(run)) = (T::IS_WIDE, run(stage, groups)) {
            return make(bytemuck::cast_slice_mut(&mut self.entries[run]));
        }
        scratch.clear();
        scratch.resize(groups.len() * stage.numbers(), T::Wide::zero());
        make(scratch);
        scatter(stage, groups, scratch, &mut self.entries);
    }

    /// Stores the vectors of group `g` at θ, and their couplings.
    fn reflect(&mut self, k: usize, stage: &Stage<T>, g: usize, theta: &[f64]) -> Result<()> {
        let Some(shape) = stage.reflectors_shape() else { return Ok(()) };
        let (group, mut vectors) = (g..g + 1, Vec::new());
        let units = reflectors::units::<T::Wide>(shape, theta).map_err(|i| Error::Domain {
            what: format!("orthonormal reflectors of block {g} of stage {k}"),
            expected: "vectors that are independent of those before them",
            got: format!("vector {i}"),
        })?;
        self.store(stage, &group, &units);
        gather(stage, &group, &self.entries, &mut vectors);
        let couplings = reflectors::couplings(shape.count, shape.b, &vectors, T::IS_WIDE);
        let start = stage.couplings().start + g * couplings.len();
        for (to, from) in self.couplings[start..].iter_mut().zip(&couplings) {
            *to = T::from_wide(*from);
        }
        Ok(())
    }

    /// The blocks before they were rounded, where they lie or copied to `scratch`.
    fn wide_run<'a>(&'a self, stage: &Stage<T>, groups: &Range<usize>, scratch: &'a mut Vec<T::Wide>) -> &'a [T::Wide] {
        if !self.wide.is_empty() {
            return &self.wide[wide_range(stage, groups)];
        }
        if let (true, Some(run)) = (T::IS_WIDE, run(stage, groups)) {
            return bytemuck::cast_slice(&self.entries[run]);
        }
        gather(stage, groups, &self.entries, scratch);
        scratch
    }

    fn load_wide(&self, stage: &Stage<T>, groups: &Range<usize>, blocks: &mut Vec<T::Wide>) {
        if self.wide.is_empty() {
            return gather(stage, groups, &self.entries, blocks);
        }
        blocks.clear();
        blocks.extend_from_slice(&self.wide[wide_range(stage, groups)]);
    }
}

/// Where the unrounded blocks of these groups lie.
fn wide_range<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>) -> Range<usize> {
    let (size, start) = (stage.numbers(), stage.entries().start);
    start + groups.start * size..start + groups.end * size
}

/// Groups of blocks of which a part of the nearest caches is full.
fn chunks<T: Scalar>(stage: &Stage<T>) -> impl Iterator<Item = Range<usize>> + use<T> {
    let (count, step) = (stage.num_groups(), (CHUNK_NUMBERS / stage.numbers().max(1)).clamp(MANY, MOST));
    (0..count).step_by(step).map(move |start| start..(start + step).min(count))
}

/// A chunk's parameters and blocks on their way to and from a chart.
struct Scratch<W> {
    theta: Vec<f64>,
    d_theta: Vec<f64>,
    blocks: Vec<W>,
}

impl<W> Default for Scratch<W> {
    fn default() -> Self {
        Self { theta: Vec::new(), d_theta: Vec::new(), blocks: Vec::new() }
    }
}

/// Where the parameters of these groups lie.
fn theta_range<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>) -> Range<usize> {
    let params = stage.theta().len() / stage.num_groups().max(1);
    let start = stage.theta().start;
    start + groups.start * params..start + groups.end * params
}

/// The parameters of these groups in double precision, where they lie or copied to `scratch`.
fn theta_of<'a, T: Scalar, P: Real>(
    stage: &Stage<T>,
    groups: &Range<usize>,
    theta: &'a [P],
    scratch: &'a mut Vec<f64>,
) -> &'a [f64] {
    let theta = &theta[theta_range(stage, groups)];
    if P::IS_WIDE {
        return bytemuck::cast_slice(theta);
    }
    widen(theta, scratch);
    scratch
}

impl<W> Scratch<W> {
    fn load_theta<T: Scalar, P: Real>(&mut self, stage: &Stage<T>, groups: &Range<usize>, theta: &[P]) {
        widen(&theta[theta_range(stage, groups)], &mut self.theta);
    }

    /// Adds the gradient of group `g` to that of all parameters.
    fn add_theta<T: Scalar, P: Real>(&self, stage: &Stage<T>, g: usize, d_theta: &mut [P]) {
        let start = stage.theta().start + g * self.d_theta.len();
        accumulate(&self.d_theta, &mut d_theta[start..start + self.d_theta.len()]);
    }
}
