//! How near does a wiring come to a given matrix, and how fast is that found? The numbers of `papilio::fit`.
//!
//! ```text
//! cargo run --release --example fit                 # small: n = 64
//! cargo run --release --example fit -- 512 10       # n, number of targets
//! cargo run --release --example fit -- 4096 0       # the exact class only
//! cargo run --release --example fit -- 8            # beside published errors
//! ```
//!
//! 1. *The exact class*: Hadamard, DFT, planted products, in one pass; relative Frobenius error against 8·eps·log₂ n.
//! 2. *Planted and noise*: the polar factor of a butterfly plus σ·Gauss/√n.
//! 3. *Haar targets* by BOFT(m, b) of rotations (Figure 5 of arXiv 2311.06243), 100 sweeps, and when a given error was reached.
//! 4. *All of SO(n)* by repeated butterflies, n ≤ 128.
//! 5. *Published learned butterflies* (Figure 3 of arXiv 1903.05895): root mean square errors of transforms, n = 8 … 1024, alone
//!    where n = 8.

use std::f64::consts::PI;
use std::ops::ControlFlow;
use std::time::Instant;

use papilio::fit::{self, Fit, Group, Options, Target};
use papilio::synthesis;
use papilio::topology::{Butterfly, Repeated};
use papilio::{Result, Topology, Wide, c64};

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).map_while(|a| a.parse().ok()).collect();
    let at = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let (n, targets) = (at(0, 64).next_power_of_two().max(8), at(1, 2) as u64);
    if n == 8 {
        return learned();
    }
    exact(n)?;
    if targets > 0 {
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
    one_pass("DFT, bit-reversed", &fourier(n)?, &butterfly)?;
    let boft = Butterfly::boft(n.ilog2() as usize - 2, 8)?;
    one_pass("planted butterfly", &planted::<f64>(n, &butterfly, 1)?, &butterfly)?;
    one_pass("planted BOFT, b = 8", &planted::<f64>(n, &boft, 1)?, &boft)?;
    println!();
    Ok(())
}

fn hadamard(n: usize) -> Result<Target<f64>> {
    let length = 1.0 / (n as f64).sqrt();
    let sign = |at: usize| if ((at / n) & (at % n)).count_ones().is_multiple_of(2) { length } else { -length };
    Target::new(n, &(0..n * n).map(sign).collect::<Vec<_>>())
}

/// The DFT of numbers in bit-reversed order.
fn fourier(n: usize) -> Result<Target<c64>> {
    let length = 1.0 / (n as f64).sqrt();
    let root = |at: usize| {
        let reversed = (at % n).reverse_bits() >> (usize::BITS - n.ilog2());
        let (s, c) = (-2.0 * PI * (at / n * reversed % n) as f64 / n as f64).sin_cos();
        c64::new(c * length, s * length)
    };
    Target::new(n, &(0..n * n).map(root).collect::<Vec<_>>())
}

fn one_pass<W: Wide>(name: &str, target: &Target<W>, wiring: &dyn Topology) -> Result<()> {
    let stages = fit::layouts(target.n(), wiring)?;
    let start = Instant::now();
    let found = fit::hierarchical(target, &stages, &Options::default())?;
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
            let target = planted::<f64>(n, &butterfly, seed)?.with_noise(sigma, seed)?;
            let (found, seconds) = run(&target, &butterfly, &Options::default())?;
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
    println!("Haar targets, n = {n}, rotations, {targets} targets: e, its deviation, sweeps and seconds of a run,");
    println!("and sweeps and seconds until it had come to a given error\n");
    println!("| wiring | parameters | e | sd | sweeps | seconds | to e | sweeps | seconds |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let most = n.ilog2() as usize;
    // What a program of the same sweeps in numpy reaches in 150, or 60.
    let goal = |m, b| match (n, m, b) {
        (512, 9, 2) => 0.8274,
        (512, 8, 4) => 0.7684,
        (512, 6, 16) => 0.6128,
        _ => 0.0,
    };
    let all = [(1, 2), (9, 2), (8, 4), (1, 16), (6, 16), (5, 2), (4, 4), (4, 16)];
    let haar: Vec<Target<f64>> = (0..targets).map(|seed| Target::haar(n, Group::Full, seed)).collect::<Result<_>>()?;
    for (m, b) in all.into_iter().filter(|(m, b): &(usize, usize)| m + b.ilog2() as usize <= most + 1) {
        let (mut errors, mut sweeps, mut seconds, mut parameters) = (Vec::new(), 0, 0.0, 0);
        let (mut reached, mut soon, mut soon_seconds) = (0, 0, 0.0);
        for (seed, target) in haar.iter().enumerate() {
            let mut options = Options::default();
            (options.group, options.seed, options.sweeps) = (Group::Special, seed as u64, 100);
            let stages = fit::layouts(n, &Butterfly::boft(m, b)?)?;
            let (start, mut there) = (Instant::now(), None);
            let found = fit::alternating(target, &stages, &options, &mut |progress| {
                if progress.error <= goal(m, b) && there.is_none() {
                    there = Some((progress.sweep, start.elapsed().as_secs_f64()));
                }
                ControlFlow::Continue(())
            })?;
            seconds += start.elapsed().as_secs_f64() / targets as f64;
            (sweeps, parameters) = (sweeps + found.sweeps, found.num_parameters());
            errors.push(found.error);
            if let Some((sweep, time)) = there {
                (reached, soon, soon_seconds) = (reached + 1, soon + sweep, soon_seconds + time);
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
            let target = Target::haar(n, Group::Special, seed)?;
            let mut options = Options::default();
            (options.group, options.seed, options.goal, options.sweeps) = (Group::Special, seed, 1e-12, 5000);
            let (found, time) = run(&target, &Repeated::new(Butterfly::classic(2), times), &options)?;
            (worst, sweeps) = (worst.max(found.error), sweeps.max(found.sweeps));
            seconds += time / targets as f64;
        }
        let ratio = (times * each) as f64 / dimension as f64;
        println!("| {times} | {ratio:.3} | {worst:.3e} | {sweeps} | {seconds:.3} |");
    }
    Ok(())
}

/// Root mean square errors of entries, ‖Q − R‖_F/n, that Dao et al. (2019) report for butterflies learned by gradients, beside those
/// of the same transforms here.
fn learned() -> Result<()> {
    println!("RMSE of transforms: learned by gradients (Dao et al. 2019, Figure 3), and here\n");
    println!(
        "| transform | found by | n = 8 | 16 | 32 | 64 | 128 | 256 | 512 | 1024 |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    let published = [
        ("DFT", ["3.1e-6", "4.6e-6", "8.7e-6", "1.0e-5", "2.0e-5", "3.8e-5", "8.0e-5", "5.7e-5"]),
        ("DCT", ["4.4e-6", "1.1e-5", "8.6e-6", "1.2e-5", "2.1e-5", "1.9e-5", "3.1e-5", "7.3e-5"]),
        ("DST", ["1.1e-6", "7.5e-6", "4.6e-5", "5.1e-5", "3.0e-5", "2.1e-5", "3.6e-5", "4.6e-5"]),
        ("Hadamard", ["8.8e-7", "7.8e-6", "1.3e-5", "3.9e-5", "3.5e-5", "4.5e-5", "6.1e-5", "3.6e-5"]),
        ("Hartley", ["3.4e-6", "9.0e-6", "1.1e-5", "1.3e-5", "3.6e-5", "4.3e-5", "4.5e-5", "3.6e-5"]),
    ];
    for (name, errors) in published {
        println!("| {name} | learning | {} |", errors.join(" | "));
        let (mut row, mut slowest) = (Vec::new(), 0.0f64);
        for n in (3..=10).map(|k| 1usize << k) {
            let start = Instant::now();
            let error = transform(name, n)?;
            slowest = slowest.max(start.elapsed().as_secs_f64());
            row.push(format!("{error:.1e}"));
        }
        let how = if matches!(name, "DFT" | "Hadamard") { "`fit::hierarchical`" } else { "`synthesis`" };
        println!("| {name} | {how}, at most {slowest:.3} s | {} |", row.join(" | "));
    }
    Ok(())
}

fn transform(name: &str, n: usize) -> Result<f64> {
    fn fitted<W: Wide>(target: &Target<W>) -> Result<f64> {
        let stages = fit::layouts(target.n(), &Butterfly::classic(2))?;
        let found = fit::hierarchical(target, &stages, &Options::default())?;
        Ok(found.relative_frobenius / (target.n() as f64).sqrt())
    }
    let (whole, unit) = (n as f64, (2.0 / n as f64).sqrt());
    // Angles are reduced as integers, in units of π/(2n).
    let angle = |units: usize| PI * (units % (4 * n)) as f64 / (2.0 * whole);
    let end = |k: usize, special: usize| if k == special { unit * 0.5f64.sqrt() } else { unit };
    let definition = |k: usize, j: usize| match name {
        "DCT" => end(k, 0) * angle((2 * j + 1) * k).cos(),
        "DST" => end(k, n - 1) * angle((2 * j + 1) * (k + 1)).sin(),
        _ => (angle(4 * j * k).cos() + angle(4 * j * k).sin()) / whole.sqrt(),
    };
    let plan = match name {
        "DFT" => return fitted(&fourier(n)?),
        "Hadamard" => return fitted(&hadamard(n)?),
        "DCT" => synthesis::dct2::<f64>(n)?,
        "DST" => synthesis::dst2::<f64>(n)?,
        _ => synthesis::hartley::<f64>(n)?,
    };
    let q = Target::of(&plan)?;
    let differences = q.entries().iter().enumerate().map(|(at, x)| (x - definition(at / n, at % n)).powi(2));
    Ok(differences.sum::<f64>().sqrt() / whole)
}

fn run(target: &Target<f64>, wiring: &dyn Topology, options: &Options) -> Result<(Fit<f64>, f64)> {
    let stages = fit::layouts(target.n(), wiring)?;
    let start = Instant::now();
    let found = fit::fit(target, &stages, options, &mut |_| ControlFlow::Continue(()))?;
    Ok((found, start.elapsed().as_secs_f64()))
}

/// The product of random blocks.
fn planted<W: Wide>(n: usize, wiring: &dyn Topology, seed: u64) -> Result<Target<W>> {
    Target::planted(n, &fit::layouts(n, wiring)?, Group::Full, seed)
}
