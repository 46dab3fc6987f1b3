//! Fractions of a product of Householder reflections, without a b×b matrix.
//!
//! B = H_r ··· H_1 moves nothing but the span of its vectors. With an orthonormal basis V of that span, k ≤ r vectors of length
//! b, B = I + V(C − I)Vᵀ and exp(t·log B) = I + V(C(t) − I)Vᵀ, where C is the same product of the k-vectors Vᵀu_i. A rotation
//! C(t) of k dimensions is a product of an even number of at most k reflections, which Householder's elimination finds
//! (Cartan and Dieudonné say that so many always suffice), and V carries their vectors back. The cost is 2·b·r² + O(k³).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::Mover;
use crate::error::Result;
use crate::synthesis::{reflect, reflector};

/// What is left of a unit vector that depends on others, by rounding.
const DEPENDENT: f64 = 4.0 * f64::EPSILON;

/// Moves the `theta.len() / b` vectors of one block, in place. Vectors that are no longer needed become zero, which stands for
/// no reflection.
///
/// # Errors
/// Of [`Mover::advance`]: [`Error::Domain`](crate::Error::Domain) for an odd number of reflections.
pub(super) fn advance(b: usize, theta: &mut [f64], t: f64, what: &dyn Fn() -> String) -> Result<()> {
    let (basis, coordinates) = span(b, theta);
    let k = basis.len();
    let mut block = vec![0.0; k * k];
    (0..k).for_each(|i| block[i * k + i] = 1.0);
    for u in coordinates.chunks_exact(k.max(1)) {
        reflect(k, &mut block, u);
    }
    Mover::new(k, k * k).advance(&mut block, t, what)?;
    // H_m ··· H_1 C(t) = I, so C(t) = H_1 ··· H_m: H_m acts first.
    let mut found = Vec::new();
    let order: Vec<usize> = (0..k).collect();
    for done in 0..k {
        if let Some(u) = reflector(k, &block, &order[done..]) {
            reflect(k, &mut block, &u);
            found.push(u);
        }
    }
    theta.fill(0.0);
    for (v, u) in theta.chunks_exact_mut(b).zip(found.iter().rev()) {
        for (v_k, u) in basis.iter().zip(u) {
            v.iter_mut().zip(v_k).for_each(|(v, x)| *v += u * x);
        }
    }
    Ok(())
}

/// An orthonormal basis of the span of the vectors of length `b`, and of every vector that is not zero its unit vector's
/// coordinates.
fn span(b: usize, vectors: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut units = Vec::new();
    for v in vectors.chunks_exact(b) {
        let scale = v.iter().fold(0.0, |m: f64, x| m.max(Float::abs(*x)));
        if scale == 0.0 {
            continue;
        }
        let mut u: Vec<f64> = v.iter().map(|x| x / scale).collect();
        let norm = Float::sqrt(dot(&u, &u));
        u.iter_mut().for_each(|x| *x /= norm);
        let mut rest = u.clone();
        units.push(u);
        let mut left = 1.0;
        for _ in 0..2 {
            for q in &basis {
                let part = dot(q, &rest);
                rest.iter_mut().zip(q).for_each(|(x, q)| *x -= part * q);
            }
            left = Float::sqrt(dot(&rest, &rest));
            if left <= DEPENDENT {
                break;
            }
            rest.iter_mut().for_each(|x| *x /= left);
            left = 1.0;
        }
        if left > DEPENDENT {
            basis.push(rest);
        }
    }
    let coordinates = units.iter().flat_map(|u| basis.iter().map(|q| dot(q, u)).collect::<Vec<_>>()).collect();
    (basis, coordinates)
}
