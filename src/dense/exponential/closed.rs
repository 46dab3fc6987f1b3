//! Closed forms: small rotation and unitary groups are made of circles and of SO(3).
//!
//! A *rotation vector* v = r·n, |n| = 1, stands for the skew 3×3 matrix [v]ₓ with [v]ₓk = v × k.
//!
//! | group | A | exp A |
//! |---|---|---|
//! | U(1) | iθ | e^{iθ} |
//! | SO(2) | θ | cosine and sine |
//! | SO(3) | [v]ₓ | I + sin r [n]ₓ + 2 sin²(r/2)(nnᵀ − I) (Rodrigues 1840) |
//! | SO(4) | L(p) + R(q), which commute; L(n)² = R(n)² = −I | (cos|p| + sin|p| L(p/|p|))·(cos|q| + sin|q| R(q/|q|)) |
//! | U(2) | iμ + A₀, A₀ = i(xσ₁ + yσ₂ + zσ₃), A₀² = −r² | e^{iμ}(cos r + (sin r / r) A₀) |
//!
//! Written with the unit vector n nothing cancels and nothing divides by a small r. With the basis e_ij = E_ij − E_ji,
//! L = (e₀₁ + e₂₃, e₀₂ − e₁₃, e₀₃ + e₁₂), R = (e₀₁ − e₂₃, e₀₂ + e₁₃, e₀₃ − e₁₂): left and right products by quaternions.
//!
//! *Derivative.* dexp_A(K) = ∫₀¹ e^{tA} K e^{−tA} dt averages K along an arc. Conjugation turns the vector k of K about n: by
//! r in SO(3), by −2|p| and 2|q| in SO(4), by −2r in U(2) (from the brackets: [L₁, L₂] = −2L₃, [R₁, R₂] = 2R₃,
//! [iσ₁, iσ₂] = −2iσ₃). The average over a turn by φ about n is the left Jacobian of SO(3),
//!
//!   J k = n(n·k) + (sin φ/φ)(k − n(n·k)) + (2 sin²(φ/2)/φ) n × k.
//!
//! Conditioning: an angle of size r carries no more than u·r of absolute precision; sine and cosine are reduced exactly.

// Plain loops over constants become straight code.
#![allow(clippy::needless_range_loop)]

use num_traits::Float;

use crate::dense::pack::Number;
use crate::scalar::Wide;

type Vector = [f64; 3];

/// Whether blocks of this size have a closed form.
pub(crate) fn is_closed<W: Wide>(b: usize) -> bool {
    b <= if W::IS_COMPLEX { 2 } else { 4 }
}

/// exp A for one block of a size that [`is_closed`].
pub(crate) fn exponential<W: Wide>(b: usize, theta: &[f64], block: &mut [W]) {
    match (b, W::IS_COMPLEX) {
        (1, true) => {
            let (s, c) = Float::sin_cos(theta[0]);
            block[0] = W::from_parts(c, s);
        }
        (1, false) => block[0] = W::one(),
        (2, false) => {
            let (s, c) = Float::sin_cos(theta[0]);
            // 0 − s, not −s: no negative zero in the identity.
            block.copy_from_slice(&[c, s, 0.0 - s, c].map(W::from_real));
        }
        (2, true) => unitary2(theta, block),
        (3, false) => rotation3(theta, block),
        (4, false) => rotation4(theta, block),
        _ => {}
    }
}

/// dexp_A(K), everything in the coordinates of skew storage, for one block of a size that [`is_closed`].
pub(crate) fn dexp<W: Wide>(b: usize, theta: &[f64], k: &[f64], out: &mut [f64]) {
    match (b, W::IS_COMPLEX) {
        (3, false) => out.copy_from_slice(&axial(jacobian(axial(theta), 1.0, axial(k)))),
        (4, false) => {
            let ((p, q), (kp, kq)) = (split4(theta), split4(k));
            out.copy_from_slice(&join4(jacobian(p, -2.0, kp), jacobian(q, 2.0, kq)));
        }
        (2, true) => {
            let ((_, v), (trace, kv)) = (split_unitary(theta), split_unitary(k));
            let [x, y, z] = jacobian(v, -2.0, kv);
            out.copy_from_slice(&[trace + z, trace - z, y, x]);
        }
        _ => out.copy_from_slice(k), // commutative
    }
}

/// r and v/r, without overflow or underflow on the way; r is held within the finite numbers.
fn polar(v: Vector) -> (f64, Vector) {
    if v == [0.0; 3] {
        return (0.0, [0.0; 3]);
    }
    let largest = v.iter().fold(0.0, |m: f64, x| m.max(x.abs())); // 0/0 below, should the others be NaN
    let v = v.map(|x| x / largest);
    let length = Float::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    let r = largest * length;
    (if r == f64::INFINITY { f64::MAX } else { r }, v.map(|x| x / length))
}

/// The left Jacobian for turns by φ = `speed`·|v| about v, applied to k.
fn jacobian(v: Vector, speed: f64, k: Vector) -> Vector {
    let (r, n) = polar(v);
    let n = n.map(|x| speed.signum() * x);
    // φ/2 = half and no overflow: speeds are 1 and 2.
    let half = r * (0.5 * speed.abs());
    let (s, c) = Float::sin_cos(half);
    let sinc = if half == 0.0 { 1.0 } else { s / half };
    let (along, across) = (c * sinc, s * sinc);
    let dot = n[0] * k[0] + n[1] * k[1] + n[2] * k[2];
    let cross = [n[1] * k[2] - n[2] * k[1], n[2] * k[0] - n[0] * k[2], n[0] * k[1] - n[1] * k[0]];
    core::array::from_fn(|i| n[i] * dot + along * (k[i] - n[i] * dot) + across * cross[i])
}

/// Coordinates (a₀₁, a₀₂, a₁₂) of a skew 3×3 matrix to its rotation vector, and back.
fn axial(a: impl AsRef<[f64]>) -> Vector {
    let a = a.as_ref();
    [0.0 - a[2], a[1], 0.0 - a[0]]
}

fn rotation3<W: Wide>(theta: &[f64], block: &mut [W]) {
    let (r, n) = polar(axial(theta));
    let (sine, cosine) = Float::sin_cos(0.5 * r);
    let (s, v) = (2.0 * sine * cosine, 2.0 * sine * sine);
    let [x, y, z] = n;
    let q = [
        [1.0 - v * (y * y + z * z), v * (x * y) - s * z, v * (x * z) + s * y],
        [v * (x * y) + s * z, 1.0 - v * (x * x + z * z), v * (y * z) - s * x],
        [v * (x * z) - s * y, v * (y * z) + s * x, 1.0 - v * (x * x + y * y)],
    ];
    put(polished(q), block, W::from_real);
}

/// The vectors p of L and q of R.
fn split4(a: &[f64]) -> (Vector, Vector) {
    let h = |x: f64, y: f64| 0.5 * x + 0.5 * y;
    ([h(a[0], a[5]), h(a[1], -a[4]), h(a[2], a[3])], [h(a[0], -a[5]), h(a[1], a[4]), h(a[2], -a[3])])
}

fn join4(p: Vector, q: Vector) -> [f64; 6] {
    [p[0] + q[0], p[1] + q[1], p[2] + q[2], p[2] - q[2], q[1] - p[1], p[0] - q[0]]
}

fn rotation4<W: Wide>(theta: &[f64], block: &mut [W]) {
    let (p, q) = split4(theta);
    let factor = |v: Vector, sign: f64| {
        let (r, n) = polar(v);
        let (s, c) = Float::sin_cos(r);
        let [x, y, z] = n.map(|x| s * x);
        let (t, u, w) = (sign * x, sign * y, sign * z);
        [[c, x, y, z], [-x, c, w, -u], [-y, -w, c, t], [-z, u, -t, c]]
    };
    let (left, right) = (factor(p, 1.0), factor(q, -1.0));
    let mut q = [[0.0; 4]; 4];
    for i in 0..4 {
        for j in 0..4 {
            for k in 0..4 {
                q[i][j] += left[i][k] * right[k][j];
            }
        }
    }
    put(polished(q), block, W::from_real);
}

/// One Newton–Schulz step takes out what the norms of unit vectors and quaternions have lost. Loops over constants: for so small
/// blocks the general products take longer to begin than to run.
#[inline(always)]
fn polished<N: Number, const B: usize>(q: [[N; B]; B]) -> [[N; B]; B] {
    let (zero, half) = (N::from_f64(0.0), N::from_f64(0.5));
    let mut e = [[zero; B]; B];
    for i in 0..B {
        for j in 0..B {
            e[i][j] = N::from_f64(if i == j { 1.0 } else { 0.0 });
            for row in &q {
                e[i][j] = e[i][j] - row[i].conj() * row[j];
            }
        }
    }
    let mut next = q;
    for i in 0..B {
        for j in 0..B {
            let mut sum = zero;
            for k in 0..B {
                sum = sum + q[i][k] * e[k][j];
            }
            next[i][j] = q[i][j] + half * sum;
        }
    }
    next
}

fn put<W: Wide, N: Copy, const B: usize>(q: [[N; B]; B], block: &mut [W], number: impl Fn(N) -> W) {
    for (row, q) in block.chunks_exact_mut(B).zip(q) {
        row.iter_mut().zip(q).for_each(|(x, q)| *x = number(q));
    }
}

/// μ and (x, y, z) of a skew-Hermitian 2×2 matrix.
fn split_unitary(a: &[f64]) -> (f64, Vector) {
    (0.5 * a[0] + 0.5 * a[1], [a[3], a[2], 0.5 * a[0] - 0.5 * a[1]])
}

fn unitary2<W: Wide>(theta: &[f64], block: &mut [W]) {
    let (mu, v) = split_unitary(theta);
    let (r, n) = polar(v);
    let ((s, c), (sine, cosine)) = (Float::sin_cos(r), Float::sin_cos(mu));
    let phase = W::from_parts(cosine, sine);
    let [x, y, z] = n.map(|x| s * x);
    let q = |re, im| phase * W::from_parts(re, im);
    put(polished([[q(c, z), q(y, x)], [q(0.0 - y, x), q(c, 0.0 - z)]]), block, |x| x);
}
