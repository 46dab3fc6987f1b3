//! `candle_nn::Linear`, frozen, with the rotation of its inputs and the scale of its outputs trained.
//!
//! > y = s ⊙ ((x R) Wᵀ) + bias, as if the weight were diag(s)·W·Rᵀ.

use std::boxed::Box;
use std::sync::Arc;

use candle_core::{CustomOp2, CustomOp3, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder};

use super::check_device;
use super::frozen::Frozen;
use super::method::{Adapted, Kind, Method, frozen};
use crate::adapter::Sides;
use crate::plan::Op;

/// A frozen [`Linear`] behind a rotation that is trained. Between forward and backward it keeps x, the parameters and y.
#[derive(Clone)]
pub struct OrthogonalLinear {
    base: Linear,
    adapted: Adapted,
    operation: Operation,
    /// A bias that is itself trained is added outside of the operation.
    bias: Option<Tensor>,
}

#[derive(Clone)]
enum Operation {
    Plain(Arc<Box<dyn CustomOp2 + Send + Sync>>),
    Scaled(Arc<Box<dyn CustomOp3 + Send + Sync>>, Tensor),
    /// The frozen weight.
    Tensors(Tensor),
}

impl OrthogonalLinear {
    /// Adapts a layer. Variables are looked up in, or added to, `vb`, whose prefix is that of PEFT for the module,
    /// `base_model.model.<module>`; new ones make R = I and s = 1. The weight gets no gradient; a bias does where it is a
    /// variable.
    ///
    /// # Errors
    /// Sizes that do not fit; a weight of integers, or on another device than `vb`; candle's for variables.
    pub fn new(base: Linear, method: Method, vb: VarBuilder<'_>) -> Result<Self> {
        let weight = frozen(base.weight())?;
        weight.dims2()?;
        let adapted = Adapted::new(method, Kind::Linear, &weight, &vb)?;
        let (trained, constant) = match base.bias() {
            Some(bias) if bias.track_op() => (Some(bias.clone()), None),
            other => (None, other.cloned()),
        };
        if adapted.uses_tensor_operations() {
            let bias = base.bias().cloned();
            return Ok(Self { base, adapted, operation: Operation::Tensors(weight), bias });
        }
        let op = Frozen { plan: adapted.fitted.clone(), stored: adapted.stored, weight, bias: constant };
        let operation = match &adapted.scale {
            Some(scale) => Operation::Scaled(Arc::new(Box::new(op)), scale.clone()),
            None => Operation::Plain(Arc::new(Box::new(op))),
        };
        Ok(Self { base, adapted, operation, bias: trained })
    }

    /// Computes by candle's tensor operations from here on, on the CPU too: [`TensorRotation`](super::TensorRotation). So a device
    /// can be compared with the CPU, step by step.
    ///
    /// # Errors
    /// Those of the device.
    pub fn with_tensor_operations(self) -> Result<Self> {
        let weight = self.base.weight().detach();
        Ok(Self { adapted: self.adapted.with_tensor_operations()?, operation: Operation::Tensors(weight), ..self })
    }

    fn by_tensors(&self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        let z = self.adapted.rotate(x, Op::Transpose)?;
        let ((outputs, n), mut dims) = (weight.dims2()?, z.dims().to_vec());
        let leading = dims.len() - 1; // z has the last dimension of x
        let mut y = z.reshape((dims[..leading].iter().product::<usize>(), n))?.matmul(&weight.t()?)?;
        if let Some(scale) = self.adapted.scale_as((1, ()), y.dtype())? {
            y = y.broadcast_mul(&scale)?;
        }
        if let Some(bias) = self.base.bias() {
            y = y.broadcast_add(bias)?;
        }
        dims[leading] = outputs;
        y.reshape(dims)
    }

    /// The frozen layer.
    pub fn base(&self) -> &Linear {
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
    pub fn merge(&self) -> Result<Linear> {
        Ok(Linear::new(self.adapted.merged(self.base.weight())?, self.base.bias().cloned()))
    }
}

impl core::fmt::Debug for OrthogonalLinear {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OrthogonalLinear").field("base", &self.base).field("adapted", &self.adapted).finish()
    }
}

impl Module for OrthogonalLinear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.operation {
            Operation::Tensors(weight) => return self.by_tensors(weight, x),
            Operation::Plain(op) => {
                check_device(x)?;
                x.apply_op2_arc(&self.adapted.parameters()?, op.clone())?
            }
            Operation::Scaled(op, scale) => {
                check_device(x)?;
                x.apply_op3_arc(&self.adapted.parameters()?, scale, op.clone())?
            }
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}
