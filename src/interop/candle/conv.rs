//! `candle_nn::Conv2d`, frozen, with a rotation of each patch that is trained.
//!
//! A filter is a vector of c·kh·kw numbers, and R acts on those: W' = diag(s)·W·Rᵀ for W as `[out, c·kh·kw]`, as PEFT since 0.14
//! has it. Patches overlap, so the filters are turned rather than the inputs: `out` vectors for a pass, however
//! large the images.

use candle_core::{Result, Tensor};
use candle_nn::{Conv2d, Module, VarBuilder};

use super::method::{Adapted, Kind, Method, frozen};
use crate::adapter::Sides;
use crate::plan::Op;

/// A frozen [`Conv2d`] behind a rotation of its patches that is trained.
#[derive(Debug, Clone)]
pub struct OrthogonalConv2d {
    base: Conv2d,
    adapted: Adapted,
    /// `[out, c·kh·kw]`
    filters: Tensor,
}

impl OrthogonalConv2d {
    /// Adapts a layer; as [`OrthogonalLinear::new`](super::OrthogonalLinear::new).
    ///
    /// # Errors
    /// As there.
    pub fn new(base: Conv2d, method: Method, vb: VarBuilder<'_>) -> Result<Self> {
        let weight = frozen(base.weight())?;
        weight.dims4()?;
        let adapted = Adapted::new(method, Kind::Conv2d, &weight, &vb)?;
        let filters = weight.flatten_from(1)?;
        Ok(Self { base, adapted, filters })
    }

    /// Computes by candle's tensor operations from here on, on the CPU too: [`TensorRotation`](super::TensorRotation). So a device
    /// can be compared with the CPU, step by step.
    ///
    /// # Errors
    /// Those of the device.
    pub fn with_tensor_operations(self) -> Result<Self> {
        Ok(Self { adapted: self.adapted.with_tensor_operations()?, ..self })
    }

    /// The frozen layer.
    pub fn base(&self) -> &Conv2d {
        &self.base
    }

    /// The rotation and the scale as they are now, in papilio's terms.
    ///
    /// # Errors
    /// Parameters that are not finite.
    pub fn sides(&self) -> Result<Sides> {
        self.adapted.sides()
    }

    /// Rigorous bound on ‖RᵀR − I‖₂ for the blocks that act, in the precision of the layer.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn defect(&self) -> Result<f64> {
        self.adapted.defect()
    }

    /// A plain layer that does the same. Computed in `f64` and rounded once.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn merge(&self) -> Result<Conv2d> {
        let weight = self.adapted.merged(self.base.weight())?;
        Ok(Conv2d::new(weight, self.base.bias().cloned(), *self.base.config()))
    }
}

impl Module for OrthogonalConv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // Row w of W·Rᵀ is R w.
        let mut filters = self.adapted.rotate(&self.filters, Op::None)?;
        if let Some(scale) = self.adapted.scale_as(((), 1), filters.dtype())? {
            filters = filters.broadcast_mul(&scale)?;
        }
        let filters = filters.reshape(self.base.weight().shape())?;
        Conv2d::new(filters, self.base.bias().cloned(), *self.base.config()).forward(x)
    }
}
