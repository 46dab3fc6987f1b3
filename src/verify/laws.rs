//! The laws of [`Parametrization`] and [`Topology`] as functions, so that your own charts and wirings can be tested as
//! papilio's are.
//!
//! [`chart`] and [`topology`] check all of them on seeded cases; the others check one law each. A law is kept (`Ok`) or
//! broken (`Err`, a [`LawViolation`] that says which, where and by how much). A panic of the implementation is passed on: in a
//! test it fails the test, as it should.
//!
//! ```
//! use papilio::{parametrization::Cayley, topology::Butterfly, verify::laws};
//! for b in 1..=9 {
//!     laws::chart::<f64>(&Cayley, b, 7)?;
//! }
//! laws::topology(&Butterfly::classic(2), 0..=70)?;
//! # Ok::<(), laws::LawViolation>(())
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::gradient::chart_gradient;
use super::isometry::larger;
use super::sample::{inner, reals, scalars};
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::Error;
use crate::generator::Generator;
use crate::parametrization::Parametrization;
use crate::scalar::{Scalar, Wide};
use crate::topology::Topology;

/// A law that does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{subject} breaks the law `{law}`: expected {expected}, got {got}")]
#[non_exhaustive]
pub struct LawViolation {
    /// Which law.
    pub law: &'static str,
    /// Whose: the name of the chart or topology, with the case.
    pub subject: String,
    /// What the law asks for.
    pub expected: String,
    /// What was found.
    pub got: String,
}

/// Kept, or broken.
pub type Law = core::result::Result<(), LawViolation>;

/// Size of parameters at which [`chart`] looks: the identity's neighbourhood, ordinary, large, absurd.
pub const SCALES: [f64; 4] = [1e-3, 1.0, 30.0, 1e3];

/// Ratio ‖I − BᴴB‖₁ / (b·eps) that law 2 of [`Parametrization`] allows.
pub const BLOCK_RATIO: f64 = 2.0;

/// Everything that [`Parametrization`] promises, for blocks of size `b` and seeded parameters of all [`SCALES`]. The
/// derivatives are compared at scales up to 1, where differences resolve them.
///
/// A block size that the chart refuses with a typed error keeps the laws.
///
/// # Errors
/// The first law that is broken.
pub fn chart<W: Wide>(chart: &dyn Parametrization<W>, b: usize, seed: u64) -> Law {
    let params = match chart.num_params(b) {
        Ok(params) => params,
        Err(error) => return refusal(&error, "block size refused", chart.name(), b),
    };
    identity_at_zero(chart, b)?;
    let mut g = Generator::new(seed);
    for scale in SCALES {
        let theta = reals(&mut g, params, scale);
        orthogonal(chart, b, &theta)?;
        inverse_is_a_section(chart, b, &theta)?;
        pullback_accumulates(chart, b, &theta, g.next_u64())?;
        if scale <= 1.0 {
            pullback_is_exact(chart, b, &theta, g.next_u64())?;
            pushforward_is_the_derivative(chart, b, &theta, g.next_u64())?;
        }
    }
    inverse_refuses(chart, b)?;
    for count in [0, 1, 2, 3, 7, 8, 9, 17] {
        let theta = reals(&mut g, params * count, 1.0);
        batch_equals_single(chart, b, &theta, count, g.next_u64())?;
    }
    Ok(())
}

/// θ = 0 gives the identity, exactly; a diagonal of ±1 if the chart does not start at the identity (law 1).
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn identity_at_zero<W: Wide>(chart: &dyn Parametrization<W>, b: usize) -> Law {
    let case = Case::new("identity at zero", chart, b)?;
    let block = case.forward(&vec![0.0; case.params]);
    for (at, &x) in block.iter().enumerate() {
        let expected = if at / b == at % b { W::one() } else { W::zero() };
        let negated = !chart.starts_at_identity() && x == -expected;
        case.check(x == expected || negated, || {
            (format!("{expected:?} at ({}, {})", at / b, at % b), format!("{x:?}"))
        })?;
    }
    Ok(())
}

/// Blocks from finite θ are orthogonal to ratio ≤ [`BLOCK_RATIO`], unless the chart says that it is not exact (law 2).
/// Inexact ones must still be finite.
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn orthogonal<W: Wide>(chart: &dyn Parametrization<W>, b: usize, theta: &[f64]) -> Law {
    let case = Case::new("orthogonal", chart, b)?;
    case.check_theta(theta, 1)?;
    let block = case.forward(theta);
    let finite = block.iter().all(|x| x.abs().is_finite());
    case.check(finite, || ("finite entries".into(), format!("{block:?} at θ = {theta:?}")))?;
    if !chart.is_exact() {
        return Ok(());
    }
    let ratio = orthogonality_ratio(b, &block).map_err(|e| case.broken("a ratio".into(), e.to_string()))?;
    case.check(ratio <= BLOCK_RATIO, || {
        (format!("a ratio of at most {BLOCK_RATIO}"), format!("{ratio:.3} at θ = {theta:?}"))
    })
}

/// `vjp` is the exact adjoint of the derivative: it agrees with fourth-order differences to 1e-9 of its largest component
/// (law 3). For parameters of size 1 or below.
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn pullback_is_exact<W: Wide>(chart: &dyn Parametrization<W>, b: usize, theta: &[f64], seed: u64) -> Law {
    let case = Case::new("pullback is exact", chart, b)?;
    let error = chart_gradient(chart, b, theta, seed).map_err(|e| case.broken("a gradient".into(), e.to_string()))?;
    case.check(error <= 1e-9, || ("agreement with differences to 1e-9".into(), format!("{error:.3e} at θ = {theta:?}")))
}

/// `jvp` is the derivative whose adjoint `vjp` is: ⟨G, jvp(dθ)⟩ = ⟨vjp(G), dθ⟩ to 1e-13 of the sizes of the factors, for a seeded
/// G and dθ; and it overwrites (laws 4 and 6). For parameters of size 1 or below.
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn pushforward_is_the_derivative<W: Wide>(
    chart: &dyn Parametrization<W>,
    b: usize,
    theta: &[f64],
    seed: u64,
) -> Law {
    let case = Case::new("pushforward is the derivative", chart, b)?;
    case.check_theta(theta, 1)?;
    let mut g = Generator::new(seed);
    let (block, direction) = (case.forward(theta), reals(&mut g, case.params, 1.0));
    let (re, im) = (reals(&mut g, b * b, 1.0), reals(&mut g, b * b, 1.0));
    let cotangent: Vec<W> = re.into_iter().zip(im).map(|(re, im)| W::from_parts(re, im)).collect();
    let push = |dirt: f64| {
        let mut d_block = vec![W::from_real(dirt); b * b];
        chart.jvp(b, theta, &block, &direction, &mut d_block);
        d_block
    };
    let d_block = push(f64::NAN);
    let same = format!("{d_block:?}") == format!("{:?}", push(7.0));
    case.check(same, || ("the same bits whatever the block held".into(), "others".into()))?;
    let mut d_theta = vec![0.0; case.params];
    chart.vjp(b, theta, &block, &cotangent, &mut d_theta);
    let pushed = inner(&cotangent, &d_block).re();
    let pulled: f64 = d_theta.iter().zip(&direction).map(|(g, d)| g * d).sum();
    let norm = |squares: f64| Float::sqrt(squares);
    let entries = |x: &[W]| norm(x.iter().map(|x| x.abs() * x.abs()).sum());
    let parameters = |x: &[f64]| norm(x.iter().map(|x| x * x).sum());
    let size = larger(entries(&cotangent) * entries(&d_block), parameters(&d_theta) * parameters(&direction));
    let off = Float::abs(pushed - pulled);
    case.check(off <= 1e-13 * size, || {
        (format!("⟨vjp(G), dθ⟩ = {pulled:e}"), format!("⟨G, jvp(dθ)⟩ = {pushed:e} at θ = {theta:?}"))
    })
}

/// `vjp` adds to `d_theta`, and what it adds does not depend on what was there (laws 3 and 6).
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn pullback_accumulates<W: Wide>(chart: &dyn Parametrization<W>, b: usize, theta: &[f64], seed: u64) -> Law {
    let case = Case::new("pullback accumulates", chart, b)?;
    case.check_theta(theta, 1)?;
    let (block, cotangent) = (case.forward(theta), scalars::<W>(&mut Generator::new(seed), b * b));
    let pull = |mut d: Vec<f64>| {
        chart.vjp(b, theta, &block, &cotangent, &mut d);
        d
    };
    let once = pull(vec![0.0; case.params]);
    let size = once.iter().fold(0.0, |m, x| larger(m, Float::abs(*x)));
    let twice = pull(once.clone());
    for (i, (one, two)) in once.iter().zip(&twice).enumerate() {
        let off = Float::abs(two - 2.0 * one);
        let small = off <= 1e-13 * case.params as f64 * size;
        case.check(small, || (format!("{:e} after two calls, parameter {i}", 2.0 * one), format!("{two:e}")))?;
    }
    let again = pull(vec![0.0; case.params]);
    case.check(bits(&once) == bits(&again), || ("the same bits from the same arguments".into(), format!("{again:?}")))
}

/// `forward(inverse(B)) = B` for B = forward(θ), to a few roundings, wherever `inverse` does not return an error (law 5).
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn inverse_is_a_section<W: Wide>(chart: &dyn Parametrization<W>, b: usize, theta: &[f64]) -> Law {
    let case = Case::new("inverse is a section", chart, b)?;
    case.check_theta(theta, 1)?;
    let block = case.forward(theta);
    let mut found = vec![f64::NAN; case.params];
    if chart.inverse(b, &block, &mut found).is_err() {
        return Ok(());
    }
    let again = case.forward(&found);
    let column = |j: usize| (0..b).fold(0.0, |s, i| s + (again[i * b + j] - block[i * b + j]).abs());
    let ratio = (0..b).map(column).fold(0.0, larger) / (b as f64 * f64::EPSILON);
    case.check(ratio <= ORTHOGONAL, || {
        ("‖forward(inverse(B)) − B‖₁ ≤ 30·b·eps".into(), format!("{ratio:.3} of these units at θ = {theta:?}"))
    })
}

/// `inverse` returns [`Error::Domain`] for matrices that are not orthogonal: zero, twice the identity, NaN (its errors).
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn inverse_refuses<W: Wide>(chart: &dyn Parametrization<W>, b: usize) -> Law {
    let case = Case::new("inverse refuses", chart, b)?;
    for diagonal in [0.0, 2.0, f64::NAN] {
        let entry = |at: usize| if at / b == at % b { W::from_real(diagonal) } else { W::zero() };
        let block: Vec<W> = (0..b * b).map(entry).collect();
        let result = chart.inverse(b, &block, &mut vec![f64::NAN; case.params]);
        let refused = matches!(result, Err(Error::Domain { .. })) || b == 0;
        case.check(refused, || (format!("Error::Domain for {diagonal} times the identity"), format!("{result:?}")))?;
    }
    Ok(())
}

/// `forward_batch` gives every block the bits of `forward`, and overwrites; `vjp_batch` gives the gradients of `vjp` to a
/// few roundings, and accumulates. Twice the same arguments give the same bits (law 6). `theta` holds `count` blocks.
///
/// # Errors
/// The law is broken, or `b` refused.
pub fn batch_equals_single<W: Wide>(
    chart: &dyn Parametrization<W>,
    b: usize,
    theta: &[f64],
    count: usize,
    seed: u64,
) -> Law {
    let case = Case::new("batch equals single", chart, b)?;
    case.check_theta(theta, count)?;
    let of = |j: usize| &theta[j * case.params..(j + 1) * case.params];
    let single: Vec<W> = (0..count).flat_map(|j| case.forward(of(j))).collect();
    for dirt in [f64::NAN, 7.0] {
        let mut blocks = vec![W::from_real(dirt); count * b * b];
        chart.forward_batch(b, theta, &mut blocks);
        case.check(format!("{blocks:?}") == format!("{single:?}"), || {
            (format!("the blocks of forward, {count} of them"), first_difference(&single, &blocks))
        })?;
    }
    let cotangents: Vec<W> = scalars(&mut Generator::new(seed), count * b * b);
    let mut expected = vec![0.25; count * case.params];
    for (j, d) in expected.chunks_exact_mut(case.params.max(1)).enumerate() {
        let at = j * b * b..(j + 1) * b * b;
        chart.vjp(b, of(j), &single[at.clone()], &cotangents[at], d);
    }
    let pull = || {
        let mut d = vec![0.25; count * case.params];
        chart.vjp_batch(b, theta, &single, &cotangents, &mut d);
        d
    };
    let batched = pull();
    let size = expected.iter().fold(0.25, |m, x| larger(m, Float::abs(*x)));
    for (i, (x, y)) in expected.iter().zip(&batched).enumerate() {
        let close = Float::abs(x - y) <= 8.0 * (b * b) as f64 * f64::EPSILON * size;
        case.check(close, || (format!("{x:e}, the gradient of vjp, at {i}"), format!("{y:e}")))?;
    }
    case.check(bits(&batched) == bits(&pull()), || ("the same bits from the same arguments".into(), "others".into()))
}

/// Everything that [`Topology`] promises, for the given sizes: for every n a number of stages, or an [`Error::Size`] that
/// names what fits (law 1); layouts whose indices are in range and disjoint (law 2); and the same again (law 3).
///
/// # Errors
/// The first law that is broken.
pub fn topology(topology: &dyn Topology, sizes: impl IntoIterator<Item = usize>) -> Law {
    for n in sizes {
        match topology.num_stages(n) {
            Err(error) => refusal(&error, "size refused", topology.name(), n)?,
            Ok(stages) => {
                for k in 0..stages {
                    layout_is_valid(topology, n, k)?;
                }
                let again = topology.num_stages(n);
                if again != Ok(stages) {
                    let subject = format!("{} at n = {n}", topology.name());
                    let (expected, got) = (format!("{stages} stages again"), format!("{again:?}"));
                    return Err(LawViolation { law: "determinism", subject, expected, got });
                }
            }
        }
    }
    Ok(())
}

/// Stage `k` for vectors of length `n` names indices below n and none twice (law 2), and does so every time (law 3).
///
/// # Errors
/// The law is broken.
pub fn layout_is_valid(topology: &dyn Topology, n: usize, k: usize) -> Law {
    let broken = |law, expected: &str, got| {
        let subject = format!("{} at n = {n}, stage {k}", topology.name());
        LawViolation { law, subject, expected: expected.into(), got }
    };
    let layout = topology.stage(n, k);
    layout.validate(n).map_err(|error| broken("layout is valid", "distinct indices below n", error.to_string()))?;
    let mut seen = vec![false; n];
    for i in (0..layout.num_blocks()).flat_map(|j| layout.indices(j).collect::<Vec<_>>()) {
        if i >= n || core::mem::replace(&mut seen[i], true) {
            return Err(broken("layout is valid", "distinct indices below n", format!("index {i}")));
        }
    }
    let again = topology.stage(n, k);
    if again == layout { Ok(()) } else { Err(broken("determinism", "the same layout again", format!("{again:?}"))) }
}

/// A refusal keeps the laws if it is an [`Error::Size`] that names what fits.
fn refusal(error: &Error, law: &'static str, name: &str, size: usize) -> Law {
    match error {
        Error::Size { expected, .. } if !expected.is_empty() => Ok(()),
        other => Err(LawViolation {
            law,
            subject: format!("{name} at size {size}"),
            expected: "Error::Size with the sizes that fit".into(),
            got: format!("{other:?}"),
        }),
    }
}

/// One chart at one block size under one law.
struct Case<'a, W: Wide> {
    law: &'static str,
    chart: &'a dyn Parametrization<W>,
    b: usize,
    params: usize,
}

impl<'a, W: Wide> Case<'a, W> {
    fn new(law: &'static str, chart: &'a dyn Parametrization<W>, b: usize) -> core::result::Result<Self, LawViolation> {
        let mut case = Self { law, chart, b, params: 0 };
        case.params = chart.num_params(b).map_err(|e| case.broken("a supported block size".into(), e.to_string()))?;
        Ok(case)
    }

    /// `forward` into a block of NaN.
    fn forward(&self, theta: &[f64]) -> Vec<W> {
        let mut block = vec![W::from_real(f64::NAN); self.b * self.b];
        self.chart.forward(self.b, theta, &mut block);
        block
    }

    fn check_theta(&self, theta: &[f64], count: usize) -> Law {
        let expected = self.params * count;
        self.check(theta.len() == expected, || (format!("{expected} parameters"), theta.len().to_string()))
    }

    fn check(&self, holds: bool, report: impl FnOnce() -> (String, String)) -> Law {
        if holds {
            return Ok(());
        }
        let (expected, got) = report();
        Err(self.broken(expected, got))
    }

    fn broken(&self, expected: String, got: String) -> LawViolation {
        let subject = format!("{} with b = {}", self.chart.name(), self.b);
        LawViolation { law: self.law, subject, expected, got }
    }
}

fn bits(x: &[f64]) -> Vec<u64> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn first_difference<W: Scalar>(expected: &[W], got: &[W]) -> String {
    match expected.iter().zip(got).position(|(e, g)| format!("{e:?}") != format!("{g:?}")) {
        Some(at) => format!("{:?} instead of {:?} at {at}", got[at], expected[at]),
        None => format!("{} numbers", got.len()),
    }
}

#[cfg(test)]
mod tests;
