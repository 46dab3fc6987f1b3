//! Blocks from parameters, and back.
//!
//! `cargo bench --bench apply -- 'b=8'` runs a part. What is done with blocks is in `speed`.

use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Exponential};
use papilio::topology::BlockDiagonal;
use papilio::{Parametrization, Plan};

fn random(len: usize) -> Vec<f32> {
    let mut g = Generator::new(1);
    (0..len).map(|_| g.uniform() as f32 - 0.5).collect()
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
    targets = charts
}
criterion_main!(benches);
