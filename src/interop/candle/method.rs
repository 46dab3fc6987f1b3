//! What is trained on a layer: PEFT's methods, their variables by name, and the sides they stand for.

use std::string::ToString;

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::door;
use super::numbers::wide_tensor;
use super::rotate::{RealPlan, Stored, defect};
pub(super) use crate::adapter::LayerKind as Kind;
pub use crate::adapter::Method;
use crate::adapter::{Sides, Trainable, Variable};
use crate::error::Error;

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
}

impl Adapted {
    pub(super) fn new(method: Method, kind: Kind, weight: &Tensor, vb: &VarBuilder<'_>) -> Result<Self> {
        let trainable = door(method.on(kind, weight.dims()))?;
        let variable = |v: &Variable| vb.get_with_hints(&v.shape[..], v.name, Init::Const(f64::from(v.start)));
        Ok(Self {
            fitted: RealPlan::fit(trainable.plan(), weight.dtype())?,
            stored: trainable.squares().map_or(Stored::Theta, Stored::Squares),
            parameters: variable(trainable.rotation())?,
            scale: trainable.scale().map(variable).transpose()?,
            trainable,
        })
    }

    /// What an operation takes as its parameters.
    pub(super) fn parameters(&self) -> Result<Tensor> {
        if self.trainable.is_negative() { self.parameters.neg() } else { Ok(self.parameters.clone()) }
    }

    fn theta(&self) -> Result<std::vec::Vec<f64>> {
        self.stored.theta(wide_tensor(&self.parameters()?)?)
    }

    pub(super) fn sides(&self) -> Result<Sides> {
        let scale = self.scale.as_ref().map(wide_tensor).transpose()?;
        door(self.trainable.sides(&wide_tensor(&self.parameters)?, scale))
    }

    pub(super) fn defect(&self) -> Result<f64> {
        door(defect(&self.fitted, &self.theta()?))
    }

    /// The weight with everything in it, rounded once.
    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let mut numbers = wide_tensor(weight)?;
        let sides = self.sides()?;
        let (par, ws) = (crate::parallel::Parallelism::Rayon, crate::plan::Workspace::new());
        door(sides.merge(weight.dims(), &mut numbers, par, &ws))?;
        super::numbers::like(weight, &numbers)
    }
}

/// That the weight holds numbers that can be rotated, frozen from here on.
pub(super) fn frozen(weight: &Tensor) -> Result<Tensor> {
    super::check_device(weight)?;
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
