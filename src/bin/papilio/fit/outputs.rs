//! Files that a fit leaves.

use std::path::Path;
use std::sync::Arc;

use papilio::fit::Fit;
use papilio::parametrization::{Charts, Parametrization};
use papilio::storage::{FloatType, NpyArray, Output};
use papilio::{Orthogonal, Parallelism, Scalar, Wide};

use super::{Arguments, Blocks, Finding, plot};
use crate::topology::files;

type Chart<W> = Arc<dyn Parametrization<W>>;

/// The chart with this name.
pub(super) fn chart<W: Wide>(id: &str) -> Result<Chart<W>, String> {
    let charts = Charts::<W>::new();
    let known: Vec<&str> = charts.ids().collect();
    charts.find(id).ok_or_else(|| format!("--chart: expected one of {}, got {id}", known.join(", ")))
}

impl Arguments {
    /// The chart of the operator, if it is to have one: one that has the blocks that are allowed, of the sizes that are known.
    pub(super) fn chart<W: Wide>(&self, n: usize) -> Result<Option<Chart<W>>, String> {
        let Some(id) = &self.chart else { return Ok(None) };
        let chart = chart::<W>(id)?;
        let layouts = if self.budget.is_none() { self.layouts(n)?.1 } else { Vec::new() };
        for layout in layouts {
            chart.num_params(layout.block_size()).map_err(|e| format!("--chart {id}: {e}"))?;
        }
        if self.group == Blocks::Full && !W::IS_COMPLEX {
            let reflection = [-1.0, 0.0, 0.0, 1.0].map(W::from_real);
            let mut theta = vec![0.0; chart.num_params(2).map_err(|e| e.to_string())?];
            if chart.inverse(2, &reflection, &mut theta).is_err() {
                return Err(format!("--chart {id}: expected --group special, since this chart has no reflections"));
            }
        }
        Ok(Some(chart))
    }

    pub(super) fn write<W, S>(&self, fit: &Fit<W>, chart: Option<Chart<W>>, finding: &mut Finding) -> Result<(), String>
    where
        W: Wide,
        S: Scalar<Wide = W>,
    {
        let told = |e: papilio::Error| e.to_string();
        // Whether the chart has these blocks is seen before there is any file.
        let ready = match &self.out {
            Some(path) if self.single => Some(ready::<S>(fit, chart, path, self.force).map_err(told)?),
            Some(path) => Some(ready::<W>(fit, chart, path, self.force).map_err(told)?),
            None => None,
        };
        if let Some(path) = &self.dense_out {
            let matrix = fit.matrix(Parallelism::Rayon).map_err(told)?;
            let (shape, is_complex) = (vec![finding.n, finding.n], W::IS_COMPLEX);
            let parts = |x: W| [Some(x.re()), is_complex.then_some(x.im())].into_iter().flatten();
            let data = matrix.into_iter().flat_map(parts).collect();
            let array = NpyArray { shape, kind: FloatType::F64, is_complex, data };
            array.write(path, self.force).map_err(told)?;
            finding.written.push(path.clone());
        }
        if let Some(path) = &self.plot {
            let (directory, name) = files::split(path)?;
            finding.written.extend(files::write(directory, &[(name, plot::errors(finding)?)], self.force)?);
        }
        if let (Some(path), Some(tried)) = (&self.pareto, &finding.tried) {
            let (directory, name) = files::split(path)?;
            let picture = plot::pareto(&finding.name, tried)?;
            finding.written.extend(files::write(directory, &[(name, picture)], self.force)?);
        }
        if let (Some(path), Some(output)) = (&self.out, ready) {
            output.commit().map_err(told)?;
            finding.written.push(path.clone());
        }
        Ok(())
    }
}

/// The operator in a temporary beside `path`. Put in its place it replaces nothing, unless that is asked for.
fn ready<T: Scalar>(
    fit: &Fit<T::Wide>,
    chart: Option<Chart<T::Wide>>,
    path: &Path,
    force: bool,
) -> papilio::Result<Output> {
    let operator = match chart {
        None => Orthogonal::<T>::new(fit.to()?, [0.0; 0])?,
        Some(chart) => {
            let (plan, theta) = fit.in_chart::<T>(chart)?;
            Orthogonal::new(plan, theta)?
        }
    };
    let output = Output::file(path, force)?;
    operator.save(output.path(""))?;
    Ok(output)
}
