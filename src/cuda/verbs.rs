//! What the verbs launch. Nothing here knows a device: only shapes.

use std::format;
use std::vec::Vec;

use super::call::{Argument, Call};
use super::program::{self, Stored, Tile};
use super::schedule::Schedule;
use crate::error::{Error, Result};

/// Rows of a batch: how many, how far apart, and whether they start at multiples of four numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) batch: usize,
    pub(super) stride: usize,
    pub(super) aligned: bool,
}

/// The tile for vectors of length n where a block of threads has that much shared memory, with `tiles` of them.
///
/// Chunks of four vectors, or fewer where they do not fit; planes until there are windows for 128 threads; two of them a thread's where
/// the tile stays small enough for several blocks.
pub(super) fn tile(schedule: &Schedule, shared: usize, tiles: usize) -> Result<Tile> {
    let n = schedule.n;
    let fits = |vectors: usize| n.next_multiple_of(8) * 4 * vectors * tiles <= shared;
    let Some(chunk) = [4, 2, 1].into_iter().find(|chunk| fits(*chunk)) else {
        return Err(Error::Unsupported {
            what: "vectors on this device",
            expected: "a tile that fits the shared memory",
            got: format!("n = {n}, {tiles} tiles, {shared} bytes"),
        });
    };
    let windows = schedule.passes.iter().map(|pass| pass.count * pass.window.div_ceil(8)).max().unwrap_or(n / 4).max(1);
    let together = if tiles == 1 && 2 * chunk * n <= 8192 { 2 } else { 1 };
    let mut planes = together;
    while windows * (planes / together) < 128 && fits(2 * planes * chunk) && 8 * planes * chunk * n * tiles <= 32768 {
        planes *= 2;
    }
    let threads = (windows * (planes / together)).next_multiple_of(32).clamp(32, 512);
    Ok(Tile { chunk, planes, together, threads })
}

/// y = op(Q) x.
pub(super) fn apply(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    transposed: bool,
    x: Rows,
    y: Rows,
) -> Option<Call> {
    use Argument::{Buffer, Integer};
    if x.batch == 0 {
        return None;
    }
    let aligned = x.aligned && y.aligned && schedule.n.is_multiple_of(4);
    Some(Call {
        program: program::apply(schedule, tile, stored, aligned, transposed),
        blocks: x.batch.div_ceil(tile.vectors()),
        threads: tile.threads,
        shared: tile.bytes(schedule.n),
        arguments: Vec::from([
            Buffer("x"),
            Integer(x.stride as i64),
            Buffer("y"),
            Integer(y.stride as i64),
            Integer(x.batch as i64),
            Buffer("numbers"),
            Buffer("index"),
        ]),
    })
}
