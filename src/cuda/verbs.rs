//! What the verbs launch. Nothing here knows a device: only shapes.

use std::format;
use std::vec::Vec;

use super::call::{Argument, Call, Kernel, text};
use super::chain;
use super::program::{self, Stored, Tile, Wanted};
use super::schedule::Schedule;
use crate::error::{Error, Result};

/// Rows of a batch: how many, how far apart, and whether they start at multiples of 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) batch: usize,
    pub(super) stride: usize,
    pub(super) aligned: bool,
}

/// The tile for vectors of length n where a block of threads has that much shared memory, with `tiles` of them.
///
/// Chunks of four vectors, or fewer where they do not fit; planes until there are windows for 128 threads, each of
/// which takes one window of one plane.
pub(super) fn tile(schedule: &Schedule, shared: usize, tiles: usize) -> Result<Tile> {
    let n = schedule.length;
    let cut = |chunk, planes| Tile { chunk, planes, together: 1, threads: 32, ahead: 0 };
    let fits = |chunk, planes, most: usize| tiles * cut(chunk, planes).bytes(n) <= most;
    let Some(chunk) = [4, 2, 1].into_iter().find(|chunk| fits(*chunk, 1, shared)) else {
        return Err(Error::Unsupported {
            what: "vectors on this device",
            expected: "a tile that fits the shared memory",
            got: format!("{n} coordinates that belong together, {tiles} tiles, {shared} bytes"),
        });
    };
    let items = schedule
        .passes
        .iter()
        .map(|pass| if pass.is_wide() { pass.count * pass.window.div_ceil(4) } else { pass.count });
    let windows = items.min().unwrap_or(n / 4).max(1);
    let mut planes = 1;
    while windows * planes < 128 && fits(chunk, 2 * planes, shared.min(33 << 10)) {
        planes *= 2;
    }
    let most = if schedule.has_large_windows() { 256 } else { 512 };
    let threads = (windows * planes).next_multiple_of(32).clamp(32, most);
    Ok(Tile { threads, ..cut(chunk, planes) })
}

/// y = op(Q) x.
pub(super) fn apply(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    transposed: bool,
    x: Rows,
    y: Rows,
) -> Option<Call<'_>> {
    use Argument::{Buffer, Integer};
    if x.batch == 0 {
        return None;
    }
    if let (Some(chain), Stored::Bf16 | Stored::F16) = (&schedule.chain, stored) {
        return Some(chain::apply(schedule, chain, stored, transposed, x, y));
    }
    let aligned = x.aligned && y.aligned && schedule.length.is_multiple_of(4);
    Some(Call {
        kernel: Kernel::Apply { tile, stored, aligned, transposed },
        program: text(move || program::apply(schedule, tile, stored, aligned, transposed)),
        blocks: x.batch.div_ceil(tile.vectors()) * schedule.parts(),
        threads: tile.threads,
        shared: tile.bytes(schedule.length),
        arguments: Vec::from([
            Buffer("x"),
            Integer(x.stride as i64),
            Buffer("y"),
            Integer(y.stride as i64),
            Integer(x.batch as i64),
            Buffer("numbers"),
            Buffer("packed"),
            Buffer("index"),
        ]),
    })
}

/// How many times the numbers the gradient of the entries is added up in, by the shape of the batch and of the tile: as
/// many as there are tiles, at most so many that there are 512 blocks of threads, and no more than 32 MiB, that they
/// stay in the device's second-level cache, unless that would leave fewer than 128 blocks; but never more than 1 GiB
/// where one is less.
pub(super) fn slots(schedule: &Schedule, tile: Tile, batch: usize) -> usize {
    let bytes = (4 * (tile.planes / tile.together) * schedule.numbers.len()).max(1);
    let [least, most] = [128, 512].map(|blocks: usize| blocks.div_ceil(schedule.parts()));
    let slots = ((32 << 20) / bytes).clamp(least, most).min((1 << 30) / bytes).max(1);
    batch.div_ceil(tile.vectors()).min(slots)
}

/// Numbers of scratch memory for the slots, and for their sum behind them.
pub(super) fn scratch(schedule: &Schedule, tile: Tile, batch: usize) -> usize {
    let groups = tile.planes / tile.together;
    (slots(schedule, tile, batch) * groups + 1) * schedule.numbers.len()
}

/// The adjoint of its derivative: gx ← op(Q)ᵀ gy, `slots` ← gradients of windows.
pub(super) fn vjp(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    transposed: bool,
    wanted: Wanted,
    [saved, gy, gx]: [Rows; 3],
) -> Vec<Call<'_>> {
    use Argument::{Buffer, Integer, Nothing};
    let mut calls = Vec::new();
    if gy.batch > 0 && (wanted.gx || wanted.gradient) {
        let aligned = [saved, gy, gx].iter().all(|rows| rows.aligned) && schedule.length.is_multiple_of(4);
        let slots = slots(schedule, tile, gy.batch);
        let optional = |there: bool, name| if there { Buffer(name) } else { Nothing };
        calls.push(Call {
            kernel: Kernel::Vjp { tile, stored, aligned, transposed, wanted },
            program: text(move || program::vjp(schedule, tile, stored, aligned, transposed, wanted)),
            blocks: slots * schedule.parts(),
            threads: tile.threads,
            shared: 2 * tile.bytes(schedule.length),
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
                optional(wanted.gradient, "slots"),
            ]),
        });
        if wanted.gradient && !schedule.numbers.is_empty() {
            let size = schedule.numbers.len();
            let many = slots * (tile.planes / tile.together);
            let sums = Buffer("sums");
            let arguments = [Buffer("slots"), Integer(size as i64), Integer(many as i64), sums.clone()];
            calls.push(threads_of_256("add_slots", size, Vec::from(arguments)));
            let entries = schedule.starts.len() - 1;
            let arguments = [sums, Buffer("starts"), Buffer("places"), Buffer("d_factors"), Integer(entries as i64)];
            calls.push(threads_of_256("scatter", entries, Vec::from(arguments)));
        }
    }
    calls
}

/// `numbers` ← `entries` as windows want them.
pub(super) fn gather(schedule: &Schedule) -> Option<Call<'_>> {
    use Argument::{Buffer, Integer};
    let count = schedule.numbers.len();
    let arguments = [Buffer("entries"), Buffer("source"), Buffer("numbers"), Integer(count as i64)];
    (count > 0).then(|| threads_of_256("gather", count, Vec::from(arguments)))
}

/// `packed` ← `numbers` as tensor cores take them.
pub(super) fn pack(schedule: &Schedule) -> Vec<Call<'_>> {
    use Argument::{Buffer, Integer};
    if let Some(chain) = &schedule.chain {
        return chain::pack(schedule, chain);
    }
    let packs = schedule.passes.iter().enumerate().filter_map(|(at, pass)| Some((at, pass, pass.packed?)));
    packs
        .map(|(at, pass, packed)| {
            let count = pass.packed_len() / 2 * schedule.parts();
            let arguments = Vec::from([Buffer("numbers"), Buffer("packed"), Integer(count as i64)]);
            let program = text(move || program::pack(schedule, pass, packed));
            Call { kernel: Kernel::Pack(at), program, blocks: count.div_ceil(256), threads: 256, shared: 0, arguments }
        })
        .collect()
}

/// A thread for each of `count` numbers.
pub(super) fn threads_of_256<'a>(kernel: &'static str, count: usize, arguments: Vec<Argument>) -> Call<'a> {
    let program = text(move || program::gather(kernel));
    Call { kernel: Kernel::Plain(kernel), program, blocks: count.div_ceil(256), threads: 256, shared: 0, arguments }
}

/// The identity as n rows.
pub(super) fn identity<'a>(n: usize, stored: Stored) -> Call<'a> {
    let arguments = Vec::from([Argument::Buffer("x"), Argument::Integer(n as i64)]);
    let program = text(move || program::identity(stored));
    Call { kernel: Kernel::Identity(stored), program, blocks: n, threads: 256, shared: 0, arguments }
}

/// Multiply-adds of one vector.
pub(super) fn products(schedule: &Schedule) -> usize {
    let of = |pass: &super::schedule::Pass| {
        pass.stages.iter().map(|stage| stage.at.len() * stage.block).sum::<usize>() * pass.count
    };
    schedule.passes.iter().map(of).sum::<usize>() * schedule.parts()
}
