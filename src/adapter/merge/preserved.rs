//! What an adapter preserves of a model: the weights as a merge would write them, beside what they were.
//!
//! W' = diag(s)·W·Rᵀ, rounded to the type of W. The rotation alone should keep the inner products of diag(s)·W's rows, so
//! their angles, lengths and hyperspherical energy (`verify::neurons`), and its singular values. The scale s stretches
//! neurons: it changes lengths and singular values, not angles (a negative one turns its neuron round). So what the rotation
//! did is told by comparing diag(s)·W with W', and what the adapter did to the spectral norm by comparing W with W'.
//!
//! Rounding to a type with eps = 2u moves the weight by at most ½·eps·‖diag(s)W‖_F, and by Weyl each of its singular
//! values by no more; this is their unit in [`PreservedLayer::ratio`], with 8·2⁻⁵² added to eps for the arithmetic in double
//! precision. For half precision these are wide units: nothing honest comes near 1, and [`LIMIT`] is 2, not LAPACK's 30.

use core::ops::ControlFlow;
use std::format;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::time::Instant;
use std::vec;
use std::vec::Vec;

use serde::Serialize;

use super::beside::Beside;
use super::resolve::{Action, Entry, Part, resolve};
use super::step::{Step, defect_of};
use super::strips::{Change as Moved, Strips, Types};
use super::{MergeEvent, Progress, Strength, finite, singular};
use crate::adapter::{Adapter, Hint, Layer, View};
use crate::error::{Error, Result};
use crate::parallel::{Parallelism, Pool};
use crate::plan::Workspace;
use crate::storage::{Checkpoint, file_error, tensor_error};
use crate::verify::{NeuronOptions, Neurons, neurons};

/// Largest [`PreservedLayer::ratio`] that counts as preserved.
pub const LIMIT: f64 = 2.0;

/// What to compare, and how much work to put into it.
#[derive(Debug, Clone)]
pub struct PreservedOptions {
    /// The base model, as for [`merge`](super::merge()).
    pub base: PathBuf,
    /// The adapter, likewise.
    pub adapter: PathBuf,
    /// Its dialect, if it does not say it itself.
    pub dialect: Option<Hint>,
    /// Only layers whose path contains one of these; all if there are none.
    pub layers: Vec<String>,
    /// All singular values of weights with up to so many rows or columns, whichever are fewer; of larger ones the largest
    /// alone, by power iteration. Time grows with the third power.
    pub singular_values: usize,
    /// Neurons whose pairs are compared, at most: a seeded sample of more.
    pub neurons: usize,
    /// Seed of the sample.
    pub seed: u64,
    /// Threads.
    pub parallelism: Parallelism,
}

impl PreservedOptions {
    /// All layers, all singular values up to 1024, all pairs of up to 1024 neurons.
    pub fn new(base: impl Into<PathBuf>, adapter: impl Into<PathBuf>) -> Self {
        let (base, adapter, layers) = (base.into(), adapter.into(), Vec::new());
        Self {
            base,
            adapter,
            dialect: None,
            layers,
            singular_values: 1024,
            neurons: 1024,
            seed: 0,
            parallelism: Parallelism::Rayon,
        }
    }
}

/// What became of one weight. Numbers beyond the range of doubles are given as the largest one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PreservedLayer {
    /// Path of the module.
    pub name: String,
    /// Vectors that are rotated: the rows of the weight, its neurons; where outputs are rotated, its columns.
    pub rows: usize,
    /// Numbers in each: the size of the rotated space.
    pub n: usize,
    /// Type of the weight as merged, that of the base.
    pub dtype: String,
    /// Smallest and largest factor of s; `None` if all are 1.
    pub scale: Option<[f64; 2]>,
    /// ‖W' − W‖_F/‖W‖_F, with W' as merged.
    #[serde(serialize_with = "finite")]
    pub change: f64,
    /// The part of that change which rounding to the weight's type loses: ‖fl(W') − W'‖_F/‖W' − W‖_F. `None` where
    /// both sides are rotated.
    pub lost: Option<f64>,
    /// Neurons that were compared.
    pub neurons: usize,
    /// Whether they are a sample.
    pub sampled: bool,
    /// Pairs of them.
    pub pairs: usize,
    /// Largest change of the cosine of a pair.
    #[serde(serialize_with = "finite")]
    pub cosine_max: f64,
    /// Root mean square of these changes.
    #[serde(serialize_with = "finite")]
    pub cosine_rms: f64,
    /// Largest relative change of a neuron's length by the rotation.
    #[serde(serialize_with = "finite")]
    pub norm_max: f64,
    /// Mean of 1/‖ŵ_i − ŵ_j‖ over the pairs, before and after: the hyperspherical energy over rows·(rows − 1).
    pub energy: [f64; 2],
    /// ‖W‖₂ and ‖W'‖₂; lower bounds by power iteration unless `all_singular_values`.
    pub spectral_norm: [f64; 2],
    /// Whether all singular values were compared, not only the largest.
    pub all_singular_values: bool,
    /// Largest change of a singular value by the rotation, over the largest of them.
    #[serde(serialize_with = "finite")]
    pub singular_max: f64,
    /// Rigorous bound on ‖RᵀR − I‖₂.
    #[serde(serialize_with = "finite")]
    pub defect: f64,
    /// The largest change by the rotation in units of what rounding to the weight's type may do: below 1 or nearly so.
    #[serde(serialize_with = "finite")]
    pub ratio: f64,
    /// Time spent on the layer.
    #[serde(serialize_with = "finite")]
    pub seconds: f64,
}

/// What became of all of them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PreservedReport {
    /// Adapted layers, in the order of the base's files.
    pub layers: Vec<PreservedLayer>,
    /// What a user should know.
    pub warnings: Vec<String>,
}

impl PreservedReport {
    /// The largest [`PreservedLayer::ratio`].
    pub fn ratio(&self) -> f64 {
        self.layers.iter().fold(0.0, |worst, layer| layer.ratio.max(worst))
    }
}

/// Compares every adapted weight with what [`merge`](super::merge()) makes of it. `tell` hears of warnings and progress, and
/// may stop it.
///
/// Holds the largest adapted weight twice in double precision, and beside that either the neurons whose pairs are compared, twice
/// too, or a weight all of whose singular values are computed, once more. Neither file is changed.
///
/// # Errors
/// [`Error::Domain`] for fewer than two neurons; [`Error::File`](crate::Error::File) as [`merge`](super::merge()) before it writes, for weights that are not finite, for
/// numbers beyond their type, and if no layer has the wanted name; [`Error::Interrupted`](crate::Error::Interrupted) if
/// `tell` stops it.
pub fn preserved(
    options: &PreservedOptions,
    mut tell: impl FnMut(MergeEvent<'_>) -> ControlFlow<()>,
) -> Result<PreservedReport> {
    if options.neurons < 2 {
        let (what, expected) = ("neurons of PreservedOptions".to_string(), "at least 2, as pairs are compared");
        return Err(Error::Domain { what, expected, got: options.neurons.to_string() });
    }
    let base = Checkpoint::open(&options.base)?;
    let adapters = [Adapter::open_as(&options.adapter, options.dialect)?];
    let [adapter] = &adapters;
    let resolved = resolve(&base, &adapters, None, None)?;
    let warnings = [adapter.warnings(), &resolved.warnings].concat();
    for warning in &warnings {
        go_on(tell(MergeEvent::Warning(warning)), "the first layer")?;
    }
    let wanted = |layer: &Layer| {
        options.layers.is_empty() || options.layers.iter().any(|part| layer.module.contains(part.as_str()))
    };
    let work: Vec<_> = resolved
        .shards
        .iter()
        .flat_map(|shard| &shard.entries)
        .filter_map(|entry| match &entry.action {
            Action::Rotate { layers, is_bias: false, from, to } => match layers[..] {
                [part] if wanted(part.layer) => Some((entry, part, Types { from: *from, to: *to })),
                _ => None,
            },
            _ => None,
        })
        .collect();
    if work.is_empty() {
        let expected = format!("a layer whose path contains {}", options.layers.join(" or "));
        return Err(file_error(adapter.file().path(), expected, "none"));
    }
    let total = work.iter().map(|(entry, ..)| entry.source.num_bytes()).sum();
    let strips = Strips { parallelism: options.parallelism, workspace: Workspace::new(), numbers: Pool::default() };
    let (mut layers, mut done) = (Vec::with_capacity(work.len()), 0);
    for (entry, part, types) in work {
        let mut step = |bytes: u64| {
            let progress = Progress { done: done + bytes, total, tensor: &entry.spec.name };
            go_on(tell(MergeEvent::Portion(progress)), &entry.spec.name)
        };
        layers.push(look_at(options, part, entry, types, &strips, &mut step)?);
        done += entry.source.num_bytes();
    }
    Ok(PreservedReport { layers, warnings })
}

fn go_on(flow: ControlFlow<()>, at: &str) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted {
            what: "verify",
            expected: "to run to its end",
            got: format!("an interruption at `{at}`"),
        }),
    }
}

fn look_at(
    options: &PreservedOptions,
    part: Part<'_>,
    entry: &Entry<'_>,
    types: Types,
    strips: &Strips,
    step: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<PreservedLayer> {
    let start = Instant::now();
    let shape = &entry.source.shape;
    let sides = part.sides(shape, Strength::Whole)?.shed();
    sides.matrix(shape)?;
    let defect = defect_of(&sides)?;
    let scale = sides.scale.clone().unwrap_or_else(|| vec![1.0; shape.first().copied().unwrap_or(0)]);
    // Rows are what is rotated: the weight's own, or its columns.
    let is_across = sides.view == View::Weight && sides.left.is_some();
    let steps = [Step::merging(sides)];
    let beside = Beside::new(entry, &steps, types, strips, &mut |bytes| step(bytes / 2))?;
    let rounding = beside.rounding(&steps, shape, strips)?;
    drop(steps);
    let Beside { rows, n, mut before, mut after } = beside;
    let moved = Moved::of(&before, &after).relative();
    let grown = Change(frobenius(&after)).in_units_of(frobenius(&before));
    let lost = rounding.map(|rounding| capped(Change(rounding * grown).in_units_of(moved)));
    let values = |weight: &[f64]| Values::of(options, rows, n, weight);
    let is_scaled = scale.iter().any(|s| *s != 1.0);
    let ends = if is_scaled { Some((values(&before).largest, values(&after).largest)) } else { None };
    let all = entry.source.num_bytes();
    step(all / 8 * 5)?;
    if is_across {
        // s comes after L: it is taken out of W' again.
        if let Some(at) = scale.iter().position(|s| *s == 0.0) {
            let expected = "a scale without zeros, to compare what is left of the outputs";
            return Err(tensor_error(
                part.adapter.file().path(),
                part.layer.first(),
                expected,
                format!("0 for output {at}"),
            ));
        }
        after.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&scale).for_each(|(w, s)| *w /= s));
    } else {
        before.chunks_exact_mut(n).zip(&scale).for_each(|(row, s)| row.iter_mut().for_each(|w| *w *= s));
    }
    let mut turned = values(&before);
    step(all / 8 * 6)?;
    let mut new = values(&after);
    if turned.all.is_some() != new.all.is_some() {
        // faer gave one of them up: lower bounds are compared with lower bounds.
        turned = Values::largest(options, rows, n, &before);
        new = Values::largest(options, rows, n, &after);
    }
    step(all / 8 * 7)?;
    let eps = types.to.eps() + 8.0 * f64::EPSILON;
    let compare = NeuronOptions { eps, most: options.neurons, seed: options.seed, parallelism: options.parallelism };
    let found = neurons(n, &before, &after, compare)
        .map_err(|e| tensor_error(entry.file.path(), &entry.source.name, "finite numbers", e))?;
    step(all)?;
    let change = turned.largest_change(&new);
    let ratio = larger(found.ratio, change.in_units_of(0.5 * eps * frobenius(&before)));
    let smallest = scale.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = scale.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let Neurons { cosine_max, cosine_rms, norm_max, energy_before, energy_after, .. } = found;
    Ok(PreservedLayer {
        name: part.layer.module.clone(),
        rows,
        n,
        dtype: types.to.to_string(),
        scale: is_scaled.then_some([smallest, largest]),
        change: capped(moved),
        lost,
        neurons: found.compared,
        sampled: found.sampled,
        pairs: found.pairs,
        cosine_max: capped(cosine_max),
        cosine_rms: capped(cosine_rms),
        norm_max: capped(norm_max),
        energy: [capped(energy_before), capped(energy_after)],
        spectral_norm: [capped(ends.map_or(turned.largest, |e| e.0)), capped(ends.map_or(new.largest, |e| e.1))],
        all_singular_values: turned.all.is_some() && new.all.is_some(),
        singular_max: capped(change.in_units_of(turned.largest)),
        defect: capped(defect),
        ratio: capped(ratio),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Singular values of a weight, as far as they were asked for.
struct Values {
    all: Option<Vec<f64>>,
    largest: f64,
}

impl Values {
    fn of(options: &PreservedOptions, rows: usize, n: usize, weight: &[f64]) -> Self {
        if rows.min(n) <= options.singular_values
            && let Some(all) = singular::all(rows, n, weight)
        {
            return Self { largest: all.first().copied().unwrap_or(0.0), all: Some(all) };
        }
        Self::largest(options, rows, n, weight)
    }

    fn largest(options: &PreservedOptions, rows: usize, n: usize, weight: &[f64]) -> Self {
        Self { all: None, largest: singular::largest(rows, n, weight, options.parallelism) }
    }

    fn largest_change(&self, after: &Self) -> Change {
        Change(match (&self.all, &after.all) {
            (Some(old), Some(new)) => old.iter().zip(new).fold(0.0, |worst, (a, b)| larger(worst, (a - b).abs())),
            _ => (self.largest - after.largest).abs(),
        })
    }
}

#[derive(Clone, Copy)]
struct Change(f64);

impl Change {
    /// No change is none, in any unit.
    fn in_units_of(self, unit: f64) -> f64 {
        if self.0 == 0.0 { 0.0 } else { self.0 / unit }
    }
}

/// The larger one; infinite if a number is none.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b) }
}

fn capped(x: f64) -> f64 {
    if x.is_nan() { f64::MAX } else { x.min(f64::MAX) }
}

/// ‖W‖_F, without overflow.
fn frobenius(weight: &[f64]) -> f64 {
    let unit = weight.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    if unit == 0.0 { 0.0 } else { unit * weight.iter().map(|x| (x / unit) * (x / unit)).sum::<f64>().sqrt() }
}
