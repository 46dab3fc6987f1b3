//! How near do K freely chosen rotations come, and what is a butterfly of as many parameters worth?
//!
//! ```text
//! cargo run --release --example greedy         # n = 64
//! cargo run --release --example greedy -- 128
//! ```
//!
//! 1. *Planted*: a product of n log₂ n rotations of random pairs, by greedy Givens with K/(n log₂ n) = ⅛, …, 2 (the curve of Frerix &
//!    Bruna, arXiv 1905.12446), before and after the polishing sweeps, beside repeated butterflies with as many rotations.
//! 2. *The eigenbasis of a graph*, a random geometric one, the same way.
//! 3. *Jacobi* on that graph's Laplacian: the relative off-diagonal norm, one rotation or disjoint ones at a time.

use std::ops::ControlFlow;
use std::time::Instant;

use papilio::fit::{self, Options, Order, Progress, Target};
use papilio::generator::Generator;
use papilio::parametrization::Givens;
use papilio::topology::{Butterfly, Repeated};
use papilio::{Orthogonal, Plan, Result, Source, StageLayout};

fn main() -> Result<()> {
    let n = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(64usize);
    let n = n.next_power_of_two().clamp(16, 512);
    curve(&format!("Planted: {} random rotations, n = {n}", unit(n)), &planted(n)?)?;
    let laplacian = geometric(n);
    let all = fit::jacobi(n, &laplacian, usize::MAX, Order::Disjoint, &mut go)?;
    let order = sorted(&all.eigenvalues);
    let u = Orthogonal::new(all.plan().clone(), [0.0; 0])?.to_dense()?;
    let basis: Vec<f64> = (0..n * n).map(|at| u[(at / n) * n + order[at % n]]).collect();
    curve(&format!("Eigenbasis of a geometric graph, eigenvalues ascending, n = {n}"), &Target::new(n, &basis)?)?;
    directly(n, &laplacian)
}

fn go(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn unit(n: usize) -> usize {
    n * n.ilog2() as usize
}

fn curve(title: &str, target: &Target<f64>) -> Result<()> {
    let n = target.n();
    println!("{title}: errors e\n");
    println!(
        "| K/(n log2 n) | K | greedy | polished | stages | seconds | butterflies of K |\n|---|---|---|---|---|---|---|"
    );
    let mut options = Options::default();
    options.sweeps = 100;
    for eighths in [1, 2, 4, 8, 12, 16] {
        let count = unit(n) * eighths / 8;
        let start = Instant::now();
        let found = fit::greedy(target, count, &options, &mut go)?;
        let seconds = start.elapsed().as_secs_f64();
        let rough = found.curve[found.curve.len() - 1 - found.sweeps];
        // A butterfly has ½·n log₂ n rotations.
        let butterfly = if eighths % 4 == 0 {
            let layouts = fit::layouts(n, &Repeated::new(Butterfly::classic(2), eighths / 4))?;
            format!("{:.4}", fit::fit(target, &layouts, &options, &mut go)?.error)
        } else {
            String::new()
        };
        let (k, stages) = (found.num_parameters(), found.plan().num_stages());
        let ratio = eighths as f64 / 8.0;
        println!("| {ratio} | {k} | {rough:.4} | {:.4} | {stages} | {seconds:.3} | {butterfly} |", found.error);
    }
    println!();
    Ok(())
}

fn directly(n: usize, s: &[f64]) -> Result<()> {
    println!("Jacobi on the Laplacian, n = {n}: off-diagonal norm relative to S; stages\n");
    println!("| K/(n log2 n) | largest | disjoint |\n|---|---|---|");
    for eighths in [1, 2, 4, 8, 12, 16] {
        let run = |order| fit::jacobi(n, s, unit(n) * eighths / 8, order, &mut go);
        let show = |found: &fit::Eigenbasis| {
            format!("{:.2e}; {}", found.curve[found.num_parameters()], found.plan().num_stages())
        };
        println!("| {} | {} | {} |", eighths as f64 / 8.0, show(&run(Order::Largest)?), show(&run(Order::Disjoint)?));
    }
    Ok(())
}

/// A product of n log₂ n rotations of random pairs by random angles.
fn planted(n: usize) -> Result<Target<f64>> {
    let mut g = Generator::new(1);
    let mut stages = Vec::new();
    let mut theta = Vec::new();
    for _ in 0..unit(n) {
        let i = g.below(n as u64) as u32;
        let j = (i + 1 + g.below(n as u64 - 1) as u32) % n as u32;
        let layout = StageLayout::Table { block: 2, index: [i, j].into() };
        stages.push((layout, Source::chart(Givens)));
        theta.push(g.uniform() * 2.0 * std::f64::consts::PI);
    }
    let plan = Plan::from_stages(n, stages)?;
    Target::new(n, &Orthogonal::new(plan, theta)?.to_dense()?)
}

/// The Laplacian of random points of the unit square, joined where they are near, with Gaussian weights.
fn geometric(n: usize) -> Vec<f64> {
    let mut g = Generator::new(2);
    let points: Vec<[f64; 2]> = (0..n).map(|_| [g.uniform(), g.uniform()]).collect();
    let width = 1.0 / (n as f64).sqrt();
    let mut s = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..i {
            let distance = (points[i][0] - points[j][0]).hypot(points[i][1] - points[j][1]) / width;
            let weight = if distance < 2.0 { (-0.5 * distance * distance).exp() } else { 0.0 };
            (s[i * n + j], s[j * n + i]) = (-weight, -weight);
            s[i * n + i] += weight;
            s[j * n + j] += weight;
        }
    }
    s
}

fn sorted(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    order
}
