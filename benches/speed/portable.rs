//! Every instruction set of this CPU, forced, beside a plain loop over the same blocks that the compiler was free to vectorise
//! for the target it builds for. One thread.

use crate::support::{apply_on, butterfly, random, theta, yardsticks};
use criterion::Criterion;
use papilio::{Isa, Parallelism};

pub(crate) fn portable(c: &mut Criterion) {
    for (batch, n) in [(1, 1024), (512, 256), (512, 1024)] {
        let mut group = c.benchmark_group(format!("instruction sets f32 n={n} batch={batch}"));
        for (b, m) in [(2, 0), (8, 4), (32, 2)] {
            let (name, plan) = butterfly::<f32>(n, b, m);
            for isa in Isa::available() {
                apply_on::<f32>(&mut group, &format!("{isa:?} {name}"), &plan, batch, Parallelism::None, isa);
            }
            let naive = yardsticks::Naive::new(&plan, &plan.realize(&theta(&plan)).unwrap()).unwrap();
            let (x, mut y) = (random::<f32>(n * batch), random::<f32>(n * batch));
            group.bench_function(format!("naive {name}"), |bench| bench.iter(|| naive.apply(&x, &mut y)));
        }
        group.finish();
    }
}
