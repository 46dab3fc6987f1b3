//! RoAd adapters as HuggingFace PEFT stores them (Liao and Monz 2024, arXiv 2409.00119): scaled rotations of the outputs.
//!
//! Outputs k and k + h, h half of `group_size`, are a pair in every group:
//!
//! > y_k = c_k x_k − s_k x_{k+h},  y_{k+h} = c_{k+h} x_{k+h} + s_{k+h} x_k,  c = α cos θ, s = α sin θ.
//!
//! `road_theta` and `road_alpha` hold, for `variant`
//! - `road_1`, `[out/2]`: one (θ, α) for each pair;
//! - `road_2`, `[out]`: one for each output;
//! - `road_4`, `[2·out]`: of each 2·`group_size` numbers the first half is (θ, α) of c, the second that of s.
//!
//! L acts on the layer's output with its bias, W' = L·W, b' = L·b. It is orthogonal for `road_1` with α = 1 only; a block is one of
//! papilio's charts here, with the stored numbers as its θ, so gradients need nothing more.

use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::{Context, Dialect, Form, Misfit, Numbers, Side, Structure, Tensors, need, numbers};
use crate::adapter::sides::{Sides, SidesGradient};
use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::orthogonal::Orthogonal;
use crate::parametrization::Parametrization;
use crate::plan::{Plan, Source};
use crate::storage::{field_error, tensor_error};

pub(super) const DIALECT: Dialect = Dialect {
    name: "peft-road",
    methods: &["ROAD"],
    grammar: Grammar::Peft,
    parameters: &[Parameter::named("road_theta"), Parameter::named("road_alpha")],
    form,
};

/// A 2×2 block (c_0, −s_0; s_1, c_1) from four angles and four factors, or fewer that serve several entries.
#[derive(Debug, Clone, Copy)]
struct ScaledRotation {
    /// (θ, α) of a block: 1, 2 or 4.
    angles: usize,
}

impl ScaledRotation {
    /// Which (θ, α) the entries c_0, s_0, s_1, c_1 have.
    fn of_entries(self) -> [usize; 4] {
        match self.angles {
            1 => [0; 4],
            2 => [0, 0, 1, 1],
            _ => [0, 1, 2, 3],
        }
    }
}

impl Parametrization<f64> for ScaledRotation {
    fn name(&self) -> &'static str {
        "scaled rotation"
    }

    fn id(&self) -> String {
        format!("RoAd scaled rotation of {} angles", self.angles)
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if b == 2 {
            return Ok(2 * self.angles);
        }
        Err(Error::Size { what: "scaled rotation", expected: "b = 2".into(), got: format!("b = {b}") })
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [f64]) {
        let (angles, factors) = theta.split_at(self.angles);
        let [c_0, s_0, s_1, c_1] = self.of_entries();
        block[0] = factors[c_0] * angles[c_0].cos();
        block[1] = -factors[s_0] * angles[s_0].sin();
        block[2] = factors[s_1] * angles[s_1].sin();
        block[3] = factors[c_1] * angles[c_1].cos();
    }

    fn vjp(&self, _b: usize, theta: &[f64], _block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        let (angles, factors) = theta.split_at(self.angles);
        let (d_angles, d_factors) = d_theta.split_at_mut(self.angles);
        for (entry, at) in self.of_entries().into_iter().enumerate() {
            let (sin, cos) = angles[at].sin_cos();
            let (value, slope) = match entry {
                0 | 3 => (cos, -sin),
                1 => (-sin, -cos),
                _ => (sin, cos),
            };
            d_angles[at] += d_block[entry] * factors[at] * slope;
            d_factors[at] += d_block[entry] * value;
        }
    }

    fn inverse(&self, _b: usize, _block: &[f64], _theta: &mut [f64]) -> Result<()> {
        let (what, expected) = ("section of scaled rotations", "a chart of rotations");
        Err(Error::Unsupported { what, expected, got: "RoAd's".into() })
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn starts_at_identity(&self) -> bool {
        false
    }
}

/// A layer.
#[derive(Debug)]
struct Layer {
    out: usize,
    group: usize,
    chart: ScaledRotation,
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let (theta, alpha) = (need(tensors, "road_theta", cx)?, need(tensors, "road_alpha", cx)?);
    if theta.shape.len() != 1 || alpha.shape != theta.shape {
        let got = format!("shapes {:?} and {:?}", theta.shape, alpha.shape);
        return Err(tensor_error(cx.path, &theta.name, "a vector, as long as road_alpha", got));
    }
    let config = cx.need_config(theta, "variant and group_size tell what the angles of RoAd mean")?;
    let fail = |field: &str, expected: &str| {
        let path = cx.path.with_file_name("adapter_config.json");
        Err(field_error(&path, field, expected, "something else, or nothing"))
    };
    let (angles, out) = match config.text("variant") {
        Some("road_1") => (1, theta.len().checked_mul(2)),
        Some("road_2") => (2, Some(theta.len())),
        Some("road_4") => (4, Some(theta.len() / 2)),
        _ => return fail("variant", "road_1, road_2 or road_4"),
    };
    let Some(group) = config.size("group_size").filter(|g| *g >= 2 && g.is_multiple_of(2)) else {
        return fail("group_size", "an even number, at least 2");
    };
    match out {
        Some(out) if out > 0 && out.is_multiple_of(group) && (angles != 4 || theta.len().is_multiple_of(2)) => {
            Ok(Arc::new(Layer { out, group, chart: ScaledRotation { angles } }))
        }
        _ => {
            let expected = format!("angles for whole groups of {group} outputs");
            Err(tensor_error(cx.path, &theta.name, expected, format!("{} of them", theta.len())))
        }
    }
}

impl Layer {
    /// Where angle `a` of the pair `pair` is stored.
    fn place(&self, pair: usize, a: usize) -> usize {
        let (g, h) = (self.group, self.group / 2);
        let (group, k) = (pair / h, pair % h);
        match self.chart.angles {
            1 => pair,
            2 => group * g + a * h + k,
            // Entries c_0, s_0, s_1, c_1.
            _ => group * 2 * g + [0, g, g + h, h][a] + k,
        }
    }

    /// The numbers of both tensors in the order of θ: for each pair its angles, then its factors.
    fn places(&self) -> impl Iterator<Item = (bool, usize)> + '_ {
        let angles = self.chart.angles;
        (0..self.out / 2).flat_map(move |pair| {
            [false, true]
                .into_iter()
                .flat_map(move |is_factor| (0..angles).map(move |a| (is_factor, self.place(pair, a))))
        })
    }

    fn count(&self) -> usize {
        self.out / 2 * self.chart.angles
    }

    fn at(&self, angles: &[f64], factors: &[f64]) -> Result<Sides> {
        let theta: Vec<f64> =
            self.places().map(|(is_factor, at)| if is_factor { factors[at] } else { angles[at] }).collect();
        let h = self.group / 2;
        let layout = StageLayout::Strided { unit: 1, radix: 2, distance: h, groups: self.out / self.group };
        let source = Source::Chart { chart: Arc::new(self.chart), sharing: Sharing::PerBlock };
        let left = Orthogonal::owning(Plan::from_stages(self.out, [(layout, source)])?, theta)?;
        Ok(Sides { turns_bias: true, ..Sides::left(left) })
    }
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        Structure {
            method: format!("RoAd {}, scaled", self.chart.angles),
            side: Side::Output,
            n: Some(self.out),
            block: 2,
            stages: 1,
            parameters: 2 * self.count(),
            outputs: None,
            trained: None,
        }
    }

    fn sides(&self, all: &Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        self.at(numbers(all, "road_theta", self.count())?, numbers(all, "road_alpha", self.count())?)
    }

    fn pull(&self, _all: &Numbers, _weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        let mut pulled = [vec![0.0; self.count()], vec![0.0; self.count()]];
        for ((is_factor, at), g) in self.places().zip(&gradient.left) {
            pulled[usize::from(is_factor)][at] += g;
        }
        let [theta, alpha] = pulled;
        Ok(Numbers::from([("road_theta", theta), ("road_alpha", alpha)]))
    }

    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit> {
        match shape.first() {
            Some(out) if *out == self.out => Ok(()),
            _ => Err(Misfit::new("road_theta", format!("angles for {} outputs", self.out))),
        }
    }

    fn turns_bias(&self) -> bool {
        true
    }

    /// Angles at t·θ, factors at 1 + t(α − 1).
    fn interpolate(&self, all: &Numbers, _weight: Option<&[usize]>, t: f64) -> Result<Sides> {
        let angles = numbers(all, "road_theta", self.count())?.iter().map(|x| t * x).collect::<Vec<_>>();
        let factors = numbers(all, "road_alpha", self.count())?.iter().map(|x| 1.0 + t * (x - 1.0)).collect::<Vec<_>>();
        self.at(&angles, &factors)
    }
}
