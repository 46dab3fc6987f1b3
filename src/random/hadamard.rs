//! The Walsh–Hadamard transform alone.
//!
//! Stages d = 1, 2, 4, …, n/2: (a, b) ← (a + b, a − b). As many as fit the machine's registers run together, three or so at a time
//! beyond; larger vectors part by part, so that a part stays in the nearest cache for all of its stages.

use alloc::string::ToString;

use bytemuck::Zeroable;

use super::registers::{add, within};
use crate::error::{Error, Result};
use crate::scalar::{Real, Scalar};
use crate::simd::{Isa, Job, Lanes, dispatch, lanes, load, store};

/// Numbers of a part: 16 KiB of `f32`.
const PART: usize = 1 << 12;

/// x ← H x with H = (1, 1; 1, −1)^{⊗k}, in natural order and not normalised: H² = n·I. The same bits on every machine.
///
/// ```
/// let mut x = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
/// papilio::random::walsh_hadamard(&mut x)?;
/// assert_eq!(x, [2.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 2.0]);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] unless the length is a power of two (or zero).
pub fn walsh_hadamard<T: Real>(x: &mut [T]) -> Result<()> {
    walsh_hadamard_on(x, Isa::detect())
}

/// The same on a given instruction set.
///
/// # Errors
/// [`Error::Unsupported`] if this CPU lacks it; those of [`walsh_hadamard`].
pub fn walsh_hadamard_on<T: Real>(x: &mut [T], isa: Isa) -> Result<()> {
    let isa = isa.checked()?;
    if !x.is_empty() && !x.len().is_power_of_two() {
        let expected = "a power of two".to_string();
        return Err(Error::Size { what: "Walsh–Hadamard transform", expected, got: x.len().to_string() });
    }
    if x.len() >= 4 * lanes::<T>(isa) {
        dispatch(isa, Transform(x));
        return Ok(());
    }
    let mut distance = 1;
    while distance < x.len() {
        for i in (0..x.len()).filter(|i| i & distance == 0) {
            (x[i], x[i + distance]) = (x[i] + x[i + distance], x[i] - x[i + distance]);
        }
        distance *= 2;
    }
    Ok(())
}

struct Transform<'a, T>(&'a mut [T]);

impl<T: Scalar> Job<T> for Transform<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return;
        }
        let x = self.0;
        for part in x.chunks_mut(PART) {
            let first = match part.len() / S::LANES {
                4..8 => near::<T, S, 4>(s, part),
                8..16 => near::<T, S, 8>(s, part),
                _ if const { S::REGISTERS >= 32 } => near::<T, S, 16>(s, part),
                _ => near::<T, S, 8>(s, part),
            };
            far::<T, S>(s, part, first);
        }
        if x.len() > PART {
            far::<T, S>(s, x, PART);
        }
    }
}

/// Stages within R neighbouring registers; the distance of the next.
#[inline(always)]
fn near<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [T]) -> usize {
    for x in x.chunks_exact_mut(R * S::LANES) {
        let mut registers = [S::V::zeroed(); R];
        for (r, register) in registers.iter_mut().enumerate() {
            *register = load::<T, S>(&x[r * S::LANES..]);
        }
        within::<T, S, R>(s, &mut registers, 0, false);
        add::<T, S, R>(s, &mut registers, 1, R, false);
        for (r, register) in registers.iter().enumerate() {
            store::<T, S>(&mut x[r * S::LANES..], *register);
        }
    }
    R * S::LANES
}

/// Stages from that distance on.
#[inline(always)]
fn far<T: Scalar, S: Lanes<T>>(s: S, x: &mut [T], mut distance: usize) {
    while distance < x.len() {
        distance *= match x.len() / distance {
            2 => radix::<T, S, 2>(s, x, distance),
            4 => radix::<T, S, 4>(s, x, distance),
            // Further apart, 16 registers would fall into the same set of the nearest cache, which holds fewer.
            16 if const { S::REGISTERS >= 32 } && distance * size_of::<T>() <= 2048 => {
                radix::<T, S, 16>(s, x, distance)
            }
            _ => radix::<T, S, 8>(s, x, distance),
        };
    }
}

/// Runs R of registers, `distance` coordinates apart.
#[inline(always)]
fn radix<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [T], distance: usize) -> usize {
    for group in x.chunks_exact_mut(R * distance) {
        for q in (0..distance).step_by(S::LANES) {
            let group = &mut group[q..][..(R - 1) * distance + S::LANES];
            let mut registers = [S::V::zeroed(); R];
            for (r, register) in registers.iter_mut().enumerate() {
                *register = load::<T, S>(&group[r * distance..]);
            }
            add::<T, S, R>(s, &mut registers, 1, R, false);
            for (r, register) in registers.iter().enumerate() {
                store::<T, S>(&mut group[r * distance..], *register);
            }
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;
    use alloc::vec::Vec;

    /// By definition: H[i][j] = (−1)^{popcount(i & j)}, on integers, whose sums are exact.
    #[test]
    fn equals_the_definition_on_every_machine() {
        for k in 0..12 {
            let n = 1 << k;
            let mut g = Generator::new(k);
            let x: Vec<f32> = (0..n).map(|_| g.below(201) as f32 - 100.0).collect();
            let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            let y: Vec<f32> = (0..n).map(|i| (0..n).map(|j| sign(i, j) * x[j]).sum()).collect();
            for isa in Isa::available() {
                let mut z = x.clone();
                walsh_hadamard_on(&mut z, isa).unwrap();
                assert_eq!(z, y, "n = {n}, {isa:?}");
                let mut z: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                walsh_hadamard_on(&mut z, isa).unwrap();
                assert!(z.iter().zip(&y).all(|(z, y)| *z == f64::from(*y)), "n = {n}, {isa:?}");
            }
        }
    }

    #[test]
    fn large_transforms_are_their_own_inverses() {
        for k in [12, 13, 16, 17] {
            let mut g = Generator::new(k);
            let x: Vec<f32> = (0..1 << k).map(|_| g.below(65) as f32 - 32.0).collect();
            let mut bits = Vec::new();
            for isa in Isa::available() {
                let mut y = x.clone();
                walsh_hadamard_on(&mut y, isa).unwrap();
                bits.push(y.clone());
                assert_eq!(y[0], x.iter().sum::<f32>());
                walsh_hadamard_on(&mut y, isa).unwrap();
                let scale = 1.0 / x.len() as f32;
                assert!(x.iter().zip(&y).all(|(x, y)| *x == y * scale), "k = {k}, {isa:?}");
            }
            assert!(bits.iter().all(|b| *b == bits[0]));
        }
        assert!(walsh_hadamard(&mut [0f32; 12]).is_err());
        assert!(walsh_hadamard::<f32>(&mut []).is_ok());
    }
}
