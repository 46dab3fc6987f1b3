//! Wirings one after the other: Q = Q_last ··· Q_first.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::limits::check_stages;
use super::{Sharing, StageLayout, Topology};
use crate::error::Result;

/// Wirings one after the other; the first acts first.
///
/// ```
/// use papilio::topology::{BlockDiagonal, Butterfly, Sequence, Topology};
/// use std::sync::Arc;
/// let both = Sequence(vec![Arc::new(BlockDiagonal::new(4)), Arc::new(Butterfly::classic(2))]);
/// assert_eq!(both.num_stages(16)?, 1 + 4);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Sequence(pub Vec<Arc<dyn Topology>>);

impl Sequence {
    /// The wiring that holds stage `k`, and which of its stages it is.
    fn find(&self, n: usize, mut k: usize) -> Option<(&dyn Topology, usize)> {
        for part in &self.0 {
            let stages = part.num_stages(n).unwrap_or(0);
            if k < stages {
                return Some((&**part, k));
            }
            k -= stages;
        }
        None
    }
}

impl Topology for Sequence {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        let mut total = Some(0usize);
        for part in &self.0 {
            let stages = part.num_stages(n)?;
            total = total.and_then(|total| total.checked_add(stages));
        }
        check_stages("sequence of topologies", n, total)
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        // A stage that does not exist has no blocks.
        self.find(n, k).map_or(StageLayout::contiguous(1, 0), |(part, k)| part.stage(n, k))
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        self.find(n, k).map_or(Sharing::PerBlock, |(part, k)| part.sharing(n, k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{BlockDiagonal, Butterfly};

    #[test]
    fn stages_are_found_in_their_parts() {
        let (blocks, butterfly) = (BlockDiagonal::new(2), Butterfly::classic(2));
        let all = Sequence(alloc::vec![Arc::new(blocks), Arc::new(butterfly), Arc::new(blocks)]);
        assert_eq!(all.num_stages(8), Ok(5));
        let expected = [blocks.stage(8, 0), butterfly.stage(8, 0), butterfly.stage(8, 1), butterfly.stage(8, 2)];
        assert!(expected.iter().enumerate().all(|(k, layout)| all.stage(8, k) == *layout));
        assert_eq!(all.stage(8, 4), blocks.stage(8, 0));
        assert!(all.num_stages(12).is_err());
        assert_eq!(Sequence::default().num_stages(12), Ok(0));
    }
}
