//! Against papilio's own pullbacks, burn's autodiff on tensor operations, finite differences, PEFT's golden gradients; types,
//! shapes, strides, errors, training, files.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod files;
mod functions;
mod hook;
mod layers;
mod operations;
mod training;

use burn::tensor::{DType, Device, Tensor};
use papilio::adapter::Sides;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, RandomShuffle, Shared};
use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Saved, Scalar, Workspace};
use papilio_burn::Method;
use support::noise;

const BOFT: Method = Method::Boft { factors: 2, block: 4 };
const OFT: Method = Method::Oft { block: 4, share: false, terms: None };

fn device() -> Device {
    Device::flex().autodiff()
}

/// A tensor of numbers without a pattern.
fn tensor<const D: usize>(seed: u64, shape: [usize; D], dtype: DType) -> Tensor<D> {
    given(noise(seed, shape.iter().product()), shape, dtype)
}

fn given<const D: usize>(numbers: Vec<f64>, shape: [usize; D], dtype: DType) -> Tensor<D> {
    let data = burn::tensor::TensorData::new(numbers, shape);
    Tensor::from_data(data, (&device(), dtype))
}

fn numbers<const D: usize>(t: &Tensor<D>) -> Vec<f64> {
    t.to_data().iter::<f64>().collect()
}

fn bits<const D: usize>(t: &Tensor<D>) -> Vec<u64> {
    numbers(t).into_iter().map(f64::to_bits).collect()
}

/// Gradients of ⟨y, g⟩.
fn pulled<const D: usize>(y: Tensor<D>, g: Tensor<D>) -> burn::tensor::Gradients {
    (y * g).sum().backward()
}

fn gradient<const D: usize>(all: &burn::tensor::Gradients, of: &Tensor<D>) -> Vec<f64> {
    let g = of.grad(all).expect("a gradient");
    assert_eq!((g.dims(), g.dtype()), (of.dims(), of.dtype()));
    numbers(&g)
}

/// y, ∂x and ∂θ of papilio itself.
fn truth<T: Scalar<Wide = f64>>(
    plan: &Plan<T>,
    x: &[f64],
    theta: &[f64],
    g: &[f64],
    op: Op,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let narrow = |x: &[f64]| x.iter().map(|x| T::from_wide(*x)).collect::<Vec<_>>();
    let wide = |x: &[T]| x.iter().map(|x| x.to_wide()).collect::<Vec<_>>();
    let (x, g, n, ws) = (narrow(x), narrow(g), plan.n(), &mut Workspace::new());
    let factors = plan.realize(theta).unwrap();
    let (mut y, mut d_x) = (x.clone(), x.clone());
    let (from, par) = (Batch::rows(&x, n).unwrap(), Parallelism::None);
    plan.apply(&factors, from, BatchMut::rows(&mut y, n).unwrap(), op, par, ws).unwrap();
    let mut d_factors = narrow(&vec![0.0; plan.num_entries()]);
    let mut d_theta = vec![0.0; plan.num_params()];
    let (g, d) = (Batch::rows(&g, n).unwrap(), BatchMut::rows(&mut d_x, n).unwrap());
    plan.apply_vjp(&factors, Saved::Input(from), op, g, Some(d), Some(&mut d_factors), par, ws).unwrap();
    plan.realize_vjp(theta, &factors, &d_factors, &mut d_theta).unwrap();
    (wide(&y), wide(&d_x), d_theta)
}

/// Strided stages, tables, blocks that leave coordinates out, shared ones, an adjoint.
fn plans() -> Vec<Plan<f64>> {
    let boft = Plan::new(24, &Butterfly::boft(2, 6).unwrap(), Cayley).unwrap();
    vec![
        Plan::new(32, &Butterfly::boft(3, 8).unwrap(), Cayley).unwrap(),
        Plan::new(16, &Butterfly::classic(2), Givens).unwrap(),
        Plan::new(16, &Butterfly::classic(4), Cayley).unwrap(),
        Plan::new(15, &BlockDiagonal::new(3), Cayley).unwrap(),
        Plan::new(12, &Shared::by_stage(BlockDiagonal::new(4)), Cayley).unwrap(),
        Plan::new(12, &RandomShuffle { block: 4, stages: 3, seed: 5 }, Cayley).unwrap(),
        boft.adjoint().then(boft).unwrap(),
        ragged(),
        Plan::new(1, &BlockDiagonal::new(1), Cayley).unwrap(),
        Plan::identity(5).unwrap(),
    ]
}

/// Two blocks of 2 on 7 coordinates, strided and by a table, the latter shared; and a fixed swap.
fn ragged() -> Plan<f64> {
    use papilio::{Sharing, Source, StageLayout};
    let chart = |sharing| Source::Chart { chart: std::sync::Arc::new(Cayley), sharing };
    let table = StageLayout::Table { block: 2, index: [6, 1, 3, 0].into() };
    let swaps = Source::Fixed([0.0, 1.0, 1.0, 0.0].repeat(2).into());
    let stages = [
        (StageLayout::Strided { unit: 1, radix: 2, distance: 2, groups: 1 }, chart(Sharing::PerBlock)),
        (table.clone(), chart(Sharing::All)),
        (StageLayout::contiguous(3, 2), chart(Sharing::Groups([1, 0].into()))),
        (table, swaps),
    ];
    Plan::from_stages(7, stages).unwrap()
}

fn same_sides(a: &Sides, b: &Sides) {
    assert_eq!(a.right.as_ref().unwrap().theta(), b.right.as_ref().unwrap().theta());
    assert_eq!(a.scale, b.scale);
}
