//! PEFT's methods as burn's configurations have them.

use burn::config::Config;
use papilio::adapter::Method as Peft;

/// An adapter of PEFT's, with the sizes that its configuration has: papilio's [`Method`](Peft), which can be saved as burn's
/// configurations are.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Method {
    /// BOFT: a product of butterfly factors, and a scale for each output.
    Boft {
        /// `boft_n_butterfly_factor`, m.
        factors: usize,
        /// `boft_block_size`, b: even unless there is one factor; b·2ᵐ⁻¹ divides the inputs.
        block: usize,
    },
    /// OFT as of PEFT 0.16: one block-diagonal factor.
    Oft {
        /// `oft_block_size`, which divides the inputs.
        block: usize,
        /// `block_share`: one block serves the whole diagonal.
        share: bool,
        /// `num_cayley_neumann_terms` of PEFT 0.18, at least 2, where `use_cayley_neumann` is on; `None` is the exact
        /// Cayley map.
        terms: Option<u32>,
    },
}

impl From<Method> for Peft {
    fn from(method: Method) -> Self {
        match method {
            Method::Boft { factors, block } => Self::Boft { factors, block },
            Method::Oft { block, share, terms } => Self::Oft { block, share, terms },
        }
    }
}
