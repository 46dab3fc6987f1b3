//! y = op(Q(θ)) x as one differentiable operation of candle.
//!
//! θ comes as it is stored: flat, or as PEFT's whole squares, whose skew part is taken here. Backward needs x and θ: the blocks
//! are found again, and one pass gives ∂x and ∂blocks, of which the pullback makes ∂θ.

use std::cell::Cell;
use std::vec;
use std::vec::Vec;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

use super::numbers::{Number, Vectors, like, on_cpu, wide, wide_tensor};
use super::tensor_ops::TensorRotation;
use super::{check_device, check_same_device, door, tensor};
use crate::adapter::peft_boft;
use crate::batch::{Batch, BatchMut};
use crate::error::Error;
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Saved, Workspace};
use crate::scalar::Scalar;

/// A plan of either precision, which says what tensors it rotates.
#[derive(Debug, Clone)]
pub enum RealPlan {
    /// For `F32`, `BF16` and `F16`.
    Single(Plan<f32>),
    /// For `F64`.
    Double(Plan<f64>),
}

impl RealPlan {
    /// The same structure for tensors of another type.
    pub(super) fn fit(plan: &Plan<f64>, dtype: DType) -> Result<Self> {
        match dtype {
            DType::F64 => Ok(Self::Double(plan.clone())),
            _ => door(plan.cast()).map(Self::Single),
        }
    }

    /// The widest type of tensors that it rotates.
    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::Single(_) => DType::F32,
            Self::Double(_) => DType::F64,
        }
    }

    /// Number of coordinates.
    pub fn n(&self) -> usize {
        match self {
            Self::Single(plan) => plan.n(),
            Self::Double(plan) => plan.n(),
        }
    }

    pub(super) fn fits(&self, dtype: DType) -> bool {
        match self {
            Self::Single(_) => matches!(dtype, DType::F32 | DType::BF16 | DType::F16),
            Self::Double(_) => dtype == DType::F64,
        }
    }

    pub(super) fn misfit(&self, dtype: DType) -> candle_core::Error {
        candle_core::Error::wrap(Error::Unsupported {
            what: "numbers of a tensor to rotate",
            expected: match self {
                Self::Single(_) => "F32, BF16 or F16, for a plan of f32",
                Self::Double(_) => "F64, for a plan of f64",
            },
            got: std::format!("{dtype:?}"),
        })
    }
}

impl From<Plan<f32>> for RealPlan {
    fn from(plan: Plan<f32>) -> Self {
        Self::Single(plan)
    }
}

impl From<Plan<f64>> for RealPlan {
    fn from(plan: Plan<f64>) -> Self {
        Self::Double(plan)
    }
}

impl From<&Plan<f32>> for RealPlan {
    fn from(plan: &Plan<f32>) -> Self {
        Self::Single(plan.clone())
    }
}

impl From<&Plan<f64>> for RealPlan {
    fn from(plan: &Plan<f64>) -> Self {
        Self::Double(plan.clone())
    }
}

/// `$body` with the plan and the type of numbers E that belong to a tensor's type.
macro_rules! with_number {
    ($plan:expr, $dtype:expr, |$p:ident, $E:ident| $body:expr) => {
        match ($plan, $dtype) {
            ($crate::interop::candle::RealPlan::Single($p), candle_core::DType::F32) => {
                type $E = f32;
                $body
            }
            ($crate::interop::candle::RealPlan::Single($p), candle_core::DType::BF16) => {
                type $E = half::bf16;
                $body
            }
            ($crate::interop::candle::RealPlan::Single($p), candle_core::DType::F16) => {
                type $E = half::f16;
                $body
            }
            ($crate::interop::candle::RealPlan::Double($p), candle_core::DType::F64) => {
                type $E = f64;
                $body
            }
            (plan, dtype) => Err(plan.misfit(dtype)),
        }
    };
}
pub(super) use with_number;

/// y = op(Q) x for every vector along the last dimension of `x`, differentiable in `x` and `theta`.
///
/// `theta` holds [`num_params`](Plan::num_params) numbers in any shape and any float type. The plan may be given by reference;
/// cloning it is cheap. On the CPU this is one operation; on other devices a [`TensorRotation`] is made and used once: keep one
/// where there are many calls.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use papilio::{Op, Plan, interop::candle::apply, parametrization::Cayley, topology::Butterfly};
///
/// let plan = Plan::<f32>::new(8, &Butterfly::boft(2, 4)?, Cayley)?;
/// let theta = Var::randn(0f32, 1.0, plan.num_params(), &Device::Cpu)?;
/// let x = Tensor::randn(0f32, 1.0, (2, 3, 8), &Device::Cpu)?;
/// let y = apply(&plan, &x, &theta, Op::None)?;
/// let gradients = y.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&theta).unwrap().dims(), theta.dims());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// papilio's, as candle's: another length than the plan's, another type of numbers, tensors on two devices; on the CPU,
/// parameters that are not finite; elsewhere, charts without a form in tensor operations.
pub fn apply(plan: impl Into<RealPlan>, x: &Tensor, theta: &Tensor, op: Op) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return TensorRotation::new(plan, x.device())?.apply(x, theta, op);
    }
    Rotate { plan: plan.into(), stored: Stored::Theta, op }.apply(x, theta)
}

/// How θ is stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored {
    /// As it is.
    Theta,
    /// As `boft_R`.
    Squares(peft_boft::Shape),
}

impl Stored {
    pub(super) fn theta(self, stored: Vec<f64>) -> Result<Vec<f64>> {
        match self {
            Self::Theta => Ok(stored),
            Self::Squares(shape) => door(shape.theta(&stored)),
        }
    }

    /// The gradient for what is stored.
    pub(super) fn pull(self, d_theta: Vec<f64>) -> Result<Vec<f64>> {
        match self {
            Self::Theta => Ok(d_theta),
            Self::Squares(shape) => door(shape.stored_gradient(&d_theta)),
        }
    }
}

/// The operation.
#[derive(Debug, Clone)]
pub(super) struct Rotate {
    pub(super) plan: RealPlan,
    pub(super) stored: Stored,
    pub(super) op: Op,
}

impl Rotate {
    pub(super) fn apply(self, x: &Tensor, stored: &Tensor) -> Result<Tensor> {
        check_device(x)?;
        check_same_device("device of theta", x.device(), stored.device())?;
        x.apply_op2(stored, self)
    }
}

impl CustomOp2 for Rotate {
    fn name(&self) -> &'static str {
        "papilio-rotate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, t: &CpuStorage, lt: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::WithDType;
        use candle_core::backend::BackendStorage;
        let theta = self.stored.theta(wide(t, lt)?)?;
        let y = with_number!(&self.plan, x.dtype(), |plan, E| {
            let x = Vectors::<E>::new("last dimension of x", x, lx, plan.n())?;
            let factors = door(plan.realize(&theta))?;
            Ok(E::to_cpu_storage_owned(door(rotated(plan, &factors, &x, self.op))?))
        })?;
        Ok((y, lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, t: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let wanted = (x.track_op(), t.track_op());
        let theta = self.stored.theta(wide_tensor(t)?)?;
        with_number!(&self.plan, x.dtype(), |plan, E| {
            on_cpu(x, |xs, lx| {
                on_cpu(g, |gs, lg| {
                    let x = &Vectors::<E>::new("last dimension of x", xs, lx, plan.n())?;
                    let g = &Vectors::<E>::new("last dimension of the gradient", gs, lg, plan.n())?;
                    let factors = door(plan.realize(&theta))?;
                    let (d_x, d_theta) = door(pulled(plan, &factors, &theta, x, door(g.view())?, self.op, wanted))?;
                    let d_theta = d_theta.map(|d| like(t, &self.stored.pull(d)?));
                    Ok((d_x.map(|d| tensor(d, lx.dims())).transpose()?, d_theta.transpose()?))
                })
            })
        })
    }
}

/// op(Q) x, row after row.
pub(super) fn rotated<E: Number>(
    plan: &Plan<E::Scalar>,
    factors: &Factors<E::Scalar>,
    x: &Vectors<'_, E>,
    op: Op,
) -> crate::Result<Vec<E>> {
    let mut y = vec![E::default(); x.batch() * plan.n()];
    let rows = BatchMut::rows(&mut y, plan.n())?;
    with_workspace(|ws| plan.apply(factors, x.view()?, rows, op, Parallelism::Rayon, ws))?;
    Ok(y)
}

/// Gradients for x and θ.
type Pulled<E> = (Option<Vec<E>>, Option<Vec<f64>>);

/// The gradients for x and θ, as far as they are wanted.
pub(super) fn pulled<E: Number>(
    plan: &Plan<E::Scalar>,
    factors: &Factors<E::Scalar>,
    theta: &[f64],
    x: &Vectors<'_, E>,
    g: Batch<'_, E>,
    op: Op,
    wanted: (bool, bool),
) -> crate::Result<Pulled<E>> {
    let mut d_x = wanted.0.then(|| vec![E::default(); x.batch() * plan.n()]);
    let mut d_factors = wanted.1.then(|| vec![<E::Scalar as num_traits::Zero>::zero(); plan.num_entries()]);
    let rows = d_x.as_mut().map(|d| BatchMut::rows(d, plan.n())).transpose()?;
    let saved = Saved::Input(x.view()?);
    with_workspace(|ws| plan.apply_vjp(factors, saved, op, g, rows, d_factors.as_deref_mut(), Parallelism::Rayon, ws))?;
    let d_theta = d_factors.map(|d_factors| {
        let mut d_theta = vec![0.0; plan.num_params()];
        plan.realize_vjp(theta, factors, &d_factors, &mut d_theta).map(|()| d_theta)
    });
    Ok((d_x, d_theta.transpose()?))
}

std::thread_local! {
    static SCRATCH: Cell<Option<Workspace>> = const { Cell::new(None) };
}

/// Lends this thread's scratch memory. It is taken out meanwhile: threads that wait may be given other work of this kind.
fn with_workspace<R>(work: impl FnOnce(&mut Workspace) -> R) -> R {
    let mut workspace = SCRATCH.take().unwrap_or_default();
    let result = work(&mut workspace);
    SCRATCH.set(Some(workspace));
    result
}

/// How far the rotation at θ is from an orthogonal matrix, as it is computed with: a rigorous bound on ‖QᵀQ − I‖₂.
pub(super) fn defect(plan: &RealPlan, theta: &[f64]) -> crate::Result<f64> {
    fn of<T: Scalar<Wide = f64>>(plan: &Plan<T>, theta: &[f64]) -> crate::Result<f64> {
        Ok(crate::verify::certificate(plan, &plan.realize(theta)?)?.defect)
    }
    match plan {
        RealPlan::Single(plan) => of(plan, theta),
        RealPlan::Double(plan) => of(plan, theta),
    }
}
