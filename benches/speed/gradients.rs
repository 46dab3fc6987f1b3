//! `apply_vjp` beside `apply`: the gradient of the batch and of all blocks, stage inputs computed again. One thread.

use crate::support::{apply, butterfly, copies, vjp};
use criterion::Criterion;
use papilio::{Plan, Scalar, Source, StageLayout};

const BATCH: usize = 256;

fn both<T: Scalar>(c: &mut Criterion, kind: &str, plans: Vec<(String, Plan<T>)>) {
    let mut group = c.benchmark_group(format!("gradients {kind} batch={BATCH}"));
    for (name, plan) in &plans {
        apply::<T>(&mut group, &format!("apply {name}"), plan, BATCH);
        vjp(&mut group, &format!("apply_vjp {name}"), plan, BATCH, false);
        if plan.is_exact() {
            vjp(&mut group, &format!("apply_vjp from output {name}"), plan, BATCH, true);
        }
    }
    copies(&mut group, 1024, BATCH, size_of::<T>());
    group.finish();
}

fn plans<T: Scalar>(sizes: &[usize]) -> Vec<(String, Plan<T>)> {
    let blocks = [(2, 0), (4, 2), (8, 4), (32, 2)];
    blocks.into_iter().flat_map(|(b, m)| sizes.iter().map(move |n| butterfly(*n, b, m))).collect()
}

pub(crate) fn gradients(c: &mut Criterion) {
    both::<f32>(c, "f32", plans(&[256, 1024, 4096]));
    both::<f64>(c, "f64", plans(&[1024]));
    both::<papilio::c32>(c, "c32", plans(&[1024]));
}

/// HRA's 32 reflections of 4096 coordinates.
pub(crate) fn reflectors(c: &mut Criterion) {
    let (n, count) = (4096, 32);
    let stage = (StageLayout::contiguous(n, 1), Source::reflectors(count));
    both::<f32>(c, "reflectors f32", vec![(format!("r={count} n={n}"), Plan::from_stages(n, [stage]).unwrap())]);
}
