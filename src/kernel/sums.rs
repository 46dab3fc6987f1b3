//! Sums over the lanes of many vectors, each for one entry of a gradient.
//!
//! A sum over l lanes costs log₂ l shuffles and additions; l of them together cost hardly more than three instructions each.
//! Interleaving two vectors and adding the halves makes one vector that holds the halved sums of both in turn; l vectors become
//! one in log₂ l such rounds, with the sum of vector v in lane v.

use bytemuck::Zeroable;

use super::Step;
use crate::scalar::Scalar;
use crate::simd::{Job, Lanes};

/// Lanes of any machine, at most.
const MOST_LANES: usize = 16;

/// On cache lines: vectors of `pulp` ask for no alignment, and those that straddle lines wait for each other.
#[repr(align(64))]
struct Aligned<V>([V; MOST_LANES]);

/// Entry (i, k) of the block that starts at `start`.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    pub(super) start: usize,
    pub(super) i: usize,
    pub(super) k: usize,
}

impl Corner {
    /// Where the entry `i` rows and `k` columns further on is.
    #[inline(always)]
    fn at<T>(self, step: &Step<'_, T>, i: usize, k: usize) -> usize {
        self.start + step.strides.at(self.i + i, self.k + k)
    }
}

/// Vectors whose lanes wait to be summed.
pub(super) struct Sums<'a, T, S: Lanes<T>> {
    s: S,
    /// The gradient.
    d: &'a mut [T],
    waiting: Aligned<S::V>,
    /// Where in the gradient each belongs.
    places: [usize; MOST_LANES],
    count: usize,
}

impl<'a, T: Scalar, S: Lanes<T>> Sums<'a, T, S> {
    #[inline(always)]
    pub(super) fn new(s: S, d: &'a mut [T]) -> Self {
        Self { s, d, waiting: Aligned([S::V::zeroed(); MOST_LANES]), places: [0; MOST_LANES], count: 0 }
    }

    /// Adds the sum of the lanes, as the step acts, to number `place` of the gradient; sooner or later.
    #[inline(always)]
    fn push(&mut self, step: &Step<'_, T>, vector: S::V, place: usize) {
        (self.waiting.0[self.count], self.places[self.count]) = (vector, place);
        self.count += 1;
        if self.count == S::LANES {
            self.flush(step);
        }
    }

    /// I × K entries of a block, from `at` on. As many as there are lanes never leave the registers, and fewer wait
    /// together.
    #[inline(always)]
    pub(super) fn push_block<const I: usize, const K: usize>(
        &mut self,
        step: &Step<'_, T>,
        block: &[[S::V; K]; I],
        at: Corner,
    ) {
        if I * K == S::LANES && self.count == 0 {
            let mut vectors = [S::V::zeroed(); MOST_LANES];
            for i in 0..I {
                for k in 0..K {
                    (vectors[i * K + k], self.places[i * K + k]) = (block[i][k], at.at(step, i, k));
                }
            }
            self.count = S::LANES;
            return self.add(step, vectors);
        }
        if self.count + I * K > S::LANES {
            self.flush(step);
        }
        if I * K > S::LANES {
            for (i, vectors) in block.iter().enumerate() {
                for (k, vector) in vectors.iter().enumerate() {
                    self.push(step, *vector, at.at(step, i, k));
                }
            }
            return;
        }
        let waiting = self.waiting.0[self.count..].iter_mut().zip(&mut self.places[self.count..]);
        for (e, (vector, place)) in waiting.take(I * K).enumerate() {
            (*vector, *place) = (block[e / K][e % K], at.at(step, e / K, e % K));
        }
        self.count += I * K;
    }

    /// Adds all that wait.
    #[inline(always)]
    pub(super) fn flush(&mut self, step: &Step<'_, T>) {
        if self.count > 0 {
            let (d, waiting) = (&mut *self.d, bytemuck::cast_slice(&self.waiting.0[..]));
            self.s.call(Flush { step, d, waiting, places: &self.places[..self.count] });
            self.count = 0;
        }
    }

    /// Adds the sums of the lanes in their places.
    #[inline(always)]
    fn add(&mut self, step: &Step<'_, T>, vectors: [S::V; MOST_LANES]) {
        add(self.s, step, self.d, vectors, &self.places[..self.count]);
        self.count = 0;
    }
}

/// [`Sums::flush`] as a job of its own: it is called in many places.
struct Flush<'a, T> {
    step: &'a Step<'a, T>,
    d: &'a mut [T],
    waiting: &'a [T],
    places: &'a [usize],
}

impl<T: Scalar> Job<T> for Flush<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let mut vectors = [S::V::zeroed(); MOST_LANES];
        vectors.copy_from_slice(bytemuck::cast_slice(self.waiting));
        add(s, self.step, self.d, vectors, self.places);
    }
}

/// Adds the sum of the lanes of each vector in its place.
#[inline(always)]
fn add<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    d: &mut [T],
    mut vectors: [S::V; MOST_LANES],
    places: &[usize],
) {
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            let [low, high] = s.zip(vectors[i], vectors[i + half]);
            vectors[i] = s.add(low, high);
        }
        half /= 2;
    }
    let sums: &[T] = bytemuck::cast_slice(&vectors[..1]);
    for (v, place) in places.iter().enumerate() {
        d[*place] += step.acting(T::get(sums, S::LANES, v));
    }
}
