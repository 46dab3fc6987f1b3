//! Every wiring of the crate, once. A new one joins the tests by a line here.
#![allow(dead_code, unreachable_pub)] // every test binary uses a part

use std::sync::Arc;

use papilio::topology::*;

/// A wiring, and what is promised about it.
#[derive(Debug, Clone)]
pub struct Wiring {
    pub topology: Arc<dyn Topology>,
    /// Every output depends on every input, for all n that it accepts.
    pub dense: bool,
    /// It accepts every n ≥ 1.
    pub every_n: bool,
}

/// Every topology, in the variants that differ. `Explicit`, which is for one size, is made for n = 5.
pub fn all() -> Vec<Wiring> {
    let mut all = Vec::new();
    let mut add = |topology: Arc<dyn Topology>, dense: bool, every_n: bool| {
        all.push(Wiring { topology, dense, every_n });
    };
    let (classic, any) = (Butterfly::classic(2), AnyButterfly::new(2));
    add(Arc::new(BlockDiagonal::new(4)), false, false);
    add(Arc::new(BlockDiagonal::new(1)), false, true);
    add(Arc::new(Explicit::new(5, [(2, vec![0, 2, 1, 3]), (4, vec![1, 2, 3, 4])]).unwrap()), false, false);
    for b in [2, 3, 4, 8] {
        add(Arc::new(Butterfly::classic(b)), true, false);
        add(Arc::new(MixedRadix::new(b)), true, false);
        add(Arc::new(AnyButterfly::new(b)), true, true);
        add(Arc::new(GroupAndShuffle::new(b)), true, false);
    }
    add(Arc::new(Butterfly::boft(3, 8).unwrap()), false, false);
    add(Arc::new(GroupAndShuffle::new(6).with_stages(2)), false, false);
    add(Arc::new(Reversed(classic)), true, false);
    add(Arc::new(Reversed(AnyButterfly::new(3))), true, true);
    add(Arc::new(Repeated::new(any, 3)), true, true);
    add(Arc::new(Repeated::new(any, 0)), false, true);
    add(Arc::new(Sequence(vec![Arc::new(any), Arc::new(BinaryTree), Arc::new(Brick)])), true, true);
    add(Arc::new(Sequence::default()), false, true);
    add(Arc::new(Kaleidoscope::new(any)), true, true);
    add(Arc::new(Kaleidoscope::merged(any)), true, true);
    add(Arc::new(Kaleidoscope::merged(Reversed(AnyButterfly::new(4)))), true, true);
    add(Arc::new(GeneralizedBoft::new(2, 4, 1, 6, 2).unwrap()), false, false);
    add(Arc::new(Benes), true, true);
    add(Arc::new(RandomShuffle { block: 3, stages: 4, seed: 1 }), false, false);
    add(Arc::new(RandomPairings { stages: 4, seed: 2 }), false, true);
    add(Arc::new(RandomTables { block: 2, blocks: 3, stages: 4, seed: 3 }), false, false);
    add(Arc::new(Monarch::new(2)), true, true);
    add(Arc::new(Monarch::new(3)), true, true);
    add(Arc::new(Monarch::strict(2)), true, false);
    add(Arc::new(Brick), true, true);
    add(Arc::new(Triangle), true, true);
    add(Arc::new(BinaryTree), false, true);
    add(Arc::new(Kronecker::balanced(any, any)), true, true);
    add(Arc::new(Kronecker::balanced(any, AnyButterfly::new(3)).unshared()), true, true);
    add(Arc::new(Kronecker::new(6, MixedRadix::new(3), Shared::by_stage(any))), true, false);
    add(
        Arc::new(Kronecker::new(6, Shared::by_stage(any), Shared::by_group(Butterfly::boft(2, 4).unwrap())).unshared()),
        false,
        false,
    );
    add(Arc::new(Shared::by_stage(any)), true, true);
    add(Arc::new(Shared::by_group(classic)), true, false);
    all
}
