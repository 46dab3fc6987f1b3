//! Truncated Jacobi: K rotations that nearly diagonalise a symmetric matrix, and so a fast approximate eigenbasis, such as a
//! graph Fourier transform from the Laplacian (Le Magoarou, Gribonval & Tremblay, arXiv 1612.04542).
//!
//! S ← JᵀSJ with the rotation J that annihilates S[p][q] (the smaller of its two angles) lowers the square of the off-diagonal norm by
//! 2·S[p][q]²; after K of them UᵀSU ≈ diag(λ) with U = J_1 ··· J_K. Which entry is next:
//!
//! * *the largest* (Jacobi 1846): the most for each rotation. S²[k][p] + S²[k][q] does not change for other rows k, so the norms of two rows
//!   are new, and O(n) scores (`partners.rs`).
//! * *the largest of disjoint pairs*, as many as there are, then again: half a matrix is sorted for each stage of n/2 rotations,
//!   and the stages are full, so that there are few.
//!
//! The largest entry is at least the mean, so (off)² shrinks by a factor of 1 − 2/(n(n − 1)) or better with each rotation of the first
//! kind; near the end convergence is quadratic (Golub & Van Loan, *Matrix Computations*, 4th ed., §8.5).

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use num_traits::Float;

use super::packing::Packing;
use super::partners::Partners;
use super::{Progress, Stop};
use crate::dense::{EPS, annihilating};
use crate::error::{Error, Result, check_length};
use crate::plan::{Plan, Source};

/// A difference of S[i][j] and S[j][i] in units of eps times the largest entry, up to which S counts as symmetric.
const SYMMETRIC: f64 = 32.0;

/// Which rotation is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// That of the largest off-diagonal entry.
    #[default]
    Largest,
    /// Those of disjoint pairs, largest entries first, as many as there are; then the same again. Fewer stages for as many rotations.
    Disjoint,
}

/// An orthogonal U for which UᵀSU is nearly diagonal.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Eigenbasis {
    plan: Plan<f64>,
    /// The diagonal of UᵀSU, *not sorted*: number j belongs to column j of U. Each is a Rayleigh quotient, and some eigenvalue is
    /// within the length of the rest of its row.
    pub eigenvalues: Vec<f64>,
    /// Off-diagonal part of UᵀSU before the first rotation and after each, as ‖·‖_F relative to ‖S‖_F. Never grows.
    pub curve: Vec<f64>,
    /// Why it ended: [`Stop::Exact`] where off-diagonal entries are those of rounding, [`Stop::Sweeps`] after all rotations.
    pub stop: Stop,
}

impl Eigenbasis {
    /// U as fixed rotations in tables of disjoint pairs. Its adjoint is the transform to the coordinates of the eigenbasis (of a graph:
    /// the Fourier transform).
    pub fn plan(&self) -> &Plan<f64> {
        &self.plan
    }

    /// Rotations, one angle each.
    pub fn num_parameters(&self) -> usize {
        self.curve.len() - 1
    }
}

/// At most `rotations` Jacobi rotations for a symmetric n×n matrix `s`, row-major. `watch` is told before each of them, with their
/// number in [`Progress::sweep`] and the relative off-diagonal norm as the error; what it interrupts is the best so far.
///
/// ```
/// use papilio::fit::{self, Order};
/// // The Laplacian of a path of three vertices: eigenvalues 0, 1 and 3.
/// let s = [1.0, -1.0, 0.0, -1.0, 2.0, -1.0, 0.0, -1.0, 1.0];
/// let found = fit::jacobi(3, &s, 100, Order::Largest, &mut |_| std::ops::ControlFlow::Continue(()))?;
/// let mut eigenvalues = found.eigenvalues.clone();
/// eigenvalues.sort_by(f64::total_cmp);
/// assert!(eigenvalues.iter().zip([0.0, 1.0, 3.0]).all(|(x, y)| (x - y).abs() < 1e-14));
/// assert!(found.num_parameters() < 15);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] unless 1 ≤ n < 2³², [`Error::Length`] unless there are n² entries, [`Error::Domain`] for an entry that is not finite
/// and for a matrix that is not symmetric to 32 eps of its largest entry, named with the place.
pub fn jacobi(
    n: usize,
    s: &[f64],
    rotations: usize,
    order: Order,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Eigenbasis> {
    let mut state = State::new(n, s)?;
    let mut partners = match order {
        Order::Largest => Partners::new(n, |p, q| state.size(p, q)),
        Order::Disjoint => Partners::new(0, |_, _| 0.0),
    };
    let mut disjoint = Vec::new();
    // Uᵀ, whose first rotation is the first one found.
    let mut packing = Packing::new(n);
    let mut curve = vec![state.off()];
    let stop = loop {
        let (done, error) = (curve.len() - 1, curve[curve.len() - 1]);
        if watch(&Progress { restart: 0, sweep: done, error }).is_break() {
            break Stop::Interrupted;
        }
        let next = match order {
            Order::Largest => partners.best().filter(|(size, ..)| *size > state.tiny).map(|(_, p, q)| (p, q)),
            Order::Disjoint => {
                if disjoint.is_empty() {
                    disjoint = state.disjoint();
                }
                disjoint.pop()
            }
        };
        let Some((p, q)) = next else { break Stop::Exact };
        if done == rotations {
            break Stop::Sweeps;
        }
        let (c, sine) = state.rotate(p, q);
        packing.push(p, q, [c, -sine, sine, c]);
        if order == Order::Largest {
            partners.update(p, q, |p, q| state.size(p, q));
        }
        curve.push(state.off());
    };
    let (layouts, blocks) = packing.finish();
    let stages = layouts.into_iter().zip(blocks).map(|(layout, blocks)| (layout, Source::Fixed(blocks.into())));
    let plan = Plan::from_stages(n, stages)?.adjoint();
    let eigenvalues = (0..n).map(|i| state.s[i * n + i] / state.scale).collect();
    Ok(Eigenbasis { plan, eigenvalues, curve, stop })
}

/// S·scale after some rotations.
struct State {
    n: usize,
    s: Vec<f64>,
    /// A power of two with which no square leaves the range of numbers.
    scale: f64,
    /// ‖S‖_F
    norm: f64,
    /// Entries up to this are those of rounding.
    tiny: f64,
    /// Of each row the sum of squares off the diagonal.
    rows: Vec<f64>,
}

impl State {
    fn new(n: usize, s: &[f64]) -> Result<Self> {
        if n == 0 || n > u32::MAX as usize {
            return Err(Error::Size { what: "matrix", expected: "1 <= n < 2^32".to_string(), got: format!("n = {n}") });
        }
        check_length("matrix", n.saturating_mul(n), s.len())?;
        let domain = |expected, got| Err(Error::Domain { what: "matrix".to_string(), expected, got });
        if let Some(at) = s.iter().position(|x| !x.is_finite()) {
            return domain("finite numbers", format!("{} in row {}, column {}", s[at], at / n, at % n));
        }
        let largest = s.iter().fold(0.0, |m: f64, x| m.max(Float::abs(*x)));
        let scale = match largest {
            large if large > 1e100 => Float::powi(2.0, -700),
            small if small < 1e-100 => Float::powi(2.0, 700),
            _ => 1.0,
        };
        let mut state =
            Self { n, s: s.iter().map(|x| x * scale).collect(), scale, norm: 0.0, tiny: 0.0, rows: vec![0.0; n] };
        for i in 0..n {
            for j in 0..i {
                let (x, y) = (state.s[i * n + j], state.s[j * n + i]);
                if Float::abs(x - y) > SYMMETRIC * EPS * largest * scale {
                    let got = format!("{:e} in row {i}, column {j}, but {:e} across", s[i * n + j], s[j * n + i]);
                    return domain("a symmetric matrix", got);
                }
                let mean = 0.5 * x + 0.5 * y;
                (state.s[i * n + j], state.s[j * n + i]) = (mean, mean);
            }
        }
        state.norm = Float::sqrt(state.s.iter().map(|x| x * x).sum::<f64>());
        state.tiny = EPS / n as f64 * state.norm;
        (0..n).for_each(|i| state.measure(i));
        Ok(state)
    }

    fn size(&self, p: usize, q: usize) -> f64 {
        Float::abs(self.s[p * self.n + q])
    }

    fn measure(&mut self, i: usize) {
        let row = self.s[i * self.n..][..self.n].iter().enumerate().filter(|(j, _)| *j != i);
        self.rows[i] = row.map(|(_, x)| x * x).sum();
    }

    /// The relative off-diagonal norm.
    fn off(&self) -> f64 {
        if self.norm > 0.0 { Float::sqrt(self.rows.iter().sum::<f64>()) / self.norm } else { 0.0 }
    }

    /// Disjoint pairs, that of the largest entry last.
    fn disjoint(&self) -> Vec<(usize, usize)> {
        let n = self.n;
        let all = (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q)));
        let mut all: Vec<_> = all.filter(|(p, q)| self.size(*p, *q) > self.tiny).collect();
        all.sort_unstable_by(|x, y| self.size(y.0, y.1).total_cmp(&self.size(x.0, x.1)).then(x.cmp(y)));
        let mut taken = vec![false; n];
        all.retain(|(p, q)| {
            let free = !taken[*p] && !taken[*q];
            if free {
                (taken[*p], taken[*q]) = (true, true);
            }
            free
        });
        all.reverse();
        all
    }

    /// S ← JᵀSJ, J = [[c, s], [−s, c]] on p and q; returns (c, s).
    fn rotate(&mut self, p: usize, q: usize) -> (f64, f64) {
        let (n, m) = (self.n, &mut self.s);
        let h = m[p * n + q];
        let (c, s) = annihilating(m[p * n + p], m[q * n + q], Float::abs(h));
        let s = if h < 0.0 { -s } else { s };
        // tan·h in the form that loses nothing
        let moved = s / c * h;
        (m[p * n + p], m[q * n + q]) = (m[p * n + p] - moved, m[q * n + q] + moved);
        (m[p * n + q], m[q * n + p]) = (0.0, 0.0);
        for k in (0..n).filter(|k| *k != p && *k != q) {
            let (x, y) = (m[p * n + k], m[q * n + k]);
            let (x, y) = (c * x - s * y, s * x + c * y);
            (m[p * n + k], m[q * n + k], m[k * n + p], m[k * n + q]) = (x, y, x, y);
        }
        self.measure(p);
        self.measure(q);
        (c, s)
    }
}
