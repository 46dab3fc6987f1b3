//! The topologies that the command knows by name.

use std::sync::Arc;

use papilio::Topology;
use papilio::topology::{BlockDiagonal, Butterfly};

/// What a topology is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) n: usize,
    pub(crate) b: usize,
    /// `None`: as many as make it dense, or as the topology has by itself.
    pub(crate) stages: Option<usize>,
    pub(crate) seed: u64,
}

type Made = papilio::Result<Arc<dyn Topology>>;

/// A topology by name.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// For the list in the help.
    pub(crate) about: &'static str,
    /// Whether it can be had with any number of stages.
    pub(crate) has_depth: bool,
    pub(crate) make: fn(Request) -> Made,
}

fn made(topology: impl Topology + 'static) -> Made {
    Ok(Arc::new(topology))
}

const fn fixed(name: &'static str, about: &'static str, make: fn(Request) -> Made) -> Entry {
    Entry { name, about, has_depth: false, make }
}

const fn staged(name: &'static str, about: &'static str, make: fn(Request) -> Made) -> Entry {
    Entry { name, about, has_depth: true, make }
}

/// All of them, in the order of tables.
pub(crate) const ENTRIES: &[Entry] = &[
    fixed("dense", "one block of all coordinates", |r| made(BlockDiagonal::new(r.n))),
    fixed("block-diagonal", "blocks of b neighbours (OFT)", |r| made(BlockDiagonal::new(r.b))),
    staged("butterfly", "the classic butterfly, radix 2", |r| made(butterfly(2, r.stages))),
    staged("butterfly-b", "the butterfly of radix b", |r| made(butterfly(r.b, r.stages))),
    staged("boft", "the block butterfly BOFT(stages, b)", |r| made(boft(r)?)),
];

fn butterfly(radix: usize, stages: Option<usize>) -> Butterfly {
    Butterfly { stages, ..Butterfly::classic(radix) }
}

/// BOFT with the given number of stages, or with as many as fit.
fn boft(r: Request) -> papilio::Result<Butterfly> {
    if let Some(stages) = r.stages {
        return Butterfly::boft(stages, r.b);
    }
    let mut best = Butterfly::boft(1, r.b)?;
    for stages in 2..=r.n.max(2).ilog2() as usize + 1 {
        let longer = Butterfly::boft(stages, r.b)?;
        if longer.num_stages(r.n).is_ok() {
            best = longer;
        }
    }
    Ok(best)
}
