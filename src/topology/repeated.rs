//! A wiring several times over, with parameters of its own each time: Q = B⁽ᵗ⁾ ··· B⁽²⁾ B⁽¹⁾.
//!
//! k butterflies on n = 2ᴸ coordinates have k·n·L/2 angles. Generically they span min(k·n·L/2, n(n − 1)/2) dimensions:
//! ⌈(n − 1)/L⌉ of them are enough to move in every direction of SO(n).

use super::limits::check_stages;
use super::{Sharing, StageLayout, Topology};
use crate::error::Result;

/// `times` copies of a wiring, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Repeated<T> {
    /// What is repeated.
    pub inner: T,
    /// How often; 0 is the identity.
    pub times: usize,
}

impl<T: Topology> Repeated<T> {
    /// `inner`, `times` times.
    pub fn new(inner: T, times: usize) -> Self {
        Self { inner, times }
    }

    fn inner_stage(&self, n: usize, k: usize) -> usize {
        k % self.inner.num_stages(n).unwrap_or(1).max(1)
    }
}

impl<T: Topology> Topology for Repeated<T> {
    fn name(&self) -> &'static str {
        "repeated"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_stages("repeated topology", n, self.inner.num_stages(n)?.checked_mul(self.times))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        self.inner.stage(n, self.inner_stage(n, k))
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        self.inner.sharing(n, self.inner_stage(n, k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Butterfly;

    #[test]
    fn stages_come_round() {
        let twice = Repeated::new(Butterfly::classic(2), 2);
        assert_eq!(twice.num_stages(8), Ok(6));
        assert_eq!(twice.stage(8, 4), Butterfly::classic(2).stage(8, 1));
        assert_eq!(Repeated::new(Butterfly::classic(2), 0).num_stages(8), Ok(0));
        assert!(Repeated::new(Butterfly::classic(2), usize::MAX).num_stages(8).is_err());
        assert!(twice.num_stages(9).is_err());
    }
}
