//! Greedy Givens: K orthogonal (unitary) 2×2 blocks on pairs that are chosen freely, one after the other (Rusu & Rosasco,
//! arXiv 1907.08697).
//!
//! Of R = G_k ··· G_1 the residual is Z = QRᴴ, and Re tr(QᴴR) = Re tr Z. One more block G on coordinates i, j makes it
//! Re tr(ZᴴG), which is largest for the polar factor of M = Z[{i, j}, {i, j}] = [[a, b], [c, d]]; it wins ‖M‖_* − Re tr M. With
//! t = Re(a + d), ‖M‖²_* = ‖M‖²_F + 2|det M| = t² + x where
//!
//! > x = (Im a − Im d)² + |b − c̄|² + 2(|det M| − Re det M),
//!
//! a sum without negative terms: the gain x/(‖M‖_* + t) keeps its digits down to rotations by eps. Without the last term it is that of
//! rotations. The pair of the largest gain is taken, and Z ← ZGᴴ changes two columns. So a step costs O(n) (`partners.rs`), and
//! lowers e by exactly gain/n; the error is ‖Z − I‖²_F/(2n) all the same, of which two columns are new.
//!
//! Then the pairs stay, packed into stages, and sweeps set the blocks to their best together (`alternating.rs`).

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use num_traits::Float;

use super::alternating::{check, from_blocks};
use super::packing::Packing;
use super::partners::Partners;
use super::polar::nearest;
use super::{Fit, Group, Options, Progress, Stop, Target, rounding, square};
use crate::dense::EPS;
use crate::error::Result;
use crate::parallel::Parallelism;
use crate::scalar::{Scalar, Wide};
use crate::simd::Isa;

/// Gains up to this are those of rounding errors in Z.
const FLAT: f64 = 16.0 * EPS * EPS;

/// At most `rotations` blocks of size 2 on freely chosen pairs, then at most [`Options::sweeps`] sweeps that polish them; start, seed and
/// restarts do not matter. The plan has tables of disjoint pairs for its stages, as few as the order of the blocks allows.
///
/// [`Fit::curve`] is the error before the first block, after each, and after each of [`Fit::sweeps`] sweeps; while blocks are chosen it
/// never grows. `watch` is told before every block, with the number of blocks in [`Progress::sweep`], and then before every sweep,
/// with `restart` = 1. [`Stop::Converged`] without a sweep: no pair gains anything.
///
/// ```
/// use papilio::fit::{self, Options, Target};
/// // A cycle of three coordinates is two exchanges, each a reflection.
/// let q = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
/// let go = &mut |_: &fit::Progress| std::ops::ControlFlow::Continue(());
/// let found = fit::greedy(&Target::new(3, &q)?, 2, &Options::default(), go)?;
/// assert!(found.error < 1e-30 && found.num_parameters() == 2);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for [`Group::Special`] over the complex numbers.
pub fn greedy<W: Wide>(
    target: &Target<W>,
    rotations: usize,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Fit<W>> {
    let n = target.n();
    check(n, &[], options.group, W::IS_COMPLEX)?;
    let mut residual = Residual::new(target, options.group == Group::Special);
    let mut partners = Partners::new(n, |p, q| residual.gain(p, q));
    let mut packing = Packing::new(n);
    let mut curve = vec![residual.error()];
    let stop = loop {
        let (done, error) = (curve.len() - 1, curve[curve.len() - 1]);
        if watch(&Progress { restart: 0, sweep: done, error }).is_break() {
            break Stop::Interrupted;
        }
        if error <= options.goal.max(rounding(done + 1)) {
            break Stop::Exact;
        }
        if done == rotations {
            break Stop::Sweeps;
        }
        let Some((_, i, j)) = partners.best().filter(|(gain, ..)| *gain > FLAT) else {
            break Stop::Converged;
        };
        packing.push(i, j, residual.turn(i, j));
        partners.update(i, j, |p, q| residual.gain(p, q));
        curve.push(residual.error());
    };
    let (stages, blocks) = packing.finish();
    if options.sweeps > 0 && !stages.is_empty() && matches!(stop, Stop::Sweeps | Stop::Converged) {
        let mut fit = from_blocks(target, &stages, blocks, 1, options, watch)?;
        curve.extend_from_slice(&fit.curve[1..]);
        fit.curve = curve;
        return Ok(fit);
    }
    let fit = Fit::new(target, &stages, blocks, options.parallelism)?;
    Ok(Fit { curve, stop, ..fit })
}

/// Z = QRᴴ
struct Residual<W> {
    n: usize,
    special: bool,
    /// Column after column.
    z: Vec<W>,
    /// ‖Zeⱼ − eⱼ‖²
    distances: Vec<f64>,
}

impl<W: Wide> Residual<W> {
    fn new(target: &Target<W>, special: bool) -> Self {
        let (n, q) = (target.n(), target.entries());
        let z = (0..n * n).map(|at| q[(at % n) * n + at / n]).collect();
        let mut residual = Self { n, special, z, distances: vec![0.0; n] };
        (0..n).for_each(|j| residual.measure(j));
        residual
    }

    fn measure(&mut self, j: usize) {
        let column = self.z[j * self.n..][..self.n].iter().enumerate();
        self.distances[j] = column.fold(0.0, |sum, (i, z)| sum + square(if i == j { *z - W::one() } else { *z }));
    }

    /// ‖Q − R‖²_F/(2n)
    fn error(&self) -> f64 {
        self.distances.iter().sum::<f64>() / (2.0 * self.n as f64)
    }

    /// Z on coordinates i and j, row-major.
    fn part(&self, i: usize, j: usize) -> [W; 4] {
        let at = |row, column| self.z[column * self.n + row];
        [at(i, i), at(i, j), at(j, i), at(j, j)]
    }

    /// What the best block on i and j adds to Re tr(QᴴR).
    fn gain(&self, i: usize, j: usize) -> f64 {
        let [a, b, c, d] = self.part(i, j);
        let trace = a.re() + d.re();
        let mut excess = (a.im() - d.im()) * (a.im() - d.im()) + square(b - Scalar::conj(c));
        if !self.special {
            let det = a * d - b * c;
            let size = Scalar::abs(det);
            let beyond = match det.re() > 0.0 {
                true => det.im() * det.im() / (size + det.re()),
                false => size - det.re(),
            };
            excess += 2.0 * beyond;
        }
        let norm = Float::sqrt(trace * trace + excess);
        if trace > 0.0 { excess / (norm + trace) } else { norm - trace }
    }

    /// Z ← ZGᴴ for the best block G on i and j, which is returned.
    fn turn(&mut self, i: usize, j: usize) -> [W; 4] {
        let mut g = self.part(i, j);
        nearest(2, &mut g, &[i8::from(self.special)], Isa::detect(), Parallelism::None);
        let [g00, g01, g10, g11] = g.map(Scalar::conj);
        let (before, after) = self.z.split_at_mut(j * self.n);
        for (x, y) in before[i * self.n..][..self.n].iter_mut().zip(&mut after[..self.n]) {
            (*x, *y) = (*x * g00 + *y * g01, *x * g10 + *y * g11);
        }
        self.measure(i);
        self.measure(j);
        g
    }
}
