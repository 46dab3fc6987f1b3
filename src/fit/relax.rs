//! Past the best block: over-relaxation of Gauss–Seidel kind.
//!
//! Setting one stage after the other to its optimum is Gauss–Seidel, whose last digits come slowly where stages depend on each other. From
//! the old block B the best block P is reached by the turn E = BᴴP; going on a part τ of that way,
//!
//! > B' = nearest((1 − τ)·P + τ·PE),
//!
//! loses nothing against B: with M = PH, H positive semidefinite, Re tr(MᴴB') = Re tr(H E') for a turn E' that commutes with E and has
//! angles of at most τ times its, and Re tr(HE') = Σ cos φ'·(vᴴHv) over its eigenvectors. (Where a determinant is held H may be indefinite; so
//! what is won is looked at.) Errors stay monotone, and sweeps to machine precision are two to four times fewer; Haar targets come
//! to rest lower.
//!
//! The eigenvalues of (1 − τ) + τE are at least 2τ − 1 = 0.4 in size, whatever E: Newton–Schulz steps always find that polar factor
//! (`schulz.rs`), with the determinant of P if det E = 1.

use alloc::vec;
use alloc::vec::Vec;

use super::polar::{Gain, nearest};
use super::schulz::schulz;
use super::sweep::product;
use crate::parallel::Parallelism;
use crate::scalar::{Scalar, Wide};
use crate::simd::Isa;

/// τ, as good as any from 0.6 to 0.8.
pub(super) const BEYOND: f64 = 0.7;

/// Moves the best blocks on from the old ones, wherever that still wins something of `wanted`. `signs` are of the old blocks and of the
/// best ones.
pub(super) fn beyond<W: Wide>(
    b: usize,
    old: &[W],
    wanted: &[W],
    best: &mut [W],
    signs: (&[Gain], &[Gain]),
    isa: Isa,
    parallelism: Parallelism,
) {
    let size = b * b;
    let mut further = best.to_vec();
    let (mut turn, mut image) = (vec![W::zero(); size], vec![W::zero(); size]);
    for (x, old) in further.chunks_exact_mut(size).zip(old.chunks_exact(size)) {
        let back: Vec<W> = (0..size).map(|at| Scalar::conj(old[at % b * b + at / b])).collect();
        product(b, &back, x, &mut turn);
        product(b, x, &turn, &mut image);
        for (x, y) in x.iter_mut().zip(&image) {
            *x = *x * W::from_real(1.0 - BEYOND) + *y * W::from_real(BEYOND);
        }
    }
    if b > 2 {
        schulz(b, &mut further, isa, parallelism);
    } else {
        let parity: Vec<i8> = signs.1.iter().map(|gain| gain.sign).collect();
        nearest(b, &mut further, &parity, isa, parallelism);
    }
    let blocks = best.chunks_exact_mut(size).zip(further.chunks_exact(size));
    let signs = signs.0.iter().zip(signs.1);
    for (((best, further), (old, wanted)), (before, now)) in
        blocks.zip(old.chunks_exact(size).zip(wanted.chunks_exact(size))).zip(signs)
    {
        // Between the components of O(b) there is no way to go on.
        if before.sign == now.sign && inner(wanted, further) >= inner(wanted, old) {
            best.copy_from_slice(further);
        }
    }
}

/// Re tr(xᴴy)
fn inner<W: Wide>(x: &[W], y: &[W]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x.re() * y.re() + x.im() * y.im()).sum()
}
