//! Structured orthogonal matrices: fast to multiply by, exact to train, proved to stay orthogonal.
//!
//! An n×n rotation has n(n − 1)/2 degrees of freedom and costs n² multiplications per vector; for n = 4096 that is eight
//! million numbers. papilio works with rotations that are *products of sparse ones*,
//!
//! > Q = Fₘ ··· F₂ F₁,  Fₖ = Pₖᵀ diag(B₁, B₂, …) Pₖ,
//!
//! where every B is a small orthogonal block that acts on b of the coordinates. Such a Q has n·m·(b − 1)/2 parameters, costs
//! n·m·b multiplications per vector, and is orthogonal because its blocks are. Butterflies, block-diagonal rotations (OFT)
//! and block butterflies (BOFT) are of this kind. The crate is for those who train such matrices (fine-tuning adapters,
//! orthogonal layers), apply them (rotations before quantisation, mixing transforms), or merge them into other weights.
//!
//! # A first program
//!
//! ```
//! use papilio::{Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
//!
//! // Four stages of 8×8 rotations.
//! let plan = Plan::<f32>::new(1024, &Butterfly::boft(4, 8)?, Cayley)?;
//! let theta: Vec<f64> = (0..plan.num_params()).map(|i| 0.2 * (i as f64).sin()).collect();
//! let q = Orthogonal::new(plan, theta)?;
//! let x = vec![1.0; 1024];
//! let y = q.apply(&x)?; // Q x
//! let z = q.apply_adjoint(&y)?; // Qᵀ Q x
//! assert!(x.iter().zip(&z).all(|(x, z)| (x - z).abs() < 1e-5));
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! [`Orthogonal`] owns everything and is the handy form. The rest of this page is about what it is made of.
//!
//! # Two questions: topology and parametrization
//!
//! *Which coordinates meet?* A [`Topology`] answers with one table of coordinates for each stage. Here is
//! `Butterfly::classic(2)` for n = 8. Each bar is one 2×2 block; after log₂ n stages every output depends on every input:
//!
#![doc = include_str!("../docs/stages.svg")]
//!
//! | in [`topology`] | stages |
//! |---|---|
//! | [`BlockDiagonal`](topology::BlockDiagonal) | one, of neighbouring coordinates (OFT); with b = n a dense rotation |
//! | [`Butterfly`](topology::Butterfly) | strides that grow from stage to stage: classic, radix b, BOFT(m, b) |
//! | [`AnyButterfly`](topology::AnyButterfly) | a dense butterfly with blocks of at most b for *every* n, primes included |
//! | [`MixedRadix`](topology::MixedRadix), [`Monarch`](topology::Monarch) | n = r₀·r₁···, one stage for each factor |
//! | [`GroupAndShuffle`](topology::GroupAndShuffle) | blocks of b and perfect shuffles in turn (GSOFT) |
//! | [`Reversed`](topology::Reversed), [`Repeated`](topology::Repeated), [`Sequence`](topology::Sequence), [`Kaleidoscope`](topology::Kaleidoscope) | other wirings backwards, again, one after the other, there and back (B·Bᵀ) |
//! | [`GeneralizedBoft`](topology::GeneralizedBoft) | R_G(m₁, b₁, m₂, b₂, l): l pairs of BOFT·BOFTᵀ |
//! | [`Benes`](topology::Benes) | Beneš networks for every n; they route every permutation |
//! | [`Brick`](topology::Brick), [`Triangle`](topology::Triangle) | neighbouring pairs: all of SO(n) (Clements, Reck) |
//! | [`BinaryTree`](topology::BinaryTree) | n − 1 pairs (GOFT) |
//! | [`Kronecker`](topology::Kronecker) | wirings of the rows and the columns of a grid (ButterflyQuant) |
//! | [`Shared`](topology::Shared) | one block for each stage or group: (simple) scalar butterflies |
//! | [`RandomShuffle`](topology::RandomShuffle), [`RandomPairings`](topology::RandomPairings), [`RandomTables`](topology::RandomTables) | random, from a seed, frozen |
//! | [`Explicit`](topology::Explicit) | any, as tables of indices |
//!
//! *How is a block given by real numbers?* A [`Parametrization`], a chart for short, maps the parameters of one block to the
//! block, and gradients back. θ = 0 is the identity (a diagonal of signs if signed).
//!
//! | in [`parametrization`] | blocks | parameters of one |
//! |---|---|---|
//! | [`Cayley`](parametrization::Cayley) | b×b rotations and unitary blocks, (I − A)(I + A)⁻¹ with A skew(-Hermitian) | b(b − 1)/2 (unitary: b²), the upper triangle of A row by row |
//! | [`Exponential`](parametrization::Exponential) | b×b rotations and unitary blocks, exp A with A skew(-Hermitian) | b(b − 1)/2 (unitary: b²), likewise |
//! | [`CayleyNeumann`](parametrization::CayleyNeumann) | Cayley with a truncated series for the inverse, *nearly* orthogonal | likewise |
//! | [`CayleySeries`](parametrization::CayleySeries) | the power series of Cayley's map, cut off, *nearly* orthogonal | likewise |
//! | [`NewtonSchulz`](parametrization::NewtonSchulz) | polar factor of I − A by a number of steps, *nearly* orthogonal | likewise |
//! | [`Givens`](parametrization::Givens) | 2×2 rotations | the angle |
//! | [`UnitaryPhases`](parametrization::UnitaryPhases), [`MachZehnder`](parametrization::MachZehnder) | unitary 2×2 blocks, all or up to phases of the next stage | 4 or 2 phases |
//! | [`Signed`](parametrization::Signed) | those of another chart with columns negated: determinant −1 | those of the other |
//!
//! A stage may also be a product of Householder reflections ([`Source::reflectors`]; HRA, ETHER): vectors instead of blocks,
//! of any length up to n, and never a matrix.
//!
//! Both traits are open: `examples/own_chart_and_topology.rs` adds a chart of 3×3 rotations and a wiring of its own,
//! and [`verify::laws`] checks them as it checks the ones here. [`Charts`](parametrization::Charts) finds charts by name.
//!
//! For a matrix that is given, [`synthesis`] finds the parameters: any rotation as a mesh of neighbouring pairs or as pairs of
//! butterflies B·Bᵀ, any unitary matrix as a mesh of U(2) blocks, both as Householder reflections, any permutation as a Beneš
//! network or two stages of swaps. Fast transforms come as plans without parameters: Hadamard, Fourier, Hartley, cosines and
//! sines, wavelets, Kronecker products. [`fit`] finds the product of any wiring that is nearest to a matrix.
//!
//! # One object: the plan
//!
//! A [`Plan`] is a topology and a chart for a size n: structure, all of it checked, and no trainable numbers. It is cheap to
//! clone and to share between threads.
//!
//! ```
//! use papilio::parametrization::{Cayley, Givens};
//! use papilio::topology::{BlockDiagonal, Butterfly};
//! use papilio::{Plan, Sharing, Source, StageLayout};
//! use std::sync::Arc;
//!
//! let butterfly = Plan::<f64>::new(64, &Butterfly::classic(2), Givens)?;
//! assert_eq!((butterfly.num_stages(), butterfly.num_params()), (6, 6 * 32));
//!
//! // Plans compose and reverse; the parameters stay in the order in which the plans came.
//! let blocks = Plan::<f64>::new(64, &BlockDiagonal::new(4), Cayley)?;
//! let both = blocks.then(butterfly.adjoint())?; // Q = Q_butterflyᵀ · Q_blocks
//! assert_eq!(both.num_params(), 16 * 6 + 6 * 32);
//!
//! // Stages one by one: here the 16 blocks of a stage share the parameters of one,
//! // and a fixed stage swaps neighbours.
//! let shared = Source::Chart { chart: Arc::new(Cayley), sharing: Sharing::All };
//! let swap = Source::Fixed([0.0, 1.0, 1.0, 0.0].repeat(32).into());
//! let stages = [(StageLayout::contiguous(4, 16), shared), (StageLayout::contiguous(2, 32), swap)];
//! assert_eq!(Plan::<f64>::from_stages(64, stages)?.num_params(), 6);
//!
//! // What does not fit is an error that says what would.
//! let error = Plan::<f64>::new(100, &Butterfly::classic(2), Givens).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "butterfly topology: expected n = 1*2^m for some m, or an explicit number of stages, \
//!      got n = 100"
//! );
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! # Four verbs
//!
//! Parameters are one flat slice θ that belongs to whoever trains it. [`Factors`] are the blocks at θ. Each verb has its
//! adjoint, named `_vjp`:
//!
#![doc = include_str!("../docs/dataflow.svg")]
//!
//! | verb | gives | cost |
//! |---|---|---|
//! | [`Plan::realize`] | θ ↦ factors | g·b³ for each stage of g blocks |
//! | [`Plan::apply`], [`Plan::apply_in_place`] | factors, x ↦ y = Op(Q) x | n·b·m for each vector |
//! | [`Plan::apply_vjp`] | ∂y ↦ ∂x (overwritten), ∂factors (added to) | 3·n·b·m for each vector |
//! | [`Plan::realize_vjp`] | ∂factors ↦ ∂θ (added to) | as realize |
//!
//! Forward mode is there too: [`Plan::realize_jvp`] and [`Plan::apply_jvp`] take directions of θ, of the factors and of x to
//! directions of y.
//!
//! Realise once, apply often: between two steps of an optimiser the factors serve every batch. Gradients pair as
//! ⟨G, dX⟩ = Re tr(Gᴴ dX).
//!
//! # Batches
//!
//! Vectors are the rows of a [`Batch`] view of your memory, or its columns, or any strides; views are checked once, when they
//! are made. [`Op`] says whether Q, Qᴴ, Qᵀ or Q̄ acts. For row vectors, x·R is `Op::Transpose` of R.
//!
//! ```
//! use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Workspace};
//! use papilio::{parametrization::Givens, topology::Butterfly};
//!
//! let plan = Plan::<f32>::new(4, &Butterfly::classic(2), Givens)?;
//! let factors = plan.realize(&[0.1, 0.2, 0.3, 0.4f32])?;
//! let mut ws = Workspace::new(); // scratch memory, for any number of plans
//! let par = Parallelism::None; // or Rayon: the same bits
//!
//! let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0f32];
//! let (mut rows, mut columns) = ([f32::NAN; 8], [f32::NAN; 8]);
//! let input = Batch::rows(&x, 4)?; // the vectors [1 2 3 4] and [5 6 7 8]
//! plan.apply(&factors, input, BatchMut::rows(&mut rows, 4)?, Op::None, par, &mut ws)?;
//! // The same results, written as the columns of a 4×2 matrix.
//! plan.apply(&factors, input, BatchMut::columns(&mut columns, 4)?, Op::None, par, &mut ws)?;
//! assert_eq!(rows[4..], [columns[1], columns[3], columns[5], columns[7]]);
//!
//! plan.apply_in_place(&factors, BatchMut::rows(&mut rows, 4)?, Op::Adjoint, par, &mut ws)?;
//! assert!(rows.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-5));
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! # Gradients, end to end
//!
//! Training by hand: which rotation takes x to t? The loss is ½‖Qx − t‖², so ∂y = y − t. Nothing is recorded during the
//! forward pass. As Q is orthogonal, the output alone is enough to find what went through the stages
//! ([`Saved::Output`]); the input works as well, and for any plan ([`Saved::Input`]).
//!
//! ```
//! use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Saved, Workspace};
//! use papilio::{parametrization::Cayley, topology::Butterfly};
//!
//! let (n, par, mut ws) = (8, Parallelism::None, Workspace::new());
//! let plan = Plan::<f64>::new(n, &Butterfly::boft(2, 4)?, Cayley)?;
//! let x = [1.0, 0.5, -0.5, 2.0, 0.0, 1.0, -1.0, 0.25];
//! let t = [2.0, 1.0, 0.5, -0.5, 0.25, 0.0, 1.0, -1.0]; // as long as x
//! let mut theta = vec![0.0; plan.num_params()];
//!
//! let mut losses = vec![];
//! for _ in 0..50 {
//!     let factors = plan.realize(&theta)?;
//!     let mut y = x;
//!     plan.apply_in_place(&factors, BatchMut::rows(&mut y, n)?, Op::None, par, &mut ws)?;
//!     let gy: Vec<f64> = y.iter().zip(&t).map(|(y, t)| y - t).collect();
//!     losses.push(0.5 * gy.iter().map(|g| g * g).sum::<f64>());
//!
//!     let mut d_factors = vec![0.0; plan.num_entries()]; // accumulated: start from zero
//!     let mut d_theta = vec![0.0; plan.num_params()];
//!     let (saved, gy) = (Saved::Output(Batch::rows(&y, n)?), Batch::rows(&gy, n)?);
//!     let d = Some(&mut d_factors[..]);
//!     plan.apply_vjp(&factors, saved, Op::None, gy, None, d, par, &mut ws)?;
//!     plan.realize_vjp(&theta, &factors, &d_factors, &mut d_theta)?;
//!
//!     theta.iter_mut().zip(&d_theta).for_each(|(theta, d)| *theta -= 0.02 * d);
//! }
//! assert!(losses[1] < losses[0] && losses[49] < 1e-3 * losses[0]);
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! Any optimiser over a flat slice will do, and any framework that can call two functions. Where in θ a stage's parameters
//! lie is [`Stage::theta`]; where in the factors an entry lies is [`Stage::entry`].
//!
//! # Orthogonal, and proved to be
//!
//! Charts are evaluated in double precision and rounded once, so a plan over `f32` is orthogonal to `f32`'s last digit for
//! any finite θ, small or 10³. That is not left to belief. [`verify::certificate`] bounds ‖QᴴQ − I‖₂ rigorously, from the
//! stored blocks, without forming Q:
//!
//! ```
//! use papilio::{Plan, parametrization::Cayley, topology::Butterfly, verify};
//!
//! let plan = Plan::<f32>::new(4096, &Butterfly::boft(5, 8)?, Cayley)?;
//! let theta: Vec<f32> = (0..plan.num_params()).map(|i| 100.0 * (i as f32).sin()).collect();
//! let proof = verify::certificate(&plan, &plan.realize(&theta)?)?;
//! assert!(proof.defect < 10.0 * f64::from(f32::EPSILON));
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! [`verify`] also holds what papilio's own tests call, for yours: gradients against fourth-order differences, the laws of
//! charts and wirings, isometry and adjoint, LAPACK's ratio for dense matrices, and Q written out by definition.
//!
//! # Unitary matrices
//!
//! Over [`c32`] and [`c64`] orthogonal means unitary. Parameters stay real, the four [`Op`]s are four different things, and
//! gradients are ∂L/∂Re + i·∂L/∂Im:
//!
//! ```
//! use papilio::{Orthogonal, Plan, c64, parametrization::Cayley, topology::AnyButterfly};
//!
//! let plan = Plan::<c64>::new(7, &AnyButterfly::new(3), Cayley)?;
//! let theta = vec![0.3; plan.num_params()]; // b² for each b×b block
//! let u = Orthogonal::new(plan, theta)?;
//! let x = vec![c64::new(0.0, 1.0); 7];
//! let z = u.apply_adjoint(&u.apply(&x)?)?; // Uᴴ U x
//! assert!(x.iter().zip(&z).all(|(x, z)| (x - z).norm() < 1e-15 * 7.0));
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! # After training
//!
//! An [`Orthogonal`] composes ([`compose`](Orthogonal::compose)), goes part of the way to another place on the same stages
//! ([`interpolate`](Orthogonal::interpolate), [`truncate`](Orthogonal::truncate)), starts again from θ = 0 without a change of Q
//! ([`rebase`](Orthogonal::rebase)), knows rigorous bounds ([`condition`](Orthogonal::condition),
//! [`distance`](Orthogonal::distance), [`Plan::lipschitz`]) and can be saved to a file and loaded bit by bit the same
//! ([`archive`](archive/index.html)).
//!
//! Which wiring to train in the first place? [`transmission`] tells for each what it connects, over how many paths, how many
//! directions it can really move in, and what it costs; `papilio topology --n 64` compares all of them, and `docs/study.md` is
//! what we learned from that.
//!
//! # Random rotations
//!
//! What vector quantisation does before it rounds: [`random::RandomRotation`] mixes the coordinates of vectors of any length, as well as a
//! dense Haar matrix would, in O(n log n); the same bits on every CPU and in every version.
//!
//! # What results depend on
//!
//! y = Qx depends on the plan, θ and x; not on the number of threads, the other vectors of the batch, or how the batch lies in
//! memory: the bits are the same. All instruction sets with fused multiply-add (AVX2, AVX-512, NEON) agree bit for bit, too;
//! [`Isa::Portable`] rounds products, and agrees to rounding. (Sums over a batch, that is ∂factors, are grouped by the
//! register width and by the shape of the batch.) The numbers of [`generator`] never change, on any platform, in any version.
//!
//! # Speed
//!
//! * All stages run while a piece of the batch is in cache, so Q costs one pass over memory, not m.
//! * The instruction set is chosen at run time; a plain `cargo build --release` is enough. [`Workspace::with_isa`] forces one.
//! * Keep the [`Workspace`]; it holds the scratch memory. Use [`Parallelism::Rayon`] for more than a few tiles of vectors.
//! * Blocks b = 2, 3, 4, 6, 8 and 16 have kernels of their own; other sizes are slower.
//! * Batches of at least 16 (`f32`) or 8 (`f64`) vectors fill the registers, whatever the wiring. Strided stages with radix 2,
//!   4 or 8 (classic butterflies) are fast for one vector, too.
//!
//! [`Plan::explain`] tells which kernels run and what they cost; `papilio bench` times your sizes. Measurements, and how to
//! repeat them, are in `docs/benchmarks.md`; the reasons behind the design are in `docs/design.md`.
//!
//! # Features
//!
//! | feature | on by default | what it adds |
//! |---|---|---|
//! | `std` | yes | CPU detection at run time, scratch memory kept between calls; implies `rand` |
//! | `rayon` | yes | threads |
//! | `rand` | with `std` | random initialisers of [`Orthogonal`] that take an `impl rand::Rng` |
//! | `half` | | batches of `half::bf16` and `half::f16`, computed with in `f32` |
//! | `proptest` | | strategies for the property tests of crates that build on papilio |
//! | `files` | | [`archive`](archive/index.html): operators saved and loaded; [`adapter`](adapter/index.html): PEFT's BOFT adapters read, certified and merged into safetensors models |
//! | `candle` | | [`interop::candle`](interop/candle/index.html): rotations of candle's tensors and adapters for its layers, with gradients; implies `files` |
//! | `cuda` | | [`cuda`](cuda/index.html): the verbs on GPUs of NVIDIA, whose libraries are loaded at run time |
//! | `faer`, `nalgebra`, `ndarray` | | [`interop`](interop/index.html): their views as batches, without copies; operators for faer's solvers |
//! | `interop` | | these three |
//! | `cli` | | the `papilio` command: `merge`, `inspect`, `verify`, `topology`, `fit`, `bench`, `rotate` |
//!
//! Without default features the crate is `no_std` with `alloc`, and computes the same numbers on [`Isa::Portable`] or with
//! what the target has at compile time.

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "files")]
pub mod adapter;
#[cfg(feature = "files")]
pub mod archive;
mod batch;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dense;
mod error;
pub mod fit;
pub mod generator;
#[cfg(any(feature = "candle", feature = "faer", feature = "nalgebra", feature = "ndarray"))]
pub mod interop;
mod kernel;
mod layout;
mod orthogonal;
mod parallel;
pub mod parametrization;
mod plan;
pub mod random;
mod scalar;
mod simd;
#[cfg(feature = "files")]
pub mod storage;
pub mod synthesis;
pub mod topology;
pub mod transmission;
pub mod verify;

pub use batch::{Batch, BatchMut};
pub use error::{Error, Result};
pub use layout::{Sharing, StageLayout};
pub use orthogonal::{Condition, Orthogonal};
pub use parallel::Parallelism;
pub use parametrization::Parametrization;
pub use plan::{ExplainedPass, Explanation, Factors, Kernel, Lipschitz, Op, Plan, Saved, Source, Stage, Workspace};
pub use scalar::{Element, Real, Scalar, Wide, c32, c64};
pub use simd::Isa;
pub use topology::Topology;
pub use transmission::Transmission;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
