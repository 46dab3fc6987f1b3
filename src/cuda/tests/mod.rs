//! Kernels on the CPU against the CPU's kernels, bit for bit where both do the same arithmetic.

mod apply;
mod blocks;
mod calls;
mod compile;
mod estimate;
mod gradients;
mod random_rotations;
mod tensor;

use std::println;
use std::vec::Vec;

use super::Precision;
use super::call::Call;
use super::driver;
use super::emulation::{self, Memory};
use super::estimate::Speeds;
use super::program::{Stored, Wanted};
use super::random;
use super::schedule::{self, NONE, Schedule};
use super::tile::{self, Tile};
use super::verbs::{self, Rows};
use half::{bf16, f16};

use super::blocks::Blocks;
use super::buffer::{self, Number};
use crate::layout::{Sharing, StageLayout};
use crate::parametrization::{Cayley, CayleyNeumann, Exponential, Givens};
use crate::plan::{Factors, Op, Plan, Saved, Source, Workspace};
use crate::random::{Direction, RandomRotation};
use crate::topology::{AnyButterfly, BlockDiagonal, Butterfly, Monarch, RandomShuffle};
use crate::{Batch, BatchMut, Parallelism};

fn theta(plan: &Plan<f32>) -> Vec<f32> {
    (0..plan.num_params()).map(|i| (1.7 * i as f32 + 0.3).sin() * 0.8).collect()
}

fn vectors(n: usize, batch: usize) -> Vec<f32> {
    (0..n * batch).map(|i| ((i * i) as f32 * 0.37 + i as f32).sin()).collect()
}

fn numbers(schedule: &Schedule, factors: &Factors<f32>) -> Vec<f32> {
    let of = |at: &u32| if *at == NONE { f32::NAN } else { factors.entries()[*at as usize] };
    schedule.numbers.iter().map(of).collect()
}

/// Plans of every kind: what a window can be, sizes that do not divide, tables, sharing, partial stages, adjoints.
fn plans() -> Vec<(&'static str, Plan<f32>)> {
    let shared = |b, count| {
        let source = Source::Chart { chart: std::sync::Arc::new(Cayley), sharing: Sharing::All };
        [(StageLayout::contiguous(b, count), source)]
    };
    let table = StageLayout::Table { block: 3, index: [9, 1, 4, 0, 7, 2].into() };
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    Vec::from([
        ("classic 64", Plan::new(64, &Butterfly::classic(2), Givens).unwrap()),
        ("classic 256, exponential", Plan::new(256, &Butterfly::classic(2), Exponential).unwrap()),
        ("classic 2", Plan::new(2, &Butterfly::classic(2), Givens).unwrap()),
        ("identity 5", Plan::identity(5).unwrap()),
        ("boft 4, 8", plan(128, &Butterfly::boft(4, 8).unwrap())),
        ("boft 3, 4", plan(48, &Butterfly::boft(3, 4).unwrap())),
        ("boft 3, 4 of 320", plan(320, &Butterfly::boft(3, 4).unwrap())),
        ("radix 4", plan(64, &Butterfly::classic(4))),
        ("blocks of 16", plan(48, &BlockDiagonal::new(16))),
        ("blocks of 10", plan(50, &BlockDiagonal::new(10))),
        ("boft 2, 32", plan(128, &Butterfly::boft(2, 32).unwrap())),
        ("one block of 13", plan(13, &BlockDiagonal::new(13))),
        ("any 37", plan(37, &AnyButterfly::new(4))),
        ("any 30", plan(30, &AnyButterfly::new(2))),
        ("monarch 36", plan(36, &Monarch::new(6))),
        ("random 40", plan(40, &RandomShuffle { block: 4, stages: 3, seed: 7 })),
        ("shared", Plan::from_stages(24, shared(4, 6)).unwrap()),
        ("partial table", Plan::from_stages(11, [(table, Source::chart(Cayley))]).unwrap()),
        (
            "there and back",
            plan(32, &Butterfly::boft(2, 4).unwrap()).then(plan(32, &Butterfly::classic(2)).adjoint()).unwrap(),
        ),
    ])
}

/// One stage of fixed blocks side by side.
fn fixed(b: usize, blocks: &[f64]) -> Plan<f32> {
    let count = blocks.len() / (b * b);
    Plan::from_stages(b * count, [(StageLayout::contiguous(b, count), Source::Fixed(blocks.into()))]).unwrap()
}

fn on_cpu(plan: &Plan<f32>, factors: &Factors<f32>, op: Op, x: &[f32]) -> Vec<f32> {
    let mut y = std::vec![f32::NAN; x.len()];
    let (input, output) = (Batch::rows(x, plan.n()).unwrap(), BatchMut::rows(&mut y, plan.n()).unwrap());
    plan.apply(factors, input, output, op, Parallelism::None, &mut Workspace::new()).unwrap();
    y
}

/// Whether this CPU's kernels fuse, as the device does.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// The largest difference in units of eps times the largest number.
fn ratio(a: &[f32], b: &[f32]) -> f32 {
    let size = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let miss =
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m: f32, d| if d <= m || m.is_nan() { m } else { d });
    if miss == 0.0 { 0.0 } else { miss / (size * f32::EPSILON) }
}
