//! The same rotations by tensor operations, on every backend of burn, differentiable by its autodiff.
//!
//! Blocks are made on the device in the precision of θ (`F32` where that is less), and cast to that of x. burn has no inverse, so
//! Cayley's map brings its own (`blocks.rs`). What the graph keeps for backward grows with the number of stages, unlike on
//! Flex; numbers that are not finite are not looked for, which would wait for the device.
//!
//! Charts: `Cayley`, `CayleyNeumann`, `CayleySeries`, `Givens`, and fixed blocks. Others, and reflections, are errors.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use papilio::{Op, Plan, Result, Scalar, Source, Stage, StageLayout};

use crate::rotate::{RealPlan, Rotate, Stored};

mod blocks;

/// y = op(Q) x as [`apply`](crate::apply) has it, by tensor operations everywhere, on Flex too.
///
/// # Errors
/// As there; a chart that has no form in tensor operations.
pub fn apply<const D: usize, const P: usize>(
    plan: impl Into<RealPlan>,
    x: Tensor<D>,
    theta: Tensor<P>,
    op: Op,
) -> Result<Tensor<D>> {
    let rotate = Rotate { plan: plan.into(), stored: Stored::Theta, op };
    rotate.check(&x, &theta)?;
    rotated(&rotate, x, theta)
}

/// op(Q) x for checked arguments.
pub(crate) fn rotated<const D: usize, const P: usize>(
    rotate: &Rotate,
    x: Tensor<D>,
    stored: Tensor<P>,
) -> Result<Tensor<D>> {
    match &rotate.plan {
        RealPlan::Single(plan) => through(plan, rotate, x, stored),
        RealPlan::Double(plan) => through(plan, rotate, x, stored),
    }
}

fn through<T: Scalar<Wide = f64>, const D: usize, const P: usize>(
    plan: &Plan<T>,
    rotate: &Rotate,
    x: Tensor<D>,
    stored: Tensor<P>,
) -> Result<Tensor<D>> {
    let (shape, dtype, n) = (x.dims(), x.dtype(), plan.n());
    let count = stored.dims().iter().product::<usize>();
    let stored = stored.reshape([count]);
    let stored = if matches!(stored.dtype(), DType::F32 | DType::F64) { stored } else { stored.cast(DType::F32) };
    let batch = shape.iter().product::<usize>().checked_div(n).unwrap_or(0);
    let turned = matches!(rotate.op, Op::Transpose | Op::Adjoint);
    // Charts first, so that an error comes before any work.
    let mut stages = Vec::with_capacity(plan.num_stages());
    for (k, stage) in plan.stages().iter().enumerate() {
        let blocks = stage_blocks(k, stage, rotate.stored, &stored)?;
        stages.push((stage, blocks, stage.is_adjoint() != turned));
    }
    if batch == 0 {
        return Ok(x);
    }
    if turned {
        stages.reverse();
    }
    let mut y = x.reshape([batch, n]);
    for (stage, blocks, transposed) in stages {
        if let Some(blocks) = blocks {
            // A row times the transposed block.
            let blocks = blocks.cast(dtype);
            y = acted(stage.layout(), y, if transposed { blocks } else { blocks.swap_dims(1, 2) });
        }
    }
    Ok(y.reshape(shape))
}

/// The blocks of a stage, `[count, b, b]`, or `[1, b, b]` where all are one; `None` if there are none.
fn stage_blocks<T: Scalar<Wide = f64>>(
    k: usize,
    stage: &Stage<T>,
    stored: Stored,
    numbers: &Tensor<1>,
) -> Result<Option<Tensor<3>>> {
    let (b, count, groups) = (stage.layout().block_size(), stage.layout().num_blocks(), stage.num_groups());
    if count == 0 {
        return Ok(None);
    }
    let device = numbers.device();
    let blocks = match (stage.source(), stored) {
        // Blocks of one number have no parameters, and burn no tensors of none.
        (Source::Chart { chart, .. }, _) if b == 1 => {
            blocks::of_skew(&chart.id(), Tensor::zeros([1, 1, 1], (&device, numbers.dtype())))?
        }
        (Source::Chart { chart, .. }, Stored::Squares(shape)) => {
            let size = shape.blocks * b * b;
            let squares = numbers.clone().narrow(0, k * size, size).reshape([shape.blocks, b, b]);
            let skew = (squares.clone() - squares.swap_dims(1, 2)).mul_scalar(0.5);
            blocks::of_skew(&chart.id(), skew)?
        }
        (Source::Chart { chart, .. }, Stored::Theta) => {
            let range = stage.theta();
            let theta = numbers.clone().narrow(0, range.start, range.len());
            blocks::of(&chart.id(), theta.reshape([groups, range.len() / groups]), b)?
        }
        (Source::Fixed(blocks), _) => {
            let data = TensorData::new(blocks.to_vec(), [blocks.len() / (b * b), b, b]);
            Tensor::from_data(data, (&device, numbers.dtype()))
        }
        (source, _) => return Err(blocks::unsupported(format!("{source:?}"))),
    };
    if blocks.dims()[0] == 1 || (0..count).all(|j| stage.group_of(j) == j) {
        return Ok(Some(blocks));
    }
    let index = (0..count).map(|j| stage.group_of(j));
    Ok(Some(blocks.select(0, indices(index, &device))))
}

/// Constant indices.
fn indices(index: impl IntoIterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let index: Vec<i64> = index.into_iter().map(|i| i as i64).collect();
    let count = index.len();
    Tensor::from_data(TensorData::new(index, [count]), &device.clone().without_autodiff())
}

/// Every row of y through the blocks at their coordinates; the others stay.
fn acted(layout: &StageLayout, y: Tensor<2>, blocks: Tensor<3>) -> Tensor<2> {
    let [batch, n] = y.dims();
    let (b, count) = (layout.block_size(), layout.num_blocks());
    let covered = b * count;
    match layout {
        StageLayout::Strided { unit, radix, distance, groups } => {
            let (unit, radix, across, groups) = (*unit, *radix, distance / unit, *groups);
            let head = y.clone().narrow(1, 0, covered).reshape([batch, groups, radix, across, unit]);
            let x = head.permute([1, 3, 0, 2, 4]).reshape([count, batch, b]);
            let x = multiplied(x, blocks).reshape([groups, across, batch, radix, unit]);
            let head = x.permute([2, 0, 3, 1, 4]).reshape([batch, covered]);
            if covered == n { head } else { Tensor::cat(vec![head, y.narrow(1, covered, n - covered)], 1) }
        }
        StageLayout::Table { .. } => {
            let (order, back) = layout.order(n);
            let y = y.clone().select(1, indices(order, &y.device()));
            let x = y.clone().narrow(1, 0, covered).reshape([batch, count, b]).swap_dims(0, 1);
            let head = multiplied(x, blocks).swap_dims(0, 1).reshape([batch, covered]);
            let y = if covered == n { head } else { Tensor::cat(vec![head, y.narrow(1, covered, n - covered)], 1) };
            y.clone().select(1, indices(back, &y.device()))
        }
    }
}

/// Row vectors times blocks: all at once where the block is one.
fn multiplied(x: Tensor<3>, blocks: Tensor<3>) -> Tensor<3> {
    let [count, batch, b] = x.dims();
    if blocks.dims()[0] == count {
        return x.matmul(blocks);
    }
    x.reshape([1, count * batch, b]).matmul(blocks).reshape([count, batch, b])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use papilio::adapter::{LayerKind, Method};

    use super::*;

    /// Layers on other backends than Flex go this way with what PEFT stores.
    #[test]
    fn every_stage_has_squares_of_its_own() -> Result<()> {
        let boft = Method::Boft { factors: 3, block: 4 }.on(LayerKind::Linear, &[2, 32])?;
        let squares = boft.squares().expect("BOFT stores squares");
        let numbers = |count: usize| (0..count).map(|i| (i * i % 17) as f64 / 8.0 - 1.0).collect::<Vec<_>>();
        let tensor = |numbers: Vec<f64>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(numbers, shape), (&Device::flex(), DType::F64))
        };
        let count = boft.rotation().shape.iter().product();
        for op in [Op::None, Op::Transpose] {
            let (x, stored) = (tensor(numbers(160), [5, 32]), tensor(numbers(count), [1, count]));
            let rotate = Rotate { plan: boft.plan().into(), stored: Stored::Squares(squares), op };
            let found = rotated(&rotate, x.clone(), stored.clone())?.to_data();
            let fused = rotate.apply(x, stored)?.to_data();
            let worst = found.iter::<f64>().zip(fused.iter::<f64>()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 16.0 * f64::EPSILON, "{op:?}: {worst:e}");
        }
        Ok(())
    }
}
