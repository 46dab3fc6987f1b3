//! Projection onto butterflies of radix 2 in closed form, orthogonal by construction: eigenvectors of Gram differences.
//!
//! The rows of a target A fall into two halves, by the lowest bit c of their run of u coordinates: after the first stage, rows with bit c see
//! only outputs of bit c. Block J of that stage acts on 2u columns; let A_c be the rows of bit c in these columns. Of all unitary
//! blocks the one that sends most of A₀'s energy to its first outputs and most of A₁'s to the others has as its adjoint the eigenvectors of
//!
//! > G_J = A₀ᴴA₀ − A₁ᴴA₁,
//!
//! those of the u largest eigenvalues first. What is left, A_c·V_c for both c, are two butterflies of half the size. The last stage is the polar
//! factor. Nothing is iterated and nothing has to be made orthogonal afterwards; for targets in the class the result is exact.

use alloc::vec;
use alloc::vec::Vec;

use super::chain::{Chain, by_windows};
use super::polar::nearest;
use super::{Fit, Options, Target};
use crate::dense::hermitian_eigen;
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::scalar::{Scalar, Wide};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// One pass over layouts of radix 2 that chain: the classic butterfly and BOFT's block butterfly.
///
/// # Errors
/// As [`alternating`](super::alternating); [`Error::Unsupported`] for layouts that do not chain or have another radix.
pub fn projection<W: Wide>(target: &Target<W>, stages: &[StageLayout], options: &Options) -> Result<Fit<W>> {
    let (blocks, _) = by_windows(target, stages, options, |chain: &Chain, a: &[W]| {
        if let Some(radix) = chain.radices.iter().find(|radix| **radix != 2) {
            return Err(Error::Unsupported {
                what: "closed-form projection",
                expected: "radix 2",
                got: alloc::format!("radix {radix}"),
            });
        }
        let w = chain.window();
        let window = a.chunks(target.n()).take(w).flat_map(|row| row[..w].iter().copied()).collect();
        Ok((peel(w, chain.unit, window), 0.0))
    })?;
    Fit::new(target, stages, blocks, options.parallelism)
}

/// The blocks of every stage of the butterfly with runs of u that is near to the n×n matrix `a`.
fn peel<W: Wide>(n: usize, u: usize, mut a: Vec<W>) -> Vec<Vec<W>> {
    let b = 2 * u;
    if n <= b {
        nearest(b, &mut a, &[0], Isa::detect(), Parallelism::None);
        return vec![a];
    }
    // Rows by the lowest bit of their run.
    let half = n * n / 2;
    let mut halves = [Vec::with_capacity(half), Vec::with_capacity(half)];
    for (run, rows) in a.chunks_exact(u * n).enumerate() {
        halves[run % 2].extend_from_slice(rows);
    }
    let (mut first, mut rest) =
        (Vec::with_capacity(n / b * b * b), [vec![W::zero(); half / 2], vec![W::zero(); half / 2]]);
    let mut gram = vec![W::zero(); n / b * b * b];
    for (half, sign) in halves.iter().zip([1.0, -1.0]) {
        dispatch::<f64, _>(Isa::detect(), Grams { n, b, sign, half, gram: &mut gram });
    }
    let mut values = Vec::with_capacity(n / b * b * b); // V of every block, columns in order
    for gram in gram.chunks_exact_mut(b * b) {
        let (lambda, v) = hermitian_eigen(b, gram);
        let mut order: Vec<usize> = (0..b).collect();
        order.sort_by(|i, j| lambda[*j].total_cmp(&lambda[*i]));
        values.extend((0..b * b).map(|at| v[at / b * b + order[at % b]]));
        first.extend((0..b * b).map(|at| Scalar::conj(v[at % b * b + order[at / b]])));
    }
    for (c, (half, rest)) in halves.iter().zip(&mut rest).enumerate() {
        dispatch::<f64, _>(Isa::detect(), Turn { n, u, c, half, values: &values, out: rest });
    }
    drop((a, halves));
    let [even, odd] = rest.map(|rest| peel(n / 2, u, rest));
    let mut stages = vec![first];
    for (even, odd) in even.iter().zip(&odd) {
        let pairs = even.chunks_exact(b * b).zip(odd.chunks_exact(b * b));
        stages.push(pairs.flat_map(|(even, odd)| even.iter().chain(odd).copied()).collect());
    }
    stages
}

/// Adds sign·AᴴA of every b columns of `half`, whose rows have length n.
struct Grams<'a, W> {
    n: usize,
    b: usize,
    sign: f64,
    half: &'a [W],
    gram: &'a mut [W],
}

impl<W: Wide> Job<f64> for Grams<'_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        let b = self.b;
        for row in self.half.chunks_exact(self.n) {
            for (x, gram) in row.chunks_exact(b).zip(self.gram.chunks_exact_mut(b * b)) {
                for (gram, y) in gram.chunks_exact_mut(b).zip(x) {
                    let y = Scalar::conj(*y) * W::from_real(self.sign);
                    gram.iter_mut().zip(x).for_each(|(g, x)| *g += y * *x);
                }
            }
        }
    }
}

/// `out` ← A·V_c: b columns become the u of bit c.
struct Turn<'a, W> {
    n: usize,
    u: usize,
    c: usize,
    half: &'a [W],
    values: &'a [W],
    out: &'a mut [W],
}

impl<W: Wide> Job<f64> for Turn<'_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        let (u, b) = (self.u, 2 * self.u);
        for (row, out) in self.half.chunks_exact(self.n).zip(self.out.chunks_exact_mut(self.n / 2)) {
            for ((x, v), out) in row.chunks_exact(b).zip(self.values.chunks_exact(b * b)).zip(out.chunks_exact_mut(u)) {
                for (x, v) in x.iter().zip(v.chunks_exact(b)) {
                    out.iter_mut().zip(&v[self.c * u..]).for_each(|(out, v)| *out += *x * *v);
                }
            }
        }
    }
}
