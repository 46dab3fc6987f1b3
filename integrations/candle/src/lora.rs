//! LoRA (Hu et al., arXiv 2106.09685), to compare with: y = x Wᵀ + (alpha/rank)·(x Aᵀ) Bᵀ, stored as PEFT stores it.

use candle_core::{Result as CandleResult, Tensor};

use crate::error::{Result, input};
use crate::frozen::Frozen;
use crate::variables::{FRONT, Variables};
use crate::weights::{Init, start};

/// A frozen weight beside a trained product.
#[derive(Debug, Clone)]
pub(crate) struct Lora {
    base: Frozen,
    weight: Tensor,
    /// `[rank, in]`, uniform in ±1/√in at first, as in PEFT.
    a: Tensor,
    /// `[out, rank]`, zero at first.
    b: Tensor,
    scale: f64,
}

impl Lora {
    pub(crate) fn new(
        module: &str,
        weight: &Tensor,
        rank: usize,
        alpha: f64,
        seed: u64,
        variables: &Variables,
    ) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        if rank == 0 || !alpha.is_finite() {
            return input("LoRA", "a rank of at least 1 and a finite alpha", format!("{rank}, {alpha}"));
        }
        let limit = Init::Uniform(1.0 / (inputs as f64).sqrt());
        let name = |which: &str| format!("{FRONT}{module}.lora_{which}.weight");
        let new = |which: &str, shape: &[usize], init| start(&name(which), seed, shape, init, weight.dtype());
        let a = variables.get_or(&name("A"), || new("A", &[rank, inputs], limit))?;
        let b = variables.get_or(&name("B"), || new("B", &[outputs, rank], Init::Constant(0.0)))?;
        Ok(Self { base: Frozen::new(weight)?, weight: weight.detach(), a, b, scale: alpha / rank as f64 })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let rows = x.contiguous()?.reshape(((), self.a.dim(1)?))?;
        let beside = (rows.matmul(&self.a.t()?)?.matmul(&self.b.t()?)? * self.scale)?;
        let y = self.base.apply(x)?;
        let beside = beside.reshape(y.shape())?;
        y + beside
    }

    pub(crate) fn merged(&self) -> Result<Tensor> {
        Ok((&self.weight + (self.b.matmul(&self.a)?.detach() * self.scale)?)?)
    }
}
