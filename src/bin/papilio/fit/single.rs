//! One structure, named on the command line.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use papilio::fit::{self, Progress, Target};
use papilio::transmission::{Network, RankOptions, jacobian_rank};
use papilio::{Plan, Topology, Wide};

use super::outputs::chart;
use super::{Arguments, Found, Method};
use crate::signals::Interruption;

/// Ranks are computed for as many parameters at most: a second.
const MOST_RANK: usize = 1024;

/// A line that shows how work gets on; it draws on a terminal only.
pub(super) fn line(first: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_message(first.to_string());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Whether to go on.
pub(super) fn flow(interruption: &Interruption) -> ControlFlow<()> {
    if interruption.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Sweep and error, and the run if there are several.
pub(super) fn told(progress: &Progress, restarts: usize) -> String {
    let run = if restarts > 1 { format!("run {}, ", progress.restart + 1) } else { String::new() };
    format!("{run}sweep {}, e = {:.4e}", progress.sweep, progress.error)
}

impl Arguments {
    /// The fit, its errors shown as they come.
    pub(super) fn single<W: Wide>(&self, target: &Target<W>, interruption: &Interruption) -> Result<Found<W>, String> {
        let (topology, layouts) = self.layouts(target.n())?;
        let options = self.options();
        let bar = line("one pass");
        let mut watch = |progress: &Progress| {
            bar.set_message(told(progress, self.restarts));
            flow(interruption)
        };
        let start = Instant::now();
        let fit = match self.method {
            Method::Auto => fit::fit(target, &layouts, &options, &mut watch),
            Method::Alternating => fit::alternating(target, &layouts, &options, &mut watch),
            Method::Hierarchical => fit::hierarchical(target, &layouts, &options),
            Method::Projection => fit::projection(target, &layouts, &options),
        };
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let times = if self.repeat == 1 { String::new() } else { format!(" × {}", self.repeat) };
        Ok(Found {
            fit: fit.map_err(|e| e.to_string())?,
            topology: format!("{}{times}", self.entry(target.n())?.name),
            dimension: dimension::<W>(target.n(), &topology, self.seed, interruption)?,
            seconds,
            interrupted: false,
            tried: None,
        })
    }
}

/// How many directions the product can move in, where a theorem says or the rank is cheap.
fn dimension<W: Wide>(
    n: usize,
    topology: &dyn Topology,
    seed: u64,
    interruption: &Interruption,
) -> Result<Option<usize>, String> {
    let told = |e: papilio::Error| e.to_string();
    if !W::IS_COMPLEX
        && let Some(value) = Network::new(n, topology).map_err(told)?.rotation_dimension()
    {
        return Ok(Some(value));
    }
    let plan = Plan::<W>::new(n, topology, chart::<W>("Cayley")?).map_err(told)?;
    let options = RankOptions { seed, most: MOST_RANK };
    let rank = match jacobian_rank(&plan, &options, |_| flow(interruption)) {
        Err(papilio::Error::Interrupted { .. }) => None,
        rank => rank.map_err(told)?,
    };
    Ok(rank.filter(|rank| rank.is_clear()).map(|rank| rank.rank))
}
