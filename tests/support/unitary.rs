//! Complex charts and blocks for tests.
#![allow(dead_code, unreachable_pub)] // every test binary uses a part

use papilio::generator::Generator;
use papilio::{Error, Parametrization, Result, c64, dense};

pub fn complex(re: f64, im: f64) -> c64 {
    c64 { re, im }
}

/// `len` complex numbers with parts in (−1, 1) that `f32` holds exactly.
pub fn random(len: usize, seed: u64) -> Vec<c64> {
    let mut g = Generator::new(seed);
    let mut part = || f64::from((g.uniform() * 2.0 - 1.0) as f32);
    (0..len).map(|_| complex(part(), part())).collect()
}

/// A random unitary b×b block: Gram–Schmidt, twice, on random rows.
pub fn unitary(b: usize, seed: u64) -> Vec<c64> {
    let mut rows = random(b * b, seed);
    for i in 0..b {
        for _ in 0..2 {
            for k in 0..i {
                let (before, row) = rows.split_at_mut(i * b);
                let (other, row) = (&before[k * b..(k + 1) * b], &mut row[..b]);
                let along: c64 = other.iter().zip(&*row).map(|(o, x)| o.conj() * x).sum();
                row.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let row = &mut rows[i * b..(i + 1) * b];
        let norm = row.iter().map(|x| x.norm_sqr()).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    rows
}

/// All of U(1) and of U(2): e^{iθ}, and e^{iδ}·[[e^{iα}c, e^{iβ}s], [−e^{−iβ}s, e^{−iα}c]] with c, s = cos φ, sin φ and
/// θ = (δ, α, β, φ).
#[derive(Debug, Clone, Copy)]
pub struct Unitary;

fn phase(angle: f64) -> c64 {
    complex(angle.cos(), angle.sin())
}

impl Unitary {
    /// ∂block/∂θ_p, for every p.
    fn jacobian(b: usize, theta: &[f64], block: &[c64]) -> Vec<Vec<c64>> {
        let i = complex(0.0, 1.0);
        let whole = block.iter().map(|x| i * x).collect();
        if b == 1 {
            return vec![whole];
        }
        let [d, a, e, f] = [theta[0], theta[1], theta[2], theta[3]];
        let (c, s, zero) = (f.cos(), f.sin(), complex(0.0, 0.0));
        vec![
            whole,
            vec![i * block[0], zero, zero, -i * block[3]],
            vec![zero, i * block[1], -i * block[2], zero],
            vec![-s * phase(d + a), c * phase(d + e), -c * phase(d - e), -s * phase(d - a)],
        ]
    }
}

impl Parametrization<c64> for Unitary {
    fn name(&self) -> &'static str {
        "unitary"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        match b {
            1 => Ok(1),
            2 => Ok(4),
            b => Err(Error::Size { what: "unitary chart", expected: "b = 1 or 2".into(), got: b.to_string() }),
        }
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [c64]) {
        if b == 1 {
            block[0] = phase(theta[0]);
            return;
        }
        let [d, a, e, f] = [theta[0], theta[1], theta[2], theta[3]];
        let (c, s) = (f.cos(), f.sin());
        block.copy_from_slice(&[
            phase(d) * phase(a) * c,
            phase(d) * phase(e) * s,
            -(phase(d) * phase(-e) * s),
            phase(d) * phase(-a) * c,
        ]);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[c64], d_block: &[c64], d_theta: &mut [f64]) {
        for (d, column) in d_theta.iter_mut().zip(Self::jacobian(b, theta, block)) {
            *d += d_block.iter().zip(column).map(|(g, j)| (g.conj() * j).re).sum::<f64>();
        }
    }
    fn inverse(&self, b: usize, block: &[c64], theta: &mut [f64]) -> Result<()> {
        if dense::orthogonality_ratio(b, block).is_ok_and(|ratio| ratio <= 30.0) {
            if b == 1 {
                theta[0] = block[0].arg();
            } else {
                let d = 0.5 * (block[0] * block[3] - block[1] * block[2]).arg();
                let (x, y) = (block[0] * phase(-d), block[1] * phase(-d));
                theta.copy_from_slice(&[d, x.arg(), y.arg(), y.norm().atan2(x.norm())]);
            }
            return Ok(());
        }
        Err(Error::Domain { what: "unitary chart".into(), expected: "a unitary block", got: format!("{block:?}") })
    }
}

/// Any matrix: the identity plus Σ (θ + iθ′)·E, two parameters for every entry. Not unitary, and it says so.
#[derive(Debug, Clone, Copy)]
pub struct Affine;

impl Parametrization<c64> for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Ok(2 * b * b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [c64]) {
        for (at, (x, t)) in block.iter_mut().zip(theta.chunks_exact(2)).enumerate() {
            *x = complex(t[0] + f64::from(u8::from(at / b == at % b)), t[1]);
        }
    }
    fn vjp(&self, _b: usize, _theta: &[f64], _block: &[c64], d_block: &[c64], d_theta: &mut [f64]) {
        for (d, g) in d_theta.chunks_exact_mut(2).zip(d_block) {
            d[0] += g.re;
            d[1] += g.im;
        }
    }
    fn inverse(&self, b: usize, block: &[c64], theta: &mut [f64]) -> Result<()> {
        for (at, (x, t)) in block.iter().zip(theta.chunks_exact_mut(2)).enumerate() {
            t.copy_from_slice(&[x.re - f64::from(u8::from(at / b == at % b)), x.im]);
        }
        Ok(())
    }
    fn is_exact(&self) -> bool {
        false
    }
}
