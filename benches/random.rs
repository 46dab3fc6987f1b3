//! Random rotations there and back, and the Walsh–Hadamard transform.
//!
//! `cargo bench --bench random -- 'n=1024'` runs a part. `papilio rotate --bench 1,16,512` puts copies and dense products beside them.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use papilio::generator::Generator;
use papilio::random::{RandomRotation, walsh_hadamard};

fn random(len: usize) -> Vec<f32> {
    let mut g = Generator::new(1);
    (0..len).map(|_| g.uniform() as f32 - 0.5).collect()
}

/// Norms are kept, so a batch can be turned again and again.
fn rotations(c: &mut Criterion) {
    for n in [128, 256, 384, 768, 1000, 1024, 1536, 3072, 4096] {
        let mut group = c.benchmark_group(format!("rotation f32 n={n}"));
        let rotation = RandomRotation::<f32>::new(n, 1).unwrap();
        for batch in [1, 16, 512] {
            let mut x = random(n * batch);
            group.throughput(Throughput::Elements((n * batch) as u64));
            group.bench_function(BenchmarkId::new("apply", batch), |bench| {
                bench.iter(|| rotation.apply(&mut x).unwrap());
            });
            group.bench_function(BenchmarkId::new("inverse", batch), |bench| {
                bench.iter(|| rotation.inverse(&mut x).unwrap());
            });
        }
        group.finish();
    }
}

/// Of zeros, which stay: sums of sums would overflow.
fn transforms(c: &mut Criterion) {
    let mut group = c.benchmark_group("walsh_hadamard f32");
    for bits in [7, 10, 12, 16, 18] {
        let mut x = vec![0f32; 1 << bits];
        group.throughput(Throughput::Elements(1 << bits));
        group.bench_function(BenchmarkId::from_parameter(1 << bits), |bench| {
            bench.iter(|| walsh_hadamard(&mut x).unwrap());
        });
    }
    group.finish();
}

/// Drawing one.
fn draws(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw f32");
    for n in [128, 1000, 4096] {
        group.bench_function(BenchmarkId::from_parameter(n), |bench| {
            bench.iter(|| RandomRotation::<f32>::new(n, 1).unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    targets = rotations, transforms, draws
}
criterion_main!(benches);
