//! What can a wiring express, and what does it learn from few data? The numbers of `docs/study.md`.
//!
//! ```text
//! cargo run --release --example expressivity               # small: n = 16
//! cargo run --release --example expressivity -- 64 1500 3  # n, steps of training, number of targets: the study
//! ```
//!
//! Two experiments with wirings of equal *effective* dimension, all trained by Adam through `realize`, `apply` and their
//! adjoints:
//! 1. *Expressivity*: the error e = 1 − tr(QᵀR)/n = ‖Q − R‖²_F/(2n) of the best R found for a Haar-random Q.
//! 2. *Regularity*: a hidden rotation T is seen through k < n noisy pairs (x, Tx + noise); the error of R against T itself.

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{
    Benes, BinaryTree, BlockDiagonal, Brick, Butterfly, GroupAndShuffle, RandomPairings, RandomShuffle, Repeated,
};
use papilio::transmission::{Dimension, Transmission};
use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Result, Saved, Topology, Workspace};

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).map_while(|a| a.parse().ok()).collect();
    let at = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let (n, steps, targets) = (at(0, 16).next_power_of_two().clamp(8, 256), at(1, 100).max(1), at(2, 1).max(1));
    let levels = n.ilog2() as usize;
    let (one, two) = (n / 2 * levels, n * levels);
    println!("n = {n}, {steps} steps of Adam, mean over {targets} targets\n");
    let cases = (0..targets as u64).map(|seed| Case::new(n, seed)).collect::<Result<Vec<_>>>()?;
    for dimension in [one, two] {
        println!("Effective dimension near {dimension} of {}:\n", n * (n - 1) / 2);
        println!("| wiring | θ | dimension | density | log2 paths | Haar | near I, n/4 | n/2 | butterfly, n/4 | n/2 |");
        println!("|---|---|---|---|---|---|---|---|---|---|");
        let idle: [f64; 5] =
            std::array::from_fn(|column| mean(&cases, |case| Ok(case.error_of_identity(column))).unwrap_or(f64::NAN));
        println!("| none: R = I | 0 | 0 | | | {} |", cells(&idle));
        for (name, plan) in wirings(n, dimension)? {
            let report = Transmission::of(&plan)?;
            let Some(dimension) = report.dimension.as_ref().map(Dimension::value) else { continue };
            let mut errors = [0.0; 5];
            errors[0] = mean(&cases, |case| fit(&plan, &case.haar, steps, case.seed))?;
            for (column, error) in errors.iter_mut().enumerate().skip(1) {
                let k = if column % 2 == 1 { n / 4 } else { n / 2 };
                *error = mean(&cases, |case| fit_from_samples(&plan, case.teacher(column), k, steps, case.seed))?;
            }
            let paths = report.paths.map_or("–".into(), |p| format!("{:.1}", p.mean_log2));
            let density = report.density();
            println!("| {name} | {} | {dimension} | {density:.2} | {paths} | {} |", plan.num_params(), cells(&errors));
        }
        println!();
    }
    Ok(())
}

/// What is to be found: a Haar-random rotation, a dense one near the identity, a butterfly. Images of the unit vectors as rows.
struct Case {
    seed: u64,
    n: usize,
    haar: Vec<f64>,
    near: Vec<f64>,
    butterfly: Vec<f64>,
}

impl Case {
    fn new(n: usize, seed: u64) -> Result<Self> {
        let teacher = Plan::<f64>::new(n, &Butterfly::classic(2), Givens)?;
        let angles = normal(&mut Generator::new(seed + 50), teacher.num_params(), 0.3);
        let block = Plan::<f64>::new(n, &BlockDiagonal::new(n), Cayley)?;
        let theta = normal(&mut Generator::new(seed + 10), block.num_params(), 0.3 / (n as f64).sqrt());
        let (near, butterfly) = (matrix(&block, &theta)?, matrix(&teacher, &angles)?);
        Ok(Self { seed, n, haar: haar(n, seed), near, butterfly })
    }

    /// The target of a column of the table.
    fn teacher(&self, column: usize) -> &[f64] {
        [&self.haar, &self.near, &self.near, &self.butterfly, &self.butterfly][column]
    }

    fn error_of_identity(&self, column: usize) -> f64 {
        1.0 - self.teacher(column).iter().step_by(self.n + 1).sum::<f64>() / self.n as f64
    }
}

fn mean(cases: &[Case], mut error: impl FnMut(&Case) -> Result<f64>) -> Result<f64> {
    let errors = cases.iter().map(&mut error).collect::<Result<Vec<_>>>()?;
    Ok(errors.iter().sum::<f64>() / errors.len() as f64)
}

fn cells(errors: &[f64]) -> String {
    errors.iter().map(|e| format!("{e:.3}")).collect::<Vec<_>>().join(" | ")
}

/// Wirings whose effective dimension is near the given one: each kind with the number of stages that comes closest.
fn wirings(n: usize, dimension: usize) -> Result<Vec<(String, Plan<f64>)>> {
    let levels = n.ilog2() as usize;
    let closest =
        |each: usize, lost: usize| ((dimension.saturating_sub(lost) as f64 / each as f64).round() as usize).max(1);
    let givens = |wiring: &dyn Topology| Plan::new(n, wiring, Givens);
    let cayley = |wiring: &dyn Topology| Plan::new(n, wiring, Cayley);
    let mut plans = Vec::new();

    let b = [4, 8, 16, 32].into_iter().min_by_key(|b| (n * (b - 1) / 2).abs_diff(dimension)).unwrap_or(4).min(n);
    plans.push((format!("block-diagonal, b = {b}"), cayley(&BlockDiagonal::new(b))?));
    let boft = |b: usize| -> Result<(String, Plan<f64>)> {
        let kept = n * (b - 1) / 2 - n * (b - 2) / 4; // each stage after the first
        let m = closest(kept, n * (b - 2) / 4).min((2 * n / b).ilog2() as usize);
        Ok((format!("BOFT({m}, {b})"), cayley(&Butterfly::boft(m, b)?)?))
    };
    plans.extend([boft(4)?, boft(8)?]);
    let times = closest(n / 2 * levels, 0);
    plans.push((format!("{times} × butterfly"), givens(&Repeated::new(Butterfly::classic(2), times))?));
    if dimension > n / 2 * levels {
        plans.push(("Beneš".into(), givens(&Benes)?));
    }
    for b in [4, 8] {
        let m = closest(n * (b - 1) / 2, 0);
        plans.push((format!("group-and-shuffle, {m} × b = {b}"), cayley(&GroupAndShuffle::new(b).with_stages(m))?));
    }
    let m = closest(n / 2, 0);
    plans.push((format!("{m} random pairings"), givens(&RandomPairings { stages: m, seed: 1 })?));
    let m = closest(3 * n / 2, 0);
    plans.push((format!("{m} random shuffles of b = 4"), cayley(&RandomShuffle { block: 4, stages: m, seed: 1 })?));
    let times = closest(n - 1, 0);
    plans.push((format!("{times} × binary tree"), givens(&Repeated::new(BinaryTree, times))?));
    let stages = closest(n / 2, 0);
    let brick = givens(&Brick)?;
    let first = brick.stages().iter().take(stages).map(|s| (s.layout().clone(), s.source().clone()));
    plans.push((format!("{stages} stages of the brick wall"), Plan::from_stages(n, first)?));
    Ok(plans)
}

/// Error against the rotation with the rows of `images` (images of the unit vectors), from a random start.
fn fit(plan: &Plan<f64>, images: &[f64], steps: usize, seed: u64) -> Result<f64> {
    let start = normal(&mut Generator::new(seed + 100), plan.num_params(), 0.5);
    let theta = train(plan, start, &identity(plan.n()), images, steps)?;
    error(plan, &theta, images)
}

/// Error against `target` after training, from almost the identity, on k noisy pairs.
fn fit_from_samples(plan: &Plan<f64>, target: &[f64], k: usize, steps: usize, seed: u64) -> Result<f64> {
    let n = plan.n();
    let mut g = Generator::new(seed + 200);
    let x = normal(&mut g, k * n, 1.0);
    let noise = normal(&mut g, k * n, 0.1);
    let image = |x: &[f64]| (0..n).map(|i| (0..n).map(|j| target[j * n + i] * x[j]).sum()).collect::<Vec<f64>>();
    let y: Vec<f64> = x.chunks(n).flat_map(image).zip(&noise).map(|(y, e)| y + e).collect();
    let start = normal(&mut g, plan.num_params(), 0.01);
    let theta = train(plan, start, &x, &y, steps)?;
    error(plan, &theta, target)
}

/// Adam on ½‖R x − y‖² over all pairs, with a step that falls to zero along a cosine.
fn train(plan: &Plan<f64>, mut theta: Vec<f64>, x: &[f64], y: &[f64], steps: usize) -> Result<Vec<f64>> {
    let (n, par, mut ws) = (plan.n(), Parallelism::Rayon, Workspace::new());
    let (mut m, mut v) = (vec![0.0; theta.len()], vec![0.0; theta.len()]);
    for step in 0..steps {
        let factors = plan.realize(&theta)?;
        let mut out = vec![0.0; x.len()];
        plan.apply(&factors, Batch::rows(x, n)?, BatchMut::rows(&mut out, n)?, Op::None, par, &mut ws)?;
        out.iter_mut().zip(y).for_each(|(o, y)| *o -= y);
        let (mut d_factors, mut d_theta) = (vec![0.0; plan.num_entries()], vec![0.0; theta.len()]);
        let (saved, gy) = (Saved::Input(Batch::rows(x, n)?), Batch::rows(&out, n)?);
        plan.apply_vjp(&factors, saved, Op::None, gy, None, Some(&mut d_factors), par, &mut ws)?;
        plan.realize_vjp(&theta, &factors, &d_factors, &mut d_theta)?;
        let rate = 0.025 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
        let t = step as i32 + 1;
        for (i, g) in d_theta.iter().enumerate() {
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            theta[i] -= rate * (m[i] / (1.0 - 0.9f64.powi(t))) / ((v[i] / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-12);
        }
    }
    Ok(theta)
}

/// e = 1 − tr(QᵀR)/n, with the images of the unit vectors under Q as rows.
fn error(plan: &Plan<f64>, theta: &[f64], images: &[f64]) -> Result<f64> {
    let r = matrix(plan, theta)?;
    Ok(1.0 - r.iter().zip(images).map(|(r, q)| r * q).sum::<f64>() / plan.n() as f64)
}

/// The images of the unit vectors as rows.
fn matrix(plan: &Plan<f64>, theta: &[f64]) -> Result<Vec<f64>> {
    let n = plan.n();
    let mut rows = identity(n);
    let factors = plan.realize(theta)?;
    plan.apply_in_place(&factors, BatchMut::rows(&mut rows, n)?, Op::None, Parallelism::None, &mut Workspace::new())?;
    Ok(rows)
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect()
}

/// A Haar-random rotation: orthonormalised Gaussian rows, twice, with determinant 1.
fn haar(n: usize, seed: u64) -> Vec<f64> {
    let mut rows = normal(&mut Generator::new(seed), n * n, 1.0);
    for i in 0..n {
        let (above, row) = rows.split_at_mut(i * n);
        let row = &mut row[..n];
        for _ in 0..2 {
            for other in above.chunks(n) {
                let dot: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
            let norm = row.iter().map(|a| a * a).sum::<f64>().sqrt();
            row.iter_mut().for_each(|a| *a /= norm);
        }
    }
    let q = faer::MatRef::from_row_major_slice(&rows, n, n);
    if q.determinant() < 0.0 {
        rows[..n].iter_mut().for_each(|a| *a = -*a);
    }
    rows
}

fn normal(g: &mut Generator, len: usize, deviation: f64) -> Vec<f64> {
    // Box–Muller.
    let mut one = || (-2.0 * (1.0 - g.uniform()).ln()).sqrt() * (std::f64::consts::TAU * g.uniform()).cos();
    (0..len).map(|_| deviation * one()).collect()
}
