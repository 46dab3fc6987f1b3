//! Where blocks lie while charts make them on a device, and what that launches.
//!
//! Blocks are row-major there, in double precision, group after group of stage after stage, each stage from where its
//! entries start.

use std::vec::Vec;

use super::call::{Argument, Call, Kernel, text};
use super::program::{self, Chart};
use super::schedule::NONE;
use crate::plan::{Plan, Source};

/// The charts of a plan, where devices have all of them, and the tables that go with it.
#[derive(Debug)]
pub(super) struct Blocks {
    stages: Vec<Made>,
    /// The plan's entry that each number of the blocks is.
    pub(super) entry: Vec<u32>,
    /// The number of the blocks that each of the plan's entries is.
    pub(super) wide_at: Vec<u32>,
    /// The blocks before any is made: the fixed ones, if there are any.
    pub(super) fixed: Option<Vec<f64>>,
}

/// Blocks of a stage, or of several one after the other, that a chart makes: the first parameter, the first entry, how
/// many.
#[derive(Debug, Clone, Copy)]
struct Made {
    chart: Chart,
    theta: usize,
    start: usize,
    count: usize,
}

impl Blocks {
    /// `None` if a chart of the plan is not one of a device's.
    pub(super) fn new(plan: &Plan<f32>) -> Option<Self> {
        let mut stages = Vec::new();
        let mut entry = std::vec![NONE; plan.num_entries()];
        let mut wide_at = std::vec![NONE; plan.num_entries()];
        let mut fixed = None;
        for stage in plan.stages() {
            let (b, count, start) = (stage.layout().block_size(), stage.num_groups(), stage.entries().start);
            if count == 0 {
                continue;
            }
            match stage.source() {
                Source::Chart { chart, .. } => {
                    let params = chart.num_params(b).ok()?;
                    let made = Made { chart: Chart::of(&chart.id(), b)?, theta: stage.theta().start, start, count };
                    match stages.last_mut().filter(|last: &&mut Made| last.goes_on(b, params, &made)) {
                        Some(last) => last.count += count,
                        None => stages.push(made),
                    }
                }
                Source::Fixed(blocks) => {
                    let all = fixed.get_or_insert_with(|| std::vec![0.0; plan.num_entries()]);
                    all[start..start + blocks.len()].copy_from_slice(blocks);
                }
                _ => return None,
            }
            for at in 0..count * b * b {
                let e = stage.entry(at / (b * b), at / b % b, at % b);
                (entry[start + at], wide_at[e]) = (e as u32, (start + at) as u32);
            }
        }
        Some(Self { stages, entry, wide_at, fixed })
    }

    /// `wide` ← the blocks at `theta`; `status` is set where the host has to do it.
    pub(super) fn realize(&self) -> Vec<Call<'_>> {
        self.stages.iter().map(|made| made.call("realize", Vec::from([Argument::Buffer("status")]))).collect()
    }

    /// `d_theta` += the adjoint of its derivative at `d_factors`.
    pub(super) fn realize_vjp(&self) -> Vec<Call<'_>> {
        let more = ["d_factors", "entry", "d_theta"].map(Argument::Buffer);
        self.stages.iter().map(|made| made.call("realize_vjp", more.clone().into())).collect()
    }
}

impl Made {
    /// Whether the blocks of `next` come right after these.
    fn goes_on(&self, b: usize, params: usize, next: &Made) -> bool {
        self.chart == next.chart
            && next.theta == self.theta + self.count * params
            && next.start == self.start + self.count * b * b
    }

    fn call(&self, kernel: &'static str, more: Vec<Argument>) -> Call<'_> {
        use Argument::{Buffer, Integer};
        let (chart, (threads, each)) = (self.chart, self.chart.threads());
        let mut arguments = Vec::from([
            Buffer("theta"),
            Integer(self.theta as i64),
            Buffer("wide"),
            Integer(self.start as i64),
            Integer(self.count as i64),
        ]);
        arguments.extend(more);
        Call {
            kernel: Kernel::Chart(chart, kernel),
            program: text(move || program::chart(chart, kernel)),
            blocks: self.count.div_ceil(each),
            threads,
            shared: chart.shared(kernel == "realize_vjp"),
            arguments,
        }
    }
}
