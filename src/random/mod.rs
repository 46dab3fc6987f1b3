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
//! Everything here is frozen: a reader can write it again in another language and get the same bits.
//!
//! **Shape.** n fixes powers of two: the block p, the unit w, and the number m = ⌈n/p⌉ of blocks.
//! For n < 8, p is the largest power of two ≤ n. Otherwise it is the largest one ≤ n/2, at most 256; and beyond n = 4096 it is the
//! smallest one ≥ 256 with p²/16 ≥ n. w = p/4, at least 1 and at most 16. A block is J = p/w units.
//!
//! **Where blocks are.** A *run* i of c runs of width v starts at w·⌈i·(n − v) / ((c − 1)·w)⌉ if i < c − 1; the last one starts at
//! n − v. In even rounds (0, 2, …) block b is run b of m runs of width p, cut into its J units. In odd rounds there are J runs
//! of width m·w, and block b takes the b-th unit of each. If m = 1, unit u starts at u·w in all rounds. Blocks may
//! overlap; they act one after the other.
//!
//! **What is drawn.** Numbers come from [`Generator`](crate::generator::Generator) (SplitMix64). The first number of the stream
//! of `seed`, xor n, is the seed of the stream used. For every round (3 by default), for every block in it:
//! the starts of its units are put in order by Fisher–Yates from the end: for i = J − 1, …, 1 the i-th and the j-th change places,
//! j uniform in 0..=i by Lemire's method (the upper word of u·(i + 1), drawn again while its lower word is below 2⁶⁴ mod (i + 1)). Then
//! ⌈p/64⌉ words are drawn for the signs s, then as many for the signs t. Sign i is − if bit i mod 64 of word ⌊i/64⌋ is set.
//!
//! **What a block does** with its p coordinates, unit by unit in that order:
//! 1. xᵢ ← xᵢ · (sᵢ·c), where c = 2^{−k/2} for p = 2ᵏ: for odd k the product of 2^{−(k−1)/2} and √½ rounded to the type (`f32`
//!    bits 3f3504f3, `f64` bits 3fe6a09e667f3bcd);
//! 2. for the distances d = 1, 2, 4, … below w: (a, b) ← (a + b, a − b) for all pairs of coordinates i, i + d where i has not the bit d;
//! 3. xᵢ ← xᵢ · tᵢ;
//! 4. the same as 2 for the distances d = w, 2w, … below p.
//!
//! Each sum, difference and product is rounded once, to nearest, ties to even. The inverse does all of it backwards: last round and block first,
//! 4 and 2 from the largest distance down, the same pairs and multiplications. A product with ±1 is exact, so a machine
//! may fuse it with the sum that follows. So the results are the same bits on every machine that rounds like this and flushes no
//! subnormal numbers to zero; of a NaN only that it is one is defined.
//!
//! **Stored form**, 24 bytes: `papro`, version 1, kind 1, the number of rounds, n and the seed in 8 bytes each, little endian
//! ([`RandomRotation::to_bytes`]).
//!
//! # Why it mixes
//!
//! A Walsh–Hadamard transform with random signs spreads one coordinate over a block (round 1); dealing the block's units to all
//! other blocks and transforming again adds up many independent signs, so coordinates become Gaussian by the
//! central limit theorem (round 2); the third makes their fourth moments, and the energies of blocks, those of a uniformly
//! random direction: E y⁴ = 3n/(n + 2). (Where blocks overlap or do not deal
//! their units evenly, coordinates are not all alike: docs/random.md says how far.) Signs between stages within and among units
//! keep lanes that are alike in all units (neighbours that are equal, a decaying spectrum) from staying so, and the order of units keeps the two wirings from meeting along subgroups.
//! Without them the kurtosis of such inputs is off by up to 0.05 at n = 128 (docs/random.md).

mod gaussian;
pub mod haar;
mod hadamard;
mod hadamard_cube;
mod kac;
mod normal;
mod passes;
mod plan;
mod quality;
mod rotation;
mod stored;
mod wiring;

pub use gaussian::GaussianMap;
pub use hadamard::{walsh_hadamard, walsh_hadamard_on};
pub use hadamard_cube::HadamardCube;
pub use kac::KacWalk;
pub use quality::{Input, Quality, Reference, quality, quality_report};
pub use rotation::{DEFAULT_ROUNDS, Direction, RandomRotation};
