//! y = op(Q(θ)) x as one differentiable operation of burn.
//!
//! θ comes as it is stored: flat, or as PEFT's whole squares, whose skew part is taken here. Backward needs x and θ: the blocks
//! are found again, and one pass gives ∂x and ∂blocks, of which the pullback makes ∂θ.

use std::cell::Cell;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};
use papilio::adapter::peft_boft;
use papilio::{BatchMut, Error, Factors, Op, Parallelism, Plan, Result, Saved, Workspace};

use crate::number::{FlexTensor, Vectors, check_float, data, wide, wide_flex};
use crate::operations;

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
    pub(crate) fn fit(plan: &Plan<f64>, dtype: DType) -> Result<Self> {
        match dtype {
            DType::F64 => Ok(Self::Double(plan.clone())),
            _ => plan.cast().map(Self::Single),
        }
    }

    /// Number of coordinates.
    pub fn n(&self) -> usize {
        match self {
            Self::Single(plan) => plan.n(),
            Self::Double(plan) => plan.n(),
        }
    }

    /// Number of parameters.
    pub fn num_params(&self) -> usize {
        match self {
            Self::Single(plan) => plan.num_params(),
            Self::Double(plan) => plan.num_params(),
        }
    }

    fn fits(&self, dtype: DType) -> bool {
        match self {
            Self::Single(_) => matches!(dtype, DType::F32 | DType::BF16 | DType::F16),
            Self::Double(_) => dtype == DType::F64,
        }
    }

    fn misfit(&self, dtype: DType) -> Error {
        Error::Unsupported {
            what: "numbers of a tensor to rotate",
            expected: match self {
                Self::Single(_) => "F32, BF16 or F16, for a plan of f32",
                Self::Double(_) => "F64, for a plan of f64",
            },
            got: format!("{dtype:?}"),
        }
    }

    fn realize(&self, theta: &[f64]) -> Result<Blocks> {
        match self {
            Self::Single(plan) => plan.realize(theta).map(|f| Blocks::Single(Arc::new(f))),
            Self::Double(plan) => plan.realize(theta).map(|f| Blocks::Double(Arc::new(f))),
        }
    }

    /// How far the rotation at θ is from an orthogonal matrix, as it is computed with: a rigorous bound on ‖QᵀQ − I‖₂.
    pub(crate) fn defect(&self, theta: &[f64]) -> Result<f64> {
        let certificate = match self {
            Self::Single(plan) => papilio::verify::certificate(plan, &plan.realize(theta)?),
            Self::Double(plan) => papilio::verify::certificate(plan, &plan.realize(theta)?),
        };
        certificate.map(|certificate| certificate.defect)
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

/// Blocks at some θ, for the plan that made them.
#[derive(Debug, Clone)]
pub(crate) enum Blocks {
    Single(Arc<Factors<f32>>),
    Double(Arc<Factors<f64>>),
}

/// How θ is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// As it is.
    Theta,
    /// As `boft_R`.
    Squares(peft_boft::Shape),
}

impl Stored {
    fn len(self, plan: &RealPlan) -> usize {
        match self {
            Self::Theta => plan.num_params(),
            Self::Squares(shape) => shape.stages * shape.blocks * shape.block * shape.block,
        }
    }

    fn theta(self, stored: Vec<f64>) -> Result<Vec<f64>> {
        match self {
            Self::Theta => Ok(stored),
            Self::Squares(shape) => shape.theta(&stored),
        }
    }

    /// The gradient for what is stored.
    fn pull(self, d_theta: Vec<f64>) -> Result<Vec<f64>> {
        match self {
            Self::Theta => Ok(d_theta),
            Self::Squares(shape) => shape.stored_gradient(&d_theta),
        }
    }
}

/// y = op(Q) x for every vector along the last dimension of `x`, differentiable in `x` and `theta`.
///
/// `theta` holds [`num_params`](Plan::num_params) numbers in any shape and any float type. The plan may be given by reference;
/// cloning it is cheap. On Flex this is one operation; on other devices it is [`operations::apply`].
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use papilio::{Op, Plan, parametrization::Cayley, topology::Butterfly};
///
/// let device = Device::flex().autodiff();
/// let plan = Plan::<f32>::new(8, &Butterfly::boft(2, 4)?, Cayley)?;
/// let theta = Tensor::<1>::random([plan.num_params()], Distribution::Normal(0.0, 1.0), &device).require_grad();
/// let x = Tensor::<3>::random([2, 3, 8], Distribution::Normal(0.0, 1.0), &device);
/// let y = papilio_burn::apply(&plan, x, theta.clone(), Op::None)?;
/// let gradients = y.sum().backward();
/// assert_eq!(theta.grad(&gradients).unwrap().dims(), theta.dims());
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Another length than the plan's, another type of numbers, tensors on two devices; on Flex, parameters that are not finite.
pub fn apply<const D: usize, const P: usize>(
    plan: impl Into<RealPlan>,
    x: Tensor<D>,
    theta: Tensor<P>,
    op: Op,
) -> Result<Tensor<D>> {
    Rotate { plan: plan.into(), stored: Stored::Theta, op }.apply(x, theta)
}

/// The operation.
#[derive(Debug, Clone)]
pub(crate) struct Rotate {
    pub(crate) plan: RealPlan,
    pub(crate) stored: Stored,
    pub(crate) op: Op,
}

impl Rotate {
    pub(crate) fn apply<const D: usize, const P: usize>(self, x: Tensor<D>, stored: Tensor<P>) -> Result<Tensor<D>> {
        self.check(&x, &stored)?;
        if !is_flex(&x.device()) {
            return operations::rotated(&self, x, stored);
        }
        // Found here rather than inside, where there is no error to return.
        let blocks = self.plan.realize(&self.stored.theta(wide(&stored)?)?)?;
        let y = <Dispatch as Fused>::papilio_rotate(x.into_dispatch(), stored.into_dispatch(), self, blocks);
        Ok(Tensor::from_dispatch(y))
    }

    /// All that can be wrong but numbers.
    pub(crate) fn check<const D: usize, const P: usize>(&self, x: &Tensor<D>, stored: &Tensor<P>) -> Result<()> {
        let n = self.plan.n();
        let what = "last dimension of x";
        match x.dims().last() {
            None => return Err(Error::Size { what, expected: format!("[…, {n}]"), got: "a scalar".into() }),
            Some(last) if *last != n => return Err(Error::Length { what, expected: n, got: *last }),
            Some(_) => {}
        }
        if !self.plan.fits(x.dtype()) {
            return Err(self.plan.misfit(x.dtype()));
        }
        check_float("numbers of a tensor", stored.dtype())?;
        let (what, expected, got) = ("theta", self.stored.len(&self.plan), stored.dims().iter().product());
        if expected != got {
            return Err(Error::Length { what, expected, got });
        }
        let (device, other) = (x.device().without_autodiff(), stored.device().without_autodiff());
        if device != other {
            let (what, expected) = ("device of theta", "that of x");
            return Err(Error::Unsupported { what, expected, got: format!("{other:?} and {device:?}") });
        }
        Ok(())
    }
}

fn is_flex(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// What a backend needs for the fused operation.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Fused: Backend {
    /// op(Q) x at the blocks of θ.
    fn papilio_rotate(
        x: FloatTensor<Self>,
        stored: FloatTensor<Self>,
        rotate: Rotate,
        blocks: Blocks,
    ) -> FloatTensor<Self>;
}

/// Arguments have been checked, and blocks realised, before burn is entered.
const CHECKED: &str = "checked arguments";

impl Fused for Flex {
    fn papilio_rotate(x: FlexTensor, _: FlexTensor, rotate: Rotate, blocks: Blocks) -> FlexTensor {
        rotated(&rotate.plan, &blocks, x, rotate.op).expect(CHECKED)
    }
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn papilio_rotate(
        x: FloatTensor<Self>,
        stored: FloatTensor<Self>,
        rotate: Rotate,
        blocks: Blocks,
    ) -> FloatTensor<Self> {
        let y = |x: FloatTensor<Self>| rotated(&rotate.plan, &blocks, x.into_primitive(), rotate.op).expect(CHECKED);
        match Pullback.prepare::<C>([x.node(), stored.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                // x serves the gradient of θ alone.
                let kept = stored.is_tracked().then(|| prep.checkpoint(&x));
                let state = (kept, prep.checkpoint(&stored), rotate.clone());
                prep.finish(state, y(x))
            }
            OpsKind::UnTracked(prep) => prep.finish(y(x)),
        }
    }
}

/// Gradients for x and what is stored.
#[derive(Debug)]
struct Pullback;

impl Backward<Flex, 2> for Pullback {
    type State = (Option<NodeId>, NodeId, Rotate);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let ([node_x, node_stored], (x, stored, rotate)) = (ops.parents, ops.state);
        let g = grads.consume::<Flex>(&ops.node);
        let x: Option<FlexTensor> = x.map(|id| checkpointer.retrieve_node_output(id));
        let stored: FlexTensor = checkpointer.retrieve_node_output(stored);
        let wanted = (node_x.is_some(), node_stored.is_some());
        let (d_x, d_stored) = rotate.pulled(x, stored, g, wanted).expect(CHECKED);
        if let (Some(node), Some(d)) = (node_x, d_x) {
            grads.register::<Flex>(node.id, d);
        }
        if let (Some(node), Some(d)) = (node_stored, d_stored) {
            grads.register::<Flex>(node.id, d);
        }
    }
}

/// `$body` with the plan, its blocks and the type of numbers E that belong to a tensor's type.
macro_rules! with_number {
    ($plan:expr, $blocks:expr, $dtype:expr, |$p:ident, $f:ident, $E:ident| $body:expr) => {
        match ($plan, $blocks, $dtype) {
            (RealPlan::Single($p), Blocks::Single($f), DType::F32) => {
                type $E = f32;
                $body
            }
            (RealPlan::Single($p), Blocks::Single($f), DType::BF16) => {
                type $E = half::bf16;
                $body
            }
            (RealPlan::Single($p), Blocks::Single($f), DType::F16) => {
                type $E = half::f16;
                $body
            }
            (RealPlan::Double($p), Blocks::Double($f), DType::F64) => {
                type $E = f64;
                $body
            }
            (plan, _, dtype) => Err(plan.misfit(dtype)),
        }
    };
}

/// op(Q) x.
fn rotated(plan: &RealPlan, blocks: &Blocks, x: FlexTensor, op: Op) -> Result<FlexTensor> {
    let (shape, dtype) = (x.shape(), x.dtype());
    let x = Vectors::new(x, plan.n());
    with_number!(plan, blocks, dtype, |plan, factors, E| {
        let mut y = vec![E::default(); x.len()];
        let rows = BatchMut::rows(&mut y, plan.n())?;
        with_workspace(|ws| plan.apply(factors, x.view::<E>()?, rows, op, Parallelism::Rayon, ws))?;
        Ok(FlexTensor::from_data(TensorData::new(y, shape)))
    })
}

impl Rotate {
    /// The gradients for x and what is stored, as far as they are wanted.
    fn pulled(
        &self,
        x: Option<FlexTensor>,
        stored: FlexTensor,
        g: FlexTensor,
        wanted: (bool, bool),
    ) -> Result<(Option<FlexTensor>, Option<FlexTensor>)> {
        let (stored_shape, stored_dtype) = (stored.shape(), stored.dtype());
        let theta = self.stored.theta(wide_flex(stored))?;
        let blocks = self.plan.realize(&theta)?;
        let Some(x) = x.filter(|_| wanted.1) else {
            let op = match self.op {
                Op::None | Op::Conj => Op::Transpose, // real numbers
                Op::Transpose | Op::Adjoint => Op::None,
            };
            let d_x = wanted.0.then(|| rotated(&self.plan, &blocks, g, op)).transpose()?;
            return Ok((d_x, None));
        };
        let (shape, dtype, n) = (x.shape(), x.dtype(), self.plan.n());
        let (x, g) = (Vectors::new(x, n), Vectors::new(g, n));
        with_number!(&self.plan, &blocks, dtype, |plan, factors, E| {
            let mut d_x = wanted.0.then(|| vec![E::default(); x.len()]);
            let mut d_factors = vec![Default::default(); plan.num_entries()];
            let rows = d_x.as_mut().map(|d| BatchMut::rows(d, n)).transpose()?;
            let (saved, g, d) = (Saved::Input(x.view::<E>()?), g.view::<E>()?, Some(&mut d_factors[..]));
            with_workspace(|ws| plan.apply_vjp(factors, saved, self.op, g, rows, d, Parallelism::Rayon, ws))?;
            let mut d_theta = vec![0.0; plan.num_params()];
            plan.realize_vjp(&theta, factors, &d_factors, &mut d_theta)?;
            let d_stored = data(self.stored.pull(d_theta)?, &stored_shape, stored_dtype);
            let d_x = d_x.map(|d| FlexTensor::from_data(TensorData::new(d, shape)));
            Ok((d_x, Some(FlexTensor::from_data(d_stored))))
        })
    }
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
