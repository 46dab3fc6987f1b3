//! Any wiring, written out as index tables.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{StageLayout, Topology};
use crate::error::{Error, Result};

/// Stages given as tables of indices, for one size `n`.
///
/// ```
/// use papilio::topology::{Explicit, Topology};
/// // Two stages on five coordinates; coordinate 4 passes through the first, 0 through the second.
/// let wiring = Explicit::new(5, [(2, vec![0, 2, 1, 3]), (4, vec![1, 2, 3, 4])])?;
/// assert_eq!(wiring.num_stages(5)?, 2);
/// assert!(Explicit::new(5, [(2, vec![0, 2, 2, 3])]).is_err()); // 2 meets itself
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Explicit {
    n: usize,
    stages: Vec<StageLayout>,
}

impl Explicit {
    /// Stages as (block size b, table of a multiple of b indices below `n`, none twice). The first stage acts first.
    ///
    /// # Errors
    /// What [`StageLayout::validate`] finds wrong with a table.
    pub fn new(n: usize, stages: impl IntoIterator<Item = (usize, Vec<usize>)>) -> Result<Self> {
        let stages = stages
            .into_iter()
            .map(|(block, index)| {
                let index: Vec<u32> = index
                    .into_iter()
                    .map(|i| match u32::try_from(i) {
                        Ok(small) if i < n => Ok(small),
                        _ => Err(Error::Index { what: "stage table", expected: n, got: i }),
                    })
                    .collect::<Result<_>>()?;
                Self::checked(n, StageLayout::Table { block, index: Arc::from(index) })
            })
            .collect::<Result<_>>()?;
        Ok(Self { n, stages })
    }

    /// Stages given as layouts, strided or tables.
    ///
    /// # Errors
    /// What [`StageLayout::validate`] finds wrong with one.
    pub fn from_layouts(n: usize, stages: impl IntoIterator<Item = StageLayout>) -> Result<Self> {
        let stages = stages.into_iter().map(|layout| Self::checked(n, layout)).collect::<Result<_>>()?;
        Ok(Self { n, stages })
    }

    fn checked(n: usize, layout: StageLayout) -> Result<StageLayout> {
        layout.validate(n).map(|()| layout)
    }
}

impl Topology for Explicit {
    fn name(&self) -> &'static str {
        "explicit"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        if n == self.n {
            return Ok(self.stages.len());
        }
        Err(Error::Size {
            what: "explicit topology",
            expected: format!("n = {}, which its tables were made for", self.n),
            got: n.to_string(),
        })
    }

    fn stage(&self, _n: usize, k: usize) -> StageLayout {
        self.stages[k].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_tables_are_errors() {
        let table = |block, index: &[usize]| Explicit::new(6, [(block, index.to_vec())]);
        assert!(table(2, &[0, 5, 1, 4]).is_ok());
        assert!(table(2, &[]).is_ok());
        assert!(matches!(table(2, &[0, 6]), Err(Error::Index { expected: 6, got: 6, .. })));
        assert!(matches!(table(2, &[0, usize::MAX]), Err(Error::Index { .. })));
        assert!(matches!(table(2, &[0, 1, 1, 2]), Err(Error::Overlap { .. })));
        assert!(matches!(table(2, &[0, 1, 2]), Err(Error::Size { .. })));
        assert!(matches!(table(0, &[]), Err(Error::Size { .. })));
        assert!(matches!(table(usize::MAX, &[]), Err(Error::Size { .. })));
        // Sizes beyond memory cost nothing.
        for n in [1 << 60, usize::MAX] {
            assert!(Explicit::new(n, [(2, alloc::vec![0, 1])]).is_ok());
            assert!(matches!(Explicit::new(n, [(2, alloc::vec![3, 3])]), Err(Error::Overlap { .. })));
        }
        // Blocks larger than n are refused even where there are none of them.
        assert!(matches!(table(7, &[]), Err(Error::Size { .. })));
        let none = StageLayout::Strided { unit: 1 << 31, radix: 1, distance: 1 << 31, groups: 0 };
        assert!(matches!(Explicit::from_layouts(6, [none]), Err(Error::Size { .. })));
        assert_eq!(StageLayout::contiguous(0, 1).num_blocks(), 0);
        assert_eq!(StageLayout::Table { block: 0, index: [].into() }.num_blocks(), 0);
        let huge = StageLayout::Strided { unit: 1, radix: usize::MAX, distance: usize::MAX, groups: 2 };
        assert!(matches!(Explicit::from_layouts(6, [huge]), Err(Error::Size { .. })));
        let beyond = StageLayout::Strided { unit: 1, radix: 2, distance: 2, groups: 2 };
        assert!(matches!(Explicit::from_layouts(6, [beyond]), Err(Error::Index { got: 7, .. })));
        let six = || [StageLayout::Strided { unit: 1, radix: 2, distance: 3, groups: 1 }];
        assert!(Explicit::from_layouts(6, six()).is_ok());
        assert!(matches!(Explicit::from_layouts(5, six()), Err(Error::Index { expected: 5, got: 5, .. })));
    }
}
