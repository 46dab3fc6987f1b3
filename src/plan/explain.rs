//! What runs when a plan is applied, and what it costs: for users who want to know before they measure.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt;
use core::ops::Range;

use super::{Op, Plan, Stage};
use crate::kernel::{self, Kernel};
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::Isa;

/// What [`Plan::apply`] does for a batch in rows; made by [`Plan::explain`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// Length of the vectors.
    pub n: usize,
    /// Number of vectors.
    pub batch: usize,
    /// Vectors that run at a time.
    pub width: usize,
    /// What runs, in this order.
    pub passes: Vec<ExplainedPass>,
    /// Bytes of the batch, read and written.
    pub batch_bytes: u64,
}

/// What runs over all coordinates once.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExplainedPass {
    /// The kernel.
    pub kernel: Kernel,
    /// Stages of the plan that it takes.
    pub stages: Range<usize>,
    /// Size of their blocks.
    pub block: usize,
    /// How the coordinates of a block lie, stage by stage.
    pub wirings: Vec<String>,
    /// Floating-point operations for one vector.
    pub flops: u64,
    /// Bytes of the entries, read once for each [`width`](Explanation::width) vectors.
    pub entry_bytes: u64,
}

impl<T: Scalar> Plan<T> {
    /// Which kernels `apply` will run on `isa` for `batch` vectors in rows, and what they cost.
    ///
    /// ```
    /// use papilio::{Isa, Plan, parametrization::Cayley, topology::Butterfly};
    /// let plan = Plan::<f32>::new(1024, &Butterfly::classic(2), Cayley)?;
    /// let explanation = plan.explain(512, Isa::detect());
    /// println!("{explanation}");
    /// assert_eq!(explanation.flops(), 512 * 10 * 512 * 6); // vectors, stages, pairs; two products, two multiply-adds
    /// // With 100 GFLOP/s and 40 GB/s this takes at least 157 µs, of arithmetic; the traffic alone takes 107 µs.
    /// assert!((explanation.bound(100e9, 40e9) - 157e-6).abs() < 1e-6);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    pub fn explain(&self, batch: usize, isa: Isa) -> Explanation {
        let steps = self.steps(None, Op::None, isa);
        let (width, runs) = kernel::what_runs(self.passes.get(isa, false), self.route(Op::None), &steps, self.n, batch);
        let mut start = 0;
        let passes = runs.into_iter().map(|(kernel, count)| {
            let range = start..start + count;
            start += count;
            let stages = &self.stages[range.clone()];
            ExplainedPass {
                kernel,
                stages: range,
                block: stages.iter().map(|stage| stage.layout().block_size()).max().unwrap_or(0),
                wirings: stages.iter().map(|stage| wiring(stage.layout())).collect(),
                flops: stages.iter().map(flops).fold(0, u64::saturating_add),
                entry_bytes: stages.iter().map(|stage| (stage.entries().len() * size_of::<T>()) as u64).sum(),
            }
        });
        let passes = passes.collect();
        let numbers = 2 * (self.n as u64).saturating_mul(batch as u64);
        Explanation { n: self.n, batch, width, passes, batch_bytes: numbers.saturating_mul(size_of::<T>() as u64) }
    }
}

/// A block is b products and b² − b multiply-adds for each vector; a reflection is two multiply-adds for each coordinate.
fn flops<T: Scalar>(stage: &Stage<T>) -> u64 {
    let (product, step) = if T::IS_COMPLEX { (6, 8) } else { (1, 2) };
    let (b, count) = (stage.layout().block_size() as u64, stage.layout().num_blocks() as u64);
    let each = match stage.vectors() {
        Some(vectors) => (2 * step * b).saturating_mul(vectors as u64),
        None => b.saturating_mul(product + step * (b.max(1) - 1)),
    };
    each.saturating_mul(count)
}

fn wiring(layout: &StageLayout) -> String {
    match layout {
        StageLayout::Strided { radix: 1, .. } => "neighbours".to_string(),
        StageLayout::Strided { unit: 1, distance, .. } => format!("distance {distance}"),
        StageLayout::Strided { unit, distance, .. } => format!("runs of {unit} at distance {distance}"),
        StageLayout::Table { .. } => "table".to_string(),
    }
}

impl Explanation {
    /// Floating-point operations for the batch.
    pub fn flops(&self) -> u64 {
        self.passes.iter().map(|pass| pass.flops).fold(0, u64::saturating_add).saturating_mul(self.batch as u64)
    }

    /// Bytes of all entries.
    pub fn entry_bytes(&self) -> u64 {
        self.passes.iter().map(|pass| pass.entry_bytes).sum()
    }

    /// Seconds that it takes at least on one core with this peak, in operations per second, whose memory moves this many bytes
    /// per second, if nothing is in cache: the larger of arithmetic and traffic.
    pub fn bound(&self, peak: f64, bandwidth: f64) -> f64 {
        let bytes = self.batch_bytes as f64 + self.entry_bytes() as f64;
        (self.flops() as f64 / peak).max(bytes / bandwidth)
    }
}

/// One line for each pass.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vectors = if self.batch == 1 { "vector" } else { "vectors" };
        writeln!(f, "{} {vectors} of length {}, {} at a time:", self.batch, self.n, self.width)?;
        let mut lines =
            vec![["stages", "kernel", "b", "blocks lie", "flops/vector", "bytes of entries"].map(String::from)];
        for pass in &self.passes {
            lines.push([
                match pass.stages.len() {
                    1 => pass.stages.start.to_string(),
                    _ => format!("{}–{}", pass.stages.start, pass.stages.end.saturating_sub(1)),
                },
                pass.kernel.to_string(),
                pass.block.to_string(),
                pass.wirings.join(", "),
                pass.flops.to_string(),
                pass.entry_bytes.to_string(),
            ]);
        }
        let width = |c: usize| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = core::array::from_fn(width);
        for [stages, kernel, b, wirings, flops, bytes] in &lines {
            writeln!(
                f,
                "  {stages:w0$}  {kernel:w1$}  {b:>w2$}  {wirings:w3$}  {flops:>w4$}  {bytes:>w5$}",
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2],
                w3 = widths[3],
                w4 = widths[4],
                w5 = widths[5],
            )?;
        }
        write!(f, "  in all {} operations, {} bytes of batch", self.flops(), self.batch_bytes)
    }
}
