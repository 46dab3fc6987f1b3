//! Structured or dense: what either costs on a device, by a model whose constants were fitted to measurements on an
//! H100 (`tests/data/cuda_crossover.csv`; a test compares them).
//!
//! | what | structured | dense |
//! |---|---|---|
//! | memory | x and y once | x, y and the matrix once |
//! | arithmetic | a multiply-add for each product, and 9 other instructions for a number, or 22 with large blocks, more where fewer than four vectors share entries; 128 lanes of a multiprocessor, busy for 65% of the time | tensor cores, of which 70% are reached; without, 70% of the lanes |
//! | latency | 2.5 µs, 0.75 for each pass, 2.6 to keep large blocks | 8 µs |
//!
//! Memory is read and written at 85% of what the data sheet says, and at four times that where all fits the
//! second-level cache of an H100. The larger of memory and arithmetic, and the latency.

use super::buffer::{Number, stored};
use super::plan::DevicePlan;
use super::program::Stored;
use super::schedule::Schedule;
use super::tile::Tile;
use super::{Precision, verbs};

/// Seconds that one `apply` should take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// By [`DevicePlan::apply`].
    pub structured: f64,
    /// By [`Dense::apply`](super::Dense::apply), the matrix being there already.
    pub dense: f64,
}

impl Estimate {
    /// Whether the dense product should be faster.
    pub fn prefers_dense(&self) -> bool {
        self.dense < self.structured
    }
}

/// What a device can do in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speeds {
    /// Bytes of device memory.
    pub(super) memory: f64,
    /// Cycles of all multiprocessors together.
    pub(super) cycles: f64,
    /// Multiply-adds of half precision in a cycle of one multiprocessor's tensor cores.
    pub(super) tensor: f64,
}

impl DevicePlan {
    /// What `apply` should cost for so many vectors, structured and dense: a [model](Estimate) fitted to an H100, where
    /// it is good to a factor of 2.3 and, of 184 cases where one is faster by a quarter, takes the slower one once.
    pub fn estimate<E: Number>(&self, batch: usize, precision: Precision) -> Estimate {
        let stored = stored::<E>();
        estimate(self.schedule(), self.tile(stored), self.speeds(), stored, batch, precision)
    }
}

/// Bytes of x and y that stay in the second-level cache.
const CACHED: f64 = 40e6;

/// The model.
pub(super) fn estimate(
    schedule: &Schedule,
    tile: Tile,
    speeds: Speeds,
    stored: Stored,
    batch: usize,
    precision: Precision,
) -> Estimate {
    let bytes = if stored == Stored::F32 { 4.0 } else { 2.0 };
    let (n, batch) = (schedule.n as f64, batch as f64);
    let lanes = 128.0 * speeds.cycles;
    let vectors = 2.0 * n * batch * bytes;
    let memory = |bytes: f64| bytes / (0.85 * speeds.memory * if bytes <= CACHED { 4.0 } else { 1.0 });
    let passes = schedule.passes.len() as f64;
    let wide = schedule.passes.iter().any(super::schedule::Pass::is_wide);
    let (instructions, latency) = match (stored, &schedule.chain) {
        // Tensor cores hardly count beside what moves numbers to them.
        (Stored::Bf16 | Stored::F16, Some(_)) => (22.0, 0.0),
        _ => {
            let products = verbs::products(schedule) as f64 / n;
            // Entries are read more often where fewer vectors share them.
            let few = 4.0 / tile.chunk as f64;
            let latency = if tile.kept { 2.6e-6 } else { 2.5e-6 * (few - 1.0) };
            (few.sqrt() * few.sqrt().sqrt() * (products + if wide { 22.0 } else { 9.0 }), latency)
        }
    };
    let structured = [memory(vectors), instructions * n * batch / (0.65 * lanes), 2.5e-6 + 0.75e-6 * passes + latency];
    let rate = match (stored, precision) {
        (Stored::F32, Precision::F32) => 128.0,
        (Stored::F32, Precision::Tf32) => 0.5 * speeds.tensor,
        _ => speeds.tensor,
    };
    let matrix = n * n * bytes;
    let dense = [memory(vectors + matrix), n * n * batch / (0.7 * rate * speeds.cycles), 8e-6];
    let sum = |[memory, arithmetic, latency]: [f64; 3]| memory.max(arithmetic) + latency;
    Estimate { structured: sum(structured), dense: sum(dense) }
}
