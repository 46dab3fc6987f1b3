//! The charts that are known by name: what files may name, and what tests go through.

use core::any::Any;
use core::fmt;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Parametrization;
use crate::scalar::Wide;

/// A chart behind a pointer, as plans hold it.
type Chart<W> = Arc<dyn Parametrization<W>>;
/// Makes the chart that has this id, if it is one of the family.
type Family<W> = Arc<dyn Fn(&Charts<W>, &str) -> Option<Chart<W>> + Send + Sync>;

/// Charts by their [`id`](Parametrization::id): papilio's own, and yours once registered. A file of an operator names charts
/// by id; tests that hold for every chart go through [`iter`](Self::iter).
///
/// ```
/// use papilio::parametrization::{Cayley, Charts};
/// let mut charts = Charts::<f64>::new();
/// assert!(charts.find("Cayley").is_some() && charts.find("Mine").is_none());
/// assert!(charts.find("Cayley-Neumann order 7").is_some()); // one of a family
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
        super::register(&mut charts);
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
    /// or declines. What it makes is used only if it has that very id. It is given the registry, too, for charts made of other
    /// charts.
    ///
    /// ```
    /// use papilio::parametrization::{CayleyNeumann, Charts};
    /// use std::sync::Arc;
    /// let mut charts = Charts::<f64>::empty();
    /// charts.register_family(|_, id| {
    ///     let order = id.strip_prefix("Cayley-Neumann order ")?.parse().ok()?;
    ///     Some(Arc::new(CayleyNeumann { order }))
    /// });
    /// assert!(charts.find("Cayley-Neumann order 3").is_some());
    /// ```
    pub fn register_family(
        &mut self,
        parse: impl Fn(&Self, &str) -> Option<Chart<W>> + Send + Sync + 'static,
    ) -> &mut Self {
        self.families.push(Arc::new(parse));
        self
    }

    /// Adds a chart over `V`, if that is `W`.
    pub(super) fn register_over<V: Wide>(&mut self, chart: impl Parametrization<V> + 'static) {
        if let Some(charts) = (self as &mut dyn Any).downcast_mut::<Charts<V>>() {
            charts.register(chart);
        }
    }

    /// The chart with this id.
    pub fn find(&self, id: &str) -> Option<Chart<W>> {
        let made = || self.families.iter().rev().filter_map(|parse| parse(self, id)).find(|chart| chart.id() == id);
        self.charts.get(id).cloned().or_else(made)
    }

    /// The ids registered one by one, in alphabetical order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.charts.keys().map(String::as_str)
    }

    /// The charts registered one by one, in the order of [`ids`](Self::ids). Of this crate's families it is one or two
    /// members.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Parametrization<W>>> {
        self.charts.values()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::{Cayley, Signed};
    use crate::scalar::c64;

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

    /// Each chart that is listed is found again as itself, and as a signed one.
    #[test]
    fn every_chart_is_found_by_its_id() {
        fn check<W: Wide>() -> usize {
            let charts = Charts::<W>::new();
            for chart in charts.iter() {
                let id = chart.id();
                assert_eq!(charts.find(&id).map(|found| found.id()), Some(id.clone()));
                if !id.starts_with("signed") {
                    assert!(charts.find(&format_args!("signed {id}").to_string()).is_some(), "{id}");
                }
            }
            charts.ids().count()
        }
        use alloc::string::ToString;
        assert!(check::<f64>() >= 7 && check::<c64>() >= 9);
    }

    /// A signed chart of a chart of one's own needs no registration of its own.
    #[test]
    fn families_see_what_is_registered() {
        #[derive(Debug)]
        struct Mine;
        impl Parametrization<f64> for Mine {
            fn name(&self) -> &'static str {
                "Mine"
            }
            fn num_params(&self, b: usize) -> crate::Result<usize> {
                Parametrization::<f64>::num_params(&Cayley, b)
            }
            fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
                Cayley.forward(b, theta, block);
            }
            fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
                Cayley.vjp(b, theta, block, d_block, d_theta);
            }
            fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> crate::Result<()> {
                Cayley.inverse(b, block, theta)
            }
        }
        let mut charts = Charts::<f64>::new();
        let id = Signed::new(Mine).id();
        assert!(charts.find(&id).is_none());
        charts.register(Mine);
        assert_eq!(charts.find(&id).map(|chart| chart.id()), Some(id));
    }
}
