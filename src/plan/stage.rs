//! One stage: a layout, and where its blocks come from.

use core::hash::Hasher;
use core::ops::Range;

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use super::digest::Digest;
use crate::dense;
use crate::error::{Error, Result, check_length};
use crate::kernel::{self, Strides};
use crate::layout::{Sharing, StageLayout};
use crate::parametrization::Parametrization;
use crate::scalar::Scalar;

/// Where the blocks of a stage come from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Source<T: Scalar> {
    /// Trainable: a chart, with parameters per block or shared.
    Chart {
        /// The chart.
        chart: Arc<dyn Parametrization<T::Wide>>,
        /// Which blocks share parameters.
        sharing: Sharing,
    },
    /// Given once and for all, so without parameters: row-major b×b blocks one after the other.
    Fixed(Arc<[T::Wide]>),
    /// Trainable: each block the product of `count` Householder reflections I − 2vvᴴ/‖v‖², b numbers each (b pairs re, im for
    /// complex scalars); the first vector acts first. Never formed as a matrix: a block costs 4·b·count operations for each
    /// vector, whatever b is. v = 0 is no reflection. θ = 0 is the identity but has no derivative;
    /// [`Plan::identity_start`](crate::Plan::identity_start) has.
    Reflectors {
        /// Number of reflections.
        count: usize,
        /// Whether a block's vectors are first made orthonormal by Gram–Schmidt, so that it is I − 2UUᴴ. Vectors that depend
        /// on those before them are refused by [`realize`](crate::Plan::realize).
        orthonormal: bool,
        /// Which blocks share parameters.
        sharing: Sharing,
    },
}

impl<T: Scalar> Source<T> {
    /// A trainable source with parameters for each block.
    pub fn chart(chart: impl Parametrization<T::Wide> + 'static) -> Self {
        Source::Chart { chart: Arc::new(chart), sharing: Sharing::PerBlock }
    }

    /// Products of `count` Householder reflections, with vectors for each block. With one block of size n this is HRA (Yuan
    /// et al., arXiv 2405.17484); with one reflection for each of n/b blocks, ETHER (Bini et al., arXiv 2405.20271).
    ///
    /// ```
    /// use papilio::{Orthogonal, Plan, Source, StageLayout};
    /// let n = 100_000; // as a matrix this would be 80 GB
    /// let plan = Plan::<f64>::from_stages(n, [(StageLayout::contiguous(n, 1), Source::reflectors(1))])?;
    /// let q = Orthogonal::new(plan, vec![1.0; n])?;
    /// let y = q.apply(&vec![1.0; n])?; // the vector of the reflection itself
    /// assert!(y.iter().all(|y| (y + 1.0).abs() < 1e-14));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    pub fn reflectors(count: usize) -> Self {
        Source::Reflectors { count, orthonormal: false, sharing: Sharing::PerBlock }
    }

    /// As [`reflectors`](Self::reflectors), of vectors that are made orthonormal first (HRA with `apply_GS`).
    pub fn orthonormal_reflectors(count: usize) -> Self {
        Source::Reflectors { count, orthonormal: true, sharing: Sharing::PerBlock }
    }
}

/// Parameters or entries of a plan, at most: their bytes can be addressed.
pub(super) const MOST_NUMBERS: usize = isize::MAX as usize / 8;

/// One stage of a plan.
#[derive(Debug, Clone)]
pub struct Stage<T: Scalar> {
    layout: StageLayout,
    source: Source<T>,
    adjoint: bool,
    num_groups: usize,
    groups: Option<Arc<[u32]>>,
    theta: Range<usize>,
    entries: Range<usize>,
    couplings: Range<usize>,
    strides: Strides,
    exact: bool,
    digest: u64,
}

impl<T: Scalar> Stage<T> {
    /// Checks a stage for vectors of length `n`, whose parameters, entries and couplings start at the given offsets.
    pub(super) fn new(
        n: usize,
        layout: StageLayout,
        source: Source<T>,
        (theta, entries, couplings): (usize, usize, usize),
    ) -> Result<Self> {
        layout.validate(n)?;
        let (b, count) = (layout.block_size(), layout.num_blocks());
        let (num_groups, groups, params, each) = match &source {
            Source::Chart { chart, sharing } => {
                let (num_groups, groups) = groups_of(sharing, count)?;
                (num_groups, groups, chart.num_params(b)?, Some(b * b))
            }
            Source::Fixed(blocks) => {
                check_length("fixed blocks", count.saturating_mul(b * b), blocks.len())?;
                if let Some(at) = blocks.iter().position(|x| !crate::scalar::is_finite(T::from_wide(*x))) {
                    let got = format!("{:?} at position {at}", blocks[at]);
                    let expected = "numbers that are finite in the plan's precision";
                    return Err(Error::Domain { what: "fixed blocks".to_string(), expected, got });
                }
                (count, None, 0, Some(b * b))
            }
            Source::Reflectors { count: vectors, orthonormal, sharing } => {
                if *orthonormal && *vectors > b {
                    return Err(Error::Size {
                        what: "orthonormal reflectors",
                        expected: format!("at most b = {b}"),
                        got: vectors.to_string(),
                    });
                }
                let (num_groups, groups) = groups_of(sharing, count)?;
                let each = vectors.checked_mul(b);
                (num_groups, groups, each.map_or(0, |each| each.saturating_mul(1 + usize::from(T::IS_COMPLEX))), each)
            }
        };
        let vectors = match &source {
            Source::Reflectors { count, .. } => Some(*count),
            _ => None,
        };
        let planar = groups.is_none() && kernel::is_planar::<T>(&layout);
        // Panels of planar blocks are filled up.
        let places = match planar && vectors.is_none() {
            true => num_groups.checked_next_multiple_of(T::WIDTH),
            false => Some(num_groups),
        };
        let end = |start: usize, count: usize, each: usize| {
            count.checked_mul(each).and_then(|all| all.checked_add(start)).filter(|end| *end <= MOST_NUMBERS)
        };
        let ends = (
            end(theta, num_groups, params),
            each.zip(places).and_then(|(each, places)| end(entries, places, each)),
            vectors.unwrap_or(0).checked_mul(kernel::PANEL).and_then(|each| end(couplings, num_groups, each)),
        );
        let (Some(theta_end), Some(entries_end), Some(couplings_end)) = ends else {
            return Err(Error::Size {
                what: "stage",
                expected: "parameters and entries that fit the memory".to_string(),
                got: match vectors {
                    Some(vectors) => format!("{num_groups} blocks of {vectors} reflectors of length {b}"),
                    None => format!("{num_groups} blocks of size {b}"),
                },
            });
        };
        let strides = match (vectors, planar) {
            (Some(vectors), _) => Strides::runs(vectors * b),
            (None, true) => Strides::planar::<T>(b),
            (None, false) if kernel::by_columns::<T>(b) => Strides::column_major(b),
            (None, false) => Strides::row_major(b),
        };
        let exact = match &source {
            Source::Chart { chart, .. } => chart.is_exact(),
            Source::Fixed(blocks) => blocks
                .chunks_exact(b * b)
                .all(|block| dense::orthogonality_ratio(b, block).is_ok_and(|ratio| ratio <= 2.0)),
            Source::Reflectors { .. } => true,
        };
        let digest = Digest::new().with(&layout).with(&groups);
        let digest = match &source {
            Source::Chart { chart, .. } => digest.with(chart.id()),
            Source::Fixed(blocks) => digest.with(bytemuck::cast_slice::<T::Wide, u8>(blocks)),
            Source::Reflectors { count, orthonormal, .. } => digest.with(count).with(orthonormal),
        };
        Ok(Self {
            layout,
            source,
            adjoint: false,
            num_groups,
            groups,
            theta: theta..theta_end,
            entries: entries..entries_end,
            couplings: couplings..couplings_end,
            strides,
            exact,
            digest: digest.finish(),
        })
    }

    pub(super) fn shifted(&self, theta: usize, entries: usize, couplings: usize) -> Self {
        Self {
            theta: self.theta.start + theta..self.theta.end + theta,
            entries: self.entries.start + entries..self.entries.end + entries,
            couplings: self.couplings.start + couplings..self.couplings.end + couplings,
            ..self.clone()
        }
    }

    pub(super) fn adjoint(&self) -> Self {
        Self { adjoint: !self.adjoint, ..self.clone() }
    }

    /// The coordinates of its blocks.
    pub fn layout(&self) -> &StageLayout {
        &self.layout
    }

    /// Where its blocks come from.
    pub fn source(&self) -> &Source<T> {
        &self.source
    }

    /// Whether every block acts as its adjoint (see [`Plan::adjoint`](crate::Plan::adjoint)).
    pub fn is_adjoint(&self) -> bool {
        self.adjoint
    }

    /// Number of stored blocks: parameter groups, or all blocks if nothing is shared.
    pub fn num_groups(&self) -> usize {
        self.num_groups
    }

    /// The stored block that block `j` uses.
    ///
    /// # Panics
    /// If parameters are shared and there is no block `j`.
    pub fn group_of(&self, j: usize) -> usize {
        self.groups.as_ref().map_or(j, |groups| groups[j] as usize)
    }

    /// Its part of θ: group after group.
    pub fn theta(&self) -> Range<usize> {
        self.theta.clone()
    }

    /// Its part of the factors' entries.
    pub fn entries(&self) -> Range<usize> {
        self.entries.clone()
    }

    /// Where entry (i, k) of stored block `group` lies in the factors' entries and in gradients with respect to them.
    /// The order is chosen for the kernels: ask, do not assume. Of [reflectors](Source::Reflectors) it is coordinate k of unit
    /// vector i.
    pub fn entry(&self, group: usize, i: usize, k: usize) -> usize {
        let (first, step) = self.row(group, i);
        first + k * step
    }

    /// Where row `i` of stored block `group` starts, or unit vector `i` of reflectors, and the distance of its entries.
    pub(super) fn row(&self, group: usize, i: usize) -> (usize, usize) {
        let start = self.entries.start + self.strides.start(group);
        match self.vectors() {
            Some(count) => {
                let (first, step) = kernel::vector(count, self.layout.block_size(), i);
                (start + first, step)
            }
            None => {
                let (first, step) = self.strides.row(group, i);
                (self.entries.start + first, step)
            }
        }
    }

    /// Rows stored for a block: b, or the number of reflections.
    pub(super) fn rows(&self) -> usize {
        self.vectors().unwrap_or(self.layout.block_size())
    }

    /// Numbers of a block as a matrix: b², and none where there is no block, for then b may be anything up to n.
    pub(crate) fn matrix_len(&self) -> usize {
        if self.num_groups == 0 { 0 } else { self.layout.block_size().pow(2) }
    }

    /// Numbers stored for a block; none where there is no block.
    pub(super) fn numbers(&self) -> usize {
        if self.num_groups == 0 { 0 } else { self.rows() * self.layout.block_size() }
    }

    /// Number of reflections in a block, if it is a product of some.
    pub(crate) fn vectors(&self) -> Option<usize> {
        match &self.source {
            Source::Reflectors { count, .. } => Some(*count),
            _ => None,
        }
    }

    /// Its part of the couplings of reflectors.
    pub(super) fn couplings(&self) -> Range<usize> {
        self.couplings.clone()
    }

    /// Whether every block is orthogonal up to rounding: charts say so, fixed blocks were measured, reflectors are.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Of what it is and where it is stored, whether adjoint or not.
    pub(super) fn digest(&self) -> u64 {
        Digest::new().with(self.digest).with(self.entries.start).finish()
    }

    /// As pairs along the vector, if it is such a stage.
    pub(super) fn pairs(&self) -> Option<kernel::Pairs> {
        let (unit, distance, covered) = kernel::pairs(&self.layout).filter(|_| self.strides.is_planar())?;
        Some(kernel::Pairs { unit, distance, covered, entries: self.entries.start, transposed: self.adjoint })
    }

    /// As pairs wherever they lie, if it is such a stage, of real blocks of its own.
    pub(super) fn pairs_anywhere(&self) -> Option<kernel::Anywhere<'_>> {
        let (layout, strides, entries) = (&self.layout, self.strides, self.entries.start);
        let fits = !T::IS_COMPLEX && layout.block_size() == 2 && self.groups.is_none() && self.vectors().is_none();
        fits.then_some(kernel::Anywhere { layout, strides, entries, transposed: self.adjoint })
    }

    pub(super) fn groups(&self) -> Option<&[u32]> {
        self.groups.as_deref()
    }

    pub(super) fn strides(&self) -> Strides {
        self.strides
    }
}

/// Number of groups and the group of each block.
fn groups_of(sharing: &Sharing, count: usize) -> Result<(usize, Option<Arc<[u32]>>)> {
    match sharing {
        Sharing::PerBlock => Ok((count, None)),
        Sharing::All => Ok((count.min(1), Some(core::iter::repeat_n(0, count).collect()))),
        Sharing::Groups(groups) => {
            check_length("parameter groups", count, groups.len())?;
            let num_groups = groups.iter().max().map_or(0, |max| *max as usize + 1);
            let mut used = alloc::vec![false; num_groups.min(count)];
            for &g in groups.iter() {
                match used.get_mut(g as usize) {
                    Some(used) => *used = true,
                    None => return Err(Error::Index { what: "parameter groups", expected: count, got: g as usize }),
                }
            }
            if let Some(gap) = used.iter().position(|used| !used) {
                return Err(Error::Size {
                    what: "parameter groups",
                    expected: "numbers from 0 without gaps".to_string(),
                    got: format!("no block in group {gap}"),
                });
            }
            Ok((num_groups, Some(groups.clone())))
        }
    }
}
