//! The topologies that the command knows by name.

use std::sync::Arc;

use papilio::Topology;
use papilio::topology::{
    AnyButterfly, Benes, BinaryTree, BlockDiagonal, Brick, Butterfly, GeneralizedBoft, GroupAndShuffle, Kaleidoscope,
    Kronecker, MixedRadix, Monarch, RandomPairings, RandomShuffle, RandomTables, Repeated, Reversed, Shared, Triangle,
};

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

/// Coordinates in all stages, at most: half a gigabyte of tables, and seconds to carry reachability through them.
const MOST_COORDINATES: usize = 1 << 27;

/// What a stage counts for at least: it takes some hundred bytes however few its coordinates are.
const SHORT_STAGE: usize = 256;

impl Entry {
    /// The topology, unless its stages would fill the memory.
    pub(crate) fn made(&self, request: Request) -> Made {
        let topology = (self.make)(request)?;
        let stages = topology.num_stages(request.n)?;
        let counted = request.n.max(SHORT_STAGE);
        if stages.saturating_mul(counted) > MOST_COORDINATES {
            return Err(papilio::Error::Size {
                what: self.name,
                expected: format!("at most {} stages at this n", MOST_COORDINATES / counted),
                got: stages.to_string(),
            });
        }
        Ok(topology)
    }
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
    staged("reversed-butterfly", "the classic butterfly, longest stride first", |r| {
        made(Reversed(butterfly(2, r.stages)))
    }),
    staged("butterfly-b", "the butterfly of radix b", |r| made(butterfly(r.b, r.stages))),
    staged("boft", "the block butterfly BOFT(stages, b)", |r| made(boft(r)?)),
    fixed("generalized-boft", "R_G with two pairs of BOFT and its transpose", |r| {
        let m = boft(Request { stages: None, ..r })?.stages.unwrap_or(1);
        made(GeneralizedBoft::new(m, r.b, m, r.b, 2)?)
    }),
    fixed("mixed-radix", "the butterfly whose radices are factors of n, at most b", |r| made(MixedRadix::new(r.b))),
    fixed("any-butterfly", "a dense butterfly for every n, blocks of at most b", |r| made(AnyButterfly::new(r.b))),
    staged("group-and-shuffle", "GSOFT of any order: blocks of b and perfect shuffles", |r| {
        made(GroupAndShuffle { block: r.b, stages: r.stages })
    }),
    staged("monarch", "Monarch: as many stages, 2 by default, on a grid with sides as equal as can be", |r| {
        made(Monarch::new(r.stages.unwrap_or(2)))
    }),
    fixed("benes", "the Beneš network: all permutations", |_| made(Benes)),
    fixed("kaleidoscope", "B·Bᵀ of butterflies of radix 2", |_| made(Kaleidoscope::new(AnyButterfly::new(2)))),
    fixed("butterfly-twice", "two butterflies of radix 2 in the same direction", |_| {
        made(Repeated::new(AnyButterfly::new(2), 2))
    }),
    staged("random-pairings", "random pairs in every stage", |r| {
        made(RandomPairings { stages: r.random_depth(2), seed: r.seed })
    }),
    staged("random-shuffle", "random blocks of b in every stage", |r| {
        made(RandomShuffle { block: r.b, stages: r.random_depth(r.b), seed: r.seed })
    }),
    staged("random-tables", "random blocks of b on about half of the coordinates", |r| {
        let blocks = (r.n / r.b).div_ceil(2);
        let stages = r.stages.unwrap_or_else(|| 2 * r.random_depth(r.b));
        made(RandomTables { block: r.b, blocks, stages, seed: r.seed })
    }),
    fixed("brick", "the mesh of Clements et al.: all rotations", |_| made(Brick)),
    fixed("triangle", "the mesh of Reck et al.: all rotations", |_| made(Triangle)),
    fixed("tree", "the binary tree of GOFT", |_| made(BinaryTree)),
    fixed("kronecker", "A ⊗ B of dense factors as equal as can be, shared", |r| kronecker(r, true)),
    fixed("kronecker-unshared", "the same wiring, each row and column for itself", |r| kronecker(r, false)),
    fixed("scalar-butterfly", "one angle for each group of a stage", |_| made(Shared::by_group(Butterfly::classic(2)))),
    fixed("simple-butterfly", "one angle for each stage", |_| made(Shared::by_stage(Butterfly::classic(2)))),
];

impl Request {
    /// Stages after which random blocks of b are probably dense: log_b n + log_b ln n and some.
    fn random_depth(self, b: usize) -> usize {
        let (n, b) = ((self.n as f64).max(3.0), (b as f64).max(2.0));
        self.stages.unwrap_or(((n.ln() + n.ln().ln()) / b.ln()).ceil() as usize + 1)
    }
}

/// A ⊗ B with one block each.
fn kronecker(r: Request, shared: bool) -> Made {
    let left = (1..=r.n.isqrt()).rev().find(|left| r.n.is_multiple_of(*left)).unwrap_or(1);
    let factors = Kronecker::new(left, BlockDiagonal::new(left), BlockDiagonal::new(r.n / left));
    made(if shared { factors } else { factors.unshared() })
}

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
