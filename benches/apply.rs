//! Time of the four verbs, side by side with memcpy of the same batch and with the dense product (faer, one thread).
//!
//! `cargo bench --bench apply -- 'b=8'` runs a part. Elements per second are vector coordinates, so ns per element is
//! the inverse of the printed throughput.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Exponential, Givens};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::{
    Batch, BatchMut, Element, Op, Parallelism, Parametrization, Plan, Saved, Source, StageLayout, Workspace,
};

fn plans() -> Vec<(String, Plan<f32>)> {
    let mut plans = Vec::new();
    for n in [128, 1024, 4096] {
        plans.push((format!("b=2 full n={n}"), Plan::new(n, &Butterfly::classic(2), Givens).unwrap()));
    }
    for (b, m) in [(4, 2), (8, 4), (32, 2)] {
        for n in [1024, 4096] {
            let topology = Butterfly::boft(m, b).unwrap();
            plans.push((format!("b={b} m={m} n={n}"), Plan::new(n, &topology, Cayley).unwrap()));
        }
    }
    plans
}

fn random(len: usize) -> Vec<f32> {
    let mut g = Generator::new(1);
    (0..len).map(|_| g.uniform() as f32 - 0.5).collect()
}

fn apply(c: &mut Criterion) {
    let mut ws = Workspace::new();
    for batch in [1, 16, 512] {
        let mut group = c.benchmark_group(format!("apply f32 batch={batch}"));
        for (name, plan) in plans() {
            let n = plan.n();
            let factors = plan.realize(&random(plan.num_params())).unwrap();
            let (x, mut y) = (random(n * batch), vec![0f32; n * batch]);
            group.throughput(Throughput::Elements((n * batch) as u64));
            group.bench_function(BenchmarkId::from_parameter(&name), |bench| {
                bench.iter(|| {
                    let (x, y) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
                    plan.apply(&factors, x, y, Op::None, Parallelism::None, &mut ws).unwrap();
                });
            });
        }
        for n in [128, 1024, 4096] {
            let (x, mut y) = (random(n * batch), vec![0f32; n * batch]);
            group.throughput(Throughput::Elements((n * batch) as u64));
            group.bench_function(format!("memcpy n={n}"), |bench| bench.iter(|| y.copy_from_slice(black_box(&x))));
        }
        group.finish();
    }
}

/// A batch of 64 MiB in single precision, and the same numbers in half: all from memory.
fn beyond(c: &mut Criterion) {
    let batch = (16 << 20) / 1024;
    let mut group = c.benchmark_group("beyond the caches, n=1024");
    group.throughput(Throughput::Elements(16 << 20));
    let plan = Plan::<f32>::new(1024, &Butterfly::classic(2), Givens).unwrap();
    fn run<E: Element<Scalar = f32>>(
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        plan: &Plan<f32>,
        batch: usize,
    ) {
        let n = plan.n();
        let factors = plan.realize(&random(plan.num_params())).unwrap();
        let x: Vec<E> = random(n * batch).into_iter().map(E::store).collect();
        let (mut y, mut ws) = (x.clone(), Workspace::new());
        group.bench_function(format!("b=2 full {name}"), |bench| {
            bench.iter(|| {
                let (x, y) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
                plan.apply(&factors, x, y, Op::None, Parallelism::None, &mut ws).unwrap();
            });
        });
        group.bench_function(format!("memcpy {name}"), |bench| bench.iter(|| y.copy_from_slice(black_box(&x))));
    }
    run::<f32>(&mut group, "f32", &plan, batch);
    #[cfg(feature = "half")]
    {
        run::<half::bf16>(&mut group, "bf16", &plan, batch);
        run::<half::f16>(&mut group, "f16", &plan, batch);
    }
    group.finish();
}

fn dense(c: &mut Criterion) {
    let mut group = c.benchmark_group("dense f32 batch=512");
    for n in [128, 1024] {
        let (a, x, mut y) = (random(n * n), random(n * 512), vec![0f32; n * 512]);
        group.throughput(Throughput::Elements((n * 512) as u64));
        group.bench_function(format!("faer gemm n={n}"), |bench| {
            bench.iter(|| {
                faer::linalg::matmul::matmul(
                    faer::MatMut::from_row_major_slice_mut(&mut y, 512, n),
                    faer::Accum::Replace,
                    faer::MatRef::from_row_major_slice(&x, 512, n),
                    faer::MatRef::from_column_major_slice(&a, n, n),
                    1.0,
                    faer::Par::Seq,
                );
            });
        });
    }
    group.finish();
}

fn gradients(c: &mut Criterion) {
    verbs(c, "vjp f32", plans());
}

/// HRA's 32 reflections of 4096 coordinates.
fn reflectors(c: &mut Criterion) {
    let (n, count) = (4096, 32);
    let stage = (StageLayout::contiguous(n, 1), Source::reflectors(count));
    verbs(c, "reflectors f32", vec![(format!("r={count} n={n}"), Plan::from_stages(n, [stage]).unwrap())]);
}

fn verbs(c: &mut Criterion, name: &str, plans: Vec<(String, Plan<f32>)>) {
    let mut ws = Workspace::new();
    let batch = 256;
    let mut group = c.benchmark_group(format!("{name} batch={batch}"));
    for (name, plan) in plans {
        let n = plan.n();
        let theta = random(plan.num_params());
        let factors = plan.realize(&theta).unwrap();
        let (x, gy, mut gx) = (random(n * batch), random(n * batch), vec![0f32; n * batch]);
        let mut d = vec![0f32; plan.num_entries()];
        group.throughput(Throughput::Elements((n * batch) as u64));
        group.bench_function(BenchmarkId::new("apply", &name), |bench| {
            bench.iter(|| {
                let (x, y) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut gx, n).unwrap());
                plan.apply(&factors, x, y, Op::None, Parallelism::None, &mut ws).unwrap();
            });
        });
        group.bench_function(BenchmarkId::new("apply_vjp", &name), |bench| {
            bench.iter(|| {
                let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
                let gx = Some(BatchMut::rows(&mut gx, n).unwrap());
                plan.apply_vjp(&factors, saved, Op::None, gy, gx, Some(&mut d), Parallelism::None, &mut ws).unwrap();
            });
        });
        blocks(&mut group, &name, &plan);
    }
    group.finish();
}

/// Blocks from θ, and θ's gradient from that of the blocks.
fn blocks(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, plan: &Plan<f32>) {
    let theta = random(plan.num_params());
    let factors = plan.realize(&theta).unwrap();
    let (d, mut d_theta) = (random(plan.num_entries()), vec![0f32; theta.len()]);
    group.bench_function(BenchmarkId::new("realize", name), |bench| bench.iter(|| plan.realize(&theta).unwrap()));
    group.bench_function(BenchmarkId::new("realize_vjp", name), |bench| {
        bench.iter(|| plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap());
    });
}

/// Charts side by side: 4096/b blocks; elements per second are blocks.
fn charts(c: &mut Criterion) {
    let mut group = c.benchmark_group("charts f32");
    let n = 4096;
    let charts: [(&str, Arc<dyn Parametrization<f64>>); 2] =
        [("Cayley", Arc::new(Cayley)), ("Exponential", Arc::new(Exponential))];
    for b in [2, 4, 8, 16, 32] {
        for (name, chart) in &charts {
            let plan = Plan::new(n, &BlockDiagonal::new(b), chart.clone()).unwrap();
            group.throughput(Throughput::Elements((n / b) as u64));
            blocks(&mut group, &format!("{name} b={b}"), &plan);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(600));
    targets = apply, beyond, dense, gradients, reflectors, charts
}
criterion_main!(benches);
