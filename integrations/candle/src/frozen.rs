//! x Wᵀ for a frozen W. candle's own product computes the gradient of W as well, whether anybody wants it or not: a third of
//! the work of a layer.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor};

/// The operation; W is `[out, in]`.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    weight: Tensor,
}

impl Frozen {
    pub(crate) fn new(weight: &Tensor) -> Result<Self> {
        weight.dims2()?;
        Ok(Self { weight: weight.detach().contiguous()? })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(self.clone())
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = self.weight.dims2()?;
        let (start, end) = layout.contiguous_offsets().unwrap_or_default();
        let mut dims = layout.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => candle_core::bail!("linear layer: expected […, {inputs}], got {dims:?}"),
        }
        let rows = (end - start) / inputs.max(1);
        let rows_layout = Layout::contiguous_with_offset((rows, inputs), start);
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { candle_core::bail!("frozen weights are expected on the CPU") };
        let y = x.matmul(weight, (1, rows, outputs, inputs), &rows_layout, &weight_layout.transpose(0, 1)?)?;
        Ok((y, Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?.reshape(((), self.weight.dim(0)?))?;
        g.matmul(&self.weight)?.reshape(x.shape()).map(Some)
    }
}
