//! The stages of a wiring in reverse order: if B has the wiring, Bᵀ has the reversed one.
//!
//! Butterflies here have increasing strides; reversed, they have decreasing ones. What is reversed is the wiring: every
//! block keeps a chart of its own. Where the blocks themselves are to be transposed, with the same θ, it is
//! [`Plan::adjoint`](crate::Plan::adjoint) that one wants.

use super::{Sharing, StageLayout, Topology};
use crate::error::Result;

/// The stages of a wiring in reverse order.
///
/// ```
/// use papilio::topology::{Butterfly, Reversed, Topology};
/// let decreasing = Reversed(Butterfly::classic(2));
/// assert_eq!(decreasing.stage(8, 0), Butterfly::classic(2).stage(8, 2)); // stride 4 first
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reversed<T>(pub T);

impl<T: Topology> Reversed<T> {
    fn mirrored(&self, n: usize, k: usize) -> usize {
        self.0.num_stages(n).unwrap_or(0).saturating_sub(k + 1)
    }
}

impl<T: Topology> Topology for Reversed<T> {
    fn name(&self) -> &'static str {
        "reversed"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        self.0.num_stages(n)
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        self.0.stage(n, self.mirrored(n, k))
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        self.0.sharing(n, self.mirrored(n, k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Butterfly;

    #[test]
    fn twice_reversed_is_the_same() {
        let (once, twice) = (Reversed(Butterfly::classic(3)), Reversed(Reversed(Butterfly::classic(3))));
        assert_eq!(once.num_stages(81), Ok(4));
        for k in 0..4 {
            assert_eq!(once.stage(81, k), Butterfly::classic(3).stage(81, 3 - k));
            assert_eq!(twice.stage(81, k), Butterfly::classic(3).stage(81, k));
        }
        assert_eq!(once.num_stages(80), Butterfly::classic(3).num_stages(80));
    }
}
