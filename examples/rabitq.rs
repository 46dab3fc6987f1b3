//! 1-bit codes of anisotropic vectors (RaBitQ, Gao & Long 2024, arXiv 2405.12497): what the rotation before them is worth.
//!
//! `cargo run --release --example rabitq` makes 10 000 vectors of 768 coordinates that are like embeddings (clusters, a spectrum that
//! falls as 1/i, some coordinates far larger than others), finds the 10 nearest neighbours of 100 of their kind by codes of
//! one bit for each coordinate, and compares them with the true ones: without a rotation, through a dense Haar matrix, HD³,
//! FHT–Kac, and papilio's. `--n 768,1000,1536 --seeds 10` repeats it; `--quick` is small.
//!
//! Recall of ours against Haar is paired: same data, same queries, each seed one of each rotation.

use std::time::Instant;

use papilio::generator::Generator;
use papilio::random::{HadamardCube, KacWalk, RandomRotation, haar};
use papilio::{Error, Result};

const NEIGHBOURS: usize = 10;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (mut sizes, mut seeds, mut count, mut queries) = (vec![768], 3, 10_000, 100);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: expected a value"));
        match argument.as_str() {
            "--n" => {
                let sizes_text = value()?;
                let parsed: std::result::Result<Vec<usize>, _> = sizes_text.split(',').map(str::parse).collect();
                sizes = parsed.map_err(|_| format!("--n: expected numbers with commas, got {sizes_text}"))?;
                if sizes.iter().any(|n| !(64..=4096).contains(n)) {
                    return Err(format!("--n: expected 64 to 4096, got {sizes_text}").into());
                }
            }
            "--seeds" => {
                let text = value()?;
                seeds = text
                    .parse()
                    .ok()
                    .filter(|s| (2..=100).contains(s))
                    .ok_or(format!("--seeds: expected 2 to 100, got {text}"))?;
            }
            "--quick" => (sizes, seeds, count, queries) = (vec![200], 4, 1000, 30),
            other => return Err(format!("expected --n, --seeds or --quick, got {other}").into()),
        }
    }
    for n in sizes {
        study(n, seeds, count, queries)?;
    }
    Ok(())
}

/// Vectors by rows.
struct Vectors {
    n: usize,
    numbers: Vec<f32>,
}

impl Vectors {
    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.numbers.chunks_exact(self.n)
    }
}

/// Sum of 12 uniform numbers: normal enough.
fn normal(g: &mut Generator) -> f32 {
    ((0..12).map(|_| g.uniform()).sum::<f64>() - 6.0) as f32
}

/// Clusters with a falling spectrum, and a few coordinates that dwarf the others, as transformers make them.
fn embeddings(n: usize, count: usize, seed: u64) -> Vectors {
    let mut g = Generator::new(1);
    let scales: Vec<f32> = (0..n).map(|i| (1.0 + i as f32).powf(-0.5) * if i % 97 == 13 { 8.0 } else { 1.0 }).collect();
    let clusters = 200;
    let centres: Vec<f32> = (0..clusters * n).map(|at| normal(&mut g) * scales[at % n]).collect();
    let mut g = Generator::new(seed);
    let mut numbers = Vec::with_capacity(n * count);
    for _ in 0..count {
        let centre = g.below(clusters as u64) as usize * n;
        numbers.extend((0..n).map(|i| centres[centre + i] + 0.7 * normal(&mut g) * scales[i]));
    }
    Vectors { n, numbers }
}

enum Rotation {
    None,
    Dense(Vec<f32>),
    Cube(HadamardCube<f32>),
    Kac(KacWalk<f32>),
    Ours(RandomRotation<f32>),
}

const KINDS: [&str; 5] = ["none", "dense Haar", "HD³, padded", "FHT–Kac", "papilio"];

impl Rotation {
    fn new(kind: usize, n: usize, seed: u64) -> Result<Self> {
        Ok(match kind {
            0 => Rotation::None,
            1 => Rotation::Dense(haar::rotation(n, seed)?.iter().map(|q| *q as f32).collect()),
            2 => Rotation::Cube(HadamardCube::new(n, seed)?),
            3 => Rotation::Kac(KacWalk::new(n, seed)?),
            _ => Rotation::Ours(RandomRotation::new(n, seed)?),
        })
    }

    fn apply(&self, x: &Vectors) -> Result<Vectors> {
        let n = x.n;
        let mut y = Vectors { n, numbers: x.numbers.clone() };
        match self {
            Rotation::None => {}
            Rotation::Ours(rotation) => rotation.apply(&mut y.numbers)?,
            Rotation::Kac(walk) => y.numbers.chunks_exact_mut(n).try_for_each(|row| walk.apply(row))?,
            Rotation::Cube(cube) => {
                y = Vectors { n: cube.padded(), numbers: vec![0.0; x.numbers.len() / n * cube.padded()] };
                for (x, y) in x.rows().zip(y.numbers.chunks_exact_mut(cube.padded())) {
                    cube.apply(x, y)?;
                }
            }
            Rotation::Dense(q) => {
                let count = x.numbers.len() / n;
                let (a, b) = (
                    faer::MatRef::from_row_major_slice(&x.numbers, count, n),
                    faer::MatRef::from_column_major_slice(q, n, n),
                );
                let out = faer::MatMut::from_row_major_slice_mut(&mut y.numbers, count, n);
                faer::linalg::matmul::matmul(out, faer::Accum::Replace, a, b, 1.0, faer::Par::Seq);
            }
        }
        Ok(y)
    }
}

/// One bit for each coordinate of the direction from the centre, the norm, and the cosine of direction and signs.
struct Codes {
    words: Vec<u64>,
    /// Words of a code.
    width: usize,
    /// Norm of each vector less the centre, and ⟨direction, signs⟩/√n.
    norms: Vec<(f32, f32)>,
}

/// Directions from the centre are rotated, so that the estimate needs ⟨signs, rotated query⟩ only.
fn encode(rotated: &Vectors) -> Codes {
    let width = rotated.n.div_ceil(64);
    let (mut words, mut norms) = (Vec::new(), Vec::new());
    for row in rotated.rows() {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let one = row.iter().map(|x| x.abs()).sum::<f32>();
        let cosine = if norm > 0.0 { one / norm / (rotated.n as f32).sqrt() } else { 1.0 };
        norms.push((norm, cosine));
        for part in row.chunks(64) {
            words.push(part.iter().enumerate().fold(0, |word, (i, x)| word | u64::from(*x < 0.0) << i));
        }
    }
    Codes { words, width, norms }
}

/// The nearest by the estimate ⟨o, q⟩ ≈ ⟨signs, q⟩/(√n·⟨signs, o⟩/√n) of the inner product of directions.
fn nearest(codes: &Codes, query: &[f32]) -> Vec<usize> {
    let n = query.len() as f32;
    // Sums over eight coordinates for all their signs, so that a code takes n/8 look-ups.
    let tables: Vec<[f32; 256]> = query
        .chunks(8)
        .map(|part| {
            std::array::from_fn(|bits| {
                part.iter().enumerate().map(|(i, q)| if bits >> i & 1 == 1 { -q } else { *q }).sum()
            })
        })
        .collect();
    let norm2 = query.iter().map(|q| q * q).sum::<f32>();
    let mut distances: Vec<(f32, usize)> = codes
        .norms
        .iter()
        .zip(codes.words.chunks_exact(codes.width))
        .map(|((norm, cosine), words)| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            let product: f32 = bytes.zip(&tables).map(|(byte, table)| table[usize::from(byte)]).sum();
            norm * norm + norm2 - 2.0 * norm * product / (n.sqrt() * cosine)
        })
        .enumerate()
        .map(|(at, distance)| (distance, at))
        .collect();
    distances.select_nth_unstable_by(NEIGHBOURS - 1, |a, b| a.0.total_cmp(&b.0));
    distances[..NEIGHBOURS].iter().map(|d| d.1).collect()
}

fn study(n: usize, seeds: u64, count: usize, queries: usize) -> Result<()> {
    let (mut base, mut asked) = (embeddings(n, count, 2), embeddings(n, queries, 3));
    // Codes are of directions from the mean.
    let mut mean = vec![0.0; n];
    base.rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / count as f32));
    for rows in [&mut base, &mut asked] {
        rows.numbers.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
    }
    let truth: Vec<Vec<usize>> = asked
        .rows()
        .map(|q| {
            let distance = |x: &[f32]| x.iter().zip(q).map(|(x, q)| (x - q) * (x - q)).sum::<f32>();
            let mut all: Vec<(f32, usize)> = base.rows().enumerate().map(|(at, x)| (distance(x), at)).collect();
            all.select_nth_unstable_by(NEIGHBOURS - 1, |a, b| a.0.total_cmp(&b.0));
            all[..NEIGHBOURS].iter().map(|d| d.1).collect()
        })
        .collect();
    println!("{count} vectors of {n}, {queries} queries, {seeds} rotations: recall of the 10 nearest by 1-bit codes");
    println!("{:<14} {:>8} {:>8} {:>20} {:>12}", "rotation", "recall", "± sd", "less Haar's, paired", "µs/vector");
    let mut recalls: Vec<Vec<f64>> = Vec::new();
    for (kind, name) in KINDS.iter().enumerate() {
        let (mut found, mut fastest) = (Vec::new(), f64::INFINITY);
        for seed in 0..if kind == 0 { 1 } else { seeds } {
            let rotation = Rotation::new(kind, n, seed)?;
            let start = Instant::now();
            let rotated = rotation.apply(&base)?;
            fastest = fastest.min(start.elapsed().as_secs_f64() / count as f64 * 1e6);
            let (codes, asked) = (encode(&rotated), rotation.apply(&asked)?);
            let hits: usize = asked
                .rows()
                .zip(&truth)
                .map(|(q, truth)| nearest(&codes, q).iter().filter(|at| truth.contains(at)).count())
                .sum();
            found.push(hits as f64 / (queries * NEIGHBOURS) as f64);
        }
        let (mean, sd) = mean_and_deviation(&found);
        let paired = if kind > 1 {
            let differences: Vec<f64> = found.iter().zip(&recalls[1]).map(|(a, b)| a - b).collect();
            let (mean, sd) = mean_and_deviation(&differences);
            let error = sd / (differences.len() as f64).sqrt();
            format!("{mean:+.4} ± {error:.4}")
        } else {
            String::new()
        };
        println!("{name:<14} {mean:>8.4} {sd:>8.4} {paired:>20} {fastest:>12.2}");
        recalls.push(found);
    }
    println!();
    // Rotations are for codes: without one they must be worse, and ours as good as Haar's: to two standard errors if there are ten
    // seeds; fewer know their own spread badly, so 0.05 is asked of them.
    let bare = mean_and_deviation(&recalls[0]).0;
    let dense = mean_and_deviation(&recalls[1]).0;
    if bare >= dense {
        let (expected, got) = ("less without a rotation than with one", format!("{bare:.4} and {dense:.4}"));
        return Err(Error::Domain { what: "recall".into(), expected, got });
    }
    let differences: Vec<f64> = recalls[4].iter().zip(&recalls[1]).map(|(a, b)| a - b).collect();
    let (mean, sd) = mean_and_deviation(&differences);
    let error = sd / (differences.len() as f64).sqrt();
    let allowed = if seeds < 10 { 0.05 } else { 2.0 * error };
    if mean < -allowed {
        let (expected, got) = ("that of a dense Haar matrix", format!("{mean:+.4} ± {error:.4}"));
        return Err(Error::Domain { what: "recall".into(), expected, got });
    }
    Ok(())
}

fn mean_and_deviation(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let squares = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    (mean, (squares / (x.len().max(2) - 1) as f64).sqrt())
}
