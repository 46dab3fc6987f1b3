//! A plan as text: everything about it but the numbers in its tensors.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;

/// The JSON of `docs/format.md`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub(super) n: usize,
    pub(super) stages: Vec<StageRecipe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) theta_order: Option<Vec<usize>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageRecipe {
    pub(super) layout: LayoutRecipe,
    pub(super) source: SourceRecipe,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub(super) adjoint: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum LayoutRecipe {
    Strided { unit: usize, radix: usize, distance: usize, groups: usize },
    Table { block: usize },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SourceRecipe {
    Chart { id: String, sharing: SharingRecipe },
    Fixed,
    Reflectors { count: usize, orthonormal: bool, sharing: SharingRecipe },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SharingRecipe {
    PerBlock,
    All,
    Groups,
}

impl Recipe {
    /// The recipe of a plan.
    pub(super) fn of<T: Scalar>(plan: &Plan<T>) -> Self {
        let (mut stages, mut order) = (Vec::new(), Vec::new());
        for (k, part) in plan.parts().iter().enumerate() {
            let layout = match &part.layout {
                &StageLayout::Strided { unit, radix, distance, groups } => {
                    LayoutRecipe::Strided { unit, radix, distance, groups }
                }
                StageLayout::Table { block, .. } => LayoutRecipe::Table { block: *block },
            };
            let source = match &part.source {
                Source::Chart { chart, sharing } => {
                    SourceRecipe::Chart { id: chart.id(), sharing: SharingRecipe::of(sharing) }
                }
                Source::Fixed(_) => SourceRecipe::Fixed,
                &Source::Reflectors { count, orthonormal, ref sharing } => {
                    SourceRecipe::Reflectors { count, orthonormal, sharing: SharingRecipe::of(sharing) }
                }
            };
            stages.push(StageRecipe { layout, source, adjoint: part.adjoint });
            order.push((part.rank, k));
        }
        order.sort_unstable();
        let order: Vec<usize> = order.into_iter().map(|(_, k)| k).collect();
        let theta_order = if order.is_sorted() { None } else { Some(order) };
        Self { n: plan.n(), stages, theta_order }
    }

    /// The rank of every stage in θ, or what is wrong with the order.
    pub(super) fn ranks(&self) -> core::result::Result<Vec<usize>, String> {
        let count = self.stages.len();
        let Some(order) = &self.theta_order else { return Ok((0..count).collect()) };
        let mut ranks = std::vec![usize::MAX; count];
        for (rank, &k) in order.iter().enumerate() {
            match ranks.get_mut(k) {
                Some(free) if *free == usize::MAX => *free = rank,
                _ => return Err(format!("stage {k} in place {rank}")),
            }
        }
        if order.len() == count { Ok(ranks) } else { Err(format!("{} numbers", order.len())) }
    }
}

impl SharingRecipe {
    fn of(sharing: &Sharing) -> Self {
        match sharing {
            Sharing::PerBlock => Self::PerBlock,
            Sharing::All => Self::All,
            Sharing::Groups(_) => Self::Groups,
        }
    }
}

/// What a plan may make of a file: so many bytes, and so many times those of the file's tensors. (Angles of complex blocks in
/// single precision, 8 bytes in the file, become 96.)
const MOST_BYTES: usize = 1 << 30;
const MOST_TIMES: usize = 24;
/// Numbers that come with every reflection beside its vector.
const COUPLINGS: usize = 8;

/// Bytes that a plan will take, counted before it does.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    all: usize,
}

impl Budget {
    /// For a file of so many bytes of tensors.
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let all = bytes.saturating_mul(MOST_TIMES).saturating_add(MOST_BYTES);
        Self { left: all, all }
    }

    /// Takes the entries of a stage, `size` for each block, and for every block the group it belongs to if blocks are shared.
    /// `layout` is valid.
    ///
    /// # Errors
    /// [`Error::Size`] beyond the budget.
    pub(super) fn take_stage<T: Scalar>(&mut self, layout: &StageLayout, source: &Source<T>) -> Result<()> {
        let (b, count) = (layout.block_size(), layout.num_blocks());
        let (size, sharing) = match source {
            Source::Chart { sharing, .. } => (b * b, sharing),
            Source::Fixed(_) => (b * b, &Sharing::PerBlock),
            Source::Reflectors { count, sharing, .. } => (count.saturating_mul(b.saturating_add(COUPLINGS)), sharing),
        };
        // An entry as it is applied, as it was before rounding, and as it is given.
        let fixed = if matches!(source, Source::Fixed(_)) { size_of::<T::Wide>() } else { 0 };
        let entry = size_of::<T::Wide>() + if T::IS_WIDE { 0 } else { size_of::<T>() } + fixed;
        let (blocks, indices) = match sharing {
            Sharing::PerBlock => (count, 0),
            Sharing::All => (1, count),
            Sharing::Groups(_) => (count, count), // or fewer: groups are not counted
        };
        self.take(blocks.saturating_mul(size).saturating_mul(entry).saturating_add(indices.saturating_mul(5)))
    }

    /// Takes what the check of a table needs: a byte for each coordinate, to find those named twice.
    ///
    /// # Errors
    /// [`Error::Size`] beyond the budget.
    pub(super) fn take_table(&mut self, n: usize) -> Result<()> {
        self.take(n)
    }

    fn take(&mut self, bytes: usize) -> Result<()> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| Error::Size {
            what: "plan in a file",
            expected: format!("at most {} bytes of memory for a file of this size", self.all),
            got: (self.all - self.left).saturating_add(bytes).to_string(),
        })?;
        Ok(())
    }
}
