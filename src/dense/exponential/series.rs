//! exp A and its derivative for skew-Hermitian A by scaling and squaring, on packs of blocks.
//!
//! *Scaling.* B = A/2^s with ‖B‖₂ ≤ [`BOUND`]; s is chosen for each lane from ‖A‖_F, and again from ‖B²‖_F ≥ ‖B‖₂² (for a real
//! A the eigenvalues come in pairs, so half of the squares will do).
//!
//! *Series.* With S = B², exp B = c(S) + B·d(S), c(S) = ΣSᵏ/(2k)!, d(S) = ΣSᵏ/(2k + 1)!, k ≤ 9: all terms to degree 19, the
//! remainder is below 1.3²⁰/20! = 0.7u. By Paterson–Stockmeyer (SIAM J. Comput. 2 (1973) 60–66) with S, S², S³ these are eight
//! products of commuting matrices, Hermitian or skew-Hermitian, of which only one triangle is computed.
//!
//! *Squaring.* exp A = (exp B)^(2^s). Rounding errors double with each squaring. Along the group that is the conditioning,
//! u‖A‖; off the group it is removed by a Newton–Schulz step at the end (‖defect‖ ≈ 2^s·u before it) and after every
//! [`STRIDE`] squarings.
//!
//! *Derivative.* d exp A = dexp_A(K)·exp A with dexp_A(K) = ∫₀¹ e^{tA} K e^{−tA} dt, skew-Hermitian if K is. At the bottom the
//! differential of the series gives it (each product differentiated: Al-Mohy & Higham, SIAM J. Matrix Anal. Appl. 30 (2009)
//! 1639–1657); then, the integral being halved,
//!
//!   dexp_2B(K) = ½(dexp_B(K) + e^B dexp_B(K) e^{−B}).
//!
//! This is an average of rotated copies: nothing grows, no eigenvalues are needed, and clustered or equal ones make no
//! difference. The adjoint of dexp_A is dexp_{−A}.
//!
//! All of this is a list of [`Step`]s on numbered matrices: data, so that the machine code of a product exists once.

use alloc::vec::Vec;

use num_traits::Float;

use crate::dense::blocks::load_reals;
use crate::dense::pack::{Number, Pack};
use crate::dense::product::{Shape, Sum};
use crate::dense::register::Memory;
use crate::dense::skew::fill_skew_packs;
use crate::dense::{Product, newton_schulz_on, scale, squares, subtract_gram_on};
use crate::scalar::Wide;
use crate::simd::Lanes;

/// ‖B‖₂ for the series.
const BOUND: f64 = 1.3;
/// Squares up to this need no care.
const PLAIN: f64 = 1e200;
/// Squarings between two polishing steps: the defect stays below 2¹⁶·u·b, and its square below u.
const STRIDE: u32 = 16;
const COSINE: [f64; 10] = inverse_factorials(0);
const SINE: [f64; 10] = inverse_factorials(1);

/// 1/(2k + first)!; the factorials up to 19! are exact.
const fn inverse_factorials(first: usize) -> [f64; 10] {
    let (mut factorial, mut n, mut all) = (1.0, 0, [0.0; 10]);
    while n < 20 {
        if n > 0 {
            factorial *= n as f64;
        }
        if n % 2 == first {
            all[n / 2] = 1.0 / factorial;
        }
        n += 1;
    }
    all
}

// The matrices: B, S, S², S³; the inner polynomials R and P; C = c(S), D = d(S), exp B, scratch.
const A: usize = 0;
const S: usize = 1;
const S2: usize = 2;
const S3: usize = 3;
const R: usize = 4;
const P: usize = 5;
const C: usize = 6;
const D: usize = 7;
const X: usize = 8;
const T: usize = 9;
/// K, and dexp_B(K) later.
const K: usize = 10;
// Differentials, and Xᴴ.
const DS: usize = 11;
const DS2: usize = 12;
const DS3: usize = 13;
const DR: usize = 14;
const DP: usize = 15;
const DC: usize = 16;
const DD: usize = 17;
const DX: usize = 18;
const XH: usize = 19;

/// What is known of a sum of products: then one triangle is enough.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Hermitian,
    Skew,
    General,
    /// Not a sum at all: the adjoint of the first matrix named.
    Adjoint,
}

/// `out` ← scale·Σ x·m + Σ f·y + `identity`·I, in this order; factors that are zero are left out.
#[derive(Clone, Copy)]
struct Step {
    out: usize,
    kind: Kind,
    products: &'static [(usize, usize)],
    scale: f64,
    sum: [(f64, usize); 3],
    identity: f64,
}

const fn step(out: usize, kind: Kind, products: &'static [(usize, usize)], sum: [(f64, usize); 3], f: f64) -> Step {
    Step { out, kind, products, scale: 1.0, sum, identity: f }
}

const NOTHING: (f64, usize) = (0.0, 0);
const NONE: [(f64, usize); 3] = [NOTHING; 3];

/// Σ cₖSᵏ = c₀ + c₁S + c₂S² + S³·P, P = c₃ + c₄S + c₅S² + S³·R, R = c₆ + c₇S + c₈S² + c₉S³, small terms first.
const fn even(c: [f64; 10], out: usize) -> [Step; 3] {
    [
        step(R, Kind::Hermitian, &[], [(c[9], S3), (c[8], S2), (c[7], S)], c[6]),
        step(P, Kind::Hermitian, &[(S3, R)], [(c[5], S2), (c[4], S), NOTHING], c[3]),
        step(out, Kind::Hermitian, &[(S3, P)], [(c[2], S2), (c[1], S), NOTHING], c[0]),
    ]
}

/// Its differential.
const fn d_even(c: [f64; 10], out: usize) -> [Step; 3] {
    [
        step(DR, Kind::Hermitian, &[], [(c[9], DS3), (c[8], DS2), (c[7], DS)], 0.0),
        step(DP, Kind::Hermitian, &[(DS3, R), (S3, DR)], [(c[5], DS2), (c[4], DS), NOTHING], 0.0),
        step(out, Kind::Hermitian, &[(DS3, P), (S3, DP)], [(c[2], DS2), (c[1], DS), NOTHING], 0.0),
    ]
}

const POWERS: [Step; 3] = [
    step(S, Kind::Hermitian, &[(A, A)], NONE, 0.0),
    step(S2, Kind::Hermitian, &[(S, S)], NONE, 0.0),
    step(S3, Kind::Hermitian, &[(S2, S)], NONE, 0.0),
];
/// exp B = c(S) + B·d(S). The product is skew-Hermitian alone, so it stands in a matrix of its own first.
const JOIN: [Step; 2] =
    [step(T, Kind::Skew, &[(A, D)], NONE, 0.0), step(X, Kind::General, &[], [(1.0, T), (1.0, C), NOTHING], 0.0)];
/// exp B.
const SERIES: [&[Step]; 4] = [&POWERS, &even(COSINE, C), &even(SINE, D), &JOIN];
const D_POWERS: [Step; 3] = [
    step(DS, Kind::Hermitian, &[(A, K), (K, A)], NONE, 0.0),
    step(DS2, Kind::Hermitian, &[(S, DS), (DS, S)], NONE, 0.0),
    step(DS3, Kind::Hermitian, &[(DS2, S), (S2, DS)], NONE, 0.0),
];
/// dexp_B(K) = (d exp B)·(exp B)ᴴ.
const D_JOIN: [Step; 4] = [
    step(T, Kind::Skew, &[(K, D), (A, DD)], NONE, 0.0),
    step(DX, Kind::General, &[], [(1.0, T), (1.0, DC), NOTHING], 0.0),
    step(XH, Kind::Adjoint, &[(X, X)], NONE, 0.0),
    step(K, Kind::Skew, &[(DX, XH)], NONE, 0.0),
];
/// exp B and dexp_B(K).
const TANGENT: [&[Step]; 8] =
    [&POWERS, &D_POWERS, &even(COSINE, C), &d_even(COSINE, DC), &even(SINE, D), &d_even(SINE, DD), &JOIN, &D_JOIN];
/// T ← ½(K + X K Xᴴ).
const LEVEL: [Step; 3] = [
    step(DX, Kind::General, &[(X, K)], NONE, 0.0),
    step(XH, Kind::Adjoint, &[(X, X)], NONE, 0.0),
    Step { scale: 0.5, ..step(T, Kind::Skew, &[(DX, XH)], [(0.5, K), NOTHING, NOTHING], 0.0) },
];

/// T ← X².
const SQUARE: Step = step(T, Kind::General, &[(X, X)], NONE, 0.0);

/// Memory for one pack.
pub(crate) struct Series<N> {
    b: usize,
    /// Squarings of each lane.
    levels: Vec<u32>,
    matrices: Vec<Memory<N>>,
    theta: Vec<N>,
}

impl<N: Number> Series<N> {
    /// For exponentials, and for their derivatives too if `tangent`.
    pub(crate) fn new(b: usize, tangent: bool) -> Self {
        let count = if tangent { XH + 1 } else { K };
        Self { b, levels: Vec::new(), matrices: (0..count).map(|_| Memory::zeros(b * b)).collect(), theta: Vec::new() }
    }

    /// A of the blocks whose parameters lie one after the other in `theta`, scaled. Other lanes are zero.
    #[inline(always)]
    pub(crate) fn load<W: Wide, L: Lanes<f64>>(&mut self, s: L, params: usize, theta: &[f64])
    where
        N: Pack<W>,
    {
        self.theta.resize(params, N::from_f64(0.0));
        load_reals::<W, N, L>(s, params, theta, &mut self.theta);
        let norms = squares(s, &self.theta);
        self.levels.clear();
        let mut factors = [1.0; 8];
        for (l, factor) in factors.iter_mut().enumerate().take(N::COUNT) {
            let theta = theta.get(l * params..(l + 1) * params).unwrap_or(&[]);
            let (f, levels) = scaling::<W>(norms.lane(l).re(), theta);
            *factor = f;
            self.levels.push(levels);
        }
        scale(s, &N::gather(|l| W::from_real(factors[l])), &mut self.theta);
        fill_skew_packs(s, self.b, &mut self.matrices[A], &self.theta);
    }

    /// exp A of what was loaded.
    #[inline(always)]
    pub(crate) fn exponential<W: Wide, L: Lanes<f64>>(&mut self, s: L) -> &[N]
    where
        N: Pack<W>,
    {
        self.run(s, &SERIES);
        for done in 0..self.most() {
            self.square(s, done);
        }
        self.polish(s, X);
        &self.matrices[X]
    }

    /// K, to be filled before [`dexp`](Self::dexp).
    pub(crate) fn direction(&mut self) -> &mut [N] {
        &mut self.matrices[K]
    }

    /// dexp_A(K) of what was loaded.
    #[inline(always)]
    pub(crate) fn dexp<W: Wide, L: Lanes<f64>>(&mut self, s: L) -> &[N]
    where
        N: Pack<W>,
    {
        self.run(s, &TANGENT);
        for done in 0..self.most() {
            self.run(s, &[&LEVEL]);
            let (k, t) = pair(&mut self.matrices, K, T);
            blend(k, t, &self.levels, done);
            if done + 1 < self.most() {
                self.square(s, done);
            }
        }
        &self.matrices[K]
    }

    fn most(&self) -> u32 {
        self.levels.iter().fold(0, |m, &l| m.max(l))
    }

    #[inline(always)]
    fn run<W: Wide, L: Lanes<f64>>(&mut self, s: L, program: &[&[Step]])
    where
        N: Pack<W>,
    {
        for step in program.iter().copied().flatten() {
            let mut out = core::mem::take(&mut self.matrices[step.out]);
            Evaluate { b: self.b, matrices: &self.matrices, step, out: &mut out }.run(s);
            self.matrices[step.out] = out;
            if step.out == S {
                let (a, squared) = pair(&mut self.matrices, A, S);
                scale_up(s, &mut self.levels, a, squared);
            }
        }
    }

    /// One Newton–Schulz step.
    #[inline(always)]
    fn polish<L: Lanes<f64>>(&mut self, s: L, at: usize) {
        let (x, e) = pair(&mut self.matrices, at, R);
        subtract_gram_on(s, self.b, x, 0.5, e);
        let mut next = core::mem::take(&mut self.matrices[P]);
        newton_schulz_on(s, self.b, &self.matrices[at], &self.matrices[R], &mut next);
        self.matrices[P] = core::mem::replace(&mut self.matrices[at], next);
    }

    /// X ← X² in the lanes that need more than `done` squarings.
    #[inline(always)]
    fn square<W: Wide, L: Lanes<f64>>(&mut self, s: L, done: u32)
    where
        N: Pack<W>,
    {
        let mut out = core::mem::take(&mut self.matrices[T]);
        Evaluate { b: self.b, matrices: &self.matrices, step: &SQUARE, out: &mut out }.run(s);
        self.matrices[T] = out;
        if (done + 1).is_multiple_of(STRIDE) {
            self.polish(s, T);
        }
        let (x, t) = pair(&mut self.matrices, X, T);
        blend(x, t, &self.levels, done);
    }
}

/// Two of the matrices, the first before the second or not.
fn pair<N>(matrices: &mut [Memory<N>], i: usize, j: usize) -> (&mut Memory<N>, &mut Memory<N>) {
    let (head, tail) = matrices.split_at_mut(i.max(j));
    if i < j { (&mut head[i], &mut tail[0]) } else { (&mut tail[0], &mut head[j]) }
}

/// `out` as the step says. (A job, so that its code exists once.)
struct Evaluate<'a, N> {
    b: usize,
    matrices: &'a [Memory<N>],
    step: &'a Step,
    out: &'a mut [N],
}

impl<N: Number> Evaluate<'_, N> {
    #[inline(always)]
    fn run<L: Lanes<f64>>(self, s: L) {
        let Self { b, matrices, step, out } = self;
        let shape = match step.kind {
            Kind::Adjoint => {
                for (i, row) in matrices[step.products[0].0].chunks_exact(b).enumerate() {
                    row.iter().enumerate().for_each(|(j, x)| out[j * b + i] = x.conj());
                }
                return;
            }
            Kind::General => Shape::General,
            Kind::Hermitian => Shape::Hermitian,
            Kind::Skew => Shape::Skew,
        };
        let mut products = [Product { x: &[][..], adjoint: false, m: &[][..] }; 2];
        let mut sums = [(0.0, &[][..]); 3];
        for (product, &(x, m)) in products.iter_mut().zip(step.products) {
            *product = Product { x: &matrices[x], adjoint: false, m: &matrices[m] };
        }
        let mut terms = 0;
        for &(factor, y) in step.sum.iter().filter(|(f, _)| *f != 0.0) {
            sums[terms] = (factor, &matrices[y]);
            terms += 1;
        }
        let (products, sums) = (&products[..step.products.len()], &sums[..terms]);
        Sum { b, shape, products, scale: step.scale, sums, identity: step.identity, out }.on(s);
    }
}

/// A power of two and the number of squarings that undoes it, so that ‖A·factor‖₂ ≤ `BOUND`.
/// `squares` is Σθ², as far as it did not overflow.
fn scaling<W: Wide>(squares: f64, theta: &[f64]) -> (f64, u32) {
    let power = |e: i32| (0..e).fold(1.0, |f, _| 0.5 * f);
    let frobenius = |squares: f64| Float::sqrt(if W::IS_COMPLEX { 2.0 * squares } else { squares });
    if squares <= PLAIN {
        let (mut norm, mut e) = (frobenius(squares), 0);
        while norm > BOUND {
            norm *= 0.5;
            e += 1;
        }
        return (power(e), e as u32);
    }
    let largest = theta.iter().fold(0.0, |m: f64, t| if t.abs() <= m { m } else { t.abs() });
    if !largest.is_finite() {
        return (1.0, 0);
    }
    // largest·2^−e < 1: squares do not overflow.
    let mut e = ((largest.to_bits() >> 52) as i32 - 1022).max(0);
    let unit = power(e);
    let squares: f64 = theta.iter().map(|t| (t * unit) * (t * unit)).sum();
    let mut norm = frobenius(squares);
    while norm > BOUND {
        norm *= 0.5;
        e += 1;
    }
    while e > 0 && 2.0 * norm <= BOUND {
        norm *= 2.0;
        e -= 1;
    }
    (power(e), e as u32)
}

/// B ← 2ʲB, S ← 4ʲS where ‖S‖_F leaves room, with j squarings less.
#[inline(always)]
fn scale_up<W: Wide, T: Pack<W>, L: Lanes<f64>>(machine: L, levels: &mut [u32], a: &mut [T], s: &mut [T]) {
    let squares = squares(machine, s);
    let mut factors = [1.0; 8];
    for (l, level) in levels.iter_mut().enumerate() {
        let mut fourth = squares.lane(l).re() * if W::IS_COMPLEX { 1.0 } else { 0.5 };
        while *level > 0 && 16.0 * fourth <= BOUND * BOUND * BOUND * BOUND {
            fourth *= 16.0;
            factors[l] *= 2.0;
            *level -= 1;
        }
    }
    if factors == [1.0; 8] {
        return;
    }
    let factor = T::gather(|l| W::from_real(factors[l]));
    scale(machine, &factor, a);
    scale(machine, &(factor * factor), s);
}

/// `x` ← `t` in the lanes with more than `done` levels; `t` is used up.
#[inline(always)]
fn blend<W: Wide, T: Pack<W>>(x: &mut Memory<T>, t: &mut Memory<T>, levels: &[u32], done: u32) {
    if levels.iter().all(|&level| level > done) {
        return core::mem::swap(x, t);
    }
    let mut mask = [0; 8];
    mask.iter_mut().zip(levels).filter(|(_, level)| **level > done).for_each(|(mask, _)| *mask = u64::MAX);
    for (x, t) in x.iter_mut().zip(t.iter()) {
        *x = x.replaced(*t, &mask);
    }
}
