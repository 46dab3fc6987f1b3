//! What OFT preserves of a weight: the angles between its neurons, their lengths, their hyperspherical energy.
//!
//! A neuron is a row w_i of a weight [out, in]: the vector that one output is computed with. (Qiu et al. 2023, Controlling
//! text-to-image diffusion by orthogonal finetuning, arXiv 2306.07280, write neurons as columns of W⁰ ∈ R^{d×n}: the
//! transpose.) W·Rᵀ rotates every row, w_i ↦ R w_i, so for an orthogonal R all inner products of neurons stay, and with ŵ =
//! w/‖w‖ so do the cosines ŵ_i·ŵ_j and the hyperspherical energy (Liu et al. 2018, Learning towards minimum hyperspherical
//! energy, arXiv 1805.09298; s = 1)
//!
//! > E = Σ_{i≠j} 1/‖ŵ_i − ŵ_j‖.
//!
//! *Rounding.* Numbers rounded to a type with eps = 2u move a row by at most u of its length (while nothing underflows), so
//! a length changes by at most ½·eps of itself, a cosine by at most eps, a distance d by at most eps, and with it E by at
//! most about eps·Σ 1/d². [`Neurons::ratio`] is the largest of the changes in these units: about 1 or below if nothing
//! but rounding happened. Distances come from cosines, d² = 2 − 2·cos, or from differences where that would cancel.
//!
//! *Left out.* Rows of zeros have no direction. Pairs nearer than 4·eps count as parallel: their 1/d says nothing.
//! Of more neurons than asked for, a seeded sample is taken, and all its pairs.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::isometry::larger;
use super::panels::{PANEL, STRIP, at, gram, pack, tile};
use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::parallel::{Parallelism, for_each};

/// Below this d², 2 − 2·cos has lost too many digits.
const CLOSE: f64 = 1e-3;

/// How a weight's neurons are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuronOptions {
    /// Machine epsilon of the type that the numbers were rounded to.
    pub eps: f64,
    /// Neurons whose pairs are compared, at most; a sample of more.
    pub most: usize,
    /// Seed of the sample.
    pub seed: u64,
    /// Threads; the result has the same bits for all.
    pub parallelism: Parallelism,
}

impl Default for NeuronOptions {
    /// All pairs of up to 1024 neurons, numbers in double precision.
    fn default() -> Self {
        Self { eps: f64::EPSILON, most: 1024, seed: 0, parallelism: Parallelism::default() }
    }
}

/// What became of a weight's neurons.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Neurons {
    /// Neurons that were compared: all, or a sample, without those that are zero.
    pub compared: usize,
    /// Whether they are a sample.
    pub sampled: bool,
    /// Rows of zeros among those looked at, before or after; they have no direction.
    pub zero: usize,
    /// Pairs i < j that were compared.
    pub pairs: usize,
    /// Pairs nearer than 4·eps, left out of the energy.
    pub parallel: usize,
    /// Largest |Δcos| over the pairs.
    pub cosine_max: f64,
    /// Root mean square of Δcos over the pairs.
    pub cosine_rms: f64,
    /// Largest |‖w'_i‖/‖w_i‖ − 1|.
    pub norm_max: f64,
    /// Mean of 1/‖ŵ_i − ŵ_j‖ over the pairs, before: the hyperspherical energy is n(n − 1) times that for n neurons. 0
    /// without pairs.
    pub energy_before: f64,
    /// The same after.
    pub energy_after: f64,
    /// The largest change in units of what rounding may do: of lengths in ½·eps, of cosines in eps, of the energy in
    /// eps·Σ 1/d². About 1 or below for a rotation.
    pub ratio: f64,
}

/// Compares the rows of a weight (row-major, `n` numbers in a row) before and after.
///
/// Costs two products of k²·n/2 multiplications for k compared neurons, and 16·k·n bytes of memory.
///
/// ```
/// use papilio::verify::{NeuronOptions, neurons};
/// let before = [1.0, 0.0, 1.0, 1.0]; // rows at 45°
/// let turned = [0.0, 2.0, -1.0, 1.0]; // by 90°; the first is twice as long
/// let found = neurons(2, &before, &turned, NeuronOptions::default())?;
/// assert!(found.cosine_max < 1e-15 && (found.norm_max - 1.0).abs() < 1e-15);
/// assert!((found.energy_before - 1.3065629648763766).abs() < 1e-12); // 1 / (2·sin 22.5°)
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] if the weights are not as many whole rows; [`Error::Domain`] for NaN and infinities, and an `eps`
/// that is not positive, or `most` below 2.
pub fn neurons(n: usize, before: &[f64], after: &[f64], options: NeuronOptions) -> Result<Neurons> {
    check_length("weight before", before.len() / n.max(1) * n, before.len())?;
    check_length("weight after", before.len(), after.len())?;
    for weight in [before, after] {
        if let Some(at) = weight.iter().position(|x| !x.is_finite()) {
            let got = format!("{} in row {}", weight[at], at / n);
            return Err(Error::Domain { what: "weight".to_string(), expected: "finite numbers", got });
        }
    }
    if !(options.eps > 0.0 && options.eps.is_finite()) {
        let (what, expected) = ("eps of NeuronOptions".to_string(), "a positive finite number");
        return Err(Error::Domain { what, expected, got: options.eps.to_string() });
    }
    if options.most < 2 {
        let (what, expected) = ("most of NeuronOptions".to_string(), "at least 2, as pairs are compared");
        return Err(Error::Domain { what, expected, got: options.most.to_string() });
    }
    let rows = before.len() / n.max(1);
    let mut chosen: Vec<usize> = (0..rows).collect();
    if rows > options.most {
        Generator::new(options.seed).shuffle(&mut chosen);
        chosen.truncate(options.most);
        chosen.sort_unstable();
    }
    let looked_at = chosen.len();
    let mut norm_max = 0.0;
    let mut sizes = Vec::with_capacity(looked_at);
    chosen.retain(|&row| {
        let (old, new) = (Size::of(&before[row * n..][..n]), Size::of(&after[row * n..][..n]));
        if old.is_zero() && new.is_zero() {
            return false;
        }
        norm_max = larger(norm_max, Float::abs(new.over(old) - 1.0));
        let both = !old.is_zero() && !new.is_zero();
        if both {
            sizes.push([old, new]);
        }
        both
    });
    let directions = |weight: &[f64], which: usize| {
        pack(n, chosen.len(), |k, j| sizes[j][which].normalised(weight[chosen[j] * n + k]))
    };
    let panels = [directions(before, 0), directions(after, 1)];
    let strips = chosen.len().div_ceil(STRIP * PANEL);
    let mut sums = vec![Sums::default(); strips];
    for_each(options.parallelism, sums.iter_mut().enumerate().collect(), |(index, sums): (usize, &mut Sums)| {
        *sums = Sums::of_strip(&panels, n, chosen.len(), index, options.eps);
    });
    let sums = sums.into_iter().fold(Sums::default(), Sums::join);
    Ok(sums.report(&options, looked_at, chosen.len(), rows > options.most, norm_max))
}

/// The length of a row as unit·√squares, which does not overflow.
#[derive(Debug, Clone, Copy)]
struct Size {
    unit: f64,
    root: f64,
}

impl Size {
    fn of(row: &[f64]) -> Self {
        let unit = row.iter().fold(0.0, |most: f64, x| most.max(Float::abs(*x)));
        let root = if unit == 0.0 { 0.0 } else { Float::sqrt(squares(row, unit)) };
        Self { unit, root }
    }

    fn is_zero(self) -> bool {
        self.unit == 0.0
    }

    fn over(self, other: Self) -> f64 {
        if other.is_zero() { f64::INFINITY } else { (self.unit / other.unit) * (self.root / other.root) }
    }

    fn normalised(self, x: f64) -> f64 {
        x / self.unit / self.root
    }
}

/// Σ (x/unit)² in a tree: its rounding grows like log n, so that the lengths of long rows are known to eps.
fn squares(row: &[f64], unit: f64) -> f64 {
    if row.len() <= 16 {
        return row.iter().map(|x| (x / unit) * (x / unit)).sum();
    }
    let (left, right) = row.split_at(row.len() / 2);
    squares(left, unit) + squares(right, unit)
}

/// Sums over pairs.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    pairs: usize,
    apart: usize,
    cosine_max: f64,
    squares: f64,
    energy: [f64; 2],
    /// Σ 1/d², before.
    sensitivity: f64,
}

impl Sums {
    /// Over the pairs i < j with j in strip `index`.
    fn of_strip(panels: &[Vec<f64>; 2], n: usize, count: usize, index: usize, eps: f64) -> Self {
        let first = index * STRIP;
        let last = (first + STRIP).min(count.div_ceil(PANEL));
        let grams = [0, 1].map(|which| gram(&panels[which], &panels[which], n, first..last));
        let mut sums = Self::default();
        for p in 0..last {
            for q in first.max(p)..last {
                let tiles = [0, 1].map(|which| tile(&grams[which], p * (last - first) + q - first));
                for i in p * PANEL..count.min((p + 1) * PANEL) {
                    for j in (q * PANEL).max(i + 1)..count.min((q + 1) * PANEL) {
                        let place = (i % PANEL) * PANEL + j % PANEL;
                        let cosine = [tiles[0][place], tiles[1][place]];
                        let distance = [0, 1].map(|which| distance(cosine[which], &panels[which], n, i, j));
                        sums.add(cosine, distance, eps);
                    }
                }
            }
        }
        sums
    }

    fn add(&mut self, cosine: [f64; 2], distance: [f64; 2], eps: f64) {
        let change = Float::abs(cosine[1] - cosine[0]);
        self.pairs += 1;
        self.cosine_max = larger(self.cosine_max, change);
        self.squares += change * change;
        if distance[0] > 4.0 * eps {
            self.apart += 1;
            self.energy[0] += 1.0 / distance[0];
            self.energy[1] += 1.0 / distance[1];
            self.sensitivity += 1.0 / (distance[0] * distance[0]);
        }
    }

    fn join(self, next: Self) -> Self {
        Self {
            pairs: self.pairs + next.pairs,
            apart: self.apart + next.apart,
            cosine_max: larger(self.cosine_max, next.cosine_max),
            squares: self.squares + next.squares,
            energy: [self.energy[0] + next.energy[0], self.energy[1] + next.energy[1]],
            sensitivity: self.sensitivity + next.sensitivity,
        }
    }

    fn report(
        self,
        options: &NeuronOptions,
        looked_at: usize,
        compared: usize,
        sampled: bool,
        norm_max: f64,
    ) -> Neurons {
        let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
        let energy = Float::abs(self.energy[1] - self.energy[0]);
        let of_energy = if energy == 0.0 { 0.0 } else { energy / (options.eps * self.sensitivity) };
        let of_lengths = larger(norm_max / (0.5 * options.eps), self.cosine_max / options.eps);
        Neurons {
            compared,
            sampled,
            zero: looked_at - compared,
            pairs: self.pairs,
            parallel: self.pairs - self.apart,
            cosine_max: self.cosine_max,
            cosine_rms: Float::sqrt(mean(self.squares, self.pairs)),
            norm_max,
            energy_before: mean(self.energy[0], self.apart),
            energy_after: mean(self.energy[1], self.apart),
            ratio: larger(of_lengths, of_energy),
        }
    }
}

/// ‖ŵ_i − ŵ_j‖.
fn distance(cosine: f64, panels: &[f64], n: usize, i: usize, j: usize) -> f64 {
    let square = 2.0 - 2.0 * cosine;
    if square > CLOSE {
        return Float::sqrt(square);
    }
    let difference = |k: usize| at(panels, n, k, i) - at(panels, n, k, j);
    Float::sqrt((0..n).map(|k| difference(k) * difference(k)).sum())
}

#[cfg(test)]
mod tests;
