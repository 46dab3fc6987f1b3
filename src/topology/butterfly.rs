//! Butterflies: strides that grow by a factor `radix` from stage to stage.
//!
//! Stage k joins `radix` runs of `unit` neighbouring coordinates at distance unit·radixᵏ. The stage with the smallest
//! stride acts first, so Q = F_m ··· F_1 with the largest stride leftmost, as in BOFT (arXiv 2311.06243, section 4):
//! R(m, b) = B̃(d, 2) ··· as products of block butterfly components, and BOFT(m, b) := R(m, b/2).
//!
//! - unit 1, radix 2: the classic (Cooley–Tukey) butterfly; m = log₂ n stages make every output depend on every input.
//! - unit 1, radix b: the radix-b butterfly, dense after log_b n stages.
//! - unit b/2, radix 2: BOFT(m, b), dense after log₂(2n/b) stages. Stage k holds pairs of half-blocks at distance
//!   2ᵏ·b/2; stage 0 is block-diagonal.

use alloc::format;
use alloc::string::ToString;

use super::{StageLayout, Topology};
use crate::error::{Error, Result};

/// A butterfly with runs of `unit` neighbouring coordinates and `radix` runs in a block (block size unit·radix).
///
/// Stage k needs unit·radixᵏ⁺¹ to divide `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Butterfly {
    /// Neighbouring coordinates that stay together: 1 for the classic butterfly, b/2 for BOFT.
    pub unit: usize,
    /// Runs that meet in a block, and the factor between strides.
    pub radix: usize,
    /// Number of stages; `None` for as many as make the product dense, which needs n = unit·radixᵐ exactly.
    pub stages: Option<usize>,
}

impl Butterfly {
    /// The radix-`radix` butterfly with as many stages as make it dense: n = radixᵐ.
    pub fn classic(radix: usize) -> Self {
        Self { unit: 1, radix, stages: None }
    }

    /// BOFT(m, b): m stages of b×b blocks over half-blocks of b/2.
    ///
    /// # Errors
    /// [`Error::Size`] if b is odd or zero (for one stage of odd blocks use [`BlockDiagonal`](super::BlockDiagonal)).
    pub fn boft(m: usize, b: usize) -> Result<Self> {
        if b == 0 || !b.is_multiple_of(2) {
            return Err(Error::Size {
                what: "BOFT block size",
                expected: "an even number of at least 2".to_string(),
                got: b.to_string(),
            });
        }
        Ok(Self { unit: b / 2, radix: 2, stages: Some(m) })
    }

    /// The same butterfly cut or extended to `stages` stages.
    pub fn with_stages(self, stages: usize) -> Self {
        Self { stages: Some(stages), ..self }
    }

    /// The stages after which unit·radixᵐ no longer divides `n`, and whether n = unit·radixᵐ.
    fn most_stages(&self, n: usize) -> (usize, bool) {
        let (mut m, mut rest) = (0, n / self.unit);
        if !n.is_multiple_of(self.unit) {
            return (0, false);
        }
        while rest > 1 && rest.is_multiple_of(self.radix) {
            rest /= self.radix;
            m += 1;
        }
        (m, rest == 1)
    }
}

impl Topology for Butterfly {
    fn name(&self) -> &'static str {
        "butterfly"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        let fail = |expected: alloc::string::String, got: alloc::string::String| {
            Err(Error::Size { what: "butterfly topology", expected, got })
        };
        if self.unit == 0 || self.radix < 2 {
            return fail("unit at least 1 and radix at least 2".to_string(), format!("{self:?}"));
        }
        if n == 0 {
            return fail("n at least 1".to_string(), "n = 0".to_string());
        }
        let (most, dense) = self.most_stages(n);
        match self.stages {
            Some(m) if m <= most => Ok(m),
            Some(m) => fail(
                format!(
                    "n to be a multiple of unit*radix^stages = {}*{}^{m} (this n allows at most {most} stages)",
                    self.unit, self.radix
                ),
                format!("n = {n}"),
            ),
            None if dense => Ok(most),
            None => fail(
                format!("n = {}*{}^m for some m, or an explicit number of stages", self.unit, self.radix),
                format!("n = {n}"),
            ),
        }
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let distance = self.unit * self.radix.pow(k as u32);
        StageLayout::Strided { unit: self.unit, radix: self.radix, distance, groups: n / (self.radix * distance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn boft_stages_pair_half_blocks_as_peft_does() {
        // PEFT: block j = g*2^i + q of factor i acts on [g*G + q*h ..+ h) and [g*G + q*h + 2^i*h ..+ h), G = 2^i*b.
        let (n, b, m) = (48, 6, 4);
        let boft = Butterfly::boft(m, b).unwrap();
        assert_eq!(boft.num_stages(n).unwrap(), m);
        for i in 0..m {
            let layout = boft.stage(n, i);
            layout.validate(n).unwrap();
            assert_eq!(layout.num_blocks(), n / b);
            for j in 0..n / b {
                let (g, q, h) = (j >> i, j & ((1 << i) - 1), b / 2);
                let lo = g * (b << i) + q * h;
                let expected: Vec<_> = (lo..lo + h).chain(lo + (h << i)..lo + (h << i) + h).collect();
                assert_eq!(layout.indices(j).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn classic_butterfly_is_dense_after_log_n_stages() {
        assert_eq!(Butterfly::classic(2).num_stages(1024).unwrap(), 10);
        assert_eq!(Butterfly::classic(3).num_stages(27).unwrap(), 3);
        assert_eq!(Butterfly::classic(2).num_stages(1).unwrap(), 0);
        assert!(Butterfly::classic(2).num_stages(24).is_err());
        assert_eq!(Butterfly::classic(2).with_stages(3).num_stages(24).unwrap(), 3);
    }

    #[test]
    fn impossible_shapes_are_errors() {
        assert!(Butterfly::boft(2, 3).is_err());
        assert!(Butterfly::boft(2, 0).is_err());
        for n in [0, 1, 7, usize::MAX] {
            assert!(Butterfly::boft(200, 8).unwrap().num_stages(n).is_err());
        }
        assert!(Butterfly { unit: 0, radix: 2, stages: None }.num_stages(8).is_err());
        assert!(Butterfly { unit: 1, radix: 1, stages: None }.num_stages(8).is_err());
        assert!(Butterfly { unit: 1, radix: 0, stages: None }.num_stages(8).is_err());
    }
}
