//! All kinds of structures within a budget, and the one to take.

use std::time::Instant;

use papilio::fit::{self, Budget, Row, Step, Target};
use papilio::transmission::Dimension;
use papilio::{Element, Wide};

use super::single::{flow, line, told};
use super::{Arguments, Found};
use crate::signals::Interruption;

/// A structure that was tried.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) name: String,
    pub(super) block: usize,
    pub(super) stages: usize,
    pub(super) parameters: usize,
    pub(super) dimension: Option<usize>,
    /// Known, or at most.
    pub(super) effective: usize,
    pub(super) flops: u64,
    pub(super) error: f64,
    pub(super) sweeps: usize,
    pub(super) apply_ns: Option<f64>,
    pub(super) pareto: bool,
    pub(super) pareto_dimension: bool,
}

impl Arguments {
    /// The best product of at most so many parameters, or the cheapest that reaches the goal; none if an interrupt came before the first.
    pub(super) fn best<W>(
        &self,
        target: &Target<W>,
        parameters: usize,
        interruption: &Interruption,
    ) -> Result<Option<Found<W>>, String>
    where
        W: Wide + Element<Scalar = W> + faer::traits::ComplexField,
    {
        let mut budget = Budget::default();
        (budget.parameters, budget.error) = (parameters, self.goal);
        let candidates = fit::candidates(target, &budget, self.seed);
        let bar = line("");
        let mut watch = |step: &Step<'_>| {
            let doing = step.fit.map_or_else(|| "dimension".to_string(), |progress| told(&progress, self.restarts));
            bar.set_message(format!("{} of {}, {}: {doing}", step.index + 1, step.count, step.candidate.name));
            flow(interruption)
        };
        let start = Instant::now();
        let found = fit::explore(target, &candidates, &budget, &self.options(), &mut watch);
        let seconds = start.elapsed().as_secs_f64();
        let mut found = found.map_err(|e| e.to_string())?;
        let mut tried = Vec::new();
        for (at, row) in found.rows.iter().enumerate() {
            bar.set_message(format!("{} of {}, {}: time", at + 1, found.rows.len(), row.candidate.name));
            let apply_ns = if interruption.came() { None } else { self.times(row.fit.plan(), false, interruption)?.0 };
            tried.push(Tried {
                name: row.candidate.name.clone(),
                block: row.block,
                stages: row.stages,
                parameters: row.parameters,
                dimension: row.dimension.map(|d: Dimension| d.value()),
                effective: row.effective_dimension(),
                flops: row.flops,
                error: row.fit.error,
                sweeps: row.fit.sweeps,
                apply_ns,
                pareto: row.pareto,
                pareto_dimension: row.pareto_dimension,
            });
        }
        bar.finish_and_clear();
        let chosen = found.cheapest(self.goal).or_else(|| found.best());
        let Some(at) = chosen.and_then(|row| found.rows.iter().position(|other| std::ptr::eq(row, other))) else {
            if found.interrupted {
                return Ok(None);
            }
            return Err(format!("--budget {parameters}: expected a structure within the budget, got none that small"));
        };
        let Row { candidate, dimension, fit, .. } = found.rows.swap_remove(at);
        let dimension = dimension.map(|d| d.value());
        let (topology, interrupted) = (candidate.name, found.interrupted);
        Ok(Some(Found { fit, topology, dimension, seconds, interrupted, tried: Some(tried) }))
    }
}
