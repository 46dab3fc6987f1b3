//! A random rotation: what is built once, and the verbs.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::passes::{self, Place, Rounds, factors, machine, numbers};
use super::places::Places;
use super::wiring::{Round, Shape, draw};
use crate::batch::BatchMut;
use crate::error::{Error, Result, check_length};
use crate::parallel::{Aligned, Parallelism, for_each};
use crate::plan::Workspace;
use crate::scalar::{Element, Real, Scalar};
use crate::simd::Isa;

/// Rounds unless the caller chooses: after three, one-hot vectors and other simple inputs look as they do through a dense Haar
/// matrix; after two they do not (measured by [`quality_report`](super::quality_report)).
pub const DEFAULT_ROUNDS: usize = 3;

/// Rounds at most: more do not mix better, and a stored form should not decide how much memory is taken.
const MOST_ROUNDS: usize = 16;

/// Longest vectors.
const MOST_COORDINATES: usize = 1 << 26;

/// A fixed pseudo-random orthogonal matrix of any size, applied in O(n log n) without padding.
///
/// It is a function of n, the seed and the number of rounds alone: the same bits on every CPU, for any batch, any number of threads
/// and in every version of papilio ([the definition](super)). It holds its signs, 18 bytes for each coordinate in `f32`, and
/// applies without allocating.
///
/// ```
/// use papilio::random::RandomRotation;
///
/// let rotation = RandomRotation::<f32>::new(1000, 42)?;
/// let mut x = vec![0.0; 1000];
/// x[7] = 1.0; // the worst case: all in one coordinate
/// rotation.apply(&mut x)?;
/// assert!(x.iter().all(|x| x.abs() < 5.0 / 1000f32.sqrt())); // as if Gaussian
/// rotation.inverse(&mut x)?;
/// assert!((x[7] - 1.0).abs() < 1e-6);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RandomRotation<T: Real> {
    shape: Shape,
    seed: u64,
    rounds: usize,
    machine: Option<(Isa, usize)>,
    blocks: Vec<Place>,
    places: Places,
    signs: Aligned<T>,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// y = Q x
    Forward,
    /// x = Qᵀ y = Q⁻¹ y
    Inverse,
}

impl<T: Real> RandomRotation<T> {
    /// The rotation of vectors of length `n` that belongs to `seed`, with [`DEFAULT_ROUNDS`].
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n ≤ 2²⁶.
    pub fn new(n: usize, seed: u64) -> Result<Self> {
        Self::with_rounds(n, seed, DEFAULT_ROUNDS)
    }

    /// With another number of rounds. The first rounds of a seed are the same however many follow.
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n ≤ 2²⁶ and 1 ≤ rounds ≤ 16.
    pub fn with_rounds(n: usize, seed: u64, rounds: usize) -> Result<Self> {
        Self::drawn(n, seed, rounds, Isa::detect())
    }

    /// The same rotation on another instruction set, to the same bits.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this CPU lacks it.
    pub fn with_isa(self, isa: Isa) -> Result<Self> {
        Self::drawn(self.n(), self.seed, self.rounds, isa.checked()?)
    }

    fn drawn(n: usize, seed: u64, rounds: usize, isa: Isa) -> Result<Self> {
        check_range("length n of a random rotation", n, MOST_COORDINATES)?;
        check_range("rounds of a random rotation", rounds, MOST_ROUNDS)?;
        let shape = Shape::of(n);
        let machine = machine::<T>(isa, shape.unit);
        let register = machine.map_or(shape.unit, |(_, lanes)| lanes);
        let mut places = Places::new(n, register, rounds * shape.blocks * shape.block / register);
        let each = |round: usize| numbers(shape, Round::of(round));
        let mut signs = Aligned::zeros((0..rounds).map(each).sum::<usize>() * shape.blocks);
        let (mut blocks, mut at) = (Vec::with_capacity(rounds * shape.blocks), 0);
        for drawn in draw(shape, seed, rounds) {
            let end = at + numbers(shape, drawn.round);
            blocks.push(Place { round: drawn.round, registers: places.len(), signs: at, end });
            for start in drawn.starts {
                (0..shape.unit).step_by(register).for_each(|at| places.push(start + at as u32));
            }
            let these = &mut signs[at..end];
            at = end;
            let sign = |words: &[u64], i: usize| words[i / 64] >> (i % 64) & 1 == 1;
            let signed = |minus: bool, size: T| if minus { -size } else { size };
            let scale = scale::<T>(shape.stages(drawn.round));
            let first = (0..shape.block).map(|i| signed(sign(&drawn.signs, i), scale));
            let between = (0..shape.between(drawn.round))
                .flat_map(|i| factors(drawn.round, signed(sign(&drawn.between, i), T::one())));
            these.iter_mut().zip(first.chain(between)).for_each(|(to, from)| *to = from);
        }
        Ok(Self { shape, seed, rounds, machine, blocks, places, signs })
    }

    /// Length of the vectors.
    pub fn n(&self) -> usize {
        self.shape.n
    }

    /// What the rotation is drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Number of rounds.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Additions and subtractions for one vector.
    pub fn additions(&self) -> usize {
        let stages = (0..self.rounds).map(|round| self.shape.stages(Round::of(round)) as usize).sum::<usize>();
        stages * self.shape.blocks * self.shape.block
    }

    /// x ← Q x for one vector, or for each of several one after the other. An infinity or NaN spreads.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of n. Nothing is written then.
    pub fn apply(&self, vectors: &mut [T]) -> Result<()> {
        self.turn(BatchMut::rows(vectors, self.shape.n)?, false)
    }

    /// x ← Qᵀ x, which undoes [`apply`](Self::apply) to rounding.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn inverse(&self, vectors: &mut [T]) -> Result<()> {
        self.turn(BatchMut::rows(vectors, self.shape.n)?, true)
    }

    fn turn(&self, mut rows: BatchMut<'_, T>, back: bool) -> Result<()> {
        passes::run(&self.numbers(), &mut rows, back);
        Ok(())
    }

    /// Any batch: rows, columns, any strides, `half::f16` and `half::bf16` (computed with in `f32`, rounded once at the end), on
    /// several threads. What is not rows of `f32` or `f64` passes through scratch memory, which the workspace keeps. The
    /// instruction set is this rotation's, not the workspace's.
    ///
    /// # Errors
    /// [`Error::Length`] if the vectors have another length. Nothing is written then.
    pub fn apply_batch<E: Element<Scalar = T>>(
        &self,
        vectors: BatchMut<'_, E>,
        direction: Direction,
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        check_length("length n of a random rotation's vectors", self.shape.n, vectors.n())?;
        let (n, batch, back) = (self.shape.n, vectors.batch(), direction == Direction::Inverse);
        let piece = (PIECE / n).max(1);
        let cuts = (1..=batch.div_ceil(piece)).map(|k| (k * piece).min(batch));
        for_each(parallelism, vectors.split(cuts).collect(), |mut vectors: BatchMut<'_, E>| {
            if let Some(vectors) = E::scalar_batch_mut(&mut vectors)
                && vectors.row_mut(0).is_some()
            {
                return passes::run(&self.numbers(), vectors, back);
            }
            let together = TOGETHER.min(piece);
            workspace.pool().with(n * together, |scratch: &mut [T]| {
                for first in (0..vectors.batch()).step_by(together) {
                    let count = together.min(vectors.batch() - first);
                    let scratch = &mut scratch[..n * count];
                    copy_in(&vectors, first, scratch);
                    if let Ok(mut rows) = BatchMut::rows(scratch, n) {
                        passes::run(&self.numbers(), &mut rows, back);
                    }
                    copy_out(scratch, &mut vectors, first);
                }
            });
        });
        Ok(())
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    fn numbers(&self) -> Rounds<'_, T> {
        let Self { shape, machine, blocks, places, signs, .. } = self;
        Rounds { shape: *shape, machine: *machine, blocks, places, signs }
    }
}

/// Numbers of a piece of a batch: one thread's, in its second-level cache.
const PIECE: usize = 1 << 16;
/// Vectors copied at a time: a cache line of a column of `f32`.
const TOGETHER: usize = 16;

/// Vectors of any strides from `first` on as rows.
fn copy_in<E: Element>(vectors: &BatchMut<'_, E>, first: usize, rows: &mut [E::Scalar]) {
    let n = vectors.n();
    if vectors.as_batch().row(first).is_some() {
        for (v, row) in rows.chunks_exact_mut(n).enumerate() {
            for (to, from) in row.iter_mut().zip(vectors.as_batch().row(first + v).unwrap_or_default()) {
                *to = from.load();
            }
        }
        return;
    }
    for i in 0..n {
        for (v, row) in rows.chunks_exact_mut(n).enumerate() {
            row[i] = vectors.as_batch().get(first + v, i).unwrap_or_default().load();
        }
    }
}

/// And back.
fn copy_out<E: Element>(rows: &[E::Scalar], vectors: &mut BatchMut<'_, E>, first: usize) {
    let n = vectors.n();
    if vectors.as_batch().row(first).is_some() {
        for (v, row) in rows.chunks_exact(n).enumerate() {
            for (to, from) in vectors.row_mut(first + v).unwrap_or_default().iter_mut().zip(row) {
                *to = E::store(*from);
            }
        }
        return;
    }
    for i in 0..n {
        for (v, row) in rows.chunks_exact(n).enumerate() {
            vectors.set(first + v, i, E::store(row[i]));
        }
    }
}

/// 2^{−bits/2}: a power of two, or the nearest number to √½ times one.
pub(crate) fn scale<T: Real>(bits: u32) -> T {
    let half = if bits.is_multiple_of(2) { 1.0 } else { core::f64::consts::FRAC_1_SQRT_2 };
    let power = (0..bits / 2).fold(T::one(), |power, _| power * T::from_wide(0.5));
    <T as Scalar>::from_wide(half) * power
}

/// `Err` unless 1 ≤ got ≤ most.
pub(super) fn check_range(what: &'static str, got: usize, most: usize) -> Result<()> {
    check_between(what, got, 1, most)
}

/// `Err` unless least ≤ got ≤ most.
pub(super) fn check_between(what: &'static str, got: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(Error::Size { what, expected: format!("{least} to {most}"), got: got.to_string() })
}
