//! Transforms in closed form, as stages of small orthogonal blocks: how many, how large, and how near to their definitions.
//!
//! ```text
//! cargo run --example transforms
//! ```

use std::f64::consts::PI;

use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Result, Wide, Workspace, c64, synthesis, verify::certificate};

/// Entry (k, j) of Q by its formula.
type Definition = fn(n: usize, k: usize, j: usize) -> c64;

/// e^{πip/q}: the integers are reduced, so that no large angle is rounded.
fn root(p: usize, q: usize) -> c64 {
    let p = p % (2 * q);
    // By eighths of the circle, each less than π/4 from a multiple of π/2.
    let quarter = (2 * p + q / 2) / q;
    let rest = (2 * p) as f64 - (quarter * q) as f64;
    let (s, c) = (PI * rest / (2 * q) as f64).sin_cos();
    [c64 { re: c, im: s }, c64 { re: -s, im: c }, c64 { re: -c, im: -s }, c64 { re: s, im: -c }][quarter % 4]
}

fn unit(n: usize, single: bool) -> f64 {
    (if single { 1.0 } else { 2.0 } / n as f64).sqrt()
}

fn real(x: f64) -> c64 {
    c64::from(x)
}

type Constructor = fn(usize) -> Result<Plan<f64>>;

const REAL: [(&str, Constructor, Definition); 10] = [
    ("Hadamard", synthesis::hadamard, |n, k, j| {
        real(if (k & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 } * unit(n, true))
    }),
    ("Haar", synthesis::haar, |n, k, j| {
        let level = k.max(1).ilog2();
        let length = n >> level;
        real(match k {
            0 => unit(n, true),
            _ if j / length != k - (1 << level) => 0.0,
            _ => unit(length, true) * if j % length < length / 2 { 1.0 } else { -1.0 },
        })
    }),
    ("real DFT", synthesis::real_dft, |n, k, j| match 2 * k {
        twice if twice == 0 || twice == n => real(unit(n, true) * root(2 * k * j, n).re),
        twice if twice < n => real(unit(n, false) * root(2 * k * j, n).re),
        _ => real(unit(n, false) * root(2 * (n - k) * j, n).im),
    }),
    ("Hartley", synthesis::hartley, |n, k, j| real(unit(n, true) * (root(2 * k * j, n).re + root(2 * k * j, n).im))),
    ("DCT-II", synthesis::dct2, |n, k, j| real(unit(n, k == 0) * root((2 * j + 1) * k, 2 * n).re)),
    ("DCT-III", synthesis::dct3, |n, k, j| real(unit(n, j == 0) * root((2 * k + 1) * j, 2 * n).re)),
    ("DCT-IV", synthesis::dct4, |n, k, j| real(unit(n, false) * root((2 * k + 1) * (2 * j + 1), 4 * n).re)),
    ("DST-II", synthesis::dst2, |n, k, j| real(unit(n, k + 1 == n) * root((2 * j + 1) * (k + 1), 2 * n).im)),
    ("DST-III", synthesis::dst3, |n, k, j| real(unit(n, j + 1 == n) * root((2 * k + 1) * (j + 1), 2 * n).im)),
    ("DST-IV", synthesis::dst4, |n, k, j| real(unit(n, false) * root((2 * k + 1) * (2 * j + 1), 4 * n).im)),
];

/// One line of the table.
fn line<T: Wide>(name: &str, plan: &Plan<T>, definition: Definition) -> Result<()> {
    let n = plan.n();
    let factors = plan.realize::<f64>(&[])?;
    let mut columns = vec![T::zero(); n * n]; // the images of unit vectors, one after the other
    (0..n).for_each(|j| columns[j * n + j] = T::one());
    let units = columns.clone();
    let (x, y) = (Batch::rows(&units, n)?, BatchMut::rows(&mut columns, n)?);
    plan.apply(&factors, x, y, Op::None, Parallelism::None, &mut Workspace::new())?;
    let off = |(at, y): (usize, &T)| {
        let expected = definition(n, at % n, at / n);
        (y.re() - expected.re).abs().max((y.im() - expected.im).abs())
    };
    let error = columns.iter().enumerate().map(off).fold(0.0, f64::max);
    let blocks: Vec<String> = plan.stages().iter().map(|stage| stage.layout().block_size().to_string()).collect();
    let defect = certificate(plan, &factors)?.defect;
    let (sizes, entries) = (blocks.join(" "), plan.num_entries());
    println!("{name:<9} {n:>5}  {sizes:<24} {entries:>7}  {error:>9.1e}  {:>9.2}", defect / f64::EPSILON);
    Ok(())
}

fn main() -> Result<()> {
    println!("transform     n  blocks of its stages      entries  max error  defect/eps");
    for n in [64, 256] {
        for (name, construct, definition) in REAL {
            line(name, &construct(n)?, definition)?;
        }
        line::<c64>("DFT", &synthesis::dft(n)?, |n, k, j| root(2 * k * j, n).conj() * unit(n, true))?;
    }
    // No power of 2: 360 = 8·9·5.
    for (name, construct, definition) in &REAL[2..] {
        line(name, &construct(360)?, *definition)?;
    }
    line::<c64>("DFT", &synthesis::dft(360)?, |n, k, j| root(2 * k * j, n).conj() * unit(n, true))
}
