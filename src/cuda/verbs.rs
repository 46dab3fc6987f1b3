//! What the verbs launch. Nothing here knows a device: only shapes.

use std::vec::Vec;

use super::call::{Argument, Call, Kernel, text};
use super::chain;
use super::program::{self, Stored, Wanted};
use super::schedule::Schedule;
use super::tile::Tile;

/// Rows of a batch: how many, how far apart, and whether they start at multiples of 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) batch: usize,
    pub(super) stride: usize,
    pub(super) aligned: bool,
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
            Buffer(if program::has_angles(schedule, stored) { "angles" } else { "numbers" }),
            Buffer("packed"),
            Buffer("index"),
        ]),
    })
}

/// Of a block of threads that takes gradients: the vectors that it takes at a time, the slots that it fills, and how many of
/// them run side by side on a multiprocessor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crew {
    pub(super) vectors: usize,
    pub(super) slots: usize,
    pub(super) side_by_side: usize,
}

/// Whether gradients stay in registers.
fn gradient_chain(schedule: &Schedule, stored: Stored, from_input: bool) -> Option<&chain::Chain> {
    let fits = |chain: &&chain::Chain| chain.sums.is_some() && (chain.from_input || !from_input);
    schedule.chain.as_ref().filter(|_| stored != Stored::F32).filter(fits)
}

pub(super) fn crew(schedule: &Schedule, tile: Tile, stored: Stored, from_input: bool) -> Crew {
    match gradient_chain(schedule, stored, from_input) {
        Some(chain) => chain.crew(schedule),
        None => {
            Crew { vectors: tile.vectors(), slots: tile.copies(), side_by_side: tile.gradients_side_by_side(schedule) }
        }
    }
}

/// How many crews take the gradients of each part, by the shape of the batch and by how many run at a time: the fewest that
/// keep the device as busy as can be, but no more than have vectors, nor than fill 1 GiB unless one does.
pub(super) fn crews(schedule: &Schedule, crew: Crew, multiprocessors: usize, batch: usize) -> usize {
    let bytes = (4 * crew.slots * sums(schedule)).max(1);
    let (parts, resident) = (schedule.parts(), multiprocessors * crew.side_by_side);
    // The share of the device that works, in the mean; as many as run at a time, or in two, three or four turns.
    let share = |crews: usize| {
        let blocks = crews * parts;
        blocks as f64 / blocks.next_multiple_of(resident) as f64
    };
    let turns = (1..=4).map(|turns| (turns * resident / parts).max(1));
    let crews = turns.reduce(|best, more| if share(more) > 1.05 * share(best) { more } else { best }).unwrap_or(1);
    crews.min(batch.div_ceil(crew.vectors)).min((1 << 30) / bytes).max(1)
}

/// Sums over the batch that gradients are made of.
pub(super) fn sums(schedule: &Schedule) -> usize {
    schedule.gradients * schedule.parts()
}

/// Numbers of scratch memory for the slots, and for their sum behind them.
pub(super) fn scratch(schedule: &Schedule, crew: Crew, multiprocessors: usize, batch: usize) -> usize {
    (crews(schedule, crew, multiprocessors, batch) * crew.slots + 1) * sums(schedule)
}

/// The adjoint of its derivative: gx ← op(Q)ᵀ gy, if wanted, `slots` ← gradients of windows.
pub(super) fn vjp(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    transposed: bool,
    wanted: Wanted,
    multiprocessors: usize,
    [saved, gy, gx]: [Rows; 3],
) -> Vec<Call<'_>> {
    use Argument::{Buffer, Integer};
    let mut calls = Vec::new();
    if gy.batch > 0 {
        let crew = crew(schedule, tile, stored, wanted.from_input);
        let crews = crews(schedule, crew, multiprocessors, gy.batch);
        let aligned = [saved, gy, gx].iter().all(|rows| rows.aligned) && schedule.length.is_multiple_of(4);
        let on_tiles = || Call {
            kernel: Kernel::Vjp { tile, stored, aligned, transposed, wanted },
            program: text(move || program::vjp(schedule, tile, stored, aligned, transposed, wanted)),
            blocks: crews * schedule.parts(),
            threads: tile.threads,
            shared: tile.shared(schedule, 2),
            arguments: vjp_arguments([saved, gy, gx], wanted, &["numbers", "index", "slots"]),
        };
        calls.push(match gradient_chain(schedule, stored, wanted.from_input) {
            Some(chain) => chain::vjp(schedule, chain, stored, transposed, wanted, crews, [saved, gy, gx]),
            None => on_tiles(),
        });
        let size = sums(schedule);
        if size > 0 {
            let many = crews * crew.slots;
            let arguments = [Buffer("slots"), Integer(size as i64), Integer(many as i64), Buffer("sums")];
            calls.push(threads_of_256("add_slots", size, Vec::from(arguments)));
            calls.extend(add_gradients(schedule, transposed));
        }
    }
    calls
}

/// What every kernel of gradients is given, and these buffers.
pub(super) fn vjp_arguments([saved, gy, gx]: [Rows; 3], wanted: Wanted, more: &[&'static str]) -> Vec<Argument> {
    use Argument::{Buffer, Integer, Nothing};
    let batches = [
        Buffer("saved"),
        Integer(saved.stride as i64),
        Buffer("gy"),
        Integer(gy.stride as i64),
        if wanted.gx { Buffer("gx") } else { Nothing },
        Integer(gx.stride as i64),
        Integer(gy.batch as i64),
    ];
    batches.into_iter().chain(more.iter().copied().map(Buffer)).collect()
}

/// `d_factors` += what the `sums` are of.
fn add_gradients(schedule: &Schedule, transposed: bool) -> Vec<Call<'_>> {
    use Argument::{Buffer, Integer};
    let mut calls = Vec::new();
    if !schedule.entries.places.is_empty() {
        let count = schedule.entries.count();
        let named = ["sums", "starts", "places", "d_factors"].map(Buffer);
        let arguments = named.into_iter().chain([Integer(count as i64)]).collect();
        calls.push(threads_of_256("scatter", count, arguments));
    }
    let tangents = &schedule.tangents;
    if tangents.moments > 0 {
        let named = ["sums", "moment_starts", "moment_places", "moments"].map(Buffer);
        let arguments = named.into_iter().chain([Integer(tangents.moments as i64)]).collect();
        calls.push(threads_of_256("add_moments", tangents.moments, arguments));
        let (count, stages) = (tangents.order.len(), tangents.stages.len() as i64);
        let named = ["moments", "numbers", "entry_numbers", "order", "stages"].map(Buffer);
        let more = [Integer(stages), Integer(i64::from(transposed)), Buffer("d_factors"), Integer(count as i64)];
        calls.push(threads_of_256("add_tangents", count, named.into_iter().chain(more).collect()));
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

/// `angles` ← `numbers`, if they are told by angles.
pub(super) fn angles(schedule: &Schedule) -> Option<Call<'_>> {
    use Argument::{Buffer, Integer};
    let count = schedule.angles.len();
    let arguments = [Buffer("numbers"), Buffer("angle_source"), Buffer("angles"), Integer(count as i64)];
    (count > 0).then(|| threads_of_256("make_angles", count, Vec::from(arguments)))
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
