//! Which wirings come near to a matrix without structure? The figures and tables of `docs/fit.md`, as SVG and CSV.
//!
//! ```text
//! cargo run --release --features cli --example figures                 # small, into a temporary directory
//! cargo run --release --features cli --example figures -- docs/fit     # all of them at full size, minutes
//! cargo run --release --features cli --example figures -- docs/fit haar near table all   # some of them
//! ```
//!
//! - `haar`: Haar targets of n = 512 (Figure 5 of BOFT, arXiv 2311.06243), against parameters, and against effective dimension with the
//!   wirings that the paper left out.
//! - `near`: rotations near the identity, n = 1024, as fine-tuning learns them (in place of Figure 19, whose matrix is not public).
//! - `table`: wirings for n = 256 side by side.
//! - `all`: every rotation by repeated butterflies: sweeps until e ≤ 1e-12.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use papilio::fit::{self, Budget, Candidate, Group, Options, Row, Start, Target};
use papilio::generator::Generator;
use papilio::topology::{
    AnyButterfly, Benes, BinaryTree, Brick, Butterfly, Explicit, GroupAndShuffle, Kaleidoscope, Monarch,
    RandomPairings, RandomShuffle, Repeated,
};
use papilio::{StageLayout, Topology};

#[path = "figures/plot.rs"]
mod plot;
use plot::{Axis, Curve, Panel, Point, picture};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = !arguments.is_empty();
    let out = arguments.first().map_or_else(|| std::env::temp_dir().join("papilio-figures"), PathBuf::from);
    fs::create_dir_all(&out)?;
    let wanted = |name: &str| arguments.len() < 2 || arguments[1..].iter().any(|a| a == name);
    if wanted("haar") {
        let (n, targets) = if full { (512, [10, 3]) } else { (32, [2, 2]) };
        haar_targets(&out, n, targets)?;
    }
    if wanted("near") {
        near_identity(&out, if full { 1024 } else { 32 })?;
    }
    if wanted("table") {
        let (n, targets) = if full { (256, 2) } else { (32, 1) };
        table(&out, n, targets)?;
    }
    if wanted("all") {
        let sizes: &[(usize, u64)] = if full { &[(16, 20), (32, 20), (64, 10), (128, 5)] } else { &[(8, 2)] };
        all_rotations(&out, sizes)?;
    }
    println!("written to {}", out.display());
    Ok(())
}

/// Rotations only, as in the paper.
fn rotations(seed: u64, sweeps: usize) -> Options {
    let mut options = Options::default();
    (options.group, options.seed, options.sweeps) = (Group::Special, seed, sweeps);
    options
}

/// A wiring with the fit to the first target, and the errors of all.
type Tried = (Row<f64>, Vec<f64>);

/// All candidates for each target: what is known of the wiring, and the errors.
fn rows(targets: &[Target<f64>], list: &[Candidate], options: &Options) -> papilio::Result<Vec<Tried>> {
    let mut budget = Budget::default();
    budget.rank = 0; // formulas and bounds only
    let mut all: Vec<Tried> = Vec::new();
    for (seed, target) in targets.iter().enumerate() {
        let mut options = options.clone();
        options.seed += seed as u64;
        let found = fit::explore(target, list, &budget, &options, &mut |_| ControlFlow::Continue(()))?;
        for (at, row) in found.rows.into_iter().enumerate() {
            let error = row.fit.error;
            match all.get_mut(at) {
                Some((_, errors)) => errors.push(error),
                None => all.push((row, vec![error])),
            }
        }
    }
    Ok(all)
}

fn mean(errors: &[f64]) -> (f64, f64) {
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let square = errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>();
    (mean, (square / (errors.len() as f64 - 1.0).max(1.0)).sqrt())
}

fn csv(out: &Path, name: &str, rows: &[Tried]) -> Outcome {
    let mut text =
        "family,wiring,block,stages,parameters,effective_dimension,dimension_is_known,flops,targets,error,sd\n"
            .to_string();
    for (row, errors) in rows {
        let ((error, sd), dimension) = (mean(errors), row.effective_dimension());
        text += &format!(
            "\"{}\",\"{}\",{},{},{},{dimension},{},{},{},{error:.6},{sd:.6}\n",
            row.candidate.family,
            row.candidate.name,
            row.block,
            row.stages,
            row.parameters,
            row.dimension.is_some(),
            row.flops,
            errors.len()
        );
    }
    Ok(fs::write(out.join(name), text)?)
}

/// One curve for each family, in the order in which families come in `list`: `y` of a price and an error.
fn curves(list: &[Candidate], rows: &[Tried], dimension: bool, y: impl Fn(f64, f64) -> f64) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for candidate in list {
        if curves.iter().any(|curve| curve.name == candidate.family) {
            continue;
        }
        let of = rows.iter().filter(|(row, _)| row.candidate.family == candidate.family);
        let points = of.map(|(row, errors)| {
            let x = if dimension { row.effective_dimension() } else { row.parameters } as f64;
            let values: Vec<f64> = errors.iter().map(|e| y(x, *e)).collect();
            let (y, sd) = mean(&values);
            Point { x, y, sd, open: dimension && row.dimension.is_none() }
        });
        curves.push(Curve { name: candidate.family.clone(), points: points.collect() });
    }
    curves
}

fn boft(n: usize, blocks: &[usize]) -> Vec<Candidate> {
    let mut list = Vec::new();
    for &b in blocks.iter().filter(|b| **b <= n) {
        for m in 1..=(2 * n / b).ilog2() as usize {
            let wiring = Butterfly { unit: b / 2, radix: 2, stages: Some(m) };
            list.push(Candidate::new(format!("BOFT(m, {b})"), format!("BOFT({m}, {b})"), wiring));
        }
    }
    list
}

/// What the paper left out, up to the parameters of `most` butterflies.
fn others(n: usize, most: usize) -> papilio::Result<Vec<Candidate>> {
    let levels = n.ilog2() as usize;
    let sizes = || [1, 2, 3, 4, 6].into_iter().filter(move |k| *k <= most);
    let mut list = Vec::new();
    let mut add = |family: &str, name: String, wiring: std::sync::Arc<dyn Topology>| {
        list.push(Candidate { family: family.into(), name, topology: wiring });
    };
    for k in sizes() {
        let wiring = Repeated::new(AnyButterfly::new(2), k);
        add("butterflies", format!("{k} x butterfly"), std::sync::Arc::new(wiring));
        let stages = k * levels;
        add("random pairings", format!("{stages} pairings"), std::sync::Arc::new(RandomPairings { stages, seed: 1 }));
        add("brick wall", format!("{stages} of the brick wall"), std::sync::Arc::new(first_bricks(n, stages)?));
        let trees = (k * levels).div_ceil(2);
        add("trees", format!("{trees} x tree"), std::sync::Arc::new(Repeated::new(BinaryTree, trees)));
        if 2 * k <= most {
            add("Beneš", format!("{k} x Beneš"), std::sync::Arc::new(Repeated::new(Benes, k)));
            let back = Kaleidoscope::new(AnyButterfly::new(2));
            add("B·Bᵀ", format!("{k} x B·Bᵀ"), std::sync::Arc::new(Repeated::new(back, k)));
        }
        // Stages of b − 1 times the parameters of pairs.
        for (b, family, shuffled) in [(4, "GS(m, 4)", "shuffles of 4"), (16, "GS(m, 16)", "shuffles of 16")] {
            let stages = (k * levels).div_ceil(b - 1).max(2);
            if n >= 4 * b && (b == 4 || stages > 2 || k == 1) {
                add(
                    family,
                    format!("GS({stages}, {b})"),
                    std::sync::Arc::new(GroupAndShuffle::new(b).with_stages(stages)),
                );
                let wiring = RandomShuffle { block: b, stages, seed: 1 };
                add(shuffled, format!("{stages} {shuffled}"), std::sync::Arc::new(wiring));
            }
        }
        if k < 3 {
            let wiring = Repeated::new(Monarch::new(3), k);
            add("Monarch of order 3", format!("{k} x Monarch 3"), std::sync::Arc::new(wiring));
            let wiring = Repeated::new(Monarch::new(2), k);
            add("Monarch of order 2", format!("{k} x Monarch 2"), std::sync::Arc::new(wiring));
        }
    }
    Ok(list)
}

fn first_bricks(n: usize, stages: usize) -> papilio::Result<Explicit> {
    let pairs = |layout: StageLayout| (0..layout.num_blocks()).flat_map(move |j| layout.indices(j).collect::<Vec<_>>());
    Explicit::new(n, (0..stages.min(n)).map(|k| (2, pairs(Brick.stage(n, k)).collect::<Vec<_>>())))
}

/// The wall closed to a ring, for even n: the last coordinate is a neighbour of the first.
fn ring(n: usize, stages: usize) -> papilio::Result<Explicit> {
    Explicit::new(n, (0..stages).map(|k| (2, (0..n).map(|i| (i + k % 2) % n).collect::<Vec<_>>())))
}

fn haar_targets(out: &Path, n: usize, [many, few]: [u64; 2]) -> Outcome {
    let targets = (0..many).map(|seed| Target::haar(n, Group::Full, seed)).collect::<papilio::Result<Vec<_>>>()?;
    let (paper, more) = (boft(n, &[2, 4, 16]), others(n, 6)?);
    let known = rows(&targets, &paper, &rotations(0, 100))?;
    let mut all = rows(&targets[..few as usize], &more, &rotations(0, 100))?;
    let x = |label| Axis { label, log: true };
    let y = || Axis { label: "e = ‖Q − R‖²/(2n)", log: false };
    let title = format!("BOFT(m, b), Haar targets, n = {n}, {many} targets");
    let left = Panel { title, x: x("parameters"), y: y(), curves: curves(&paper, &known, false, |_, e| e) };
    let mut list = paper.clone();
    list.extend(more);
    all.splice(0..0, known);
    csv(out, &format!("haar-{n}.csv"), &all)?;
    let title = format!("the same and other wirings ({few} targets)");
    let right = Panel { title, x: x("effective dimension"), y: y(), curves: curves(&list, &all, true, |_, e| e) };
    let law = Panel {
        title: format!("What a dimension is worth, n = {n}: c of e = 1 − c·√(2p)/n"),
        x: x("effective dimension p"),
        y: Axis { label: "c", log: false },
        curves: curves(&list, &all, true, |p, e| (1.0 - e) * n as f64 / (2.0 * p).sqrt()),
    };
    fs::write(out.join(format!("law-{n}.svg")), picture(&[law])?)?;
    Ok(fs::write(out.join(format!("haar-{n}.svg")), picture(&[left, right])?)?)
}

fn near_identity(out: &Path, n: usize) -> Outcome {
    let mut panels = Vec::new();
    let mut list = boft(n, &[2, 4, 16]);
    list.extend(others(n, 4)?);
    for (name, share, what) in [("dense", 0.0, "dense"), ("low-rank", 0.9, "90 % of rank 16")] {
        let target = near(n, 0.15, share, 1)?;
        let unit = (0..n).map(|i| 1.0 - target.entries()[i * (n + 1)]).sum::<f64>() / n as f64;
        let mut options = rotations(0, 50);
        // From the identity, where wirings that repeat themselves cannot move in all of their directions, and from anywhere.
        (options.start, options.restarts, options.tolerance) = (Start::Identity, 2, 1e-5);
        let all = rows(&[target], &list, &options)?;
        println!("near the identity, {name}: e(I) = {unit:.6}, ‖Q − I‖/‖I‖ = {:.4}", (2.0 * unit).sqrt());
        csv(out, &format!("near-{name}-{n}.csv"), &all)?;
        panels.push(Panel {
            title: format!("{what}, n = {n}, ‖Q − I‖ = {:.3}·‖I‖", (2.0 * unit).sqrt()),
            x: Axis { label: "effective dimension", log: true },
            y: Axis { label: "e in units of that of R = I", log: false },
            curves: curves(&list, &all, true, |_, e| e / unit),
        });
    }
    Ok(fs::write(out.join(format!("near-{n}.svg")), picture(&panels)?)?)
}

/// The table for n, and three wirings for 2n.
fn table(out: &Path, n: usize, count: u64) -> Outcome {
    let levels = n.ilog2() as usize;
    let go = |n: usize, list: &[Candidate], sweeps: usize| -> papilio::Result<Vec<Tried>> {
        let targets = (0..count).map(|seed| Target::haar(n, Group::Full, seed)).collect::<papilio::Result<Vec<_>>>()?;
        rows(&targets, list, &rotations(0, sweeps))
    };
    let mut list = boft(n, &[2, 4, 16]);
    let kept = [(levels, 2), (levels / 2, 4), (levels - 1, 4), (2, 16), (levels.saturating_sub(3).max(1), 16)];
    list.retain(|c| kept.iter().any(|(m, b)| c.name == format!("BOFT({m}, {b})")));
    for (b, m) in [(4, levels / 2), (16, 2)].into_iter().filter(|(b, _)| n.is_multiple_of(*b)) {
        list.push(Candidate::new("GS", format!("GS({m}, {b})"), GroupAndShuffle::new(b).with_stages(m)));
    }
    for k in [2, 4, 8, 16].into_iter().filter(|k| k * levels <= n) {
        list.push(Candidate::new("butterflies", format!("{k} x butterfly"), Repeated::new(AnyButterfly::new(2), k)));
    }
    let pairings = |stages: usize| {
        Candidate::new("random", format!("{stages} random pairings"), RandomPairings { stages, seed: 1 })
    };
    list.push(pairings(n / 4));
    let full = [
        pairings(n),
        Candidate::new("brick", format!("{n} of the brick wall"), Brick),
        Candidate::new("brick", format!("{n} of a ring of bricks"), ring(n, n)?),
    ];
    let twice = [
        Candidate::new("Beneš", format!("n = {}: Beneš", 2 * n), Benes),
        Candidate::new("BB", format!("n = {}: 2 x butterfly", 2 * n), Repeated::new(AnyButterfly::new(2), 2)),
        Candidate { name: format!("n = {}: random pairings", 2 * n), ..pairings(2 * levels + 1) },
    ];
    let mut all = go(n, &list, 100)?;
    all.extend(go(n, &full, 25)?);
    all.extend(go(2 * n, &twice, 25)?);
    println!("| wiring | parameters | effective dimension | e | sweeps |\n|---|---|---|---|---|");
    for (row, errors) in &all {
        let (name, dimension) = (&row.candidate.name, row.effective_dimension());
        let at_most = if row.dimension.is_none() { "≤ " } else { "" };
        println!("| {name} | {} | {at_most}{dimension} | {:.4} | {} |", row.parameters, mean(errors).0, row.fit.sweeps);
    }
    csv(out, &format!("table-{n}.csv"), &all)
}

fn all_rotations(out: &Path, sizes: &[(usize, u64)]) -> Outcome {
    let mut text = "n,butterflies,parameters_over_dimension,targets,reached,median_sweeps\n".to_string();
    let mut lines = Vec::new();
    for &(n, targets) in sizes {
        let (each, dimension) = ((n / 2 * n.ilog2() as usize) as f64, (n * (n - 1) / 2) as f64);
        let targets = (0..targets)
            .map(|seed| Target::<f64>::haar(n, Group::Special, seed))
            .collect::<papilio::Result<Vec<_>>>()?;
        let mut points = Vec::new();
        let mut before = 0;
        for percent in [103, 110, 120, 135, 150, 175, 200, 250] {
            let times = (f64::from(percent) / 100.0 * dimension / each).floor() as usize;
            if times as f64 * each <= dimension || times == before {
                continue;
            }
            before = times;
            let stages = fit::layouts(n, &Repeated::new(Butterfly::classic(2), times))?;
            let mut sweeps = Vec::new();
            for (seed, target) in targets.iter().enumerate() {
                let mut options = rotations(seed as u64, 3000);
                options.goal = 1e-12;
                let found = fit::fit(target, &stages, &options, &mut |_| ControlFlow::Continue(()))?;
                if found.error <= 1e-12 {
                    sweeps.push(found.sweeps);
                }
            }
            sweeps.sort_unstable();
            let (ratio, reached) = (times as f64 * each / dimension, sweeps.len());
            let median = if 2 * reached > targets.len() { sweeps.get(targets.len() / 2).copied() } else { None };
            let shown = median.map_or(String::new(), |median| median.to_string());
            text += &format!("{n},{times},{ratio:.4},{},{reached},{shown}\n", targets.len());
            points.extend(median.map(|y| Point { x: ratio, y: y as f64, sd: 0.0, open: reached < targets.len() }));
        }
        lines.push(Curve { name: format!("n = {n}"), points });
    }
    fs::write(out.join("all-rotations.csv"), text)?;
    let panel = Panel {
        title: "Every rotation by repeated butterflies: sweeps until e ≤ 1e-12".into(),
        x: Axis { label: "parameters / dim SO(n)", log: false },
        y: Axis { label: "sweeps (median over targets)", log: true },
        curves: lines,
    };
    Ok(fs::write(out.join("all-rotations.svg"), picture(&[panel])?)?)
}

fn gaussian(n: usize, seed: u64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    (0..n).map(|_| (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0).collect()
}

/// The polar factor of I + S with a skew S, ‖S‖_F = `size`·√n: it turns by the arctangents of the angles of S, and so is the exponential of a skew
/// matrix. S is Gaussian, and `share` of ‖S‖² is that of a part U·Vᵀ − V·Uᵀ of rank 16.
fn near(n: usize, size: f64, share: f64, seed: u64) -> papilio::Result<Target<f64>> {
    const HALF: usize = 8;
    let skew = |x: &dyn Fn(usize, usize) -> f64, weight: f64| {
        let s: Vec<f64> = (0..n * n).map(|at| x(at / n, at % n) - x(at % n, at / n)).collect();
        let length = s.iter().map(|x| x * x).sum::<f64>().sqrt();
        s.into_iter().map(move |x| x * weight.sqrt() * size * (n as f64).sqrt() / length).collect::<Vec<f64>>()
    };
    let (g, u, v) = (gaussian(n * n, seed), gaussian(n * HALF, seed + 1), gaussian(n * HALF, seed + 2));
    let dense = skew(&|i, j| g[i * n + j], 1.0 - share);
    let low = skew(&|i, j| (0..HALF).map(|k| u[i * HALF + k] * v[j * HALF + k]).sum(), share);
    let mut all: Vec<f64> = dense.iter().zip(&low).map(|(x, y)| x + y).collect();
    all.iter_mut().step_by(n + 1).for_each(|x| *x += 1.0);
    Ok(Target::project(n, &all)?.0)
}
