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
//! The eigenvalues of (1 − τ) + τE are at least 2τ − 1 in size, whatever E: a few products find that polar factor (`block_polar.rs`), which has
//! the determinant of P if det E = 1.

use super::polar::nearest;
use super::products::products;
use crate::parallel::Parallelism;
use crate::scalar::Wide;
use crate::simd::Isa;

/// τ, as good as any from 0.7 to 0.9.
pub(super) const BEYOND: f64 = 0.8;

/// Moves the best blocks on from the old ones, wherever that still wins something of `wanted`.
pub(super) fn beyond<W: Wide>(
    b: usize,
    old: &[W],
    wanted: &[W],
    best: &mut [W],
    signs: &[i8],
    isa: Isa,
    parallelism: Parallelism,
) {
    let size = b * b;
    let turn = products(b, old, true, best, isa, parallelism);
    let mut further = products(b, best, false, &turn, isa, parallelism);
    for (x, best) in further.iter_mut().zip(&*best) {
        *x = *best * W::from_real(1.0 - BEYOND) + *x * W::from_real(BEYOND);
    }
    nearest(b, &mut further, signs, isa, parallelism);
    let blocks = best.chunks_exact_mut(size).zip(further.chunks_exact(size));
    for ((best, further), (old, wanted)) in blocks.zip(old.chunks_exact(size).zip(wanted.chunks_exact(size))) {
        if inner(wanted, further) >= inner(wanted, old) {
            best.copy_from_slice(further);
        }
    }
}

/// Re tr(xᴴy)
pub(super) fn inner<W: Wide>(x: &[W], y: &[W]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x.re() * y.re() + x.im() * y.im()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Also where determinants are held that the best blocks of all would not have, and where the old blocks had the other one.
    #[test]
    fn nothing_is_lost_against_the_old_blocks() {
        let (isa, alone) = (Isa::detect(), Parallelism::None);
        let mut generator = Generator::new(1);
        for b in [1, 2, 3, 4, 7] {
            let count = 200;
            let mut random =
                |count: usize| -> Vec<f64> { (0..count * b * b).map(|_| generator.uniform() - 0.5).collect() };
            let (wanted, mut old) = (random(count), random(count));
            nearest(b, &mut old, &vec![0; count], isa, alone);
            for parity in [-1, 0, 1] {
                let mut best = wanted.clone();
                let signs = nearest(b, &mut best, &vec![parity; count], isa, alone);
                beyond(b, &old, &wanted, &mut best, &signs, isa, alone);
                // As good as the old ones; or, where those have the other determinant, the best ones that may be.
                let mut held = wanted.clone();
                nearest(b, &mut held, &signs, isa, alone);
                for (j, new) in best.chunks_exact(b * b).enumerate() {
                    let at = j * b * b..(j + 1) * b * b;
                    let [new, old, most] =
                        [new, &old[at.clone()], &held[at.clone()]].map(|x| inner(&wanted[at.clone()], x));
                    assert!(new >= old.min(most) - 1e-13, "b = {b}, {parity}: {new} {old} {most}");
                }
            }
        }
    }
}
