//! Any unitary matrix as a mesh of Mach–Zehnder interferometers and a last diagonal of phases, exactly: n² real parameters, the
//! dimension of U(n).
//!
//! A block is B(φ, ψ) = R(φ)·diag(e^{iψ}, 1), R(φ) = [[cos φ, −sin φ], [sin φ, cos φ]].
//!
//! **Triangle** (M. Reck et al., Phys. Rev. Lett. 73, 58 (1994)). Columns (0,1), (1,2), …, (n−2, n−1) are mixed, Q ← Q·Bᴴ, so that
//! row n − 1 loses all but its last entry: with ψ = arg x − arg y and φ = atan2(|x|, |y|) for entries (x, y), the first becomes
//! e^{i·arg y}(|x| cos φ − |y| sin φ) = 0. The same on (0,1), …, (n−3, n−2) for row n − 2, and so on. What is left is a diagonal
//! of phases D, and Q = D·B ··· B, the first that was used acting first: mixing i of row n − 1 − c is in stage i + 2c.
//!
//! **Brick** (W. Clements et al., Optica 3, 1460 (2016)). Anti-diagonals from the corner are eliminated in turn by columns, as above,
//! and by rows with T = R(φ)ᵀ·diag(e^{−iα}, e^{−iβ}), which takes (x, y) to (r, 0) for α = arg x, β = arg y, φ = atan2(|y|, |x|). So
//! T_b ··· T₁ Q Bᴴ ··· Bᴴ = D. The phases pass through the rows' rotations: with D = diag(e^{iδ}, e^{iε}) there,
//!
//! > Tᴴ D = diag(e^{iα}, e^{iβ}) R(φ) D = diag(e^{i(α+ε)}, e^{i(β+ε)})·B(φ, δ − ε),
//!
//! for T_b first and T₁ last.

use alloc::vec;
use alloc::vec::Vec;

use core::f64::consts::{PI, TAU};

use num_traits::Float;

use super::checked;
use super::meshes::{Elimination, brick_order};
use crate::error::Result;
use crate::parametrization::{Exponential, MachZehnder};
use crate::plan::Plan;
use crate::scalar::{Scalar, c64};
use crate::topology::{BlockDiagonal, Brick, Topology, Triangle};

/// The plan of [`Triangle`] with [`MachZehnder`], a diagonal of phases after it, and its θ for a unitary `q` (row-major n×n).
///
/// ```
/// use papilio::{Orthogonal, c64, synthesis};
/// let i = c64 { re: 0.0, im: 1.0 };
/// let q = [i * 0.6, c64::from(-0.8), c64::from(0.8), i * -0.6];
/// let (plan, theta) = synthesis::unitary_triangle(2, &q)?;
/// assert_eq!(theta.len(), 4);
/// let found = Orthogonal::new(plan, &theta)?.to_dense()?;
/// assert!(found.iter().zip(&q).all(|(x, y)| (x - y).norm() < 1e-15));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) for a size of zero or beyond what [`Triangle`] takes,
/// [`Error::Length`](crate::Error::Length) for another number of entries, [`Error::Domain`](crate::Error::Domain) if q is not
/// unitary to a ratio of 30.
pub fn unitary_triangle(n: usize, q: &[c64]) -> Result<(Plan<c64>, Vec<f64>)> {
    let mut a = Mesh { n, entries: checked(n, q, UNITARY)? };
    let (plan, mut theta) = start(n, &Triangle)?;
    for c in 0..n.saturating_sub(1) {
        for i in 0..n - 1 - c {
            set(&plan, &mut theta, i + 2 * c, i, a.eliminate_in_columns(i, n - 1 - c));
        }
    }
    finish(theta, a.phases(), &plan)
}

/// The plan of [`Brick`] with [`MachZehnder`], a diagonal of phases after it, and its θ for a unitary `q` (row-major n×n): half the
/// stages of [`unitary_triangle`].
///
/// # Errors
/// Those of [`unitary_triangle`].
pub fn unitary_brick(n: usize, q: &[c64]) -> Result<(Plan<c64>, Vec<f64>)> {
    let mut a = Mesh { n, entries: checked(n, q, UNITARY)? };
    let (plan, mut theta) = start(n, &Brick)?;
    let (mut right, mut left) = (Vec::new(), Vec::new());
    for elimination in brick_order(n) {
        match elimination {
            Elimination::Columns { i, row } => right.push((i, a.eliminate_in_columns(i, row))),
            Elimination::Rows { i, column } => left.push((i, a.eliminate_in_rows(i, column))),
        }
    }
    let mut phases = a.phases();
    let passed = left.into_iter().rev().map(|(i, Row { phi, alpha, beta })| {
        let (delta, epsilon) = (phases[i], phases[i + 1]);
        (phases[i], phases[i + 1]) = (principal(alpha + epsilon), principal(beta + epsilon));
        (i, (phi, principal(delta - epsilon)))
    });
    let mut free = vec![0; n]; // the first stage in which a coordinate has not been mixed yet
    for (i, block) in right.into_iter().chain(passed) {
        let stage = Ord::max(free[i], free[i + 1]);
        (free[i], free[i + 1]) = (stage + 1, stage + 1);
        set(&plan, &mut theta, stage, i, block);
    }
    finish(theta, phases, &plan)
}

const UNITARY: &str = "a unitary matrix: orthogonality ratio at most 30";

/// The plan of a mesh and its diagonal, and θ = 0.
fn start(n: usize, mesh: &dyn Topology) -> Result<(Plan<c64>, Vec<f64>)> {
    let plan = Plan::new(n, mesh, MachZehnder)?.then(Plan::new(n, &BlockDiagonal::new(1), Exponential)?)?;
    let theta = vec![0.0; plan.num_params()];
    Ok((plan, theta))
}

/// Sets the block of coordinates i and i + 1 in a stage.
fn set(plan: &Plan<c64>, theta: &mut [f64], stage: usize, i: usize, (phi, psi): (f64, f64)) {
    let at = plan.stages()[stage].theta().start + i / 2 * 2;
    (theta[at], theta[at + 1]) = (phi, psi);
}

/// The last stage is the diagonal.
fn finish(mut theta: Vec<f64>, phases: Vec<f64>, plan: &Plan<c64>) -> Result<(Plan<c64>, Vec<f64>)> {
    let at = theta.len() - phases.len();
    theta[at..].copy_from_slice(&phases);
    Ok((plan.clone(), theta))
}

/// The angle in [−π, π] that differs by a multiple of 2π, for angles up to 3π.
fn principal(angle: f64) -> f64 {
    match angle {
        a if a > PI => a - TAU,
        a if a < -PI => a + TAU,
        a => a,
    }
}

fn argument(x: c64) -> f64 {
    Float::atan2(x.im, x.re)
}

/// A rotation of rows after its phases.
struct Row {
    phi: f64,
    alpha: f64,
    beta: f64,
}

/// A matrix whose rows or columns are mixed in pairs.
struct Mesh {
    n: usize,
    entries: Vec<c64>,
}

impl Mesh {
    /// Q ← Q·Bᴴ on columns i and i + 1, so that `row` loses entry i. Returns (φ, ψ).
    fn eliminate_in_columns(&mut self, i: usize, row: usize) -> (f64, f64) {
        let at = row * self.n + i;
        let (x, y) = (self.entries[at], self.entries[at + 1]);
        let phi = Float::atan2(Scalar::abs(x), Scalar::abs(y));
        let psi = if phi == 0.0 { 0.0 } else { principal(argument(x) - argument(y)) };
        let ((s, c), back) = (Float::sin_cos(phi), phase(-psi));
        for row in self.entries.chunks_exact_mut(self.n) {
            let (x, y) = (back * row[i], row[i + 1]);
            (row[i], row[i + 1]) = (x * c - y * s, x * s + y * c);
        }
        (phi, psi)
    }

    /// Q ← T·Q on rows i and i + 1, so that `column` loses the second of the two entries.
    fn eliminate_in_rows(&mut self, i: usize, column: usize) -> Row {
        let (above, below) = self.entries.split_at_mut((i + 1) * self.n);
        let (above, below) = (&mut above[i * self.n..], &mut below[..self.n]);
        let (x, y) = (above[column], below[column]);
        let phi = Float::atan2(Scalar::abs(y), Scalar::abs(x));
        let (alpha, beta) = if phi == 0.0 { (0.0, 0.0) } else { (argument(x), argument(y)) };
        let ((s, c), first, second) = (Float::sin_cos(phi), phase(-alpha), phase(-beta));
        for (x, y) in above.iter_mut().zip(below) {
            let (a, b) = (first * *x, second * *y);
            (*x, *y) = (a * c + b * s, b * c - a * s);
        }
        Row { phi, alpha, beta }
    }

    /// Those of the diagonal.
    fn phases(&self) -> Vec<f64> {
        self.entries.iter().step_by(self.n + 1).map(|x| argument(*x)).collect()
    }
}

/// e^{iψ}.
fn phase(psi: f64) -> c64 {
    let (im, re) = Float::sin_cos(psi);
    c64 { re, im }
}
