//! Structured or dense: a model of what either costs on a device, by bytes and operations. Nothing in it was measured
//! yet.
//!
//! | what | structured | dense |
//! |---|---|---|
//! | memory | x and y once | x, y and the matrix once |
//! | second-level cache | entries once for each tile, at 64 bytes for a multiprocessor and cycle, of which half is reached | |
//! | shared memory | a tile is filled and emptied, each pass reads and writes it, at 128 bytes for a multiprocessor and cycle | |
//! | arithmetic | 128 multiply-adds for a multiprocessor and cycle, and as many other operations | tensor cores, of which 70% are reached |
//!
//! The largest of these, and a launch.

use super::buffer::{Number, stored};
use super::plan::DevicePlan;
use super::program::Stored;
use super::{Precision, verbs};

/// Seconds that one `apply` should take, by the model of the device's data sheet.
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

/// A launch, in seconds.
const LAUNCH: f64 = 4e-6;

impl DevicePlan {
    /// What `apply` should cost for so many vectors, structured and dense.
    ///
    /// The table it should come from has not been measured yet: it is a [model](Estimate) by bytes and operations, good
    /// to a factor of two or so. `examples/cuda_bench.rs` measures both.
    pub fn estimate<E: Number>(&self, batch: usize, precision: Precision) -> Estimate {
        estimate(self.schedule(), self.tile(stored::<E>()), self.speeds(), stored::<E>(), batch, precision)
    }
}

/// The model.
pub(super) fn estimate(
    schedule: &super::schedule::Schedule,
    tile: super::program::Tile,
    speeds: Speeds,
    stored: Stored,
    batch: usize,
    precision: Precision,
) -> Estimate {
    let bytes = if stored == Stored::F32 { 4.0 } else { 2.0 };
    let (n, batch) = (schedule.n as f64, batch as f64);
    let tiles = (batch / tile.vectors() as f64).ceil();
    let entries = schedule.numbers.len() as f64;
    // A rotation has two numbers where a block of two has four entries, and as many multiply-adds.
    let products = verbs::products(schedule) as f64;
    let structured = [
        2.0 * n * batch * bytes / speeds.memory,
        4.0 * entries * tiles / (32.0 * speeds.cycles),
        8.0 * n * batch * (schedule.passes.len() + 1) as f64 / (128.0 * speeds.cycles),
        2.0 * products * batch / (128.0 * speeds.cycles),
    ];
    let rate = match (stored, precision) {
        (Stored::F32, Precision::F32) => 128.0,
        (Stored::F32, Precision::Tf32) => 0.5 * speeds.tensor,
        _ => speeds.tensor,
    };
    let dense = [(2.0 * n * batch + n * n) * bytes / speeds.memory, n * n * batch / (0.7 * rate * speeds.cycles)];
    let most = |of: &[f64]| LAUNCH + of.iter().fold(0.0, |m: f64, x| m.max(*x));
    Estimate { structured: most(&structured), dense: most(&dense) }
}
