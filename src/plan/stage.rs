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
    /// A product of `count` Householder reflections (WY form). The type is fixed; plans do not accept it yet.
    Reflectors {
        /// Number of reflections.
        count: usize,
    },
}

impl<T: Scalar> Source<T> {
    /// A trainable source with parameters for each block.
    pub fn chart(chart: impl Parametrization<T::Wide> + 'static) -> Self {
        Source::Chart { chart: Arc::new(chart), sharing: Sharing::PerBlock }
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
    strides: Strides,
    exact: bool,
    digest: u64,
}

impl<T: Scalar> Stage<T> {
    /// Checks a stage for vectors of length `n`, whose parameters and entries start at the given offsets.
    pub(super) fn new(n: usize, layout: StageLayout, source: Source<T>, theta: usize, entries: usize) -> Result<Self> {
        layout.validate(n)?;
        let (b, count) = (layout.block_size(), layout.num_blocks());
        let (num_groups, groups, params) = match &source {
            Source::Chart { chart, sharing } => {
                let (num_groups, groups) = groups_of(sharing, count)?;
                (num_groups, groups, chart.num_params(b)?)
            }
            Source::Fixed(blocks) => {
                check_length("fixed blocks", count.saturating_mul(b * b), blocks.len())?;
                if let Some(at) = blocks.iter().position(|x| !crate::scalar::is_finite(T::from_wide(*x))) {
                    let got = format!("{:?} at position {at}", blocks[at]);
                    let expected = "numbers that are finite in the plan's precision";
                    return Err(Error::Domain { what: "fixed blocks".to_string(), expected, got });
                }
                (count, None, 0)
            }
            Source::Reflectors { count } => {
                return Err(Error::Unsupported {
                    what: "stage source",
                    expected: "a chart or fixed blocks",
                    got: format!("{count} reflectors"),
                });
            }
        };
        let end = |start: usize, each: usize| {
            num_groups.checked_mul(each).and_then(|all| all.checked_add(start)).filter(|end| *end <= MOST_NUMBERS)
        };
        let (Some(theta_end), Some(entries_end)) = (end(theta, params), end(entries, b * b)) else {
            return Err(Error::Size {
                what: "stage",
                expected: "parameters and entries that fit the memory".to_string(),
                got: format!("{num_groups} blocks of size {b}"),
            });
        };
        let planar = groups.is_none() && kernel::is_planar::<T>(&layout);
        let strides = if planar { Strides::planar(b, count) } else { Strides::row_major(b) };
        let exact = match &source {
            Source::Chart { chart, .. } => chart.is_exact(),
            Source::Fixed(blocks) => blocks
                .chunks_exact(b * b)
                .all(|block| dense::orthogonality_ratio(b, block).is_ok_and(|ratio| ratio <= 2.0)),
            Source::Reflectors { .. } => false,
        };
        let digest = Digest::new().with(&layout).with(&groups);
        let digest = match &source {
            Source::Chart { chart, .. } => digest.with(chart.id()),
            Source::Fixed(blocks) => digest.with(bytemuck::cast_slice::<T::Wide, u8>(blocks)),
            Source::Reflectors { count } => digest.with(count),
        };
        Ok(Self {
            layout,
            source,
            adjoint: false,
            num_groups,
            groups,
            theta: theta..theta_end,
            entries: entries..entries_end,
            strides,
            exact,
            digest: digest.finish(),
        })
    }

    pub(super) fn shifted(&self, theta: usize, entries: usize) -> Self {
        Self {
            theta: self.theta.start + theta..self.theta.end + theta,
            entries: self.entries.start + entries..self.entries.end + entries,
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
    /// The order is chosen for the kernels: ask, do not assume.
    pub fn entry(&self, group: usize, i: usize, k: usize) -> usize {
        self.entries.start + group * self.strides.block + i * self.strides.row + k * self.strides.column
    }

    /// Whether every block is orthogonal up to rounding: charts say so, fixed blocks were measured.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Of what it is and where it is stored, whether adjoint or not.
    pub(super) fn digest(&self) -> u64 {
        Digest::new().with(self.digest).with(self.entries.start).finish()
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
