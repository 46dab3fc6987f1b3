//! Which charts a file may name.

use core::any::Any;
use core::fmt;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use crate::parametrization::{
    Cayley, CayleyNeumann, Exponential, Givens, MachZehnder, NewtonSchulz, Parametrization, Signed, UnitaryPhases,
};
use crate::scalar::{Wide, c64};

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
        charts.register_family(with_settings);
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
    let real: Vec<Chart<f64>> = vec![Arc::new(Cayley), Arc::new(Exponential), Arc::new(Givens)];
    let complex: Vec<Chart<c64>> =
        vec![Arc::new(Cayley), Arc::new(Exponential), Arc::new(Givens), Arc::new(UnitaryPhases), Arc::new(MachZehnder)];
    let lists: [&dyn Any; 2] = [&real, &complex];
    lists.iter().filter_map(|list| list.downcast_ref::<Vec<Chart<W>>>()).flatten().cloned().collect()
}

/// This crate's charts whose ids have settings in them; a signed chart of any of them, once.
fn with_settings<W: Wide>(id: &str) -> Option<Chart<W>> {
    let number = |prefix: &str| id.strip_prefix(prefix)?.parse().ok();
    if let Some(order) = number("Cayley-Neumann order ") {
        return Some(Arc::new(CayleyNeumann { order }));
    }
    if let Some(steps) = number("Newton-Schulz steps ") {
        return Some(Arc::new(NewtonSchulz { steps }));
    }
    let rest = id.strip_prefix("signed ")?;
    let (columns, inner) = match rest.strip_prefix('[') {
        None => (vec![0], rest),
        Some(list) => {
            let (list, inner) = list.split_once("] ")?;
            (list.split(", ").map(|column| column.parse().ok()).collect::<Option<Vec<usize>>>()?, inner)
        }
    };
    if inner.starts_with("signed ") {
        return None;
    }
    Some(Arc::new(Signed::with_columns(Charts::<W>::new().find(inner)?, columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_with_settings_are_found_by_their_ids() {
        let (real, complex) = (Charts::<f64>::new(), Charts::<c64>::new());
        for id in [
            "Cayley",
            "Givens",
            "Cayley-Neumann order 5",
            "Newton-Schulz steps 3",
            "signed Cayley",
            "signed [0, 2] Cayley",
            "signed [1] Newton-Schulz steps 3",
        ] {
            assert_eq!(real.find(id).map(|chart| chart.id()).as_deref(), Some(id));
            assert_eq!(complex.find(id).map(|chart| chart.id()).as_deref(), Some(id));
        }
        for id in ["unitary phases", "Mach-Zehnder", "signed unitary phases"] {
            assert!(real.find(id).is_none() && complex.find(id).is_some(), "{id}");
        }
        for id in [
            "Cayley-Neumann order 05",
            "Cayley-Neumann order -1",
            "Cayley-Neumann order",
            "signed [0] Cayley",
            "signed [2, 0] Cayley",
            "signed [] Cayley",
            "signed signed Cayley",
            "signed ",
        ] {
            assert!(real.find(id).is_none(), "{id}");
        }
        let hostile = "signed ".repeat(100_000);
        assert!(real.find(&hostile).is_none() && Charts::<f64>::empty().find("signed Cayley").is_none());
    }
}
