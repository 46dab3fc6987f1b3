//! How near does a wiring come to a given matrix, and how fast is that found? The numbers of `papilio::fit`.
//!
//! ```text
//! cargo run --release --example fit                 # small: n = 64
//! cargo run --release --example fit -- 512 10       # n, number of targets
//! cargo run --release --example fit -- 4096 0       # the exact class only
//! cargo run --release --example fit -- 128 5        # up to 128 also all rotations by repeated butterflies
//! ```
//!
//! 1. *The exact class*: Hadamard, DFT, planted products, in one pass; relative Frobenius error against 8·eps·log₂ n.
//! 2. *Known transforms* beside learned ones (T. Dao, A. Gu, M. Eichhorn, A. Rudra, C. Ré, ICML 2019, Figure 3).
//! 3. *Planted and noise*: the polar factor of a butterfly plus σ·Gauss/√n.
//! 4. *Haar targets* by BOFT(m, b) of rotations (Figure 5 of arXiv 2311.06243), 100 sweeps, and when a given error was reached.
//! 5. *All of SO(n)* by repeated butterflies, n ≤ 128.

use std::ops::ControlFlow;
use std::time::Instant;

use papilio::fit::{self, Fit, Group, Options, Target};
use papilio::generator::Generator;
use papilio::topology::{Butterfly, Repeated};
use papilio::{
    BatchMut, Op, Parallelism, Plan, Result, Scalar, Source, StageLayout, Topology, Wide, Workspace, c64, synthesis,
};

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).map_while(|a| a.parse().ok()).collect();
    let at = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let (n, targets) = (at(0, 64).next_power_of_two().max(16), at(1, 2) as u64);
    exact(n)?;
    if targets > 0 {
        published()?;
        noise(n, targets)?;
        haar_targets(n, targets)?;
        if n <= 128 {
            all_rotations(n, targets)?;
        }
    }
    Ok(())
}

fn exact(n: usize) -> Result<()> {
    println!("Exact class, n = {n}: relative error in units of 8 eps log2 n, one pass\n");
    println!("| target | error | seconds |\n|---|---|---|");
    let butterfly = Butterfly::classic(2);
    one_pass("Hadamard", &hadamard(n)?, &butterfly)?;
    one_pass("DFT, bit-reversed", &dft(n)?, &butterfly)?;
    one_pass("planted butterfly", &planted::<f64>(n, &butterfly, 0.0, 1)?, &butterfly)?;
    let boft = Butterfly::boft(n.ilog2() as usize - 2, 8)?;
    one_pass("planted BOFT, b = 8", &planted::<f64>(n, &boft, 0.0, 1)?, &boft)?;
    println!();
    Ok(())
}

fn hadamard(n: usize) -> Result<Target<f64>> {
    let length = 1.0 / (n as f64).sqrt();
    let sign = |at: usize| if ((at / n) & (at % n)).count_ones().is_multiple_of(2) { length } else { -length };
    Target::new(n, &(0..n * n).map(sign).collect::<Vec<_>>())
}

/// The unitary DFT with bit-reversed columns.
fn dft(n: usize) -> Result<Target<c64>> {
    let length = 1.0 / (n as f64).sqrt();
    let entry = |at: usize| {
        let reversed = (at % n).reverse_bits() >> (usize::BITS - n.ilog2());
        let z = turn(at / n * reversed, n);
        c64::new(z.re * length, -z.im * length)
    };
    Target::new(n, &(0..n * n).map(entry).collect::<Vec<_>>())
}

/// e^{2πip/q}
fn turn(p: usize, q: usize) -> c64 {
    let (s, c) = (2.0 * std::f64::consts::PI * (p % q) as f64 / q as f64).sin_cos();
    c64::new(c, s)
}

/// ‖Q − R‖_F/n, the root of the mean square of all entries, as the learned ones are measured.
fn published() -> Result<()> {
    println!("Known transforms, n = 8 to 1024: ‖Q − R‖_F/n, and what was learned by gradients\n");
    println!("| transform | how | 8 | 16 | 32 | 64 | 128 | 256 | 512 | 1024 |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let sizes: Vec<usize> = (3..11).map(|k| 1 << k).collect();
    let row = |name: &str, how: &str, errors: Vec<f64>| {
        let errors: Vec<String> = errors.iter().map(|e| format!("{e:.1e}")).collect();
        println!("| {name} | {how} | {} |", errors.join(" | "));
    };
    let learned = |errors: [f64; 8]| errors.map(|e| e * 1e-6).to_vec();
    let butterfly = Butterfly::classic(2);
    let fitted = |n: usize, error: f64| error / (n as f64).sqrt();
    let one = |n: usize| -> Result<f64> { Ok(fitted(n, pass(&dft(n)?, &butterfly)?.relative_frobenius)) };
    row("DFT", "fitted in one pass", sizes.iter().map(|n| one(*n)).collect::<Result<_>>()?);
    row("", "learned", learned([3.1, 4.6, 8.7, 10.0, 20.0, 38.0, 80.0, 57.0]));
    let one = |n: usize| -> Result<f64> { Ok(fitted(n, pass(&hadamard(n)?, &butterfly)?.relative_frobenius)) };
    row("Hadamard", "fitted in one pass", sizes.iter().map(|n| one(*n)).collect::<Result<_>>()?);
    row("", "learned", learned([0.88, 7.8, 13.0, 39.0, 35.0, 45.0, 61.0, 36.0]));
    type Made = (&'static str, fn(usize) -> Result<Plan<f64>>, fn(usize, usize, usize) -> f64, [f64; 8]);
    let made: [Made; 3] = [
        (
            "DCT-II",
            synthesis::dct2,
            |n, k, j| (if k == 0 { 1.0f64 } else { 2.0 } / n as f64).sqrt() * turn((2 * j + 1) * k, 4 * n).re,
            [4.4, 11.0, 8.6, 12.0, 21.0, 19.0, 31.0, 73.0],
        ),
        (
            "DST-II",
            synthesis::dst2,
            |n, k, j| {
                let scale = if k + 1 == n { 1.0f64 } else { 2.0 };
                (scale / n as f64).sqrt() * turn((2 * j + 1) * (k + 1), 4 * n).im
            },
            [1.1, 7.5, 46.0, 51.0, 30.0, 21.0, 36.0, 46.0],
        ),
        (
            "Hartley",
            synthesis::hartley,
            |n, k, j| (1.0 / n as f64).sqrt() * (turn(k * j, n).re + turn(k * j, n).im),
            [3.4, 9.0, 11.0, 13.0, 36.0, 43.0, 45.0, 36.0],
        ),
    ];
    for (name, make, entry, errors) in made {
        let one = |n: usize| -> Result<f64> {
            let r = dense(&make(n)?)?;
            let square = |(at, r): (usize, &f64)| (r - entry(n, at / n, at % n)).powi(2);
            Ok(r.iter().enumerate().map(square).sum::<f64>().sqrt() / n as f64)
        };
        row(name, "constructed", sizes.iter().map(|n| one(*n)).collect::<Result<_>>()?);
        row("", "learned", learned(errors));
    }
    println!();
    Ok(())
}

fn pass<W: Wide>(target: &Target<W>, wiring: &dyn Topology) -> Result<Fit<W>> {
    fit::hierarchical(target, &fit::layouts(target.n(), wiring)?, &Options::default())
}

/// The matrix of a plan without parameters.
fn dense<T: Scalar<Wide = T>>(plan: &Plan<T>) -> Result<Vec<T>> {
    let n = plan.n();
    let mut q = vec![T::zero(); n * n];
    q.iter_mut().step_by(n + 1).for_each(|x| *x = T::one());
    let columns = BatchMut::columns(&mut q, n)?;
    plan.apply_in_place(&plan.realize::<f64>(&[])?, columns, Op::None, Parallelism::Rayon, &mut Workspace::new())?;
    Ok(q)
}

fn one_pass<W: Wide>(name: &str, target: &Target<W>, wiring: &dyn Topology) -> Result<()> {
    let start = Instant::now();
    let found = pass(target, wiring)?;
    let (seconds, unit) = (start.elapsed().as_secs_f64(), 8.0 * f64::EPSILON * (target.n() as f64).log2());
    println!("| {name} | {:.3} | {seconds:.4} |", found.relative_frobenius / unit);
    Ok(())
}

fn noise(n: usize, targets: u64) -> Result<()> {
    println!("A planted butterfly and noise, n = {n}, means of {targets}: e, the bound below it, the slowest\n");
    println!("| sigma | e | bound | seconds |\n|---|---|---|---|");
    for sigma in [0.1, 0.5, 1.0] {
        let (mut error, mut bound, mut slowest) = (0.0, 0.0, 0.0f64);
        for seed in 0..targets {
            let butterfly = Butterfly::classic(2);
            let (found, seconds) = run(&planted::<f64>(n, &butterfly, sigma, seed)?, &butterfly, &Options::default())?;
            error += found.error / targets as f64;
            bound += found.bound.unwrap_or(0.0) / targets as f64;
            slowest = slowest.max(seconds);
        }
        println!("| {sigma} | {error:.4e} | {bound:.4e} | {slowest:.3} |");
    }
    println!();
    Ok(())
}

fn haar_targets(n: usize, targets: u64) -> Result<()> {
    println!("Haar targets, n = {n}, rotations, {targets} targets: e, its deviation, sweeps, seconds of a run,");
    println!("and when it had come to a given error\n");
    println!("| wiring | parameters | e | sd | sweeps | seconds | to e | sweeps | seconds |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let most = n.ilog2() as usize;
    let goal = |m, b| match (n, m, b) {
        (512, 9, 2) => 0.828,
        (512, 8, 4) => 0.769,
        (512, 6, 16) => 0.614,
        _ => 0.0,
    };
    let all = [(1, 2), (5, 2), (9, 2), (1, 4), (4, 4), (8, 4), (1, 16), (4, 16), (6, 16)];
    let haar: Vec<Target<f64>> = (0..targets).map(|seed| haar(n, seed)).collect::<Result<_>>()?;
    for (m, b) in all.into_iter().filter(|(m, b): &(usize, usize)| m + b.ilog2() as usize <= most + 1) {
        let (mut errors, mut sweeps, mut seconds, mut parameters) = (Vec::new(), 0, 0.0, 0);
        let (mut reached, mut soon, mut soon_seconds) = (0, 0, 0.0);
        for (seed, target) in haar.iter().enumerate() {
            let mut options = Options::default();
            (options.group, options.seed, options.sweeps) = (Group::Special, seed as u64, 100);
            let (found, time) = run(target, &Butterfly::boft(m, b)?, &options)?;
            (sweeps, parameters) = (sweeps + found.sweeps, found.num_parameters());
            seconds += time / targets as f64;
            errors.push(found.error);
            if let Some(sweep) = found.curve.iter().position(|e| *e <= goal(m, b)) {
                (reached, soon) = (reached + 1, soon + sweep);
                soon_seconds += time * sweep as f64 / found.sweeps.max(1) as f64;
            }
        }
        let mean = errors.iter().sum::<f64>() / targets as f64;
        let deviation = (errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / targets as f64).sqrt();
        let sweeps = sweeps as f64 / targets as f64;
        print!("| BOFT({m},{b}) | {parameters} | {mean:.4} | {deviation:.4} | {sweeps:.0} | {seconds:.3} |");
        match reached {
            0 => println!(" | | |"),
            all => {
                let (soon, seconds) = (soon as f64 / all as f64, soon_seconds / all as f64);
                println!(" {} ({all} of {targets}) | {soon:.0} | {seconds:.3} |", goal(m, b));
            }
        }
    }
    println!();
    Ok(())
}

fn all_rotations(n: usize, targets: u64) -> Result<()> {
    println!("Every rotation by repeated butterflies, n = {n}: the largest e of {targets} targets\n");
    println!("| times | parameters/dim SO(n) | e | most sweeps | seconds of a run |\n|---|---|---|---|---|");
    let (each, dimension) = (n / 2 * n.ilog2() as usize, n * (n - 1) / 2);
    let most = dimension * 27 / 20 / each;
    for times in [most, most + most / 4 + 1] {
        let (mut worst, mut sweeps, mut seconds) = (0.0f64, 0, 0.0);
        for seed in 0..targets {
            let mut q = haar(n, seed)?.entries().to_vec();
            if !is_rotation(n, &q) {
                q[..n].iter_mut().for_each(|x| *x = -*x);
            }
            let mut options = Options::default();
            (options.group, options.seed, options.goal, options.sweeps) = (Group::Special, seed, 1e-12, 5000);
            let (found, time) = run(&Target::new(n, &q)?, &Repeated::new(Butterfly::classic(2), times), &options)?;
            (worst, sweeps) = (worst.max(found.error), sweeps.max(found.sweeps));
            seconds += time / targets as f64;
        }
        let ratio = (times * each) as f64 / dimension as f64;
        println!("| {times} | {ratio:.3} | {worst:.1e} | {sweeps} | {seconds:.3} |");
    }
    Ok(())
}

fn run(target: &Target<f64>, wiring: &dyn Topology, options: &Options) -> Result<(Fit<f64>, f64)> {
    let stages = fit::layouts(target.n(), wiring)?;
    let start = Instant::now();
    let found = fit::fit(target, &stages, options, &mut |_| ControlFlow::Continue(()))?;
    Ok((found, start.elapsed().as_secs_f64()))
}

fn normal<W: Wide>(g: &mut Generator) -> W {
    let mut one = || (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0;
    let re = one();
    W::from_parts(re, if W::IS_COMPLEX { one() } else { 0.0 })
}

/// The polar factor of a Gaussian matrix.
fn haar(n: usize, seed: u64) -> Result<Target<f64>> {
    let mut g = Generator::new(seed + 100);
    Ok(Target::project(n, &(0..n * n).map(|_| normal(&mut g)).collect::<Vec<f64>>())?.0)
}

/// The polar factor of a product of Haar distributed blocks and noise.
fn planted<W: Wide>(n: usize, wiring: &dyn Topology, sigma: f64, seed: u64) -> Result<Target<W>> {
    let mut g = Generator::new(seed);
    let mut stage = |layout: StageLayout| {
        let b = layout.block_size();
        let mut blocks = Vec::new();
        for _ in 0..layout.num_blocks() {
            let gauss: Vec<W> = (0..b * b).map(|_| normal(&mut g)).collect();
            blocks.extend_from_slice(Target::project(b, &gauss)?.0.entries());
        }
        Ok((layout, Source::Fixed(blocks.into())))
    };
    let stages = fit::layouts(n, wiring)?.into_iter().map(&mut stage).collect::<Result<Vec<_>>>()?;
    let plan = Plan::<W>::from_stages(n, stages)?;
    let mut q = dense(&plan)?;
    let scale = W::from_real(sigma / (n as f64).sqrt());
    if sigma == 0.0 {
        return Target::new(n, &q);
    }
    q.iter_mut().for_each(|x| *x += scale * normal::<W>(&mut g));
    Ok(Target::project(n, &q)?.0)
}

/// Whether the determinant of an orthogonal matrix is 1: by the plan of a brick mesh, which only rotations have.
fn is_rotation(n: usize, q: &[f64]) -> bool {
    papilio::synthesis::brick(n, q).is_ok()
}
