//! Scalars and storage types beside `f32`: `f64`, `c32`, and batches of `bf16` and `f16`, in cache and beyond. One thread.

use crate::support::{apply, butterfly, copies, products};
use criterion::Criterion;
use papilio::{Scalar, c32};

pub(crate) fn scalars(c: &mut Criterion) {
    fn run<T: Scalar + faer::traits::ComplexField>(c: &mut Criterion, kind: &str) {
        for batch in [1, 512] {
            let mut group = c.benchmark_group(format!("apply {kind} batch={batch}"));
            for n in [256, 1024, 4096] {
                for (b, m) in [(2, 0), (8, 4), (32, 2)] {
                    let (name, plan) = butterfly::<T>(n, b, m);
                    apply::<T>(&mut group, &name, &plan, batch);
                }
                copies(&mut group, n, batch, size_of::<T>());
            }
            products::<T>(&mut group, 1024, batch);
            group.finish();
        }
    }
    run::<f64>(c, "f64");
    run::<c32>(c, "c32");
}

/// Batches of 16 Mi coordinates, 64 MiB in single precision: all from memory.
pub(crate) fn beyond(c: &mut Criterion) {
    for n in [128, 1024, 4096] {
        let batch = (16 << 20) / n;
        let (name, plan) = butterfly::<f32>(n, 2, 0);
        let mut group = c.benchmark_group(format!("beyond the caches {name}"));
        apply::<f32>(&mut group, "f32", &plan, batch);
        copies(&mut group, n, batch, 4);
        #[cfg(feature = "half")]
        {
            apply::<half::bf16>(&mut group, "bf16", &plan, batch);
            apply::<half::f16>(&mut group, "f16", &plan, batch);
        }
        group.finish();
    }
}
