//! `apply` for all sizes, beside copies of the same batch and the dense product. One thread.

use criterion::Criterion;

use crate::support::{self, butterfly, copies, products};

pub(crate) fn apply(c: &mut Criterion) {
    for batch in [1, 16, 512] {
        let mut group = c.benchmark_group(format!("apply f32 batch={batch}"));
        for n in [64, 128, 256, 1024, 4096] {
            let blocks: &[_] = if n < 256 { &[(2, 0)] } else { &[(2, 0), (4, 2), (8, 4), (32, 2)] };
            for (b, m) in blocks {
                let (name, plan) = butterfly::<f32>(n, *b, *m);
                support::apply::<f32>(&mut group, &name, &plan, batch);
            }
            copies(&mut group, n, batch, size_of::<f32>());
            products::<f32>(&mut group, n, batch);
        }
        group.finish();
    }
}
