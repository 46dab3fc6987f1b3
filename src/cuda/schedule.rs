//! How the stages of a plan run on a device: passes over a tile, each of windows of few coordinates.
//!
//! A *window* holds coordinates that some consecutive stages only mix among themselves. One thread takes a window
//! through all of these stages in registers. Where every window of a pass looks the same, and only that, stages share a
//! pass. A block of more than [`MOST_IN_REGISTERS`] coordinates is a pass of its own, *wide*: eight of its rows are one
//! thread's.
//!
//! Numbers of windows lie side by side, in fours: number e of window w is at (⌊e/4⌋·windows + w)·4 + e mod 4 behind the
//! pass's first. So neighbouring threads read neighbouring 16 bytes. Numbers of large blocks lie one block after the
//! other, in columns of whole fours (`kernels/wide.cuh`). Blocks that share parameters are stored once for each block.

use std::format;
use std::vec::Vec;

use super::chain::Chain;
use super::gradients::{Sums, Tangents, pair};
use super::windows::{Split, Windows, cut, formula, single, split, together};
use crate::error::{Error, Result};
use crate::plan::{Plan, Source, Stage};

/// Larger blocks are wide.
pub(super) const MOST_IN_REGISTERS: usize = 8;

/// Stages of rotations that are told by their angles: each loses 2⁻²⁰ or so of the larger of two numbers.
const MOST_BY_ANGLES: usize = 32;

/// Blocks of at most so many inputs are held in registers on their way to tensor cores.
const MOST_ON_TENSOR_CORES: usize = 64;

/// Passes in the order in which the plan's stages act, and where numbers lie.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) n: usize,
    /// Coordinates of a part: equal runs that all stages keep apart and treat alike. All else is about one part.
    pub(super) length: usize,
    pub(super) passes: Vec<Pass>,
    /// Coordinates of windows that no formula tells.
    pub(super) index: Vec<u16>,
    /// The plan's entry that each number is, part after part; [`NONE`] fills fours up.
    pub(super) numbers: Vec<u32>,
    /// Sixteen bytes of a part's entries as tensor cores take them (`kernels/tensor.cuh`, `kernels/chain_pack.cu`).
    pub(super) packed: usize,
    /// How vectors of half precision stay in registers, where they can.
    pub(super) chain: Option<Chain>,
    /// Where every block is a rotation (c, −s; s, c): the number c of each angle of all parts, or [`NONE`]. Angles lie
    /// as numbers do, behind each pass's `angles`.
    pub(super) angles: Vec<u32>,
    /// Numbers of a part's gradients, and where those of all parts go.
    pub(super) gradients: usize,
    pub(super) entries: Sums,
    pub(super) tangents: Tangents,
    /// Rows of a tile are exchanged by row ^ ((row >> a ^ row >> b) & 7).
    pub(super) swizzle: [u32; 2],
    /// Whether every block is orthogonal up to rounding.
    pub(super) exact: bool,
}

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// The number is minus the entry.
pub(super) const MINUS: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Pass {
    /// Coordinates of a window.
    pub(super) window: usize,
    /// Windows.
    pub(super) count: usize,
    pub(super) place: Place,
    /// Where its numbers start.
    pub(super) numbers: usize,
    /// Where its angles start, if all blocks of the plan are rotations.
    pub(super) angles: usize,
    /// Where its gradients start, and how many a window has.
    pub(super) gradients: usize,
    pub(super) gradient_size: usize,
    /// Gradients are tangents: see [`Tangents`].
    pub(super) tangent: bool,
    /// Where they start as tensor cores take them, if its blocks are whole tiles of 16.
    pub(super) packed: Option<usize>,
    pub(super) stages: Vec<Local>,
}

/// Where coordinate i of window w is.
#[derive(Debug)]
pub(super) enum Place {
    /// (w / `windows`)·`far` + (w mod `windows`)·`near` + `offsets`[i]
    Formula { windows: usize, far: usize, near: usize, offsets: Vec<usize> },
    /// `index`[`first` + i·windows + w]
    Table { first: usize },
}

impl Place {
    /// First offset, length of runs and their distance, if the offsets are runs.
    pub(super) fn runs(&self) -> Option<[usize; 3]> {
        let Place::Formula { offsets, .. } = self else { return None };
        let first = offsets[0];
        let unit = (1..offsets.len()).find(|i| offsets[*i] != first + i).unwrap_or(offsets.len());
        let distance = offsets.get(unit).map_or(Some(0), |second| second.checked_sub(first))?;
        let fits = offsets.iter().enumerate().all(|(i, o)| *o == first + i / unit * distance + i % unit);
        fits.then_some([first, unit, distance])
    }
}

/// A stage inside a window.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) block: usize,
    /// Window coordinates of its blocks, one block after the other.
    pub(super) at: Vec<usize>,
    /// All blocks are (c, −s; s, c), of which c and s are stored.
    pub(super) rotation: bool,
    /// Blocks act transposed.
    pub(super) adjoint: bool,
    /// Its first number in the window, and the first of its gradient.
    pub(super) number: usize,
    pub(super) gradient: usize,
}

impl Pass {
    /// Sixteen bytes of its entries as tensor cores take them: four bytes for each entry, twice.
    pub(super) fn packed_len(&self) -> usize {
        self.window * self.window / 4 * 2 * self.count
    }

    pub(super) fn is_wide(&self) -> bool {
        self.window > MOST_IN_REGISTERS && self.stages.len() == 1
    }

    /// Whether blocks of this size are alone in its windows, and large.
    fn is_wide_of(&self, b: usize) -> bool {
        self.window > MOST_IN_REGISTERS && self.window == b
    }

    /// Whether every eight coordinates of a window are neighbours, from a multiple of eight on.
    pub(super) fn has_eights(&self) -> bool {
        let Place::Formula { windows, far, near, offsets } = &self.place else { return false };
        let run = |run: &[usize]| run[0].is_multiple_of(8) && run.iter().enumerate().all(|(i, o)| *o == run[0] + i);
        self.window.is_multiple_of(8)
            && offsets.chunks(8).all(run)
            && (near.is_multiple_of(8) || *windows == 1)
            && (far.is_multiple_of(8) || *windows == self.count)
    }

    /// Numbers of its entries as a block of threads keeps them, if it is wide: columns of an odd number of fours.
    pub(super) fn kept(&self) -> usize {
        let column = 4 * (self.window.div_ceil(4) | 1);
        if self.is_wide() { self.count * self.window * column } else { 0 }
    }
}

impl Local {
    /// Numbers of a block, as they are stored.
    fn size(&self, wide: bool) -> usize {
        let b = self.block;
        match (self.rotation, wide) {
            (true, _) => 2,
            (_, true) => b.next_multiple_of(4) * b,
            _ => b * b,
        }
    }

    /// Numbers of its gradient.
    pub(super) fn gradient_size(&self, pass: &Pass) -> usize {
        let b = self.block;
        match (pass.tangent, pass.is_wide_of(b)) {
            (true, _) => b * (b - 1) / 2,
            (_, true) => b.next_multiple_of(4) * b,
            _ => b * b,
        }
    }
}

/// What a number of a part is, or one of its gradients: entry (i, k) of a block of a stage.
struct Filled {
    stage: usize,
    block: usize,
    i: usize,
    k: usize,
    at: usize,
}

impl Schedule {
    /// With at most `window` coordinates in a window that stages share. Every stage is a pass of its own unless all blocks
    /// are orthogonal.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for stages of reflectors and for vectors whose coordinates are not 16-bit numbers.
    pub(super) fn new(plan: &Plan<f32>, window: usize) -> Result<Self> {
        let n = plan.n();
        let unsupported = |what, expected, got| Err(Error::Unsupported { what, expected, got });
        if plan.num_entries() > 1 << 28 {
            return unsupported("plan on a device", "at most 2^28 entries", format!("{}", plan.num_entries()));
        }
        if n > usize::from(u16::MAX) + 1 {
            return unsupported("vectors on a device", "at most 65536 coordinates", format!("n = {n}"));
        }
        if plan.stages().iter().any(|stage| matches!(stage.source(), Source::Reflectors { .. })) {
            return unsupported("stage on a device", "blocks", "a product of reflectors".into());
        }
        let stages: Vec<&Stage<f32>> = plan.stages().iter().filter(|stage| stage.num_groups() > 0).collect();
        let (length, stages) = split(n, &stages);
        let mut schedule = Self {
            n,
            length,
            passes: Vec::new(),
            index: Vec::new(),
            numbers: Vec::new(),
            packed: 0,
            chain: None,
            angles: Vec::new(),
            gradients: 0,
            entries: Sums::default(),
            tangents: Tangents::default(),
            swizzle: [31; 2],
            exact: plan.is_exact(),
        };
        let (mut at, mut filled) = (0, [Vec::new(), Vec::new()]);
        // Where stages cannot be undone, each is a pass, also one of blocks of one.
        for count in cut(length, &stages, if schedule.exact { window } else { 0 }) {
            let these = &stages[at..at + count];
            let windows = if count > 1 { together(length, these, window) } else { None };
            schedule.push(these, &windows.unwrap_or_else(|| single(&these[0])), &mut filled);
            at += count;
        }
        check_numbers(schedule.numbers.len().saturating_mul(schedule.parts()))?;
        schedule.fill(plan.num_entries(), &stages, &filled);
        schedule.swizzle = schedule.best_swizzle();
        schedule.chain = Chain::new(&schedule);
        Ok(schedule)
    }

    /// Number of parts.
    pub(super) fn parts(&self) -> usize {
        self.n / self.length
    }

    /// Numbers of a part.
    pub(super) fn part(&self) -> usize {
        self.numbers.len() / self.parts()
    }

    /// One more pass, of these stages, which are the next ones; `filled` tells what its numbers are.
    fn push(&mut self, stages: &[Split<'_>], windows: &Windows, filled: &mut [Vec<Filled>; 2]) {
        let count = windows.coordinates.len();
        let window = windows.coordinates[0].len();
        let wide = window > MOST_IN_REGISTERS && stages.len() == 1;
        // Of a large block, coordinates are found by arithmetic or in a table.
        let place =
            formula(&windows.coordinates).filter(|place| !wide || place.runs().is_some()).unwrap_or_else(|| {
                let first = self.index.len();
                for i in 0..window {
                    self.index.extend(windows.coordinates.iter().map(|c| c[i] as u16));
                }
                Place::Table { first }
            });
        let before: usize = self.passes.iter().map(|pass| pass.stages.len()).sum();
        let numbers = self.numbers.len();
        let gradients = self.gradients;
        let tangent = self.exact && !wide;
        let mut pass = Pass {
            window,
            count,
            place,
            numbers,
            angles: self.angles.len(),
            gradients,
            gradient_size: 0,
            tangent,
            packed: None,
            stages: Vec::new(),
        };
        if wide && window.is_multiple_of(16) && window <= MOST_ON_TENSOR_CORES {
            pass.packed = Some(self.packed);
            self.packed += pass.packed_len();
        }
        let (mut number, mut gradient) = (0, 0);
        for (s, split) in stages.iter().enumerate() {
            let position = |c: &usize| windows.coordinates[0].iter().position(|x| x == c).unwrap_or(0);
            let at = windows.blocks[s][0].iter().flat_map(|j| split.blocks[*j].iter().map(position)).collect();
            let (stage, block) = (split.stage, split.stage.layout().block_size());
            let (rotation, adjoint) = (is_rotation(stage), stage.is_adjoint());
            let local = Local { block, rotation, adjoint, at, number, gradient };
            let blocks = windows.blocks[s][0].len();
            number += (blocks * local.size(wide)).next_multiple_of(4);
            gradient += (blocks * local.gradient_size(&pass)).next_multiple_of(4);
            pass.stages.push(local);
        }
        self.numbers.resize(pass.numbers + number * count, NONE);
        for e in (0..number / 2).step_by(4) {
            let of = |a: usize| pass.numbers + (a / 2 * count) * 4 + a % 2 * 2;
            let c = |w, a| if 2 * a < number { (of(a) + 4 * w) as u32 } else { NONE };
            self.angles.extend((0..count).flat_map(|w| (e..e + 4).map(move |a| c(w, a))));
        }
        pass.gradient_size = gradient.max(4); // of blocks of one, nothing: but room
        self.gradients += pass.gradient_size * count;
        let [numbers, gradients] = filled;
        for (s, local) in pass.stages.iter().enumerate() {
            let b = local.block;
            let sizes = [local.size(wide), local.gradient_size(&pass)];
            for (w, blocks) in windows.blocks[s].iter().enumerate() {
                let lane = |first: usize, size: usize, e: usize| match wide {
                    true => first + w * size + e,
                    false => first + (e / 4 * count + w) * 4 + e % 4,
                };
                for (q, j) in blocks.iter().enumerate() {
                    for (i, k) in (0..b).flat_map(|i| (0..b).map(move |k| (i, k))) {
                        let whole = if wide { k * b.next_multiple_of(4) + i } else { i * b + k };
                        // c and s are the entries of the first column.
                        let e = if local.rotation { usize::from(i != k) } else { whole };
                        let at = lane(pass.numbers, sizes[0], local.number + q * sizes[0] + e);
                        numbers.push(Filled { stage: before + s, block: *j, i, k, at });
                        let e = match pass.tangent {
                            true if i < k => pair(b, i, k),
                            true => continue,
                            false => whole,
                        };
                        let at = lane(pass.gradients, sizes[1], local.gradient + q * sizes[1] + e);
                        gradients.push(Filled { stage: before + s, block: *j, i, k, at });
                    }
                }
            }
        }
        self.passes.push(pass);
    }

    /// Numbers and gradients of all parts, from what those of one are.
    fn fill(&mut self, entries: usize, stages: &[Split<'_>], [numbers, gradients]: &[Vec<Filled>; 2]) {
        let of_part = self.numbers.len();
        self.numbers = std::vec![NONE; of_part * self.parts()];
        let tangent: Vec<bool> = self.passes.iter().flat_map(|pass| pass.stages.iter().map(|_| pass.tangent)).collect();
        let mut tangents = Tangents::new(stages, &tangent);
        let (mut sums, mut moments) = (Vec::new(), Vec::new());
        for p in 0..self.parts() {
            let group = |stage: usize, block: usize| stages[stage].stage.group_of(stages[stage].owners[p][block]);
            for Filled { stage, block, i, k, at } in numbers {
                let (of, group, at) = (stages[*stage].stage, group(*stage, *block), (p * of_part + at) as u32);
                let rotation = is_rotation(of);
                if !rotation || *k == 0 {
                    self.numbers[at as usize] = of.entry(group, *i, *k) as u32;
                }
                if tangent[*stage] {
                    let unit = tangents.unit(*stage, group, *i, *k);
                    tangents.order[unit] = of.entry(group, *i, *k) as u32;
                    tangents.numbers[unit] = at | if rotation && i < k { MINUS } else { 0 };
                }
            }
            for Filled { stage, block, i, k, at } in gradients {
                let (of, group, at) = (stages[*stage].stage, group(*stage, *block), p * self.gradients + at);
                match tangent[*stage] {
                    true => moments.push((tangents.moment(*stage, group, *i, *k), at as u32)),
                    false => sums.push((of.entry(group, *i, *k) as u32, at as u32)),
                }
            }
        }
        let angles = std::mem::take(&mut self.angles);
        // What only looks like a rotation may have another scale; and angles add up what the fast cosine and sine lose.
        let few = stages.len() <= MOST_BY_ANGLES;
        if self.exact && few && self.passes.iter().flat_map(|pass| &pass.stages).all(|stage| stage.rotation) {
            let of = |p: usize| move |c: &u32| if *c == NONE { NONE } else { *c + (p * of_part) as u32 };
            self.angles = (0..self.parts()).flat_map(|p| angles.iter().map(of(p))).collect();
        }
        self.entries = Sums::new(entries, sums);
        tangents.sums = Sums::new(tangents.moments, moments);
        self.tangents = tangents;
    }

    /// Whether there are passes, and all of them of large blocks.
    pub(super) fn is_wide(&self) -> bool {
        !self.passes.is_empty() && self.passes.iter().all(Pass::is_wide)
    }

    /// Whether there are blocks of more than two coordinates in registers.
    pub(super) fn has_large_windows(&self) -> bool {
        self.passes.iter().any(|pass| !pass.is_wide() && pass.stages.iter().any(|stage| stage.block > 2))
    }

    /// Coordinate `i` of window `w`.
    pub(super) fn coordinate(&self, pass: &Pass, w: usize, i: usize) -> usize {
        match &pass.place {
            Place::Formula { windows, far, near, offsets } => w / windows * far + w % windows * near + offsets[i],
            Place::Table { first } => usize::from(self.index[first + i * pass.count + w]),
        }
    }

    /// The swizzle with which eight neighbouring threads meet in the fewest banks (of 16 bytes), where tiles are filled
    /// as well.
    fn best_swizzle(&self) -> [u32; 2] {
        let cost = |[a, b]: [u32; 2]| {
            let bank = |row: usize| (row ^ (row >> a ^ row >> b)) & 7;
            let worst = |rows: &mut dyn Iterator<Item = usize>| {
                let mut hits = [0u32; 8];
                rows.for_each(|row| hits[bank(row)] += 1);
                hits.into_iter().max().unwrap_or(0)
            };
            let fill =
                2 * (0..4).map(|i| worst(&mut (0..8).map(|t| 4 * t + i).filter(|c| *c < self.length))).sum::<u32>();
            let passes = self.passes.iter().map(|pass| {
                let some = [0, 8, pass.count / 2 / 8 * 8];
                let each = |first: usize| {
                    let lanes = first..(first + 8).min(pass.count);
                    (0..pass.window)
                        .map(|i| worst(&mut lanes.clone().map(|w| self.coordinate(pass, w, i))))
                        .sum::<u32>()
                };
                some.into_iter().map(each).sum::<u32>()
            });
            fill + passes.sum::<u32>()
        };
        let shifts = || (3..12).chain([31]);
        let pairs =
            shifts().flat_map(|a| shifts().filter(move |b| *b > a || (a == 31 && *b == 31)).map(move |b| [a, b]));
        pairs.min_by_key(|pair| cost(*pair)).unwrap_or([31; 2])
    }
}

/// Places of numbers leave two bits of 32 to flags.
pub(super) fn check_numbers(numbers: usize) -> Result<()> {
    if numbers < 1 << 30 {
        return Ok(());
    }
    let (what, expected) = ("plan on a device", "fewer than 2^30 numbers, shared blocks once for each");
    Err(Error::Unsupported { what, expected, got: format!("{numbers}") })
}

/// Charts of two coordinates that only make rotations to the last bit; and fixed blocks that are such.
pub(super) fn is_rotation(stage: &Stage<f32>) -> bool {
    stage.layout().block_size() == 2
        && match stage.source() {
            Source::Chart { chart, .. } => ["Cayley", "Givens", "Exponential"].contains(&chart.id().as_str()),
            Source::Fixed(blocks) => blocks.chunks_exact(4).all(|q| {
                let [a, b, c, d] = [q[0], q[1], q[2], q[3]].map(|x| x as f32);
                a == d && b == -c
            }),
            _ => false,
        }
}
