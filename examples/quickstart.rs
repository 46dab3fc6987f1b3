//! The four verbs on a rotation of 1024 coordinates.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use papilio::{
    Batch, BatchMut, Op, Orthogonal, Parallelism, Plan, Result, Saved, Workspace, parametrization::Cayley,
    topology::Butterfly, verify::certificate,
};

fn main() -> Result<()> {
    // Structure: BOFT(m = 4, b = 8) on n = 1024. Four stages of 128 blocks, each a Cayley rotation of 8 coordinates.
    let n = 1024;
    let plan = Plan::<f32>::new(n, &Butterfly::boft(4, 8)?, Cayley)?;
    println!("{} parameters; the rotations of {n} coordinates have {}", plan.num_params(), n * (n - 1) / 2);

    // Numbers: θ is one slice, and ours. Factors are the blocks at θ.
    let theta: Vec<f32> = (0..plan.num_params()).map(|i| 0.3 * (i as f32).sin()).collect();
    let factors = plan.realize(&theta)?;

    // Q times a batch of 100 vectors, and back with Qᵀ.
    let x: Vec<f32> = (0..100 * n).map(|i| (i as f32 * 0.7).cos()).collect();
    let mut y = vec![0.0; x.len()];
    let mut ws = Workspace::new();
    let par = Parallelism::Rayon;
    plan.apply(&factors, Batch::rows(&x, n)?, BatchMut::rows(&mut y, n)?, Op::None, par, &mut ws)?;
    let mut back = y.clone();
    plan.apply_in_place(&factors, BatchMut::rows(&mut back, n)?, Op::Adjoint, par, &mut ws)?;
    let miss = x.iter().zip(&back).map(|(x, b)| (x - b).abs()).fold(0.0, f32::max);
    println!("{:?}: max |Qᵀ(Qx) − x| = {miss:.1e}", ws.isa());

    // The gradient of ½‖y‖² with respect to θ. Rotations keep lengths, so it is zero but for rounding.
    let (mut d_factors, mut d_theta) = (vec![0.0; plan.num_entries()], vec![0.0; plan.num_params()]);
    let (saved, gy) = (Saved::Input(Batch::rows(&x, n)?), Batch::rows(&y, n)?);
    plan.apply_vjp(&factors, saved, Op::None, gy, None, Some(&mut d_factors), par, &mut ws)?;
    plan.realize_vjp(&theta, &factors, &d_factors, &mut d_theta)?;
    println!("max |∂(½‖Qx‖²)/∂θ| = {:.1e}", d_theta.iter().fold(0.0, |m: f32, d| m.max(d.abs())));

    // How far from orthogonal can Q be? A bound proved from the stored blocks, without forming Q.
    println!("‖QᵀQ − I‖₂ ≤ {:.1e}, certified", certificate(&plan, &factors)?.defect);

    // The same as one owned value, for when that is handier.
    let q = Orthogonal::<f32>::new(plan, theta.iter().map(|t| f64::from(*t)).collect::<Vec<_>>())?;
    println!("det Q = {}", q.determinant_sign()?);
    Ok(())
}
