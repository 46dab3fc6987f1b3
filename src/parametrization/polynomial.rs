//! What charts share that are polynomials of a skew matrix with the coefficients 1, 2, …, 2, c: Cayley's map, cut off.
//!
//! p(X) = I + 2X + … + 2Xᵏ⁻¹ + c·Xᵏ at X = −A, where A is skew (skew-Hermitian) with the storage of [`Cayley`](super::Cayley).
//!
//! *Pullback.* Horner's H_j = c_j I + X H_{j+1}, H_k = c_k I, with Q = H_0. Backwards from G_0 = G:
//! G_X += G_j H_{j+1}ᴴ, G_{j+1} = Xᴴ G_j; exact for the polynomial, not for Cayley. Forwards: dH_j = dX H_{j+1} + X dH_{j+1}.
//!
//! *Section.* Newton's method on p(X) = B. All iterates are functions of B, so they commute, and the step
//! (p(X) − B) p'(X)⁻¹ is the scalar one, projected onto skew matrices (along the truth its other part is of second order). It
//! starts at Cayley's section. An orthogonal B is reached only where the series has converged to rounding.

use alloc::{format, vec, vec::Vec};

use crate::dense::skew::{fill_skew, pull_skew, skew_part, skew_size};
use crate::dense::{self, ORTHOGONAL, product};
use crate::error::{Error, Result, check_length};
use crate::scalar::Wide;

/// The highest degree: at ‖A‖ = 0.5 the series is exact to rounding from 27 on.
const MOST: u32 = 64;

/// Degree k ≥ 1 and the last coefficient c.
#[derive(Clone, Copy)]
pub(super) struct Polynomial {
    pub(super) degree: u32,
    pub(super) last: f64,
}

impl Polynomial {
    /// Parameters of a block; `what` is the chart for messages.
    pub(super) fn num_params<W: Wide>(&self, what: &'static str, b: usize) -> Result<usize> {
        if !(1..=MOST).contains(&self.degree) {
            let expected = format!("an order from 1 to {MOST}");
            return Err(Error::Size { what, expected, got: format!("order {}", self.degree) });
        }
        if b >= 1 && b.checked_mul(b).is_some() {
            return Ok(skew_size::<W>(b));
        }
        Err(Error::Size { what, expected: "blocks with b ≥ 1".into(), got: format!("b = {b}") })
    }

    /// c_j of p(X) = Σ c_j Xʲ.
    fn coefficient(&self, j: u32) -> f64 {
        match j {
            0 => 1.0,
            j if j == self.degree => self.last,
            _ => 2.0,
        }
    }

    /// H_k = c_k I, …, H_1, H_0 = Q, one after the other.
    fn horner<W: Wide>(&self, b: usize, x: &[W]) -> Vec<W> {
        let size = b * b;
        let mut h = vec![W::zero(); size * (self.degree as usize + 1)];
        h[..size].iter_mut().step_by(b + 1).for_each(|d| *d = W::from_real(self.last));
        for (step, j) in (0..self.degree).rev().enumerate() {
            let (done, rest) = h.split_at_mut((step + 1) * size);
            product(b, x, &done[step * size..], &mut rest[..size]);
            rest[..size].iter_mut().step_by(b + 1).for_each(|d| *d += W::from_real(self.coefficient(j)));
        }
        h
    }

    /// Q at θ.
    pub(super) fn forward<W: Wide>(&self, b: usize, theta: &[f64], block: &mut [W]) {
        let h = self.horner(b, &minus_skew::<W>(b, theta));
        block.copy_from_slice(&h[self.degree as usize * b * b..]);
    }

    /// Adds Jᵀ `d_block` to `d_theta`.
    pub(super) fn vjp<W: Wide>(&self, b: usize, theta: &[f64], d_block: &[W], d_theta: &mut [f64]) {
        let size = b * b;
        let x = minus_skew::<W>(b, theta);
        let h = self.horner(b, &x);
        let (mut g, mut next, mut d_x) = (d_block.to_vec(), vec![W::zero(); size], vec![W::zero(); size]);
        let mut adjoint = vec![W::zero(); size];
        for h in h[..self.degree as usize * size].chunks_exact(size).rev() {
            (0..size).for_each(|at| adjoint[at] = h[at % b * b + at / b].conj());
            product(b, &g, &adjoint, &mut next);
            d_x.iter_mut().zip(&next).for_each(|(d, n)| *d += *n);
            // Xᴴ = −X
            product(b, &x, &g, &mut next);
            g.iter_mut().zip(&next).for_each(|(g, n)| *g = -*n);
        }
        pull_skew::<W, W>(b, &d_x, -1.0, d_theta);
    }

    /// `d_block` = J `d_theta`.
    pub(super) fn jvp<W: Wide>(&self, b: usize, theta: &[f64], d_theta: &[f64], d_block: &mut [W]) {
        let size = b * b;
        let (x, d_x) = (minus_skew::<W>(b, theta), minus_skew::<W>(b, d_theta));
        let h = self.horner(b, &x);
        let (mut rise, mut old) = (vec![W::zero(); size], vec![W::zero(); size]);
        d_block.fill(W::zero());
        for h in h[..self.degree as usize * size].chunks_exact(size) {
            old.copy_from_slice(d_block);
            product(b, &x, &old, d_block);
            product(b, &d_x, h, &mut rise);
            d_block.iter_mut().zip(&rise).for_each(|(d, r)| *d += *r);
        }
    }

    /// θ with p(−A(θ)) = B; `what` is the chart for messages.
    pub(super) fn inverse<W: Wide>(&self, what: &'static str, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        check_length("theta", self.num_params::<W>(what, b)?, theta.len())?;
        let outside = |got| Error::Domain {
            what: format!("inverse of {what}"),
            expected: "a value of this polynomial; of orthogonal blocks only those where its series has converged",
            got,
        };
        let defect = dense::defect(b, block)?;
        if defect.is_nan() || defect >= 1.0 {
            return Err(outside(format!("‖I − BᴴB‖₁ = {defect:e}")));
        }
        let singular = |_| outside("a singular equation".into());
        // Cayley's section: 2(I + B)⁻¹ − I.
        let (mut m, mut a) = (block.to_vec(), vec![W::zero(); b * b]);
        for i in 0..b {
            m[i * b + i] += W::one();
            a[i * b + i] = W::from_real(2.0);
        }
        dense::solve(b, &mut m, &mut a).map_err(singular)?;
        skew_part(b, &a, theta);
        let mut scratch = vec![W::zero(); b * b];
        let mut last = f64::INFINITY;
        for _ in 0..32 {
            let x = minus_skew::<W>(b, theta);
            let h = self.horner(b, &x);
            // p' by Horner as well: D_j = H_{j+1} + X D_{j+1}.
            let mut slope = vec![W::zero(); b * b];
            for h in h[..self.degree as usize * b * b].chunks_exact(b * b) {
                product(b, &x, &slope, &mut scratch);
                slope.iter_mut().zip(&scratch).zip(h).for_each(|((s, x), h)| *s = *x + *h);
            }
            let mut step: Vec<W> =
                h[self.degree as usize * b * b..].iter().zip(block).map(|(h, block)| *h - *block).collect();
            dense::solve(b, &mut slope, &mut step).map_err(singular)?;
            let size = step.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
            // Quadratic until rounding: then steps stop shrinking.
            if size >= 0.5 * last && size <= 1e-8 {
                break;
            }
            last = size;
            let next: Vec<W> = x.iter().zip(&step).map(|(x, s)| *s - *x).collect();
            skew_part(b, &next, theta);
        }
        let mut again = vec![W::zero(); b * b];
        self.forward(b, theta, &mut again);
        let miss = super::miss(b, &again, block);
        if miss <= ORTHOGONAL {
            return Ok(());
        }
        Err(outside(format!("a block missed by ratio {miss:e}")))
    }
}

/// The chart of a type with a method `polynomial`, an `order`, and a constant `PREFIX` of its id beside it, under this name.
macro_rules! polynomial_chart {
    ($chart:ty, $name:literal) => {
        impl<W: Wide> Parametrization<W> for $chart {
            fn name(&self) -> &'static str {
                $name
            }

            fn id(&self) -> String {
                format!("{PREFIX}{}", self.order)
            }

            fn num_params(&self, b: usize) -> Result<usize> {
                self.polynomial().num_params::<W>($name, b)
            }

            fn forward(&self, b: usize, theta: &[f64], block: &mut [W]) {
                self.polynomial().forward(b, theta, block);
            }

            fn vjp(&self, b: usize, theta: &[f64], _block: &[W], d_block: &[W], d_theta: &mut [f64]) {
                self.polynomial().vjp(b, theta, d_block, d_theta);
            }

            fn jvp(&self, b: usize, theta: &[f64], _block: &[W], d_theta: &[f64], d_block: &mut [W]) {
                self.polynomial().jvp(b, theta, d_theta, d_block);
            }

            fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
                self.polynomial().inverse($name, b, block, theta)
            }

            fn is_exact(&self) -> bool {
                false
            }
        }
    };
}
pub(super) use polynomial_chart;

/// X = −A.
pub(super) fn minus_skew<W: Wide>(b: usize, theta: &[f64]) -> Vec<W> {
    let mut x = vec![W::zero(); b * b];
    fill_skew::<W, W>(b, &mut x, |at, _| 0.0 - theta[at]);
    x
}
