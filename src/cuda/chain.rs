//! Large blocks of half precision on tensor cores, in registers from reading to writing (`kernels/chain.cu`): which
//! plans go that way, and which thread has which coordinates.

use std::fmt::Write;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::call::{Argument, Call, Kernel, text};
use super::program::{self, Program, Stored, Wanted};
use super::schedule::{Pass, Schedule};
use super::verbs::{self, Crew, Rows};

const PLACES: &str = include_str!("kernels/places.cuh");
const CHAIN: &str = include_str!("kernels/chain.cuh");
const APPLY: &str = include_str!("kernels/chain.cu");
const VJP: &str = include_str!("kernels/chain_vjp.cu");
const PACK: &str = include_str!("kernels/chain_pack.cu");

/// Warps of a block of threads.
const WARPS: usize = 4;

/// Tiles that a block of threads takes one after the other, at most, and blocks that there are rather than that.
const STEPS: usize = 4;
const FEWEST_BLOCKS: usize = 2048;

/// Words that a thread holds for 16 vectors, at most: of a part, and of one more block.
const MOST_WORDS: usize = 160;

/// Words and sums that a thread holds for gradients, at most.
const MOST_WORDS_AND_SUMS: usize = 192;

/// How a schedule's passes go through registers.
#[derive(Debug)]
pub(super) struct Chain {
    /// Sixteens of vectors that a warp takes.
    tiles: usize,
    /// Words that a thread holds.
    words: usize,
    /// Sums that a thread holds for gradients, if they go that way; whether they do from the input, too, of which every stage's
    /// is held.
    pub(super) sums: Option<usize>,
    pub(super) from_input: bool,
    stages: Vec<Stage>,
}

/// Which coordinates threads have of a stage: between stages, and where it reads or writes device memory. Threads are
/// numbered within fours.
#[derive(Debug)]
struct Stage {
    /// The place of eight neighbours among a part's, for each eight of each block.
    eights: Vec<usize>,
    /// Neighbours that one thread has in memory.
    run: usize,
    /// The runs of each block that threads have there, in order, a byte for each thread.
    order: Vec<u32>,
    /// For runs side by side in memory: which of the part's each thread has, and the place of its registers.
    at: Vec<u32>,
    place: Vec<u32>,
}

impl Chain {
    /// `None` where a pass is no single stage of blocks of 16, 32, 48 or 64 that cover a part in eights of neighbours, or
    /// where a part is too long.
    pub(super) fn new(schedule: &Schedule) -> Option<Self> {
        let block = schedule.passes.iter().map(|pass| pass.window).max()?;
        let words = |tiles: usize| tiles * (schedule.length + block) / 2;
        let tiles = if words(2) <= 128 { 2 } else { 1 };
        if words(tiles) > MOST_WORDS {
            return None;
        }
        let stages: Option<Vec<_>> = schedule.passes.iter().map(|pass| Stage::new(schedule, pass)).collect();
        // Sixteen vectors and as many gradients, and the sums of all blocks.
        let entries: usize = schedule.passes.iter().map(|pass| pass.count * pass.window * pass.window).sum();
        let sums = Some(entries / 32).filter(|sums| schedule.length + sums <= MOST_WORDS_AND_SUMS);
        let from_input = schedule.length * schedule.passes.len() / 2 + entries / 32 <= MOST_WORDS_AND_SUMS;
        Some(Self { tiles, words: words(tiles), sums, from_input, stages: stages? })
    }

    /// Blocks of threads that shall fit a multiprocessor side by side, with 128, 168 or 255 registers for a thread:
    /// beside its words are entries on their way and, of IEEE's half precision, what is converted.
    fn side_by_side(&self, stored: Stored) -> usize {
        match (self.words, stored) {
            (0..=96, Stored::Bf16) => 4,
            (0..=128, _) => 3,
            _ => 2,
        }
    }

    /// Likewise for gradients.
    fn gradients_side_by_side(&self, schedule: &Schedule) -> usize {
        match schedule.length + self.sums.unwrap_or(0) {
            0..=128 => 3,
            _ => 2,
        }
    }

    /// What takes the gradients of vectors of half precision.
    pub(super) fn crew(&self, schedule: &Schedule) -> Crew {
        Crew { vectors: 16 * WARPS, slots: WARPS, side_by_side: self.gradients_side_by_side(schedule) }
    }
}

impl Stage {
    fn new(schedule: &Schedule, pass: &Pass) -> Option<Self> {
        let (b, length) = (pass.window, schedule.length);
        if pass.packed.is_none() || pass.count * b != length {
            return None;
        }
        // The places of runs of neighbours, block after block.
        let places = |run: usize| -> Option<Vec<usize>> {
            let coordinate = |c: usize| schedule.coordinate(pass, c / b, c % b);
            let all: Vec<_> = (0..length).map(coordinate).collect();
            let is_run = |c: &[usize]| c[0].is_multiple_of(run) && c.iter().enumerate().all(|(i, c0)| *c0 == c[0] + i);
            all.chunks(run).map(|c| is_run(c).then_some(c[0] / run)).collect()
        };
        let eights = places(8)?;
        let run = if b.is_multiple_of(32) { 8 } else { 4 };
        let runs = places(run)?;
        let mut block_of = std::vec![(0, 0); runs.len()];
        runs.iter().enumerate().for_each(|(i, at)| block_of[*at] = (i / (b / run), i % (b / run)));
        // Four runs that are neighbours are one each thread's, and every thread gets as many of each block.
        let most = b / run / 4;
        let mut owned = std::vec![[const { Vec::new() }; 4]; pass.count];
        let (mut at, mut place) = (Vec::new(), Vec::new());
        for (four, blocks) in block_of.chunks_exact(4).enumerate() {
            let (mut at_word, mut place_word, mut free) = (0, 0, [true; 4]);
            for (i, (w, within)) in blocks.iter().copied().enumerate() {
                let t = (0..4).filter(|t| free[*t]).min_by_key(|t| owned[w][*t].len())?;
                if owned[w][t].len() == most {
                    return None;
                }
                free[t] = false;
                at_word |= ((4 * four + i) as u32) << (8 * t);
                place_word |= ((w * most + owned[w][t].len()) as u32) << (8 * t);
                owned[w][t].push(within as u32);
            }
            at.push(at_word);
            place.push(place_word);
        }
        let order = owned
            .iter()
            .flat_map(|threads| (0..most).map(move |q| (0..4).fold(0, |word, t| word | threads[t][q] << (8 * t))))
            .collect();
        Some(Self { eights, run, order, at, place })
    }

    /// As constants and small functions. `packed`: where its entries start, as it acts and undone. `sums`: where its sums
    /// start in a thread; `flipped`: it acts transposed.
    fn describe(
        &self,
        name: &str,
        pass: &Pass,
        [packed, back]: [usize; 2],
        sums: usize,
        flipped: bool,
        source: &mut String,
    ) {
        let (b, count, run, gradients) = (pass.window, pass.count, self.run, pass.gradients);
        _ = writeln!(
            source,
            "struct {name} {{\n    enum {{ B = {b}, COUNT = {count}, RUN = {run}, PACKED = {packed}, PACKED_BACK = {back}, \
             GRADIENTS = {gradients}, SUMS_AT = {sums} }};\n    static const bool FLIPPED = {flipped};"
        );
        let words = |all: &[u32]| all.iter().map(|word| *word as usize).collect::<Vec<_>>();
        for (kind, function, values, index) in [
            ("int", "eight(int w, int i)", self.eights.clone(), format!("w * {} + i", b / 8)),
            ("unsigned", "order(int w, int i)", words(&self.order), format!("w * {} + i", b / run / 4)),
            ("unsigned", "at(int i)", words(&self.at), "i".into()),
            ("unsigned", "place(int i)", words(&self.place), "i".into()),
        ] {
            let table = program::array("table", &values);
            _ = writeln!(
                source,
                "    __device__ static inline constexpr {kind} {function} {{ {table}return table[{index}]; }}"
            );
        }
        // The words of eight neighbours: in memory, block after block.
        _ = writeln!(
            source,
            "    __device__ static inline constexpr int word_of(bool outside, int w, int i) {{\n        \
             return outside ? w * {} + i : eight(w, i);\n    }}\n}};",
            b / 8
        );
    }
}

/// Blocks of threads for so many tiles of as many parts: each takes [`STEPS`] tiles of one part, or fewer where that
/// leaves many multiprocessors without one.
fn blocks(tiles: usize, parts: usize) -> usize {
    let steps = (tiles * parts / FEWEST_BLOCKS).clamp(1, STEPS);
    tiles.div_ceil(steps) * parts
}

fn define(constants: &[(&str, usize)], source: &mut String) {
    for (name, value) in constants {
        _ = writeln!(source, "#define {name} {value}");
    }
}

/// y = op(Q) x.
pub(super) fn apply<'a>(
    schedule: &'a Schedule,
    chain: &'a Chain,
    stored: Stored,
    transposed: bool,
    x: Rows,
    y: Rows,
) -> Call<'a> {
    use Argument::{Buffer, Integer};
    let aligned = x.aligned && y.aligned;
    Call {
        kernel: Kernel::Chain { stored, aligned, transposed },
        program: text(move || {
            let more = [("TILES", chain.tiles), ("SIDE_BY_SIDE", chain.side_by_side(stored))];
            let source = program(schedule, chain, stored, aligned, transposed, &more) + APPLY;
            Program { kernel: "apply", source }
        }),
        blocks: blocks(x.batch.div_ceil(16 * chain.tiles * WARPS), schedule.parts()),
        threads: 32 * WARPS,
        shared: 0,
        arguments: Vec::from([
            Buffer("x"),
            Integer(x.stride as i64),
            Buffer("y"),
            Integer(y.stride as i64),
            Integer(x.batch as i64),
            Buffer("packed"),
        ]),
    }
}

/// The adjoint of its derivative: gx ← op(Q)ᵀ gy, `slots` ← gradients of blocks, by as many blocks of threads for each
/// part.
pub(super) fn vjp<'a>(
    schedule: &'a Schedule,
    chain: &'a Chain,
    stored: Stored,
    transposed: bool,
    wanted: Wanted,
    crews: usize,
    [saved, gy, gx]: [Rows; 3],
) -> Call<'a> {
    let aligned = [saved, gy, gx].iter().all(|rows| rows.aligned);
    Call {
        kernel: Kernel::ChainVjp { stored, aligned, transposed, wanted },
        program: text(move || {
            let more = [
                ("SIDE_BY_SIDE", chain.gradients_side_by_side(schedule)),
                ("SUMS", chain.sums.unwrap_or(0)),
                ("GRADIENTS_OF_PART", schedule.gradients),
                ("FROM_INPUT", usize::from(wanted.from_input)),
                ("HAS_GX", usize::from(wanted.gx)),
            ];
            let source = program(schedule, chain, stored, aligned, transposed, &more) + PLACES + VJP;
            Program { kernel: "apply_vjp", source }
        }),
        blocks: crews * schedule.parts(),
        threads: 32 * WARPS,
        shared: 0,
        arguments: verbs::vjp_arguments([saved, gy, gx], wanted, &["packed", "slots"]),
    }
}

/// What both begin with.
fn program(
    schedule: &Schedule,
    chain: &Chain,
    stored: Stored,
    aligned: bool,
    transposed: bool,
    more: &[(&str, usize)],
) -> String {
    let mut source = String::new();
    let constants = [
        ("STORED", stored as usize),
        ("N", schedule.length),
        ("PARTS", schedule.parts()),
        ("PACKED_PART", schedule.packed),
        ("WARPS", WARPS),
        ("ALIGNED", usize::from(aligned)),
    ];
    define(&constants, &mut source);
    define(more, &mut source);
    source.push_str(program::PRELUDE);
    source.push_str(program::NUMBERS);
    source.push_str(program::PRODUCTS);
    let (mut names, mut sums) = (Vec::new(), 0);
    for (at, (stage, pass)) in chain.stages.iter().zip(&schedule.passes).enumerate() {
        let name = format!("Stage{at}");
        let (packed, half) = (pass.packed.unwrap_or(0), pass.packed_len() / 2);
        let [acts, back] = if transposed { [packed + half, packed] } else { [packed, packed + half] };
        stage.describe(&name, pass, [acts, back], sums, transposed != pass.stages[0].adjoint, &mut source);
        names.push(name);
        sums += pass.count * pass.window * pass.window / 32;
    }
    let mut backwards = names.clone();
    backwards.reverse();
    if transposed {
        std::mem::swap(&mut names, &mut backwards);
    }
    _ = writeln!(source, "template <class... Stages> struct List {{}};");
    _ = writeln!(source, "typedef {} First;\ntypedef {} Last;", names[0], backwards[0]);
    for (name, all) in [("Stages", names), ("Backwards", backwards)] {
        _ = writeln!(source, "typedef List<{}> {name};", all.join(", "));
    }
    source.push_str(CHAIN);
    source
}

/// `packed` ← `numbers` as tensor cores take them.
pub(super) fn pack<'a>(schedule: &'a Schedule, chain: &'a Chain) -> Vec<Call<'a>> {
    use Argument::{Buffer, Integer};
    let all = chain.stages.iter().zip(&schedule.passes).enumerate();
    all.map(|(at, (stage, pass))| {
        let count = pass.packed_len() * schedule.parts();
        let arguments = Vec::from([Buffer("numbers"), Buffer("packed"), Integer(count as i64)]);
        let program = text(move || pack_program(schedule, stage, pass, at));
        Call { kernel: Kernel::Pack(at), program, blocks: count.div_ceil(256), threads: 256, shared: 0, arguments }
    })
    .collect()
}

fn pack_program(schedule: &Schedule, stage: &Stage, pass: &Pass, at: usize) -> Program {
    let mut source = String::new();
    let constants = [
        ("STORED", 0),
        ("NUMBERS", pass.numbers),
        ("PART", schedule.part()),
        ("PACKED_PART", schedule.packed),
        ("AT_START", usize::from(at == 0)),
        ("AT_END", usize::from(at + 1 == schedule.passes.len())),
        ("ADJOINT", usize::from(pass.stages[0].adjoint)),
    ];
    define(&constants, &mut source);
    for text in [program::PRELUDE, program::NUMBERS, program::PRODUCTS, PLACES] {
        source.push_str(text);
    }
    stage.describe("Stage", pass, [pass.packed.unwrap_or(0); 2], 0, false, &mut source);
    source.push_str(PACK);
    Program { kernel: "pack", source }
}
