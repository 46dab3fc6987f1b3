//! What is trained on a layer: PEFT's methods, their variables by name, and the sides they stand for.

use std::string::ToString;

use candle_core::shape::ShapeWithOneHole;
use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::numbers::{host, wide_tensor};
use super::rotate::{RealPlan, Rotate, Stored, defect};
use super::tensor_ops::TensorRotation;
use super::{check_same_device, door};
pub(super) use crate::adapter::LayerKind as Kind;
pub use crate::adapter::Method;
use crate::adapter::{Sides, Trainable, Variable};
use crate::error::Error;
use crate::plan::Op;

/// A method on a layer: structure, and variables.
#[derive(Debug, Clone)]
pub(super) struct Adapted {
    trainable: Trainable,
    /// Its plan for the numbers of the layer.
    pub(super) fitted: RealPlan,
    pub(super) stored: Stored,
    /// `boft_R` or `oft_R.weight`.
    parameters: Tensor,
    pub(super) scale: Option<Tensor>,
    /// By tensor operations, which there are where the layer is not on the CPU.
    tensors: Option<TensorRotation>,
}

impl Adapted {
    pub(super) fn new(method: Method, kind: Kind, weight: &Tensor, vb: &VarBuilder<'_>) -> Result<Self> {
        let trainable = door(method.on(kind, weight.dims()))?;
        check_same_device("device of an adapter's variables", weight.device(), vb.device())?;
        let variable = |v: &Variable| vb.get_with_hints(&v.shape[..], v.name, Init::Const(f64::from(v.start)));
        let fitted = RealPlan::fit(trainable.plan(), weight.dtype())?;
        let device = weight.device();
        let tensors = (!device.is_cpu()).then(|| TensorRotation::new(fitted.clone(), device)).transpose()?;
        Ok(Self {
            tensors,
            fitted,
            stored: trainable.squares().map_or(Stored::Theta, Stored::Squares),
            parameters: variable(trainable.rotation())?,
            scale: trainable.scale().map(variable).transpose()?,
            trainable,
        })
    }

    /// By tensor operations from here on.
    pub(super) fn with_tensor_operations(mut self) -> Result<Self> {
        self.tensors = Some(TensorRotation::new(self.fitted.clone(), self.parameters.device())?);
        Ok(self)
    }

    pub(super) fn uses_tensor_operations(&self) -> bool {
        self.tensors.is_some()
    }

    /// What an operation takes as its parameters.
    pub(super) fn parameters(&self) -> Result<Tensor> {
        if self.trainable.is_negative() { self.parameters.neg() } else { Ok(self.parameters.clone()) }
    }

    /// op(R) x along the last dimension.
    pub(super) fn rotate(&self, x: &Tensor, op: Op) -> Result<Tensor> {
        let parameters = self.parameters()?;
        match &self.tensors {
            Some(tensors) => tensors.rotated(x, &parameters, self.stored, op),
            None => Rotate { plan: self.fitted.clone(), stored: self.stored, op }.apply(x, &parameters),
        }
    }

    /// s in a shape and type, if there is one.
    pub(super) fn scale_as<S: ShapeWithOneHole>(&self, shape: S, dtype: DType) -> Result<Option<Tensor>> {
        self.scale.as_ref().map(|scale| scale.reshape(shape)?.to_dtype(dtype)).transpose()
    }

    pub(super) fn sides(&self) -> Result<Sides> {
        let scale = self.scale.as_ref().map(host).transpose()?;
        door(self.trainable.sides(&host(&self.parameters)?, scale))
    }

    pub(super) fn defect(&self) -> Result<f64> {
        let parameters = self.parameters()?;
        match &self.tensors {
            Some(tensors) => {
                let plan = tensors.fixed(&parameters, self.stored)?;
                door(defect(&RealPlan::fit(&plan, self.fitted.dtype())?, &[]))
            }
            None => door(defect(&self.fitted, &self.stored.theta(host(&parameters)?)?)),
        }
    }

    /// The weight with everything in it, rounded once.
    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        if self.tensors.is_some() {
            return self.merged_there(weight);
        }
        let mut numbers = wide_tensor(weight)?;
        let sides = self.sides()?;
        let (par, ws) = (crate::parallel::Parallelism::Rayon, crate::plan::Workspace::new());
        door(sides.merge(weight.dims(), &mut numbers, par, &ws))?;
        super::numbers::like(weight, &numbers)
    }

    /// The same where the weight is: in `f64`, or in `f32` on Metal, which has nothing wider.
    fn merged_there(&self, weight: &Tensor) -> Result<Tensor> {
        let dtype = if weight.device().is_metal() { DType::F32 } else { DType::F64 };
        let tensors = TensorRotation::new(RealPlan::fit(self.trainable.plan(), dtype)?, weight.device())?;
        let is_table = self.trainable.kind() == Kind::Embedding;
        let (rows, parameters) = (weight.detach().flatten_from(1)?.to_dtype(dtype)?, self.parameters()?.detach());
        // A row of W·Rᵀ is R w, one of E·R is Rᵀ e.
        let op = if is_table { Op::Transpose } else { Op::None };
        let mut rows = tensors.rotated(&rows, &parameters, self.stored, op)?;
        if let Some(scale) = self.scale_as(((), 1), dtype)? {
            rows = rows.broadcast_mul(&scale.detach())?;
        }
        rows.to_dtype(weight.dtype())?.reshape(weight.shape())
    }
}

/// That the weight holds numbers that can be rotated, frozen from here on.
pub(super) fn frozen(weight: &Tensor) -> Result<Tensor> {
    if weight.elem_count() == 0 || weight.rank() < 2 {
        let (what, expected) = ("weight of a layer to adapt", "at least one output and one input".to_string());
        return door(Err(Error::Size { what, expected, got: std::format!("{:?}", weight.dims()) }));
    }
    match weight.dtype() {
        DType::F32 | DType::F64 | DType::BF16 | DType::F16 => Ok(weight.detach()),
        other => door(Err(Error::Unsupported {
            what: "weight of a layer to adapt",
            expected: "F32, F64, BF16 or F16",
            got: std::format!("{other:?}"),
        })),
    }
}
