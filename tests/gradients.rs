//! Gradients to all parameters and inputs, for every chart × topology × Op, against fourth-order differences.

use std::sync::Arc;

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, Explicit};
use papilio::verify::plan_gradient;
use papilio::{Op, Parametrization, Plan, Result, Sharing, Source, StageLayout, Topology};

/// Approximately N(0, 1): the sum of twelve uniform numbers.
fn normal(g: &mut Generator, len: usize) -> Vec<f64> {
    (0..len).map(|_| (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0).collect()
}

/// Worst relative error over all Ops and two θ.
fn worst(plan: &Plan<f64>) -> f64 {
    let mut g = Generator::new(11);
    let mut worst = 0.0f64;
    for op in Op::ALL {
        for seed in 0..2 {
            let theta = normal(&mut g, plan.num_params());
            let found = plan_gradient(plan, &theta, op, seed).unwrap();
            worst = worst.max(found.theta).max(found.x);
        }
    }
    worst
}

#[test]
fn every_chart_on_every_topology() {
    let odd = Explicit::new(11, [(3, vec![10, 0, 5, 2, 7, 1]), (2, vec![3, 4, 9, 8]), (5, vec![0, 1, 2, 3, 10])]);
    let pairs = Explicit::new(7, [(2, vec![6, 0, 2, 3]), (2, vec![5, 4]), (2, vec![0, 1, 2, 4, 5, 3])]);
    let topologies: Vec<(usize, Box<dyn Topology>)> = vec![
        (1, Box::new(BlockDiagonal::new(1))),
        (6, Box::new(BlockDiagonal::new(3))),
        (12, Box::new(BlockDiagonal::new(12))),
        (2, Box::new(Butterfly::classic(2))),
        (32, Box::new(Butterfly::classic(2))),
        (24, Box::new(Butterfly::classic(2).with_stages(3))),
        (27, Box::new(Butterfly::classic(3))),
        (16, Box::new(Butterfly::classic(4))),
        (48, Box::new(Butterfly::boft(3, 4).unwrap())),
        (32, Box::new(Butterfly::boft(3, 8).unwrap())),
        (11, Box::new(odd.unwrap())),
        (7, Box::new(pairs.unwrap())),
    ];
    for (n, topology) in &topologies {
        let plans = [Plan::<f64>::new(*n, &**topology, Cayley), Plan::<f64>::new(*n, &**topology, Givens)];
        for plan in plans.into_iter().flatten() {
            let worst = worst(&plan);
            println!("{} n = {n}: {worst:.1e}", topology.name());
            assert!(worst <= 1e-9, "{} n = {n}: {worst:e}", topology.name());
        }
    }
}

#[test]
fn shared_fixed_and_adjoint_stages() {
    let chart: Arc<dyn Parametrization<f64>> = Arc::new(Cayley);
    let stage = |layout, sharing| (layout, Source::Chart { chart: chart.clone(), sharing });
    let shared = Plan::from_stages(
        12,
        [
            stage(StageLayout::contiguous(3, 4), Sharing::All),
            (StageLayout::contiguous(2, 6), Source::Fixed(Arc::from([0.6, -0.8, 0.8, 0.6].repeat(6)))),
            stage(StageLayout::contiguous(4, 3), Sharing::Groups(Arc::from([1, 0, 1]))),
        ],
    )
    .unwrap();
    let butterfly = Plan::new(12, &Butterfly::boft(2, 6).unwrap(), Cayley).unwrap();
    let plan = butterfly.adjoint().then(shared).unwrap();
    for plan in [plan.adjoint(), plan] {
        assert!(worst(&plan) <= 1e-9);
    }
}

/// Cayley with one sign flipped: entry (0, 1) of the cotangent.
#[derive(Debug)]
struct Flipped;

impl Parametrization<f64> for Flipped {
    fn name(&self) -> &'static str {
        "flipped"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Parametrization::<f64>::num_params(&Cayley, b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Cayley.forward(b, theta, block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        let mut wrong = d_block.to_vec();
        wrong[1] = -wrong[1];
        Cayley.vjp(b, theta, block, &wrong, d_theta);
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        Cayley.inverse(b, block, theta)
    }
}

#[test]
fn one_flipped_sign_is_seen() {
    let plan = Plan::<f64>::new(16, &Butterfly::boft(2, 4).unwrap(), Flipped).unwrap();
    assert!(worst(&plan) > 1e-2);
}
