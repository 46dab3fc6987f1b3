//! What `Plan::explain` tells, against counts by hand and against what plans say of themselves.

use papilio::parametrization::{Cayley, Charts};
use papilio::topology::{Benes, BlockDiagonal, Butterfly, RandomShuffle};
use papilio::{Isa, Kernel, Plan, Scalar, Source, StageLayout, Topology, c64};

const BATCHES: [usize; 5] = [0, 1, 3, 16, 1000];

fn butterfly<T: Scalar>(n: usize, m: usize, b: usize) -> Plan<T> {
    Plan::new(n, &Butterfly::boft(m, b).unwrap(), Charts::new().find("Cayley").unwrap()).unwrap()
}

#[test]
fn stages_are_told_once_and_in_order() {
    let shuffle = RandomShuffle { block: 4, stages: 3, seed: 1 };
    let topologies: [&dyn Topology; 4] = [&Butterfly::classic(2), &Benes, &shuffle, &BlockDiagonal::new(32)];
    for isa in Isa::available() {
        for batch in BATCHES {
            for topology in topologies {
                let plan = Plan::<f32>::new(64, topology, Cayley).unwrap();
                let told = plan.explain(batch, isa);
                let mut next = 0;
                for pass in &told.passes {
                    assert!(pass.stages.start == next && pass.stages.len() == pass.wirings.len(), "{told}");
                    next = pass.stages.end;
                }
                assert_eq!(next, plan.num_stages(), "{told}");
                assert_eq!(told.entry_bytes(), 4 * plan.num_entries() as u64, "{told}");
                assert_eq!(told.batch_bytes, 2 * 4 * 64 * batch as u64);
                // One line for each pass, between what comes first and what comes last.
                assert_eq!(told.to_string().lines().count(), told.passes.len() + 3, "{told}");
            }
        }
    }
}

#[test]
fn operations_are_those_of_the_arithmetic_contract() {
    // 8 stages of 128 pairs: 2 products and 2 multiply-adds.
    assert_eq!(butterfly::<f32>(256, 8, 2).explain(5, Isa::Portable).flops(), 5 * 8 * 128 * 6);
    // 2 stages of 32 blocks: 8 products and 56 multiply-adds; a complex one is 6 and 8 operations.
    assert_eq!(butterfly::<f64>(256, 2, 8).explain(1, Isa::Portable).flops(), 2 * 32 * (8 + 2 * 56));
    assert_eq!(butterfly::<c64>(256, 2, 8).explain(1, Isa::Portable).flops(), 2 * 32 * (8 * 6 + 8 * 56));
    // 3 reflections of 100 coordinates: a scalar product and a sum each.
    let plan = Plan::<f32>::from_stages(100, [(StageLayout::contiguous(100, 1), Source::reflectors(3))]).unwrap();
    for batch in [1, 64] {
        let told = plan.explain(batch, Isa::Portable);
        assert_eq!((told.flops(), told.passes[0].kernel), (batch as u64 * 4 * 300, Kernel::Reflectors));
    }
    let none = Plan::<f32>::identity(7).unwrap().explain(3, Isa::Portable);
    assert_eq!((none.flops(), none.entry_bytes(), none.batch_bytes), (0, 0, 2 * 4 * 7 * 3));
}

#[test]
fn the_bound_is_the_larger_of_arithmetic_and_traffic() {
    let told = butterfly::<f32>(256, 8, 2).explain(100, Isa::Portable);
    let (flops, bytes) = (100.0 * 8.0 * 128.0 * 6.0, (2.0 * 4.0 * 256.0 * 100.0) + 8.0 * 128.0 * 4.0 * 4.0);
    for (peak, bandwidth) in [(1e9, 1e30), (1e30, 1e9), (1e11, 2e10)] {
        let expected = f64::max(flops / peak, bytes / bandwidth);
        assert!((told.bound(peak, bandwidth) / expected - 1.0).abs() < 1e-15);
    }
}
