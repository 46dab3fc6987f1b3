//! How the stages of a plan run on a device: passes over a tile, each of windows of few coordinates.
//!
//! A *window* holds coordinates that some consecutive stages only mix among themselves. One thread takes a window through all of these
//! stages in registers. Where every window of a pass looks the same, and only that, stages share a pass. A block of more than
//! [`MOST_IN_REGISTERS`] coordinates is a pass of its own, *wide*: four of its rows are one thread's.
//!
//! Numbers of windows lie side by side, in fours: number e of window w is at (⌊e/4⌋·windows + w)·4 + e mod 4 behind the pass's first.
//! So neighbouring threads read neighbouring 16 bytes. Blocks that share parameters are stored once for each block.

use std::format;
use std::vec::Vec;

use crate::error::{Error, Result};
use crate::plan::{Plan, Source, Stage};

/// Larger blocks are wide.
pub(super) const MOST_IN_REGISTERS: usize = 8;

/// Passes in the order in which the plan's stages act, and where numbers lie.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) n: usize,
    pub(super) passes: Vec<Pass>,
    /// Coordinates of windows that no formula tells.
    pub(super) index: Vec<u16>,
    /// The plan's entry that each number is; [`NONE`] fills fours up.
    pub(super) numbers: Vec<u32>,
    /// Gradients of windows lie as their numbers do. That of entry e of the plan is the sum of those at
    /// `places`[`starts`[e]..`starts`[e + 1]]; see [`HALF`], [`MINUS`].
    pub(super) starts: Vec<u32>,
    pub(super) places: Vec<u32>,
    /// The same before it is in order: entry and place.
    parts: Vec<(u32, u32)>,
    /// Rows of a tile are exchanged by row ^ ((row >> a ^ row >> b) & 7).
    pub(super) swizzle: [u32; 2],
    /// Whether every block is orthogonal up to rounding.
    pub(super) exact: bool,
}

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// Of a rotation (c, −s; s, c) two numbers of the gradient G are kept, in the places of c and s: p = G₀₀ + G₁₁ and q = G₁₀ − G₀₁. All
/// that moves c and s is in them. As entries they are ½(p, −q; q, p), the part of G that rotations can feel: the nearest such matrix.
pub(super) const HALF: u32 = 1 << 30;
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
    /// Its first number in the window.
    pub(super) number: usize,
}

impl Pass {
    pub(super) fn is_wide(&self) -> bool {
        self.window > MOST_IN_REGISTERS && self.stages.len() == 1
    }
}

impl Local {
    /// Numbers of a block, as they are stored, and of its gradient.
    fn size(&self, wide: bool) -> usize {
        let b = self.block;
        match (self.rotation, wide) {
            (true, _) => 2,
            (_, true) => b.next_multiple_of(4) * b,
            _ => b * b,
        }
    }
}

/// Windows of consecutive stages, sorted, each with its coordinates and the blocks of every stage in it.
struct Windows {
    coordinates: Vec<Vec<usize>>,
    blocks: Vec<Vec<Vec<usize>>>,
}

impl Schedule {
    /// With at most `window` coordinates in a window that stages share; 1: every stage is a pass.
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
        let mut schedule = Self {
            n,
            passes: Vec::new(),
            index: Vec::new(),
            numbers: Vec::new(),
            starts: Vec::new(),
            places: Vec::new(),
            parts: Vec::new(),
            swizzle: [31; 2],
            exact: plan.is_exact(),
        };
        let mut at = 0;
        for length in cut(n, &stages, window) {
            let these = &stages[at..at + length];
            let windows = if length > 1 { together(n, these, window) } else { None };
            schedule.push(these, &windows.unwrap_or_else(|| single(these[0])));
            at += length;
        }
        schedule.invert(plan.num_entries());
        schedule.swizzle = schedule.best_swizzle();
        Ok(schedule)
    }

    fn push(&mut self, stages: &[&Stage<f32>], windows: &Windows) {
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
        let mut pass = Pass { window, count, place, numbers: self.numbers.len(), stages: Vec::new() };
        let mut number = 0;
        for (s, stage) in stages.iter().enumerate() {
            let positions = |j: usize| {
                let coordinates = &windows.coordinates[0];
                stage.layout().indices(j).map(|c| coordinates.iter().position(|x| *x == c).unwrap_or(0)).collect()
            };
            let at: Vec<usize> = windows.blocks[s][0].iter().flat_map(|j| -> Vec<usize> { positions(*j) }).collect();
            let block = stage.layout().block_size();
            let local = Local { block, rotation: is_rotation(stage), adjoint: stage.is_adjoint(), at, number };
            number += (windows.blocks[s][0].len() * local.size(wide)).next_multiple_of(4);
            pass.stages.push(local);
        }
        self.numbers.resize(pass.numbers + number * count, NONE);
        let parts = &mut self.parts;
        for (s, (stage, local)) in stages.iter().zip(&pass.stages).enumerate() {
            let b = local.block;
            let size = local.size(wide);
            for (w, blocks) in windows.blocks[s].iter().enumerate() {
                let lane = |e: usize| (e / 4 * count + w) * 4 + e % 4;
                for (q, j) in blocks.iter().enumerate() {
                    let group = stage.group_of(*j);
                    for (i, k) in (0..b).flat_map(|i| (0..b).map(move |k| (i, k))) {
                        let e = if wide { i / 4 * 4 * b + k * 4 + i % 4 } else { i * b + k };
                        let entry = stage.entry(group, i, k) as u32;
                        if local.rotation {
                            // c and s are the entries of the first column; p and q of the gradient go there as well.
                            let at = pass.numbers + lane(local.number + q * size + usize::from(i != k));
                            if k == 0 {
                                self.numbers[at] = entry;
                            }
                            parts.push((entry, at as u32 | HALF | if i < k { MINUS } else { 0 }));
                        } else {
                            let at = pass.numbers + lane(local.number + q * size + e);
                            self.numbers[at] = entry;
                            parts.push((entry, at as u32));
                        }
                    }
                }
            }
        }
        self.passes.push(pass);
    }

    /// Whether there are blocks of more than four coordinates in registers.
    pub(super) fn has_large_windows(&self) -> bool {
        self.passes.iter().any(|pass| !pass.is_wide() && pass.stages.iter().any(|stage| stage.block > 4))
    }

    /// Where each entry's gradient is, in rising order.
    fn invert(&mut self, entries: usize) {
        let mut parts = core::mem::take(&mut self.parts);
        parts.sort_unstable_by_key(|(entry, at)| (*entry, at & !(HALF | MINUS)));
        self.starts = std::vec![0; entries + 1];
        parts.iter().for_each(|(entry, _)| self.starts[*entry as usize + 1] += 1);
        (0..entries).for_each(|e| self.starts[e + 1] += self.starts[e]);
        self.places = parts.into_iter().map(|(_, at)| at).collect();
    }

    /// Coordinate `i` of window `w`.
    pub(super) fn coordinate(&self, pass: &Pass, w: usize, i: usize) -> usize {
        match &pass.place {
            Place::Formula { windows, far, near, offsets } => w / windows * far + w % windows * near + offsets[i],
            Place::Table { first } => usize::from(self.index[first + i * pass.count + w]),
        }
    }

    /// The swizzle with which eight neighbouring threads meet in the fewest banks (of 16 bytes), where tiles are filled as well.
    fn best_swizzle(&self) -> [u32; 2] {
        let cost = |[a, b]: [u32; 2]| {
            let bank = |row: usize| (row ^ (row >> a ^ row >> b)) & 7;
            let worst = |rows: &mut dyn Iterator<Item = usize>| {
                let mut hits = [0u32; 8];
                rows.for_each(|row| hits[bank(row)] += 1);
                hits.into_iter().max().unwrap_or(0)
            };
            let fill = 2 * (0..4).map(|i| worst(&mut (0..8).map(|t| 4 * t + i).filter(|c| *c < self.n))).sum::<u32>();
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

/// How many stages each pass takes: as few passes as there can be, and of these cuts the one with the fewest windows, whose passes are
/// most alike.
fn cut(n: usize, stages: &[&Stage<f32>], window: usize) -> Vec<usize> {
    // Of the stages from each on: passes, windows, length of the first pass.
    let mut best = std::vec![(0, 0, 0); stages.len() + 1];
    for at in (0..stages.len()).rev() {
        let (passes, windows, _) = best[at + 1];
        best[at] = (passes + 1, windows + stages[at].layout().num_blocks(), 1);
        for length in 2..=stages.len() - at {
            let Some(found) = together(n, &stages[at..at + length], window) else { break };
            let (passes, windows, _) = best[at + length];
            best[at] = best[at].min((passes + 1, windows + found.coordinates.len(), length));
        }
    }
    let mut lengths = Vec::new();
    let mut at = 0;
    while at < stages.len() {
        lengths.push(best[at].2);
        at += best[at].2;
    }
    lengths
}

/// One stage: every block a window, in its own order.
fn single(stage: &Stage<f32>) -> Windows {
    let blocks = 0..stage.layout().num_blocks();
    Windows {
        coordinates: blocks.clone().map(|j| stage.layout().indices(j).collect()).collect(),
        blocks: [blocks.map(|j| [j].into()).collect()].into(),
    }
}

/// Several stages, if their windows are small and alike.
fn together(n: usize, stages: &[&Stage<f32>], most: usize) -> Option<Windows> {
    let mut parent: Vec<usize> = (0..n).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut named = std::vec![false; n];
    for stage in stages {
        for j in 0..stage.layout().num_blocks() {
            let first = stage.layout().index(j, 0);
            for c in stage.layout().indices(j) {
                named[c] = true;
                let (a, b) = (root(&mut parent, first), root(&mut parent, c));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut window_of = std::vec![usize::MAX; n];
    let mut coordinates: Vec<Vec<usize>> = Vec::new();
    for c in (0..n).filter(|c| named[*c]) {
        let r = root(&mut parent, c);
        if window_of[r] == usize::MAX {
            window_of[r] = coordinates.len();
            coordinates.push(Vec::new());
        }
        window_of[c] = window_of[r];
        let window = &mut coordinates[window_of[r]];
        window.push(c);
        if window.len() > most {
            return None;
        }
    }
    if coordinates.iter().any(|c| c.len() != coordinates[0].len()) {
        return None;
    }
    let mut blocks = Vec::new();
    for stage in stages {
        let mut of_stage = std::vec![Vec::new(); coordinates.len()];
        for j in 0..stage.layout().num_blocks() {
            of_stage[window_of[stage.layout().index(j, 0)]].push(j);
        }
        // The same places in every window, in the same order.
        let mut first: Option<Vec<Vec<usize>>> = None;
        for (w, blocks) in of_stage.iter_mut().enumerate() {
            let place = |j: usize| -> Vec<usize> {
                stage.layout().indices(j).map(|c| coordinates[w].binary_search(&c).unwrap_or(0)).collect()
            };
            blocks.sort_by_key(|j| place(*j));
            let places: Vec<_> = blocks.iter().map(|j| place(*j)).collect();
            if *first.get_or_insert_with(|| places.clone()) != places {
                return None;
            }
        }
        blocks.push(of_stage);
    }
    Some(Windows { coordinates, blocks })
}

/// The formula of these coordinates, if there is one.
fn formula(coordinates: &[Vec<usize>]) -> Option<Place> {
    let first = |w: usize| coordinates[w][0];
    let (count, zero) = (coordinates.len(), first(0));
    let offsets = coordinates[0].clone();
    let near = if count > 1 { first(1).checked_sub(zero)? } else { 0 };
    let windows = (1..count).find(|w| first(*w) != zero + w * near).unwrap_or(count);
    let far = if windows < count { first(windows).checked_sub(zero)? } else { 0 };
    let fits = coordinates.iter().enumerate().all(|(w, c)| {
        let base = w / windows * far + w % windows * near;
        c.iter().zip(&offsets).all(|(c, offset)| *c == base + offset)
    });
    fits.then_some(Place::Formula { windows, far, near, offsets })
}
