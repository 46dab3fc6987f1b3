//! Arbitrary index tables beside the butterfly with as many stages: random pairings and shuffles, the Beneš network. One thread.

use crate::support::{apply, butterfly, copies};
use criterion::Criterion;
use papilio::parametrization::Cayley;
use papilio::topology::{Benes, RandomPairings, RandomShuffle};
use papilio::{Plan, Topology};

pub(crate) fn tables(c: &mut Criterion) {
    let (n, stages, seed) = (1024, 10, 1);
    let shuffle = |block, stages| RandomShuffle { block, stages, seed };
    let wirings: [(&str, &dyn Topology); 4] = [
        ("pairings b=2 m=10", &RandomPairings { stages, seed }),
        ("shuffle b=8 m=4", &shuffle(8, 4)),
        ("shuffle b=32 m=2", &shuffle(32, 2)),
        ("benes b=2", &Benes),
    ];
    for batch in [1, 16, 512] {
        let mut group = c.benchmark_group(format!("tables f32 n={n} batch={batch}"));
        for (b, m) in [(2, 0), (8, 4), (32, 2)] {
            let (name, plan) = butterfly::<f32>(n, b, m);
            apply::<f32>(&mut group, &format!("butterfly {name}"), &plan, batch);
        }
        for (name, topology) in wirings {
            let plan = Plan::<f32>::new(n, topology, Cayley).unwrap();
            apply::<f32>(&mut group, name, &plan, batch);
        }
        copies(&mut group, n, batch, 4);
        group.finish();
    }
}
