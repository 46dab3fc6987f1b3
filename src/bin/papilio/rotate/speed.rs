//! Times of a rotation beside a copy, additions at their peak, and the dense product.

use std::hint::black_box;
use std::time::Duration;

use papilio::Isa;
use papilio::generator::Generator;
use papilio::random::RandomRotation;
use serde_json::{Value, json};

use crate::bench::clock::interleaved;
use crate::bench::yardsticks::{additions_f32, copy_loop, dense};
use crate::text::Table;

/// Seconds for a batch.
pub(crate) struct Speed {
    n: usize,
    batch: usize,
    apply: f64,
    inverse: f64,
    copy: f64,
    /// All additions of the rotation at the measured peak.
    additions: f64,
    /// Where the matrix takes at most 256 MiB.
    dense: Option<f64>,
}

/// Numbers in a batch, at most: half a gigabyte for two of them.
const MOST_NUMBERS: usize = 1 << 26;
/// Numbers of a cache line, at which the batch starts: rows that straddle lines take up to a fifth longer.
const LINE: usize = 16;
/// Rounds of the peak.
const STEPS: usize = 1 << 10;

/// `None` if `stop` said so.
pub(crate) fn measure(
    n: usize,
    batch: usize,
    rounds: usize,
    budget: Duration,
    stop: &impl Fn() -> bool,
) -> Result<Option<Speed>, String> {
    if n.saturating_mul(batch) > MOST_NUMBERS {
        return Err(format!("--bench: expected n times the batch to be at most {MOST_NUMBERS}, got {n} times {batch}"));
    }
    let rotation = RandomRotation::<f32>::with_rounds(n, 1, rounds).map_err(|e| e.to_string())?;
    let mut generator = Generator::new(1);
    let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| generator.uniform() as f32 - 0.5).collect() };
    let (mut x, y) = (random(n * batch + LINE), random(n * batch));
    let start = x.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let x = &mut x[start..][..n * batch];
    let (from, mut to) = (vec![1u32; n * batch], vec![2u32; n * batch]);
    let with_dense = n <= 1 << 13;
    let matrix = random(if with_dense { n * n } else { 0 });
    let mut product = vec![0.0; y.len()];
    let mut failed = None;
    // For one vector the faster of two layouts of the matrix.
    let contenders = if !with_dense { 5 } else { 6 + usize::from(batch == 1) };
    let times = interleaved(
        contenders,
        budget,
        |contender, times| {
            for _ in 0..times {
                match contender {
                    0 => failed = rotation.apply(black_box(&mut *x)).err().or(failed.take()),
                    1 => failed = rotation.inverse(black_box(&mut *x)).err().or(failed.take()),
                    2 => to.copy_from_slice(black_box(&from)),
                    3 => copy_loop(black_box(&from), &mut to),
                    4 => drop(black_box(additions_f32(STEPS))),
                    _ => dense(n, &matrix, contender == 5, black_box(&y), &mut product),
                }
            }
        },
        stop,
    );
    if let Some(failed) = failed {
        return Err(failed.to_string());
    }
    let Some(times) = times else { return Ok(None) };
    let small = n * batch * size_of::<f32>() <= 1 << 20;
    let peak = additions_f32(1) as f64 * STEPS as f64 / times[4].median;
    Ok(Some(Speed {
        n,
        batch,
        apply: times[0].median,
        inverse: times[1].median,
        copy: if small { times[2].median.min(times[3].median) } else { times[2].median },
        additions: (rotation.additions() * batch) as f64 / peak,
        dense: times[5..].iter().map(|t| t.median).reduce(f64::min),
    }))
}

impl Speed {
    pub(crate) fn json(&self) -> Value {
        json!({
            "n": self.n, "batch": self.batch, "apply": self.apply, "inverse": self.inverse, "copy": self.copy,
            "additions": self.additions, "dense": self.dense,
        })
    }
}

pub(crate) fn table(speeds: &[Speed], isa: Isa) -> String {
    let mut table = Table::new(["n", "batch", "ns", "back", "× additions", "× copy", "× both", "dense ×"]);
    for s in speeds {
        let nanoseconds = |t: f64| format!("{:.0}", t / s.batch as f64 * 1e9);
        let times = |t: f64| format!("{:.2}", s.apply / t);
        table.row([
            s.n.to_string(),
            s.batch.to_string(),
            nanoseconds(s.apply),
            nanoseconds(s.inverse),
            times(s.additions),
            times(s.copy),
            times(s.additions.max(s.copy)),
            s.dense.map_or("–".into(), |dense| format!("{:.1}", dense / s.apply)),
        ]);
    }
    format!("{isa:?}, f32, one thread\n{}", table.render())
}
