//! What the verbs launch. Nothing here knows a device: only shapes.

use std::format;
use std::vec::Vec;

use super::call::{Argument, Call, Kernel, text};
use super::program::{self, Stored, Tile, Wanted};
use super::schedule::Schedule;
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Rows of a batch: how many, how far apart, and whether they start at multiples of four numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) batch: usize,
    pub(super) stride: usize,
    pub(super) aligned: bool,
}

/// Coordinates that stages share in a thread's registers, and likewise for gradients, which hold twice as many numbers
/// and their sums besides: 16 and 8 for blocks of two, 8 for larger ones, which need their outputs beside their inputs.
pub(super) fn windows(plan: &Plan<f32>) -> [usize; 2] {
    let pairs = plan.stages().iter().all(|stage| stage.num_groups() == 0 || stage.layout().block_size() <= 2);
    [if pairs { 16 } else { 8 }, 8]
}

/// The tile for vectors of length n where a block of threads has that much shared memory.
///
/// Chunks of four vectors, or fewer where they do not fit; planes until there are windows for 128 threads, each of
/// which takes one window of one plane, or for a warp, where that is less than what belongs together.
pub(super) fn tile(schedule: &Schedule, shared: usize) -> Result<Tile> {
    tiles(schedule, shared, 1)
}

/// The tile for `apply` where all blocks are large and tensor cores do not take them; otherwise as [`tile`].
pub(super) fn plain_tile(schedule: &Schedule, shared: usize) -> Result<Tile> {
    wide_tiles(schedule, shared, 1).map_or_else(|| tile(schedule, shared), Ok)
}

/// The two tiles for gradients.
pub(super) fn gradient_tile(schedule: &Schedule, shared: usize) -> Result<Tile> {
    wide_tiles(schedule, shared, 2).map_or_else(|| tiles(schedule, shared, 2), Ok)
}

/// Tiles where all blocks are large and fit the shared memory beside them. A thread has up to 128 registers: so four
/// blocks of 128 threads that take eight rows of two planes each run side by side, or two of 256 with gradients, of one
/// plane each; fewer where less than half of these threads would have something to do.
fn wide_tiles(schedule: &Schedule, shared: usize, tiles: usize) -> Option<Tile> {
    if !schedule.is_wide() {
        return None;
    }
    let (wanted, of_thread) = if tiles == 1 { (128, 2) } else { (256, 1) };
    let rows = schedule.passes.iter().map(|pass| pass.count * pass.window.div_ceil(8)).min()?;
    let cut = |planes: usize| {
        let threads = (rows * planes / of_thread).next_multiple_of(32).clamp(32, wanted);
        // Gradients of all planes are added up before they leave the block of threads.
        let together = if tiles == 1 { of_thread.min(planes) } else { planes };
        Tile { chunk: 4, planes, together, threads, ahead: 0, kept: true }
    };
    let fits = |planes, most| cut(planes).shared(schedule, tiles) <= most;
    let rooms = [512 / wanted, 2, 1].map(|blocks| ((228 << 10) / blocks - (1 << 10)).min(shared));
    let best = rooms.map(|most| {
        let planes = [64, 32, 16, 8, 4, 2, 1].into_iter();
        planes.filter(|planes| fits(*planes, most)).min_by_key(|planes| (rows * planes / of_thread).abs_diff(wanted))
    });
    let busy = |planes: &usize| 2 * rows * planes / of_thread >= wanted;
    best.into_iter().flatten().find(busy).or(best[2]).map(cut)
}

fn tiles(schedule: &Schedule, shared: usize, tiles: usize) -> Result<Tile> {
    let n = schedule.length;
    let cut = |chunk, planes| Tile { chunk, planes, together: 1, threads: 32, ahead: 0, kept: false };
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
    // A thread that holds 64 numbers has 128 registers.
    let many = schedule.passes.iter().any(|pass| !pass.is_wide() && pass.window * chunk > 32);
    let most = if many || schedule.has_large_windows() { 256 } else { 512 };
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
    let aligned = x.aligned && y.aligned && schedule.length.is_multiple_of(4);
    let tiles = x.batch.div_ceil(tile.vectors());
    // A block of threads that keeps entries takes up to eight tiles, if that leaves enough of them.
    let blocks = if tile.kept { tiles.min(tiles.div_ceil(8).max(1024usize.div_ceil(schedule.parts()))) } else { tiles };
    Some(Call {
        kernel: Kernel::Apply { tile, stored, aligned, transposed },
        program: text(move || program::apply(schedule, tile, stored, aligned, transposed)),
        blocks: blocks * schedule.parts(),
        threads: tile.threads,
        shared: tile.shared(schedule, 1),
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

/// How many times the numbers the gradient of the entries is added up in, by the shape of the batch and of the tile, and
/// by how many blocks of threads run at a time: the fewest that keep the device as busy as can be, but no more than
/// there are tiles, nor than 1 GiB unless one is more.
pub(super) fn slots(schedule: &Schedule, tile: Tile, multiprocessors: usize, batch: usize) -> usize {
    let bytes = (4 * tile.copies(schedule) * schedule.numbers.len()).max(1);
    let (parts, resident) = (schedule.parts(), multiprocessors * tile.gradients_side_by_side(schedule));
    // The share of the device that works, in the mean.
    let share = |slots: usize| {
        let blocks = slots * parts;
        blocks as f64 / blocks.next_multiple_of(resident) as f64
    };
    let most = (resident / parts).max(1) + 3;
    let best = (1..=most).map(share).fold(0.0, f64::max);
    let slots = (1..=most).find(|slots| share(*slots) >= 0.999 * best).unwrap_or(1);
    slots.min(batch.div_ceil(tile.vectors())).min((1 << 30) / bytes).max(1)
}

/// Numbers of scratch memory for the slots, and for their sum behind them.
pub(super) fn scratch(schedule: &Schedule, tile: Tile, multiprocessors: usize, batch: usize) -> usize {
    (slots(schedule, tile, multiprocessors, batch) * tile.copies(schedule) + 1) * schedule.numbers.len()
}

/// The adjoint of its derivative: gx ← op(Q)ᵀ gy, `slots` ← gradients of windows.
pub(super) fn vjp(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    transposed: bool,
    wanted: Wanted,
    multiprocessors: usize,
    [saved, gy, gx]: [Rows; 3],
) -> Vec<Call<'_>> {
    use Argument::{Buffer, Integer, Nothing};
    let mut calls = Vec::new();
    if gy.batch > 0 && (wanted.gx || wanted.gradient) {
        let aligned = [saved, gy, gx].iter().all(|rows| rows.aligned) && schedule.length.is_multiple_of(4);
        let slots = slots(schedule, tile, multiprocessors, gy.batch);
        let optional = |there: bool, name| if there { Buffer(name) } else { Nothing };
        calls.push(Call {
            kernel: Kernel::Vjp { tile, stored, aligned, transposed, wanted },
            program: text(move || program::vjp(schedule, tile, stored, aligned, transposed, wanted)),
            blocks: slots * schedule.parts(),
            threads: tile.threads,
            shared: tile.shared(schedule, 2),
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
            let many = slots * tile.copies(schedule);
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

/// `numbers` ← the blocks that charts have made.
pub(super) fn gather_wide(schedule: &Schedule) -> Option<Call<'_>> {
    use Argument::{Buffer, Integer};
    let count = schedule.numbers.len();
    let arguments = [Buffer("wide"), Buffer("wide_at"), Buffer("source"), Buffer("numbers"), Integer(count as i64)];
    (count > 0).then(|| threads_of_256("gather_wide", count, Vec::from(arguments)))
}

/// `packed` ← `numbers` as tensor cores take them.
pub(super) fn pack(schedule: &Schedule) -> Vec<Call<'_>> {
    use Argument::{Buffer, Integer};
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
