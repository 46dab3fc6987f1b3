//! One thread beside two, from 0.1 to 10 ms of work.

use crate::support::{apply_on, butterfly};
use criterion::Criterion;
use papilio::{Isa, Parallelism};

pub(crate) fn threads(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();
    // Some tenths of a nanosecond for each coordinate: many short vectors, and few long ones.
    let cases = [(1024, 256), (1024, 1 << 10), (1024, 1 << 12), (1024, 1 << 15), (1 << 20, 1), (1 << 20, 16)];
    for (n, batch) in cases {
        let (name, plan) = butterfly::<f32>(n, 2, 0);
        let mut group = c.benchmark_group(format!("threads f32 {name} batch={batch}"));
        apply_on::<f32>(&mut group, "1", &plan, batch, Parallelism::None, Isa::detect());
        apply_on::<f32>(&mut group, "2", &plan, batch, Parallelism::Rayon, Isa::detect());
        group.finish();
    }
}
