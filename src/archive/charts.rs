//! Which charts a file may name.

use core::any::Any;
use core::fmt;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use crate::parametrization::{Cayley, Givens, Parametrization};
use crate::scalar::Wide;

/// A chart behind a pointer, as plans hold it.
type Chart<W> = Arc<dyn Parametrization<W>>;
/// Makes the chart that has this id, if it is one of the family.
type Family<W> = Arc<dyn Fn(&str) -> Option<Chart<W>> + Send + Sync>;

/// The charts that can be loaded, by their [`id`](Parametrization::id): papilio's own, and yours once registered.
///
/// ```
/// use papilio::archive::Charts;
/// use papilio::parametrization::Cayley;
/// let mut charts = Charts::<f64>::new();
/// assert!(charts.find("Cayley").is_some() && charts.find("Mine").is_none());
/// charts.register(Cayley); // an id that is registered twice means the last one
/// ```
#[derive(Clone)]
pub struct Charts<W: Wide> {
    charts: BTreeMap<String, Chart<W>>,
    families: Vec<Family<W>>,
}

impl<W: Wide> Charts<W> {
    /// All charts of this crate over `W`.
    pub fn new() -> Self {
        let mut charts = Self::empty();
        for chart in built_in() {
            charts.charts.insert(chart.id(), chart);
        }
        charts
    }

    /// No charts at all.
    pub fn empty() -> Self {
        Self { charts: BTreeMap::new(), families: Vec::new() }
    }

    /// Adds a chart under its id, in place of one that has the same.
    pub fn register(&mut self, chart: impl Parametrization<W> + 'static) -> &mut Self {
        self.charts.insert(chart.id(), Arc::new(chart));
        self
    }

    /// Adds charts with settings, whose ids are not known beforehand: `parse` makes the chart that has the id it is given,
    /// or declines. What it makes is used only if it has that very id.
    pub fn register_family(&mut self, parse: impl Fn(&str) -> Option<Chart<W>> + Send + Sync + 'static) -> &mut Self {
        self.families.push(Arc::new(parse));
        self
    }

    /// The chart with this id.
    pub fn find(&self, id: &str) -> Option<Chart<W>> {
        let made = || self.families.iter().rev().filter_map(|parse| parse(id)).find(|chart| chart.id() == id);
        self.charts.get(id).cloned().or_else(made)
    }

    /// The ids registered one by one, in alphabetical order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.charts.keys().map(String::as_str)
    }
}

impl<W: Wide> Default for Charts<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Wide> fmt::Debug for Charts<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charts")
            .field("ids", &self.charts.keys())
            .field("families", &self.families.len())
            .finish_non_exhaustive()
    }
}

/// This crate's charts over `W`. A list for the other field does not pass for one of `W` and falls away.
fn built_in<W: Wide>() -> Vec<Chart<W>> {
    let real: Vec<Chart<f64>> = vec![Arc::new(Cayley), Arc::new(Givens)];
    let lists: [&dyn Any; 1] = [&real];
    lists.iter().filter_map(|list| list.downcast_ref::<Vec<Chart<W>>>()).flatten().cloned().collect()
}
