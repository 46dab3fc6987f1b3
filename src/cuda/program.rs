//! Kernels as text: the files under `kernels/`, behind constants that say what they are compiled for.

use std::fmt::Write;
use std::format;
use std::string::String;

use super::direct::Direct;
use super::schedule::{Pass, Place, Schedule};
use super::tile::Tile;

/// How numbers of a batch are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stored {
    F32,
    Bf16,
    F16,
}

/// A kernel, ready to be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Program {
    /// The function's name.
    pub(super) kernel: &'static str,
    pub(super) source: String,
}

pub(super) const PRELUDE: &str = include_str!("kernels/prelude.cuh");
pub(super) const NUMBERS: &str = include_str!("kernels/numbers.cuh");
const TILE: &str = include_str!("kernels/tile.cuh");
pub(super) const PRODUCTS: &str = include_str!("kernels/products.cuh");
const TENSOR: &str = include_str!("kernels/tensor.cuh");
const PACK: &str = include_str!("kernels/pack.cu");
const STAGES: &str = include_str!("kernels/stages.cuh");
const WIDE: &str = include_str!("kernels/wide.cuh");
const APPLY: &str = include_str!("kernels/apply.cu");
const VJP: &str = include_str!("kernels/vjp.cu");
const PLANES: &str = include_str!("kernels/planes.cu");
const CAYLEY: &str = include_str!("kernels/cayley.cu");
const EXPONENTIAL: &str = include_str!("kernels/exponential.cu");
const RANDOM: &str = include_str!("kernels/random.cu");
const IDENTITY: &str = include_str!("kernels/identity.cu");
const GATHER: &str = include_str!("kernels/gather.cu");

/// y = op(Q) x.
pub(super) fn apply(schedule: &Schedule, tile: Tile, stored: Stored, aligned: bool, transposed: bool) -> Program {
    // Whole warps, and eight vectors for each.
    let eights = tile.chunk == 4 && tile.planes.is_multiple_of(2) && tile.threads.is_multiple_of(32);
    let tensor = stored != Stored::F32 && eights && schedule.packed > 0;
    let ends = |pass: Option<&Pass>| match pass {
        Some(pass) if !(tensor && pass.packed.is_some()) => Direct::of(pass, schedule, tile, stored, aligned),
        _ => Direct::Not,
    };
    let [reads, writes] = turned(transposed, [ends(schedule.passes.first()), ends(schedule.passes.last())]);
    let writes = writes.written(stored);
    let angles = has_angles(schedule, stored);
    let ways = Ways {
        tensor,
        angles,
        together: tile.together,
        of_thread: tile.together,
        streamed: false,
        reloaded: false,
        tiles: 1,
        kept_transposed: transposed,
        reads,
        writes,
    };
    let mut source = on_tiles(schedule, tile, stored, aligned, transposed, ways);
    _ = writeln!(source, "#define SIDE_BY_SIDE {}", tile.side_by_side(schedule, tensor));
    source.push_str(APPLY);
    Program { kernel: "apply", source }
}

/// Whether rotations are told by their angles: for vectors of half precision, for which the device's own cosine and sine
/// are good enough.
pub(super) fn has_angles(schedule: &Schedule, stored: Stored) -> bool {
    stored != Stored::F32 && !schedule.angles.is_empty()
}

/// How passes go about it.
struct Ways {
    angles: bool,
    /// Large blocks on tensor cores.
    tensor: bool,
    /// Planes of a thread at a time.
    together: usize,
    /// Planes of a thread, at a time or one after the other.
    of_thread: usize,
    /// Vectors leave the second-level cache to what is read again.
    streamed: bool,
    /// Stages act twice, first to last and back.
    reloaded: bool,
    tiles: usize,
    /// The direction in which blocks act for which large ones are kept.
    kept_transposed: bool,
    reads: Direct,
    writes: Direct,
}

/// First and last, as they act.
fn turned<T>(transposed: bool, [first, last]: [T; 2]) -> [T; 2] {
    if transposed { [last, first] } else { [first, last] }
}

/// Of the adjoint of its derivative, what is there and what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The input is saved, not the output.
    pub(super) from_input: bool,
    pub(super) gx: bool,
}

/// The adjoint of the derivative of y = op(Q) x.
pub(super) fn vjp(
    schedule: &Schedule,
    tile: Tile,
    stored: Stored,
    aligned: bool,
    transposed: bool,
    wanted: Wanted,
) -> Program {
    let ends = |pass: Option<&Pass>| pass.map_or(Direct::Not, |pass| Direct::of(pass, schedule, tile, stored, aligned));
    // Backwards from the last pass.
    let [writes, reads] = turned(transposed, [ends(schedule.passes.first()), ends(schedule.passes.last())]);
    let ways = Ways {
        tensor: false,
        angles: false,
        together: 1,
        of_thread: tile.together,
        streamed: true,
        reloaded: wanted.from_input,
        tiles: 2,
        kept_transposed: !transposed,
        reads,
        writes: writes.written(stored),
    };
    let mut source = on_tiles(schedule, tile, stored, aligned, transposed, ways);
    let saved = if schedule.exact && !wanted.from_input { reads } else { Direct::Not };
    for (name, value) in [
        ("GRADIENTS_OF_PART", schedule.gradients),
        ("SIDE_BY_SIDE", tile.gradients_side_by_side(schedule)),
        ("SAVED_READS", saved as usize),
        ("EXACT", usize::from(schedule.exact)),
        ("FROM_INPUT", usize::from(wanted.from_input)),
        ("HAS_GX", usize::from(wanted.gx)),
    ] {
        _ = writeln!(source, "#define {name} {value}");
    }
    source.push_str(VJP);
    Program { kernel: "apply_vjp", source }
}

/// `gather`, `gather_wide`, `add_slots` or `scatter`.
pub(super) fn gather(kernel: &'static str) -> Program {
    Program { kernel, source: format!("#define STORED 0\n{PRELUDE}{NUMBERS}{GATHER}") }
}

/// A random rotation: its sizes, and the scales of its rounds as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) n: usize,
    pub(super) block: usize,
    pub(super) unit: usize,
    pub(super) blocks: usize,
    pub(super) rounds: usize,
    /// Blocks of a round have no coordinate in common.
    pub(super) disjoint: bool,
    pub(super) scale: u32,
    pub(super) scale_middle: u32,
}

/// Vectors through a random rotation, or back.
pub(super) fn turn(turn: &Turn, tile: Tile, stored: Stored, aligned: bool, back: bool) -> Program {
    let mut source = String::new();
    for (name, value) in [
        ("STORED", stored as usize),
        ("N", turn.n),
        ("C", tile.chunk),
        ("PLANES", tile.planes),
        ("THREADS", tile.threads),
        ("SWIZZLE_A", 3),
        ("SWIZZLE_B", 31),
        ("ALIGNED", usize::from(aligned)),
        ("BLOCK", turn.block),
        ("UNIT", turn.unit),
        ("BLOCKS", turn.blocks),
        ("ROUNDS", turn.rounds),
        ("DISJOINT", usize::from(turn.disjoint)),
        ("SCALE", turn.scale as usize),
        ("SCALE_MIDDLE", turn.scale_middle as usize),
        ("BACK", usize::from(back)),
    ] {
        _ = writeln!(source, "#define {name} {value}");
    }
    for text in [PRELUDE, NUMBERS, TILE, RANDOM] {
        source.push_str(text);
    }
    Program { kernel: "turn_all", source }
}

/// Entries of a pass as tensor cores take them, from `packed` on.
pub(super) fn pack(schedule: &Schedule, pass: &Pass, packed: usize) -> Program {
    let mut source = String::new();
    for (name, value) in [
        ("STORED", 0),
        ("B", pass.window),
        ("COUNT", pass.count),
        ("NUMBERS", pass.numbers),
        ("PART", schedule.part()),
        ("PACKED", packed),
        ("PACKED_PART", schedule.packed),
    ] {
        _ = writeln!(source, "#define {name} {value}");
    }
    for text in [PRELUDE, NUMBERS, PRODUCTS, PACK] {
        source.push_str(text);
    }
    Program { kernel: "pack", source }
}

/// The identity matrix.
pub(super) fn identity(stored: Stored) -> Program {
    Program { kernel: "identity", source: format!("#define STORED {}\n{PRELUDE}{NUMBERS}{IDENTITY}", stored as usize) }
}

/// Charts that devices evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chart {
    /// 2×2 rotations: Givens, the exponential, Cayley.
    Plane(usize),
    /// Cayley blocks of any size up to 64.
    Cayley(usize),
    /// The exponential of 3×3 and 4×4 blocks.
    Exponential(usize),
}

impl Chart {
    /// The chart of this name for b×b blocks, if devices evaluate it.
    pub(super) fn of(id: &str, b: usize) -> Option<Self> {
        match (id, b) {
            ("Givens", 2) => Some(Chart::Plane(0)),
            ("Exponential", 2) => Some(Chart::Plane(1)),
            ("Cayley", 2) => Some(Chart::Plane(2)),
            ("Cayley", 3..=64) => Some(Chart::Cayley(b)),
            ("Exponential", 3 | 4) => Some(Chart::Exponential(b)),
            _ => None,
        }
    }

    /// Threads of a block, and blocks of the stage that it takes.
    pub(super) fn threads(self) -> (usize, usize) {
        match self {
            Chart::Plane(_) => (256, 256),
            Chart::Cayley(b) => ((b * b).next_multiple_of(32).min(256), 1),
            Chart::Exponential(_) => (128, 128),
        }
    }

    /// Bytes of shared memory.
    pub(super) fn shared(self, vjp: bool) -> usize {
        match self {
            Chart::Cayley(b) if vjp => 24 * b * b,
            Chart::Cayley(b) => 8 * (2 * b * b + b),
            _ => 0,
        }
    }
}

/// `realize` or `realize_vjp` of a chart.
pub(super) fn chart(chart: Chart, kernel: &'static str) -> Program {
    let (constants, text) = match chart {
        Chart::Plane(which) => (format!("#define CHART {which}\n"), PLANES),
        Chart::Cayley(b) => (format!("#define B {b}\n#define THREADS {}\n", chart.threads().0), CAYLEY),
        Chart::Exponential(b) => (format!("#define B {b}\n"), EXPONENTIAL),
    };
    Program { kernel, source: format!("#define STORED 0\n{constants}{PRELUDE}{NUMBERS}{text}") }
}

/// What all kernels on tiles begin with.
fn on_tiles(schedule: &Schedule, tile: Tile, stored: Stored, aligned: bool, transposed: bool, ways: Ways) -> String {
    let Tile { chunk, planes, threads, ahead, .. } = tile;
    let [a, b] = schedule.swizzle;
    let mut source = String::new();
    for (name, value) in [
        ("STORED", stored as usize),
        ("N", schedule.length),
        ("PARTS", schedule.parts()),
        ("PART", if ways.angles { schedule.angles.len() / schedule.parts() } else { schedule.part() }),
        ("ANGLES", usize::from(ways.angles)),
        ("C", chunk),
        ("PLANES", planes),
        ("K", ways.together),
        ("L", ways.of_thread),
        ("STREAMED", usize::from(ways.streamed)),
        ("RELOADED", usize::from(ways.reloaded)),
        ("THREADS", threads),
        ("AHEAD", ahead),
        ("SWIZZLE_A", a as usize),
        ("SWIZZLE_B", b as usize),
        ("ALIGNED", usize::from(aligned)),
        ("PASSES", schedule.passes.len()),
        ("PACKED_PART", schedule.packed),
        ("TENSOR", usize::from(ways.tensor)),
        ("FIRST_READS", ways.reads as usize),
        ("LAST_WRITES", ways.writes as usize),
        ("KEPT", usize::from(tile.kept)),
        ("KEPT_AT", tile.kept_at(schedule, ways.tiles)),
        ("KEPT_SIZE", schedule.passes.iter().map(Pass::kept).sum()),
    ] {
        _ = writeln!(source, "#define {name} {value}");
    }
    _ = writeln!(source, "#define TRANSPOSED {transposed}\n#define KEPT_T {}", ways.kept_transposed);
    source.push_str(PRELUDE);
    source.push_str(NUMBERS);
    source.push_str(TILE);
    for text in [PRODUCTS, TENSOR, STAGES, WIDE] {
        source.push_str(text);
    }
    let near = |at: usize| [at.wrapping_sub(1), at].map(|at| tile.is_near(schedule, at));
    let mut kept = 0;
    for (at, pass) in schedule.passes.iter().enumerate() {
        describe(at, pass, kept, ways.angles, near(at), &mut source);
        kept += pass.kept();
    }
    // As they act, and the other way round.
    let mut names: std::vec::Vec<_> = (0..schedule.passes.len()).map(|at| format!("Pass{at}")).collect();
    let [first, second] = if transposed { ["Backwards", "Passes"] } else { ["Passes", "Backwards"] };
    _ = writeln!(source, "typedef List<{}> {first};", names.join(", "));
    names.reverse();
    _ = writeln!(source, "typedef List<{}> {second};", names.join(", "));
    source
}

/// A pass as constants and small functions. `near`: whether it exchanges with the pass before it, and with the next one,
/// within warps.
fn describe(at: usize, pass: &Pass, kept: usize, angles: bool, near: [bool; 2], source: &mut String) {
    let Pass { window, count, gradients, gradient_size, .. } = pass;
    let numbers = if angles { pass.angles } else { pass.numbers };
    _ = writeln!(
        source,
        "struct Pass{at} {{\n    enum {{ AT = {at}, WINDOW = {window}, COUNT = {count}, NUMBERS = {numbers}, \
         GRADIENTS = {gradients}, SIZE = {gradient_size}, KEPT_NUMBERS = {kept}, PACKED = {} }};\n    static const bool WIDE = {}, TENSOR_CORES = {};",
        pass.packed.unwrap_or(0),
        pass.is_wide(),
        pass.packed.is_some()
    );
    let (eights, [before, next]) = (pass.has_eights(), near);
    _ = writeln!(source, "    static const bool EIGHTS = {eights}, NEAR_BEFORE = {before}, NEAR_NEXT = {next};");
    let index = "const unsigned short* __restrict__ index";
    match &pass.place {
        Place::Formula { windows, far, near, offsets } => {
            let offset = match pass.place.runs() {
                Some([first, unit, distance]) => format!("return {first} + i / {unit} * {distance} + i % {unit};"),
                None => array("offset", offsets) + "return offset[i];",
            };
            let first = format!("return w / {windows}u * {far} + w % {windows}u * {near};");
            let bits = |all: &mut dyn Iterator<Item = usize>| all.fold(0, |bits, x| bits | x);
            let firsts = bits(&mut (0..*count).map(|w| w / windows * far + w % windows * near));
            let apart = firsts & bits(&mut offsets.iter().copied()) == 0;
            _ = writeln!(
                source,
                "    static const bool APART = {apart};\n    \
                 __device__ static inline int first(unsigned w) {{ {first} }}\n    \
                 __device__ static inline constexpr int offset(int i) {{ {offset} }}\n    \
                 __device__ static inline int coordinate(unsigned w, int i, {index}) {{ return first(w) + offset(i); }}"
            );
        }
        Place::Table { first } => {
            _ = writeln!(
                source,
                "    static const bool APART = false;\n    \
                 __device__ static inline int first(unsigned) {{ return 0; }}\n    \
                 __device__ static inline int offset(int) {{ return 0; }}\n    \
                 __device__ static inline int coordinate(unsigned w, int i, {index}) {{ return index[{first} + i * {count} + w]; }}"
            );
        }
    }
    for (s, local) in pass.stages.iter().enumerate() {
        let (b, blocks) = (local.block, local.at.len() / local.block);
        // In large blocks the order is the block's own.
        let at = if pass.is_wide() { String::new() } else { array("at", &local.at) };
        let value = if pass.is_wide() { "i".into() } else { format!("at[q * {b} + i]") };
        _ = writeln!(
            source,
            "    struct Stage{s} {{\n        enum {{ B = {b}, BLOCKS = {blocks}, NUMBER = {}, GRADIENT = {}, SIZE = {} }};\n        \
             static const bool ROTATION = {}, ADJOINT = {};\n        \
             __device__ static inline constexpr int at(int q, int i) {{ {at}return {value}; }}\n    }};",
            local.number,
            local.gradient,
            local.gradient_size(pass),
            local.rotation,
            local.adjoint
        );
    }
    let names: std::vec::Vec<_> = (0..pass.stages.len()).map(|s| format!("Stage{s}")).collect();
    _ = writeln!(source, "    typedef List<{}> Stages;\n    typedef Stage0 Only;\n}};", names.join(", "));
}

pub(super) fn array(name: &str, values: &[usize]) -> String {
    let values: std::vec::Vec<_> = values.iter().map(|v| format!("{v}")).collect();
    format!("const int {name}[] = {{{}}}; ", values.join(", "))
}
