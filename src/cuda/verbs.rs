//! What the verbs launch. Nothing here knows a device: only shapes.

use std::format;
use std::vec::Vec;

use super::call::{Argument, Call};
use super::program::{self, Stored, Tile, Wanted};
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
/// Chunks of four vectors, or fewer where they do not fit; planes until there are windows for 128 threads, each of which takes one
/// window of one plane.
pub(super) fn tile(schedule: &Schedule, shared: usize, tiles: usize) -> Result<Tile> {
    let n = schedule.n;
    let fits = |vectors: usize, most: usize| n.next_multiple_of(8) * 4 * vectors * tiles <= most;
    let Some(chunk) = [4, 2, 1].into_iter().find(|chunk| fits(*chunk, shared)) else {
        return Err(Error::Unsupported {
            what: "vectors on this device",
            expected: "a tile that fits the shared memory",
            got: format!("n = {n}, {tiles} tiles, {shared} bytes"),
        });
    };
    let items = schedule
        .passes
        .iter()
        .map(|pass| if pass.is_wide() { pass.count * pass.window.div_ceil(4) } else { pass.count });
    let windows = items.min().unwrap_or(n / 4).max(1);
    let mut planes = 1;
    while windows * planes < 128 && fits(2 * planes * chunk, shared.min(32 << 10)) {
        planes *= 2;
    }
    let most = if schedule.has_large_windows() { 256 } else { 512 };
    let threads = (windows * planes).next_multiple_of(32).clamp(32, most);
    Ok(Tile { chunk, planes, together: 1, threads })
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

/// How many parts the gradient of the entries is added up in, by the shape of the batch alone: as many as there are tiles, at most 512,
/// and at most 32 MiB, so that they stay in the device's second-level cache, but 128 in any case.
pub(super) fn parts(schedule: &Schedule, tile: Tile, batch: usize) -> usize {
    let bytes = (4 * (tile.planes / tile.together) * schedule.numbers.len()).max(1);
    batch.div_ceil(tile.vectors()).min(((32 << 20) / bytes).clamp(128, 512))
}

/// Numbers of scratch memory for the parts, and for their sum behind them.
pub(super) fn scratch(schedule: &Schedule, tile: Tile, batch: usize) -> usize {
    let groups = tile.planes / tile.together;
    (parts(schedule, tile, batch) * groups + 1) * schedule.numbers.len()
}

/// The adjoint of its derivative: gx ← op(Q)ᵀ gy, `parts` ← gradients of windows.
pub(super) fn vjp(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    transposed: bool,
    wanted: Wanted,
    [saved, gy, gx]: [Rows; 3],
) -> Vec<Call> {
    use Argument::{Buffer, Integer, Nothing};
    let mut calls = Vec::new();
    if gy.batch > 0 && (wanted.gx || wanted.gradient) {
        let aligned = [saved, gy, gx].iter().all(|rows| rows.aligned) && schedule.n.is_multiple_of(4);
        let blocks = parts(schedule, tile, gy.batch);
        let optional = |there: bool, name| if there { Buffer(name) } else { Nothing };
        calls.push(Call {
            program: program::vjp(schedule, tile, stored, aligned, transposed, wanted),
            blocks,
            threads: tile.threads,
            shared: 2 * tile.bytes(schedule.n),
            arguments: Vec::from([
                Buffer("saved"),
                Integer(saved.stride as i64),
                Buffer("gy"),
                Integer(gy.stride as i64),
                optional(wanted.gx, "gx"),
                Integer(gx.stride as i64),
                Integer(gy.batch as i64),
                Buffer("numbers"),
                Buffer("index"),
                optional(wanted.gradient, "parts"),
            ]),
        });
        if wanted.gradient && !schedule.numbers.is_empty() {
            let size = schedule.numbers.len();
            let many = blocks * (tile.planes / tile.together);
            let sums = Buffer("sums");
            let arguments = [Buffer("parts"), Integer(size as i64), Integer(many as i64), sums.clone()];
            calls.push(threads_of_256("add_parts", size, Vec::from(arguments)));
            let entries = schedule.starts.len() - 1;
            let arguments = [sums, Buffer("starts"), Buffer("places"), Buffer("d_factors"), Integer(entries as i64)];
            calls.push(threads_of_256("scatter", entries, Vec::from(arguments)));
        }
    }
    calls
}

/// `numbers` ← `entries` as windows want them.
pub(super) fn gather(schedule: &Schedule) -> Option<Call> {
    use Argument::{Buffer, Integer};
    let count = schedule.numbers.len();
    let arguments = [Buffer("entries"), Buffer("source"), Buffer("numbers"), Integer(count as i64)];
    (count > 0).then(|| threads_of_256("gather", count, Vec::from(arguments)))
}

fn threads_of_256(kernel: &'static str, count: usize, arguments: Vec<Argument>) -> Call {
    Call { program: program::gather(kernel), blocks: count.div_ceil(256), threads: 256, shared: 0, arguments }
}

/// The identity as n rows.
pub(super) fn identity(n: usize, stored: Stored) -> Call {
    let arguments = Vec::from([Argument::Buffer("x"), Argument::Integer(n as i64)]);
    Call { program: program::identity(stored), blocks: n, threads: 256, shared: 0, arguments }
}
