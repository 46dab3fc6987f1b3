//! Fitting what is not a matrix: a loss of your own, and a target that can only be applied.
//!
//! ```text
//! cargo run --release --example descent
//! ```
//!
//! 1. *A loss of your own*: a butterfly is to be found from pairs (x, y), some of whose numbers are grossly wrong. Least squares believes
//!    them; Σ√(s² + d²) does not.
//! 2. *A black box*: 4096 coordinates, known by what they do to random signs. The matrix would be 128 MiB; no part of it exists.

use std::ops::ControlFlow;
use std::time::Instant;

use papilio::fit::{self, BlackBox, Descent, LeastSquares, Loss, Method, Options, Schedule, Start};
use papilio::generator::Generator;
use papilio::{Orthogonal, Plan, Result, parametrization::Givens, topology::Butterfly};

/// Σ√(s² + (y − t)²) − s, smooth and nearly Σ|y − t|.
struct Robust {
    x: Vec<f64>,
    t: Vec<f64>,
    s: f64,
}

impl Loss<f64> for Robust {
    fn inputs(&self) -> &[f64] {
        &self.x
    }

    fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
        let mut loss = 0.0;
        for ((y, t), g) in y.iter().zip(&self.t).zip(gradient) {
            let root = self.s.hypot(y - t);
            (loss, *g) = (loss + (root - self.s), (y - t) / root);
        }
        loss
    }
}

fn main() -> Result<()> {
    outliers()?;
    black_box()
}

fn outliers() -> Result<()> {
    let (n, pairs) = (32, 128);
    let hidden = hidden(n, 1.0)?;
    println!("Butterflies of {n} from {pairs} pairs, a part of all numbers wrong by 20: error e\n");
    println!("| wrong | least squares | robust |\n|---|---|---|");
    for wrong in [0.0, 0.01, 0.1, 0.2] {
        let mut g = Generator::new(7);
        let x: Vec<f64> = (0..n * pairs).map(|_| g.sign() + g.uniform()).collect();
        let mut t = hidden.apply(&x)?;
        t.iter_mut().filter(|_| g.uniform() < wrong).for_each(|t| *t += 20.0);
        let squares = descend(n, &mut LeastSquares::new(&x, &t)?, Method::default(), 500)?;
        let robust = descend(n, &mut Robust { x, t, s: 1e-3 }, Method::default(), 500)?;
        println!("| {wrong} | {:.1e} | {:.1e} |", error(&hidden, &squares)?, error(&hidden, &robust)?);
    }
    println!();
    Ok(())
}

fn black_box() -> Result<()> {
    let n = 4096;
    let hidden = hidden(n, 0.5)?;
    println!("A black box of {n} coordinates: e on fresh probes\n");
    println!("| method | probes of a step | steps | e before | e | seconds |\n|---|---|---|---|---|---|");
    let adam = Method::Adam { rate: 0.03, schedule: Schedule::Cosine };
    for (name, method, batch, steps) in [("L-BFGS", Method::default(), 24, 40), ("Adam", adam, 4, 100)] {
        let apply = |x: &[f64], t: &mut [f64]| {
            t.copy_from_slice(&hidden.apply(x)?);
            Ok(())
        };
        let start = Instant::now();
        let found = descend(n, &mut BlackBox::new(n, batch, 1, apply)?, method, steps)?;
        let (seconds, e) = (start.elapsed().as_secs_f64(), error(&hidden, &found)?);
        println!("| {name} | {batch} | {} | {:.2} | {e:.1e} | {seconds:.2} |", found.steps, found.curve[0]);
    }
    Ok(())
}

/// A butterfly that nobody is told the angles of.
fn hidden(n: usize, most: f64) -> Result<Orthogonal<f64>> {
    let plan = Plan::new(n, &Butterfly::classic(2), Givens)?;
    let mut g = Generator::new(3);
    let theta: Vec<f64> = (0..plan.num_params()).map(|_| most * (2.0 * g.uniform() - 1.0)).collect();
    Orthogonal::new(plan, theta)
}

fn descend(n: usize, loss: &mut dyn Loss<f64>, method: Method, steps: usize) -> Result<Descent<f64>> {
    let mut options = Options::default();
    (options.start, options.sweeps, options.goal, options.tolerance) = (Start::Identity, steps, 1e-24, 0.0);
    let stages = fit::layouts(n, &Butterfly::classic(2))?;
    fit::descend(n, &stages, loss, method, &options, &mut |_| ControlFlow::Continue(()))
}

/// e by eight probes that no fit has seen.
fn error(hidden: &Orthogonal<f64>, found: &Descent<f64>) -> Result<f64> {
    let mut g = Generator::new(99);
    let x: Vec<f64> = (0..8 * hidden.n()).map(|_| g.sign()).collect();
    let y = Orthogonal::<f64>::new::<f64>(found.plan().clone(), [])?.apply(&x)?;
    let square: f64 = y.iter().zip(hidden.apply(&x)?).map(|(y, t)| (y - t).powi(2)).sum();
    Ok(square / (2.0 * x.len() as f64))
}
