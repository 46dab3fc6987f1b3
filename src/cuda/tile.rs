//! The shape of tiles and of the threads that work on them, and which one a plan gets.

use std::format;

use super::program::Stored;
use super::schedule::{Pass, Schedule};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// How kernels are cut, where it should not be what the sizes suggest: for measurements. Bits of
/// [`apply`](super::DevicePlan::apply) do not depend on it, but for blocks of 16 to 64 in half precision: a tile that is given is
/// used where vectors would stay in registers, and tensor cores take only tiles of whole warps, an even number of chunks and
/// four vectors in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tuning {
    /// Coordinates that stages share in a thread's registers, up to 32.
    pub window: Option<usize>,
    /// Of the tile of `apply`: vectors of a chunk (1, 2, 4), chunks, chunks of a thread (a divisor), threads. Vectors of half precision
    /// no longer stay in registers then, in gradients neither.
    pub tile: Option<[usize; 4]>,
    /// Likewise of the tiles of `apply_vjp`, of which there are two; no gradients stay in registers then.
    pub gradient_tile: Option<[usize; 4]>,
    /// With a tile: blocks of threads ahead whose vectors are fetched to the second-level cache, about as many as run
    /// at a time; 0: none.
    pub ahead: usize,
}

/// The shape of a tile and of the threads that work on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Vectors whose numbers lie side by side: 1, 2 or 4.
    pub(super) chunk: usize,
    /// Chunks.
    pub(super) planes: usize,
    /// Planes of a thread, a divisor.
    pub(super) together: usize,
    pub(super) threads: usize,
    /// Blocks of threads ahead whose vectors are fetched to the second-level cache; 0: none.
    pub(super) ahead: usize,
    /// Entries of large blocks lie in shared memory beside the tiles, and so do their gradients.
    pub(super) kept: bool,
}

impl Tile {
    /// Chunk, planes, planes of a thread and threads, if they make a tile.
    pub(super) fn new([chunk, planes, together, threads]: [usize; 4], ahead: usize) -> Option<Self> {
        let fits = [1, 2, 4].contains(&chunk)
            && (1..=64).contains(&planes)
            && together >= 1
            && planes.is_multiple_of(together)
            && (1..=1024).contains(&threads)
            && ahead <= 1 << 20;
        fits.then_some(Self { chunk, planes, together, threads, ahead, kept: false })
    }

    pub(super) fn vectors(&self) -> usize {
        self.chunk * self.planes
    }

    /// Blocks of threads that shall fit a multiprocessor side by side, if their tiles let them: with 64 registers for a
    /// thread that holds 32 numbers, 80 where the outputs of a block of more than two are held beside its inputs, 128 or
    /// 168 for more numbers.
    pub(super) fn side_by_side(&self, schedule: &Schedule, tensor: bool) -> usize {
        let window = |pass: &Pass| match pass.is_wide() {
            true if tensor && pass.packed.is_some() => 0,
            true => 16, // and what is multiplied
            false => pass.window,
        };
        let window = schedule.passes.iter().map(window).max().unwrap_or(0);
        let threads = match window * self.chunk * self.together {
            33.. if schedule.has_large_windows() => 384,
            33.. => 512,
            _ if schedule.has_large_windows() => 768,
            _ => 1024,
        };
        (threads / self.threads).min(self.room(schedule, 1)).max(1)
    }

    /// Blocks of threads with so many tiles that fit a multiprocessor's shared memory, of which each takes 1 KiB more.
    fn room(&self, schedule: &Schedule, tiles: usize) -> usize {
        (228 << 10) / (self.shared(schedule, tiles) + (1 << 10))
    }

    /// Likewise for gradients, for which a thread takes its planes one after the other: with 128 registers for a thread
    /// that only adds up as it goes, up to 200 for one that keeps 64 sums.
    pub(super) fn gradients_side_by_side(&self, schedule: &Schedule) -> usize {
        let windows = || schedule.passes.iter().filter(|pass| !pass.is_wide());
        let values = windows().map(|pass| 2 * pass.window * self.chunk).max().unwrap_or(0);
        let sums = windows().map(|pass| pass.gradient_size).max().unwrap_or(0);
        let threads = match values + if self.together > 1 { sums } else { 0 } {
            ..=64 if !schedule.has_large_windows() => 512,
            ..=96 => 384,
            _ => 320,
        };
        (threads / self.threads).min(self.room(schedule, 2)).max(1)
    }

    /// Whether pass number `at` and the next one exchange within warps: both have every coordinate of every plane, in the
    /// same warp.
    pub(super) fn is_near(&self, schedule: &Schedule, at: usize) -> bool {
        let passes = [schedule.passes.get(at), schedule.passes.get(at.saturating_add(1))];
        let [Some(pass), Some(next)] = passes else { return false };
        let in_registers = |pass: &Pass| !pass.is_wide() && pass.window * pass.count == schedule.length;
        if !in_registers(pass) || !in_registers(next) || !self.threads.is_multiple_of(32) {
            return false;
        }
        let groups = self.planes / self.together;
        let warps = |pass: &Pass| {
            let mut warps = std::vec![0; groups * schedule.length];
            for item in 0..pass.count * groups {
                let (w, group) = (item % pass.count, item / pass.count);
                for i in 0..pass.window {
                    warps[group * schedule.length + schedule.coordinate(pass, w, i)] = item % self.threads / 32;
                }
            }
            warps
        };
        warps(pass) == warps(next)
    }

    /// Copies of the gradients that a block of threads has.
    pub(super) fn copies(&self) -> usize {
        self.planes / self.together
    }

    /// Bytes of shared memory for vectors of length n.
    pub(super) fn bytes(&self, n: usize) -> usize {
        let rows = n.next_multiple_of(8) + usize::from(self.planes > 1);
        rows * 4 * self.vectors()
    }

    /// Bytes of shared memory of a block of threads with one tile, or with two and gradients.
    pub(super) fn shared(&self, schedule: &Schedule, tiles: usize) -> usize {
        let kept: usize = schedule.passes.iter().map(Pass::kept).sum();
        self.kept_at(schedule, tiles) + if self.kept { tiles * 4 * kept } else { 0 }
    }

    /// Where entries are kept, behind so many tiles: at a whole four of numbers.
    pub(super) fn kept_at(&self, schedule: &Schedule, tiles: usize) -> usize {
        (tiles * self.bytes(schedule.length)).next_multiple_of(16)
    }

    /// Keeps entries where there is so much shared memory.
    pub(super) fn keeping(self, schedule: &Schedule, tiles: usize, most: usize) -> Self {
        let keeps = Self { kept: true, ..self };
        let some = schedule.passes.iter().any(Pass::is_wide);
        if some && keeps.shared(schedule, tiles) <= most { keeps } else { self }
    }
}

/// Coordinates that stages share in a thread's registers, and likewise for gradients, which hold twice as many numbers
/// and their sums besides: 16 and 8 for blocks of two, 8 for larger ones, which need their outputs beside their inputs.
pub(super) fn windows(plan: &Plan<f32>) -> [usize; 2] {
    let pairs = plan.stages().iter().all(|stage| stage.num_groups() == 0 || stage.layout().block_size() <= 2);
    [if pairs { 16 } else { 8 }, 8]
}

/// The tile for vectors where a block of threads has that much shared memory.
///
/// Chunks of four vectors, or fewer where they do not fit; planes until there are windows for 128 threads, each of
/// which takes one window of one plane. Parts of few windows are a warp's, which waits for no other. A thread takes
/// blocks of more than two for two planes at a time, and reads them once.
pub(super) fn tile(schedule: &Schedule, shared: usize, stored: Stored) -> Result<Tile> {
    let tensor = stored != Stored::F32 && schedule.packed > 0;
    if let Some(tile) = wide_tiles(schedule, shared, 1).filter(|_| !tensor) {
        return Ok(tile);
    }
    let tile = tiles(schedule, shared, 1)?;
    let doubled = Tile { planes: 2 * tile.planes, together: 2, ..tile };
    let fits = tile.chunk == 4 && doubled.bytes(schedule.length) <= shared.min(33 << 10);
    Ok(if schedule.has_large_windows() && fits { doubled } else { tile })
}

/// The two tiles for gradients: with pairs, a thread takes its window of two planes, one after the other, where there
/// is room.
pub(super) fn gradient_tile(schedule: &Schedule, shared: usize) -> Result<Tile> {
    if let Some(tile) = wide_tiles(schedule, shared, 2) {
        return Ok(tile);
    }
    let tile = tiles(schedule, shared, 2)?;
    let doubled = Tile { planes: 2 * tile.planes, together: 2, ..tile };
    let two = !schedule.has_large_windows() && schedule.passes.iter().all(|pass| !pass.is_wide());
    Ok(if two && 2 * doubled.bytes(schedule.length) <= shared.min(66 << 10) { doubled } else { tile })
}

/// Tiles where all blocks are large and fit the shared memory beside them. A thread has up to 128 registers: so four
/// blocks of 128 threads that take eight rows of two planes each run side by side, or two of 256 with gradients, of one
/// plane each; fewer where less than half of these threads would have something to do.
fn wide_tiles(schedule: &Schedule, shared: usize, tiles: usize) -> Option<Tile> {
    if !schedule.is_wide() {
        return None;
    }
    let largest = schedule.passes.iter().map(|pass| pass.window).max()?;
    // Threads, blocks of them side by side, planes of a thread. Of b = 32 this was the best on an H100.
    let (wanted, side_by_side, of_thread) = match (tiles, largest) {
        (1, 32) => (64, 6, 2),
        (1, _) => (128, 4, 2),
        _ => (256, 2, 1),
    };
    let rows = schedule.passes.iter().map(|pass| pass.count * pass.window.div_ceil(8)).min()?;
    let cut = |planes: usize| {
        let threads = (rows * planes / of_thread).next_multiple_of(32).clamp(32, wanted);
        // Gradients of all planes are added up before they leave the block of threads.
        let together = if tiles == 1 { of_thread.min(planes) } else { planes };
        Tile { chunk: 4, planes, together, threads, ahead: 0, kept: true }
    };
    let fits = |planes, most| cut(planes).shared(schedule, tiles) <= most;
    let rooms = [side_by_side, 2, 1].map(|blocks| ((228 << 10) / blocks - (1 << 10)).min(shared));
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
    let wide = schedule.passes.iter().any(|pass| pass.is_wide());
    let enough = if windows < 32 && !wide { 32 } else { 128 };
    let mut planes = 1;
    while windows * planes < enough && fits(chunk, 2 * planes, shared.min(33 << 10)) {
        planes *= 2;
    }
    // A thread that holds 64 numbers has 128 registers.
    let many = schedule.passes.iter().any(|pass| !pass.is_wide() && pass.window * chunk > 32);
    let most = if many || schedule.has_large_windows() { 256 } else { 512 };
    let threads = (windows * planes).next_multiple_of(32).clamp(32, most);
    Ok(Tile { threads, ..cut(chunk, planes) })
}
