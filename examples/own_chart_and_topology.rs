//! Your own chart and your own wiring, held to the same laws as papilio's own.
//!
//! ```text
//! cargo run --example own_chart_and_topology
//! ```
//!
//! The chart gives rotations of space by their rotation vector: direction = axis, length = angle. The wiring is a brick
//! wall on a ring: triples of neighbours, moved on by one coordinate from stage to stage, around the end.

use std::sync::Arc;

use papilio::dense::polish;
use papilio::generator::Generator;
use papilio::topology::{StageLayout, Topology};
use papilio::verify::{certificate, laws, orthogonality_ratio, plan_gradient};
use papilio::{Batch, BatchMut, Error, Op, Parallelism, Parametrization, Plan, Result, Saved, Workspace};

/// Rotations of space by their rotation vector θ = φ·u (Euler–Rodrigues).
///
/// *Block.* With the quaternion q = (cos φ/2, v), v = sin(φ/2)·u, and K = [v]×: R = I + (2/|q|²)(q₀K + K²). In exact
/// arithmetic this is orthogonal for *any* q ≠ 0, so the rounding of q turns R a little but does not bend it. What
/// the other roundings leave, up to 2.5 units of b·eps, is taken out by one of papilio's own helpers, `dense::polish`.
///
/// *Pullback.* dR = [J dθ]× R with J = I + (1 − cos φ)/φ · U + (1 − sin φ/φ) · U², U = [u]× (the left Jacobian of SO(3)).
/// So ⟨G, dR⟩ = ⟨G Rᵀ, [J dθ]×⟩ = w·(J dθ) with w the axial vector of GRᵀ − (GRᵀ)ᵀ, and dθ += Jᵀ w.
///
/// *Domain.* Every θ; every rotation is reached. Smooth but not regular at φ = 2π, 4π, …, where all axes give the identity.
#[derive(Debug, Clone, Copy)]
struct RotationVector;

impl RotationVector {
    /// Angle φ ≥ 0 and unit axis u; no axis where φ = 0.
    fn polar(theta: &[f64]) -> (f64, [f64; 3]) {
        let angle = theta[0].hypot(theta[1]).hypot(theta[2]);
        let unit = |x: f64| if angle == 0.0 { 0.0 } else { x / angle };
        (angle, [unit(theta[0]), unit(theta[1]), unit(theta[2])])
    }
}

impl Parametrization<f64> for RotationVector {
    fn name(&self) -> &'static str {
        "rotation vector"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        match b {
            3 => Ok(3),
            _ => Err(Error::Size { what: "rotation vector block", expected: "b = 3".into(), got: format!("b = {b}") }),
        }
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [f64]) {
        let (angle, u) = Self::polar(theta);
        let (s, c) = (0.5 * angle).sin_cos();
        let [x, y, z] = u.map(|u| s * u);
        let two = 2.0 / (c * c + x * x + y * y + z * z);
        block.copy_from_slice(&[
            1.0 - two * (y * y + z * z),
            two * (x * y - c * z),
            two * (x * z + c * y),
            two * (x * y + c * z),
            1.0 - two * (x * x + z * z),
            two * (y * z - c * x),
            two * (x * z - c * y),
            two * (y * z + c * x),
            1.0 - two * (x * x + y * y),
        ]);
        polish(3, block).expect("a rotation but for rounding");
    }

    fn vjp(&self, _b: usize, theta: &[f64], r: &[f64], g: &[f64], d_theta: &mut [f64]) {
        let g_rt = |i: usize, k: usize| (0..3).map(|j| g[3 * i + j] * r[3 * k + j]).sum::<f64>();
        let w = [g_rt(2, 1) - g_rt(1, 2), g_rt(0, 2) - g_rt(2, 0), g_rt(1, 0) - g_rt(0, 1)];
        let (angle, u) = Self::polar(theta);
        let (a, b) = if angle == 0.0 {
            (0.0, 0.0)
        } else {
            let half = (0.5 * angle).sin();
            (2.0 * half * half / angle, 1.0 - angle.sin() / angle)
        };
        let uw = cross(u, w);
        let uuw = cross(u, uw);
        for i in 0..3 {
            d_theta[i] += w[i] - a * uw[i] + b * uuw[i]; // Uᵀ = −U
        }
    }

    /// The eigenvector of Bar-Itzhack (2000): for a rotation, this 4×4 matrix is 4qqᵀ; any column but zero is q.
    fn inverse(&self, b: usize, r: &[f64], theta: &mut [f64]) -> Result<()> {
        self.num_params(b)?;
        let ratio = orthogonality_ratio(3, 3, r)?;
        let det = (0..3).map(|i| r[i] * cross([r[3], r[4], r[5]], [r[6], r[7], r[8]])[i]).sum::<f64>();
        if ratio.is_nan() || ratio > 30.0 || det < 0.0 {
            return Err(Error::Domain {
                what: "inverse of a rotation vector".into(),
                expected: "a rotation: orthogonality ratio at most 30, determinant 1",
                got: format!("ratio {ratio:e}, determinant {det}"),
            });
        }
        let trace = r[0] + r[4] + r[8];
        let (p, q) = ([r[7] - r[5], r[2] - r[6], r[3] - r[1]], [r[1] + r[3], r[2] + r[6], r[5] + r[7]]);
        let columns = [
            [1.0 + trace, p[0], p[1], p[2]],
            [p[0], 1.0 + 2.0 * r[0] - trace, q[0], q[1]],
            [p[1], q[0], 1.0 + 2.0 * r[4] - trace, q[2]],
            [p[2], q[1], q[2], 1.0 + 2.0 * r[8] - trace],
        ];
        let longest = (0..4).max_by(|&i, &j| columns[i][i].total_cmp(&columns[j][j])).unwrap_or(0);
        let [c, x, y, z] = columns[longest];
        let length = x.hypot(y).hypot(z);
        let per_length = if length == 0.0 { 0.0 } else { 2.0 * length.atan2(c) / length };
        theta.copy_from_slice(&[per_length * x, per_length * y, per_length * z]);
        Ok(())
    }
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// A brick wall on a ring of n = 3q coordinates: block j of stage k joins 3j + k, 3j + k + 1, 3j + k + 2 (mod n).
#[derive(Debug, Clone, Copy)]
struct Ring {
    stages: usize,
}

impl Topology for Ring {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        if n > 0 && n.is_multiple_of(3) {
            return Ok(self.stages);
        }
        Err(Error::Size { what: "ring", expected: "n to be a positive multiple of 3".into(), got: format!("n = {n}") })
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let index: Vec<u32> = (0..n).map(|i| ((i + k) % n) as u32).collect();
        StageLayout::Table { block: 3, index: Arc::from(index) }
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // 1. The promises of the two traits, as functions.
    laws::chart::<f64>(&RotationVector, 3, 1)?;
    laws::chart::<f64>(&RotationVector, 2, 1)?; // refused, with a typed error: that keeps the laws too
    laws::topology(&Ring { stages: 5 }, 0..=40)?;
    println!("chart and wiring keep their laws");

    // 2. A plan out of both, and its gradients against fourth-order differences, through every operation.
    let n = 12;
    let plan = Plan::<f64>::new(n, &Ring { stages: 4 }, RotationVector)?;
    let mut generator = Generator::new(7);
    let mut uniform = |count: usize| -> Vec<f64> { (0..count).map(|_| 2.0 * generator.uniform() - 1.0).collect() };
    let hidden = uniform(plan.num_params());
    for op in Op::ALL {
        let error = plan_gradient(&plan, &hidden, op, 3)?;
        println!("gradient through Op::{op:?}: relative error {:.0e} in θ, {:.0e} in x", error.theta, error.x);
        assert!(error.theta < 1e-9 && error.x < 1e-9);
    }

    // 3. Training: find a rotation from what it does to 64 vectors. θ is ours, and so is the optimiser.
    let x = uniform(64 * n);
    let mut ws = Workspace::new();
    let mut apply = |theta: &[f64]| -> Result<Vec<f64>> {
        let mut y = vec![0.0; x.len()];
        let (input, output) = (Batch::rows(&x, n)?, BatchMut::rows(&mut y, n)?);
        plan.apply(&plan.realize(theta)?, input, output, Op::None, Parallelism::None, &mut ws)?;
        Ok(y)
    };
    let target = apply(&hidden)?;
    let mut theta = vec![0.0; plan.num_params()];
    let mut momentum = theta.clone();
    let mut losses = Vec::new();
    for step in 0..=300 {
        let y = apply(&theta)?;
        let gy: Vec<f64> = y.iter().zip(&target).map(|(y, t)| (y - t) / 64.0).collect(); // of ½·mean‖y − t‖²
        losses.push(32.0 * gy.iter().map(|g| g * g).sum::<f64>());
        if step % 100 == 0 {
            println!("step {step:3}: loss {:.2e}", losses[step]);
        }
        let factors = plan.realize(&theta)?;
        let (mut d_factors, mut d_theta) = (vec![0.0; plan.num_entries()], vec![0.0; plan.num_params()]);
        let (saved, gy) = (Saved::Output(Batch::rows(&y, n)?), Batch::rows(&gy, n)?);
        let par = Parallelism::None;
        plan.apply_vjp(&factors, saved, Op::None, gy, None, Some(&mut d_factors), par, &mut Workspace::new())?;
        plan.realize_vjp(&theta, &factors, &d_factors, &mut d_theta)?;
        for ((theta, momentum), d) in theta.iter_mut().zip(&mut momentum).zip(d_theta) {
            *momentum = 0.8 * *momentum - 0.3 * d;
            *theta += *momentum;
        }
    }
    assert!(losses[300] < 1e-6 * losses[0], "training did not converge");

    // 4. Whatever training did, the matrix is orthogonal, and here is the proof.
    let proof = certificate(&plan, &plan.realize(&theta)?)?;
    println!("‖QᵀQ − I‖₂ ≤ {:.1e}, certified", proof.defect);
    Ok(())
}
