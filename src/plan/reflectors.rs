//! Blocks that are products of Householder reflections: B = H_r ··· H_2 H_1, H_i = I − 2 u_i u_iᴴ / ‖u_i‖². H_1 acts first.
//!
//! # Vectors
//! θ holds `count` vectors v_i of b numbers (complex ones as pairs re, im), one after the other. What is stored is the unit
//! vector u_i = v_i/‖v_i‖, computed in double precision, without over- or underflow whatever the size of v_i, and rounded
//! once. v_i = 0 stands for H_i = I, as τ = 0 does in LAPACK; u_i is then 0 and so is the derivative that is reported, though
//! none exists: θ = 0 is the identity, but no start for training.
//! (Two equal neighbours cancel, and have derivatives.) From du = (dv − u·Re(uᴴdv))/‖v‖ follows the pullback
//!
//! G_v = (G_u − u·Re(uᴴG_u))/‖v‖.
//!
//! *Orthonormal vectors* (the Gram–Schmidt variant of HRA, Yuan et al., arXiv 2405.17484): V = U·R, modified Gram–Schmidt, each
//! vector orthogonalised twice (Giraud, Langou, Rozložník, van den Eshof, Numer. Math. 101, 2005); then
//! B = I − 2UUᴴ. With X = dV·R⁻¹ and Y = UᴴX, which is skew-Hermitian dU part plus upper triangular dR part,
//! dU = X − U·T(Y), where T(Y)_ij = Y_ij + conj(Y_ji) for i < j, Re Y_ii, and 0 below. Its adjoint: with Z = UᴴG and the
//! Hermitian W that has the upper triangle of Z and the real part of its diagonal,
//!
//! G_V = (G − U·W)·R⁻ᴴ.
//!
//! A vector less than 2⁻⁴⁰ of which is independent of those before it has no direction that numbers could tell; that is an error.
//!
//! # Couplings
//! Within a panel (`kernel/reflect.rs`) B x = x + Σ u_i e_i with e_i = −τ_i u_iᴴ x_i, τ_i = 2/‖u_i‖², where
//! x_i = x + Σ_{j<i} u_j e_j is what reaches reflection i. So e_i = N_ii·u_iᴴx + Σ_{j<i} N_ij e_j, with
//!
//! N_ii = −τ_i,  N_ij = −τ_i u_iᴴu_j,
//!
//! which is forward substitution in the compact WY form B = I − U S⁻¹ Uᴴ, S = tril(UᴴU, −1) + diag(1/τ), without S⁻¹
//! (Joffrain et al., ACM TOMS 32, 2006; Likhosherstov et al., arXiv 2004.08675). N comes from the
//! *stored* vectors, to the last digit of the scalar: the kernel computes the product of exactly those reflections, up to
//! rounding, and that product is orthogonal however u_i was rounded. In place of N_ii what is stored is
//! ρ_i = N_ii + 2 = 2(‖u_i‖² − 1)/‖u_i‖², a few units of the last digit of 1. For double precision the inner products are
//! compensated (Dot2 of Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26, 2005): rounded ones alone would double the error
//! of a product of as many vectors as coordinates.
//!
//! # Gradient of the vectors
//! One reflection: with c = τuᴴx and d = τuᴴg for input x and output cotangent g, the cotangent of u is
//! −c̄·g − d̄·x + Re(d̄c)·u. In a panel x_i = x − Σ_{j<i} u_j c_j for the panel's input x, and the cotangent after reflection i
//! is g − Σ_{j>i} u_j d_j for its output's g. Summed over vectors, with K_ij = Σ c̄_i d_j:
//!
//! G_{u_i} = −Σ (c̄_i·g + d̄_i·x) + Σ_{j≠i} M_ij u_j + Re(K_ii)·u_i,  M_ij = K_ij for j after i, conj(K_ji) for j before i.
//!
//! The kernel sums the first part and K where j does not act before i; [`couplings_vjp`] adds the rest.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::{Plan, Source, Stage};
use crate::dense::double_double::{two_prod, two_sum};
use crate::generator::Generator;
use crate::kernel::{self, PANEL};
use crate::scalar::{Scalar, Wide};

/// The part of a vector that must be independent of those before it.
const INDEPENDENT: f64 = 1.0 / (1u64 << 40) as f64;

/// How many vectors of which length, and whether they are made orthonormal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) count: usize,
    pub(super) b: usize,
    pub(super) orthonormal: bool,
}

impl<T: Scalar> Stage<T> {
    /// What its blocks are made of, if they are products of reflectors.
    pub(super) fn reflectors_shape(&self) -> Option<Shape> {
        match self.source() {
            Source::Reflectors { count, orthonormal, .. } => {
                Some(Shape { count: *count, b: self.layout().block_size(), orthonormal: *orthonormal })
            }
            _ => None,
        }
    }

    /// The vectors of real reflectors at θ: as they are, or orthonormal if they are to be.
    ///
    /// `Err` names the first one, counted over all blocks, that depends on those before it.
    pub(crate) fn unit_vectors(&self, theta: &[f64]) -> Result<Vec<f64>, usize> {
        let Some(shape) = self.reflectors_shape().filter(|shape| shape.orthonormal) else { return Ok(theta.to_vec()) };
        let mut vectors = Vec::with_capacity(theta.len());
        for (group, theta) in theta.chunks_exact((shape.count * shape.b).max(1)).enumerate() {
            vectors.extend(units::<f64>(shape, theta).map_err(|at| group * shape.count + at)?);
        }
        Ok(vectors)
    }
}

impl<T: Scalar> Plan<T> {
    /// Parameters at which Q is the identity (up to fixed stages and rounding) and which training can leave: zero for charts;
    /// for reflectors, which have no derivative at zero, seeded random vectors of length about 1, each of them twice, as HRA
    /// starts. The last one of an odd number is zero, and so are all that are to be orthonormal, whose product is the identity
    /// nowhere else.
    ///
    /// ```
    /// use papilio::{Orthogonal, Plan, Source, StageLayout};
    /// let plan = Plan::<f64>::from_stages(5, [(StageLayout::contiguous(5, 1), Source::reflectors(4))])?;
    /// let theta = plan.identity_start(1);
    /// assert!(theta.iter().all(|v| *v != 0.0));
    /// let y = Orthogonal::new(plan, theta)?.apply(&[1.0, 2.0, 3.0, 4.0, 5.0])?;
    /// assert!(y.iter().zip(1..).all(|(y, x)| (y - f64::from(x)).abs() < 1e-14));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    pub fn identity_start(&self, seed: u64) -> Vec<f64> {
        let (mut theta, mut g) = (vec![0.0; self.num_params()], Generator::new(seed));
        for stage in self.stages() {
            let Some(Shape { count, b, orthonormal: false }) = stage.reflectors_shape() else { continue };
            let numbers = if T::IS_COMPLEX { 2 * b } else { b };
            let size = Float::sqrt(3.0 / numbers as f64);
            for block in theta[stage.theta()].chunks_exact_mut((numbers * count).max(1)) {
                for pair in block.chunks_exact_mut(2 * numbers) {
                    let (first, second) = pair.split_at_mut(numbers);
                    first.fill_with(|| size * (2.0 * g.uniform() - 1.0));
                    second.copy_from_slice(first);
                }
            }
        }
        theta
    }
}

/// ‖v‖ = norm/scale; kept apart because it need not be a number that `f64` has.
#[derive(Clone, Copy)]
struct Length {
    norm: f64,
    scale: f64,
}

impl Length {
    /// x/‖v‖.
    fn divide<W: Wide>(self, x: W) -> W {
        over(x, self.norm) * W::from_real(self.scale)
    }
}

fn over<W: Wide>(x: W, d: f64) -> W {
    W::from_parts(x.re() / d, x.im() / d)
}

/// xᴴy in the runs that the kernel sums over.
fn dot<W: Wide>(x: &[W], y: &[W]) -> W {
    let run = kernel::run_length(x.len());
    let runs = x.chunks(run).zip(y.chunks(run));
    runs.fold(W::zero(), |sum, (x, y)| sum + x.iter().zip(y).fold(W::zero(), |sum, (&x, &y)| sum + x.conj() * y))
}

/// y += a·x.
fn add<W: Wide>(y: &mut [W], a: W, x: &[W]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// v ← v/‖v‖; `None` for zero.
fn normalize<W: Wide>(v: &mut [W]) -> Option<Length> {
    const POWER: f64 = 4.149_515_568_880_993e180; // 2^600
    let size = v.iter().fold(0.0, |m: f64, x| m.max(Float::abs(x.re())).max(Float::abs(x.im())));
    let scale = if size < 1e-140 {
        POWER
    } else if size > 1e140 {
        1.0 / POWER
    } else {
        1.0
    };
    let factor = W::from_real(scale);
    v.iter_mut().for_each(|x| *x = *x * factor);
    let norm = Float::sqrt(dot(v, v).re());
    if norm == 0.0 {
        return None;
    }
    v.iter_mut().for_each(|x| *x = over(*x, norm));
    Some(Length { norm, scale })
}

/// The numbers of θ as vectors.
fn load<W: Wide>(theta: &[f64]) -> Vec<W> {
    if W::IS_COMPLEX {
        theta.chunks_exact(2).map(|p| W::from_parts(p[0], p[1])).collect()
    } else {
        theta.iter().map(|p| W::from_real(*p)).collect()
    }
}

/// The normalised vectors of θ, and their lengths.
fn normalized<W: Wide>(shape: Shape, theta: &[f64]) -> (Vec<W>, Vec<Option<Length>>) {
    let mut vectors = load(theta);
    let lengths = vectors.chunks_exact_mut(shape.b).map(normalize).collect();
    (vectors, lengths)
}

/// The unit vectors of a block, row after row.
///
/// `Err` names the first vector that depends on those before it.
pub(super) fn units<W: Wide>(shape: Shape, theta: &[f64]) -> Result<Vec<W>, usize> {
    let (mut u, lengths) = normalized(shape, theta);
    if !shape.orthonormal {
        return Ok(u);
    }
    for j in (0..shape.count).filter(|j| lengths[*j].is_some()) {
        let (before, rest) = u.split_at_mut(j * shape.b);
        let v = &mut rest[..shape.b];
        for pass in 0..2 {
            for q in before.chunks_exact(shape.b) {
                let part = dot(q, v);
                add(v, -part, q);
            }
            if pass == 0 && Float::sqrt(dot(v, v).re()) < INDEPENDENT {
                return Err(j);
            }
        }
        normalize(v);
    }
    Ok(u)
}

/// R of V = U·R for normalised vectors V: entry (i, j), i ≤ j, at i·count + j.
fn triangle<W: Wide>(shape: Shape, u: &[W], vectors: &[W]) -> Vec<W> {
    let Shape { count, b, .. } = shape;
    let mut r = vec![W::zero(); count * count];
    for j in 0..count {
        for i in 0..=j {
            r[i * count + j] = dot(&u[i * b..(i + 1) * b], &vectors[j * b..(j + 1) * b]);
        }
    }
    r
}

/// `d_theta` += the adjoint of the derivative of [`units`], applied to `d`, the cotangent of the unit vectors `u`,
/// which is overwritten.
pub(super) fn units_vjp<W: Wide>(shape: Shape, theta: &[f64], u: &[W], d: &mut [W], d_theta: &mut [f64]) {
    let Shape { count, b, orthonormal } = shape;
    let (vectors, lengths) = normalized::<W>(shape, theta);
    let at = |i: usize| i * b..(i + 1) * b;
    if orthonormal {
        let r = triangle(shape, u, &vectors);
        let mut w = vec![W::zero(); count * count];
        for j in 0..count {
            for i in 0..=j {
                let z = dot(&u[at(i)], &d[at(j)]);
                (w[i * count + j], w[j * count + i]) = if i < j { (z, z.conj()) } else { (real(z), real(z)) };
            }
        }
        for j in (0..count).rev() {
            let (d, after) = d.split_at_mut((j + 1) * b);
            let d = &mut d[at(j)];
            for i in 0..count {
                add(d, -w[i * count + j], &u[at(i)]);
            }
            for (k, later) in (j + 1..count).zip(after.chunks_exact(b)) {
                add(d, -r[j * count + k].conj(), later);
            }
            let diagonal = r[j * count + j].re();
            d.iter_mut().for_each(|d| *d = if diagonal == 0.0 { W::zero() } else { over(*d, diagonal) });
        }
    } else {
        for i in 0..count {
            let part = real(dot(&vectors[at(i)], &d[at(i)]));
            add(&mut d[at(i)], -part, &vectors[at(i)]);
        }
    }
    let numbers = if W::IS_COMPLEX { 2 } else { 1 };
    for (i, length) in lengths.iter().enumerate() {
        let Some(length) = length else { continue };
        for (out, d) in d_theta[numbers * i * b..].chunks_exact_mut(numbers).zip(&d[at(i)]) {
            let d = length.divide(*d);
            out[0] += d.re();
            if let Some(im) = out.get_mut(1) {
                *im += d.im();
            }
        }
    }
}

/// The derivative of [`units`] along `d_theta`.
pub(super) fn units_jvp<W: Wide>(shape: Shape, theta: &[f64], u: &[W], d_theta: &[f64]) -> Vec<W> {
    let Shape { count, b, orthonormal } = shape;
    let (vectors, lengths) = normalized::<W>(shape, theta);
    let mut d = load::<W>(d_theta);
    for (d, length) in d.chunks_exact_mut(b).zip(&lengths) {
        d.iter_mut().for_each(|d| *d = length.map_or(W::zero(), |length| length.divide(*d)));
    }
    let at = |i: usize| i * b..(i + 1) * b;
    if !orthonormal {
        for i in 0..count {
            let part = real(dot(&vectors[at(i)], &d[at(i)]));
            add(&mut d[at(i)], -part, &vectors[at(i)]);
        }
        return d;
    }
    let r = triangle(shape, u, &vectors);
    for j in 0..count {
        let (before, d) = d.split_at_mut(j * b);
        let d = &mut d[..b];
        for (i, earlier) in before.chunks_exact(b).enumerate() {
            add(d, -r[i * count + j], earlier);
        }
        let diagonal = r[j * count + j].re();
        d.iter_mut().for_each(|d| *d = if diagonal == 0.0 { W::zero() } else { over(*d, diagonal) });
    }
    let x = d.clone();
    for j in 0..count {
        for i in 0..j {
            let part = dot(&u[at(i)], &x[at(j)]) + dot(&u[at(j)], &x[at(i)]).conj();
            add(&mut d[at(j)], -part, &u[at(i)]);
        }
        let part = real(dot(&u[at(j)], &x[at(j)]));
        add(&mut d[at(j)], -part, &u[at(j)]);
    }
    d
}

fn real<W: Wide>(z: W) -> W {
    W::from_real(z.re())
}

/// Pairs (i, j) of one panel with the place of N_ij, for all panels of `count` vectors of length `b`.
fn pairs(count: usize, b: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..kernel::panels(count, b)).flat_map(move |p| {
        let (start, width) = kernel::panel(count, b, p);
        (start..start + width).flat_map(move |i| (0..width).map(move |j| (i, start + j, i * PANEL + j)))
    })
}

/// xᴴy as a sum and what it lacks: as if computed with twice the digits, and rounded.
fn dot2<W: Wide>(x: &[W], y: &[W]) -> (W, W) {
    let (mut re, mut im) = ((0.0, 0.0), (0.0, 0.0));
    let add = |sum: &mut (f64, f64), x: f64, y: f64| {
        let (p, e) = two_prod(x, y);
        let (s, f) = two_sum(sum.0, p);
        *sum = (s, sum.1 + (e + f));
    };
    for (x, y) in x.iter().zip(y) {
        add(&mut re, x.re(), y.re());
        if W::IS_COMPLEX {
            add(&mut re, x.im(), y.im());
            add(&mut im, x.re(), y.im());
            add(&mut im, -x.im(), y.re());
        }
    }
    (W::from_parts(re.0, im.0), W::from_parts(re.1, im.1))
}

/// N of the stored vectors, at 8·i + (place of j in the panel), with ρ_i in place of N_ii; from compensated sums if `exact`.
pub(super) fn couplings<W: Wide>(count: usize, b: usize, vectors: &[W], exact: bool) -> Vec<W> {
    let product = |i: usize, j: usize| {
        let (x, y) = (&vectors[i * b..(i + 1) * b], &vectors[j * b..(j + 1) * b]);
        if exact { dot2(x, y) } else { (dot(x, y), W::zero()) }
    };
    // ‖u_i‖², and ‖u_i‖² − 1 without cancellation.
    let squares: Vec<(f64, f64)> = (0..count)
        .map(|i| product(i, i))
        .map(|(sum, rest)| (sum.re() + rest.re(), (sum.re() - 1.0) + rest.re()))
        .collect();
    let mut n = vec![W::zero(); count * PANEL];
    for (i, j, at) in pairs(count, b) {
        let first = j - at % PANEL;
        let (square, excess) = squares[i];
        if i < j {
            let (sum, rest) = product(i, j);
            n[at] = (sum + rest) * W::from_real(-2.0);
            n[j * PANEL + i - first] = n[at].conj();
        }
        n[at] = if i == j {
            W::from_real(if square > 0.0 { 2.0 * excess / square } else { 2.0 })
        } else if square > 0.0 {
            over(n[at], square)
        } else {
            W::zero()
        };
    }
    n
}

/// The derivative of [`couplings`] along `d_vectors`.
pub(super) fn couplings_jvp<W: Wide>(count: usize, b: usize, vectors: &[W], d_vectors: &[W]) -> Vec<W> {
    let (u, d) = (|i: usize| &vectors[i * b..(i + 1) * b], |i: usize| &d_vectors[i * b..(i + 1) * b]);
    let mut n = vec![W::zero(); count * PANEL];
    let squares: Vec<f64> = (0..count).map(|i| dot(u(i), u(i)).re()).collect();
    for (i, j, at) in pairs(count, b).filter(|(i, ..)| squares[*i] > 0.0) {
        let growth = 2.0 * dot(u(i), d(i)).re() / squares[i];
        let (product, moved) =
            if i == j { (W::one(), W::zero()) } else { (dot(u(i), u(j)), dot(d(i), u(j)) + dot(u(i), d(j))) };
        n[at] = over((moved - product * W::from_real(growth)) * W::from_real(-2.0), squares[i]);
    }
    n
}

/// What the sums K of the kernel add to the gradient of the vectors.
pub(super) fn couplings_vjp<W: Wide>(count: usize, b: usize, vectors: &[W], k: &[W]) -> Vec<W> {
    let mut d = vec![W::zero(); count * b];
    for (i, j, at) in pairs(count, b) {
        let first = j - at % PANEL;
        let m = if i == j { real(k[at]) } else { k[at] + k[j * PANEL + i - first].conj() }; // one of them is zero
        add(&mut d[i * b..(i + 1) * b], m, &vectors[j * b..(j + 1) * b]);
    }
    d
}

/// x ← B x, reflection by reflection.
pub(super) fn reflect<W: Wide>(b: usize, vectors: &[W], x: &mut [W]) {
    for u in vectors.chunks_exact(b) {
        let square = dot(u, u).re();
        if square > 0.0 {
            let c = over(dot(u, x) * W::from_real(-2.0), square);
            add(x, c, u);
        }
    }
}

#[cfg(test)]
mod tests;
