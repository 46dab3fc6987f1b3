//! The same rotations by candle's tensor operations, on every device, differentiable by its autograd.
//!
//! What a device must know of the plan, indices and constants, is put there once, when a [`TensorRotation`] is made; a call
//! moves nothing to or from the device, and does not wait for it. Blocks are made on the device too (`blocks.rs`), those of all
//! stages together where chart and size are the same. A stage is then a permutation, one batched product, and the permutation back.
//!
//! What the graph keeps for backward grows with the number of stages, unlike with the fused operation.

use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use candle_core::{DType, Device, Result, Tensor};

use super::numbers::host;
use super::rotate::{RealPlan, Stored};
use super::{check_same_device, door};
use crate::error::{Error, check_length};
use crate::layout::StageLayout;
use crate::plan::{Op, Plan, Source, Stage};
use crate::scalar::{Real, Scalar};

mod blocks;

use blocks::Family;

/// op(Q) x by candle's tensor operations, for tensors of one device: what [`apply`](super::apply) does where it is not the CPU, with
/// its constants kept from call to call. On the CPU it is many times slower than the fused operation, and there to compare with.
///
/// Charts: `Cayley`, `CayleyNeumann`, `CayleySeries`, `Givens`, and fixed blocks. Blocks are found in the precision of the plan, not
/// in `f64` as elsewhere: those of `f32` are orthogonal to its rounding for ‖A‖ up to about 1000. Parameters that are not finite give
/// blocks that are not, and no error.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use papilio::{Op, Plan, interop::candle::TensorRotation, parametrization::Cayley, topology::Butterfly};
///
/// let device = Device::Cpu; // or that of a GPU
/// let plan = Plan::<f32>::new(8, &Butterfly::boft(2, 4)?, Cayley)?;
/// let rotation = TensorRotation::new(&plan, &device)?;
/// let theta = Var::randn(0f32, 1.0, plan.num_params(), &device)?;
/// let y = rotation.apply(&Tensor::randn(0f32, 1.0, (2, 3, 8), &device)?, &theta, Op::None)?;
/// assert!(y.sum_all()?.backward()?.get(&theta).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TensorRotation {
    plan: RealPlan,
    device: Device,
    structure: Arc<Structure>,
}

/// A plan on a device.
#[derive(Debug)]
struct Structure {
    /// What blocks are found in, and vectors computed in.
    dtype: DType,
    num_params: usize,
    families: Vec<Family>,
    stages: Vec<Acting>,
}

/// A stage on a device.
#[derive(Debug)]
struct Acting {
    layout: StageLayout,
    is_adjoint: bool,
    blocks: Blocks,
    /// Of a table: the coordinates of its blocks, then the others; and the way back.
    order: Option<(Tensor, Tensor)>,
}

/// Where the blocks of a stage come from: `[count, b, b]`, or `[1, b, b]` where all are one.
#[derive(Debug)]
enum Blocks {
    Made {
        family: usize,
        first: usize,
        groups: usize,
        /// Which one each block is, where some are shared.
        which: Option<Tensor>,
    },
    Fixed(Tensor),
}

impl TensorRotation {
    /// Puts what is constant on a device.
    ///
    /// # Errors
    /// [`Error::Unsupported`], as candle's, for a chart that has no form in tensor operations, and for reflectors; those of the device.
    pub fn new(plan: impl Into<RealPlan>, device: &Device) -> Result<Self> {
        let plan = plan.into();
        let structure = Arc::new(match &plan {
            RealPlan::Single(plan) => Structure::new(plan, DType::F32, device)?,
            RealPlan::Double(plan) => Structure::new(plan, DType::F64, device)?,
        });
        Ok(Self { plan, device: device.clone(), structure })
    }

    /// y = op(Q) x for every vector along the last dimension of `x`, differentiable in `x` and `theta`.
    ///
    /// # Errors
    /// As [`apply`](super::apply); a tensor on another device than that of the constants.
    pub fn apply(&self, x: &Tensor, theta: &Tensor, op: Op) -> Result<Tensor> {
        self.rotated(x, theta, Stored::Theta, op)
    }

    pub(super) fn rotated(&self, x: &Tensor, stored: &Tensor, how: Stored, op: Op) -> Result<Tensor> {
        let (n, what) = (self.plan.n(), "last dimension of x");
        let Some((&last, leading)) = x.dims().split_last() else {
            let (expected, got) = (std::format!("[…, {n}]"), "a scalar".into());
            return door(Err(Error::Size { what, expected, got }));
        };
        door(check_length(what, n, last))?;
        if !self.plan.fits(x.dtype()) {
            return Err(self.plan.misfit(x.dtype()));
        }
        check_same_device("device of x", &self.device, x.device())?;
        let made = self.made(stored, how)?;
        let is_turned = matches!(op, Op::Transpose | Op::Adjoint);
        let mut y = x.to_dtype(self.structure.dtype)?.reshape((leading.iter().product::<usize>(), n))?;
        let stages = self.structure.stages.iter();
        let stages: Vec<_> = if is_turned { stages.rev().collect() } else { stages.collect() };
        for stage in stages {
            if let Some(blocks) = stage.blocks(&made)? {
                // A row times the transposed block.
                let is_transposed = stage.is_adjoint != is_turned;
                y = stage.acted(&y, &if is_transposed { blocks } else { blocks.t()?.contiguous()? })?;
            }
        }
        y.reshape(x.dims())?.to_dtype(x.dtype())
    }

    /// The blocks of every family.
    fn made(&self, stored: &Tensor, how: Stored) -> Result<Vec<Tensor>> {
        let structure = &*self.structure;
        check_same_device("device of theta", &self.device, stored.device())?;
        if !stored.dtype().is_float() {
            return Err(super::numbers::not_float(stored.dtype()));
        }
        let (what, expected) = match how {
            Stored::Theta => ("theta", structure.num_params),
            Stored::Squares(shape) => ("boft_R", shape.n().saturating_mul(shape.block).saturating_mul(shape.stages)),
        };
        door(check_length(what, expected, stored.elem_count()))?;
        let numbers = stored.flatten_all()?.to_dtype(structure.dtype)?;
        structure.families.iter().map(|family| family.blocks(&numbers, how)).collect()
    }

    /// A plan of the blocks that act, read from the device.
    pub(super) fn fixed(&self, stored: &Tensor, how: Stored) -> Result<Plan<f64>> {
        let made = self.made(stored, how)?;
        let mut stages = Vec::new();
        for stage in &self.structure.stages {
            let Some(blocks) = stage.blocks(&made)? else { continue };
            let (b, count) = (stage.layout.block_size(), stage.layout.num_blocks());
            let blocks = if stage.is_adjoint { blocks.t()? } else { blocks };
            let blocks = host(&blocks.broadcast_as((count, b, b))?.contiguous()?)?;
            stages.push((stage.layout.clone(), Source::Fixed(blocks.into())));
        }
        door(Plan::from_stages(self.plan.n(), stages))
    }
}

impl Structure {
    fn new<T: Real + Scalar<Wide = f64>>(plan: &Plan<T>, dtype: DType, device: &Device) -> Result<Self> {
        // Parts of θ that follow each other are one family, in whatever order their stages act.
        let mut charts: Vec<(usize, &Stage<T>, String)> = Vec::new();
        for (k, stage) in plan.stages().iter().enumerate() {
            match stage.source() {
                _ if stage.layout().num_blocks() == 0 => {}
                Source::Chart { chart, .. } => charts.push((k, stage, chart.id())),
                Source::Fixed(_) => {}
                source => return Err(blocks::unsupported(std::format!("{source:?}"))),
            }
        }
        charts.sort_by_key(|(_, stage, _)| (stage.theta().start, stage.theta().end));
        let (mut families, mut places) = (Vec::<Family>::new(), std::vec![None; plan.num_stages()]);
        for (k, stage, id) in charts {
            let (b, groups) = (stage.layout().block_size(), stage.num_groups());
            let start = stage.theta().start;
            let first = match families.last_mut().filter(|family| family.goes_on(&id, b, start)) {
                Some(family) => family.add(groups),
                None => {
                    families.push(Family::new(id, b, start, groups, dtype, device)?);
                    0
                }
            };
            places[k] = Some((families.len() - 1, first));
        }
        let stages = plan.stages().iter().zip(places);
        let stages = stages.map(|(stage, place)| Acting::new(plan.n(), stage, place, dtype, device));
        let stages = stages.collect::<Result<_>>()?;
        Ok(Self { dtype, num_params: plan.num_params(), families, stages })
    }
}

impl Acting {
    fn new<T: Scalar<Wide = f64>>(
        n: usize,
        stage: &Stage<T>,
        place: Option<(usize, usize)>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let layout = stage.layout().clone();
        let (b, count) = (layout.block_size(), layout.num_blocks());
        let blocks = match (stage.source(), place) {
            (_, Some((family, first))) => {
                let groups = stage.num_groups();
                let is_own = groups == 1 || (0..count).all(|j| stage.group_of(j) == j);
                let which = (!is_own).then(|| index((0..count).map(|j| stage.group_of(j)), device));
                Blocks::Made { family, first, groups, which: which.transpose()? }
            }
            (Source::Fixed(blocks), None) => Blocks::Fixed(
                Tensor::from_slice(blocks, (count, b, b), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?,
            ),
            _ => Blocks::Fixed(Tensor::zeros((0, 1, 1), dtype, device)?),
        };
        let order = match &layout {
            StageLayout::Table { .. } => {
                let (order, back) = layout.order(n);
                Some((index(order, device)?, index(back, device)?))
            }
            StageLayout::Strided { .. } => None,
        };
        Ok(Self { layout, is_adjoint: stage.is_adjoint(), blocks, order })
    }

    /// Its blocks, if it has any.
    fn blocks(&self, made: &[Tensor]) -> Result<Option<Tensor>> {
        if self.layout.num_blocks() == 0 {
            return Ok(None);
        }
        Ok(Some(match &self.blocks {
            Blocks::Fixed(blocks) => blocks.clone(),
            Blocks::Made { family, first, groups, which } => {
                let all = &made[*family];
                let own = if all.dim(0)? == 1 { all.clone() } else { all.narrow(0, *first, *groups)? };
                match which {
                    Some(which) if *groups > 1 => own.contiguous()?.index_select(which, 0)?,
                    _ => own,
                }
            }
        }))
    }

    /// Every row of y through the blocks at their coordinates; the others stay.
    fn acted(&self, y: &Tensor, blocks: &Tensor) -> Result<Tensor> {
        let (batch, n) = y.dims2()?;
        let (b, count) = (self.layout.block_size(), self.layout.num_blocks());
        let covered = b * count;
        let y = match &self.order {
            Some((order, _)) => &y.contiguous()?.index_select(order, 1)?,
            None => y,
        };
        let head = if covered == n { y.clone() } else { y.narrow(1, 0, covered)? };
        let head = match self.layout {
            StageLayout::Strided { unit, radix, distance, groups } => {
                let across = distance / unit;
                let x = head.reshape((batch, groups, radix, across, unit))?.permute((1, 3, 0, 2, 4))?;
                let x = multiplied(&x.reshape((count, batch, b))?, blocks)?;
                x.reshape((groups, across, batch, radix, unit))?.permute((2, 0, 3, 1, 4))?
            }
            StageLayout::Table { .. } => {
                multiplied(&head.reshape((batch, count, b))?.transpose(0, 1)?.contiguous()?, blocks)?.transpose(0, 1)?
            }
        };
        let head = head.reshape((batch, covered))?;
        let y = if covered == n { head } else { Tensor::cat(&[&head, &y.narrow(1, covered, n - covered)?], 1)? };
        match &self.order {
            Some((_, back)) => y.index_select(back, 1),
            None => Ok(y),
        }
    }
}

/// Row vectors `[count, batch, b]` times blocks: all at once where the block is one.
fn multiplied(x: &Tensor, blocks: &Tensor) -> Result<Tensor> {
    let (count, batch, b) = x.dims3()?;
    if blocks.dim(0)? == count {
        return x.matmul(blocks);
    }
    x.reshape((count * batch, b))?.matmul(&blocks.squeeze(0)?)?.reshape((count, batch, b))
}

/// Constant indices.
fn index(numbers: impl IntoIterator<Item = usize>, device: &Device) -> Result<Tensor> {
    let index: core::result::Result<Vec<u32>, _> = numbers.into_iter().map(u32::try_from).collect();
    let index = index.map_err(|_| {
        let (what, expected) = ("coordinates of a rotation by tensor operations", "at most 2³²".to_string());
        candle_core::Error::wrap(Error::Size { what, expected, got: "more".to_string() })
    })?;
    let count = index.len();
    Tensor::from_vec(index, count, device)
}
