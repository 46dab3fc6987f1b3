//! Random rotations of any size in O(n log n): the same bits everywhere, for ever.
//!
//! [`RandomRotation`] is what vector quantisation needs before it rounds: an orthogonal matrix after which the coordinates of any
//! vector look Gaussian, whatever the vector. [`quality_report`] measures how well; beside it stand what it is compared with:
//! [`haar`] (exactly uniform, dense or as a mesh), [`HadamardCube`] (HD³, padded) and [`KacWalk`] (FHT–Kac). [`GaussianMap`]
//! projects to k dimensions (Johnson–Lindenstrauss). [`walsh_hadamard`] is the transform alone, [`RandomRotation::to_plan`] the
//! rotation as a [`Plan`](crate::Plan), where learning can start.
//!
//! # The definition, version 1
//!
//! Everything here is frozen: a reader can write it again in another language and get the same bits
//! (`tests/peers/random_rotation.py` is such a program).
//!
//! **Shape.** n fixes powers of two: the block p, the unit w, and the number m = ⌈n/p⌉ of blocks. p is the largest power of two that is
//! at most n and at most 256, with these exceptions: 128 for n = 384; 512 for n > 1280 unless 256 divides n; and beyond n = 4096 p is
//! doubled until p·p/16 ≥ n. w = p/8, at least 1 and at most 16. A block is J = p/w units.
//!
//! **Where blocks are.** A *run* i of c runs of v units starts at w·min(⌈i·l / ((c − 1)·w)⌉, max(⌊l/w⌋ + i + 1 − c, 0)) with l = n − v·w
//! if i < c − 1; the last one starts at l. Rounds come in three kinds, in turn:
//! *opening* rounds (0, 3, …), where block b is run b of m runs of J units; *middle* rounds (1, 4, …), where there are J runs of m units,
//! and block b takes unit b of each; and *closing* rounds (2, 5, …), where block b takes unit (b + ⌊m·r/J⌋) mod m of run u, with
//! r = (J/2 − 1)·u mod J.
//! If n < p + w, and in closing rounds if m < 6, blocks are as in opening rounds; if m = 1, unit u starts at u·w. Blocks may
//! overlap; they act one after the other.
//!
//! **What is drawn.** Numbers come from [`Generator`](crate::generator::Generator) (SplitMix64). The first number of the stream
//! of `seed`, xor n, is the seed of the stream used. For every round (3 by default), for every block in it:
//! if m > 1, the starts of its units are put in order by Fisher–Yates from the end: for i = J − 1, …, 1 the i-th and the j-th change places,
//! j uniform in 0..=i by Lemire's method (the upper word of u·(i + 1), drawn again while its lower word is below 2⁶⁴ mod (i + 1)). Then
//! ⌈p/64⌉ words are drawn for the signs s; then ⌈p/128⌉ for signs t, in opening rounds if w > 1, in closing rounds if J > 1. Sign i is −
//! if bit i mod 64 of word ⌊i/64⌋ is set.
//!
//! **What a block does** with its p coordinates, unit by unit in that order. A *stage* of distance d is (a, b) ← (a + b, a − b) for all
//! pairs of coordinates i, i + d where i has not the bit d.
//! 1. xᵢ ← xᵢ·(sᵢ·c), where c = 2^{−k/2} for k stages: for odd k the product of 2^{−(k−1)/2} and √½ rounded to the type (`f32`
//!    bits 3f3504f3, `f64` bits 3fe6a09e667f3bcd).
//! 2. In opening rounds, stages of the distances p/2, p/4, … down to w, then, if w > 1, (a, b) ← (tᵢ·a + b, a − tᵢ·b) for the
//!    coordinates 2i, 2i + 1, then stages of 2, 4, … below w. So k = log₂ p.
//! 3. In middle rounds, stages of w, 2w, … below p, k = log₂ J of them.
//! 4. In closing rounds, stages of 1, 2, … below w; then, if J > 1, the coordinates of unit 1 are multiplied by the first w signs t,
//!    those of unit 3 by the next w, and so on; then stages of w, 2w, … below p. Again k = log₂ p.
//!
//! Each sum, difference and product is rounded once, to nearest, ties to even. The inverse does all of it backwards: last round and
//! block first, its steps and stages from the last to the first, the same pairs and multiplications. A product with ±1 is exact, so a
//! machine may fuse it with the sum that follows. So the results are the same bits on every machine that rounds like this and flushes
//! no subnormal numbers to zero; of a NaN only that it is one is defined.
//!
//! **Stored form**, 24 bytes: `papro`, version 1, kind 1, the number of rounds, n and the seed in 8 bytes each, little endian
//! ([`RandomRotation::to_bytes`]).
//!
//! # Why it mixes
//!
//! An opening round spreads one coordinate over a block. The middle round deals a block's units to all other blocks and adds them up: now
//! energy is spread evenly over the vector. The closing round is a sum of p numbers with random signs each, so
//! coordinates become Gaussian by the central limit theorem, and the energies of blocks fluctuate as those of a uniformly
//! random direction do: E y⁴ = 3n/(n + 2). Its diagonals meet the middle round's combs and the runs evenly, which neither would for a
//! second time. The opening round goes across units first: so signs that differ from unit to unit stand between a short
//! run of equal neighbours and the transform of its unit, and no pattern of lanes outlives it (docs/random.md).

mod alone;
mod gaussian;
pub mod haar;
mod hadamard;
mod hadamard_cube;
mod kac;
mod passes;
mod places;
mod plain;
mod plan;
mod quality;
mod registers;
pub(crate) mod rotation;
mod stored;
pub(crate) mod wiring;

pub use gaussian::GaussianMap;
pub use hadamard::{walsh_hadamard, walsh_hadamard_on};
pub use hadamard_cube::HadamardCube;
pub use kac::KacWalk;
pub use quality::{Input, Quality, Reference, quality, quality_report};
pub use rotation::{DEFAULT_ROUNDS, Direction, RandomRotation};
