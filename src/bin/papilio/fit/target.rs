//! What is to be fitted, as users name it: a file, or a matrix that is made here, with or without noise.

use std::path::Path;

use clap::ValueEnum;
use papilio::fit::{Group, Target};
use papilio::storage::Matrix;
use papilio::{Plan, StageLayout, Wide, c64, synthesis};

use crate::text::printable;

/// The largest matrix that is made here: half a gigabyte.
const MOST: usize = 1 << 13;

/// A matrix by name.
struct Kind {
    name: &'static str,
    made: Made,
}

enum Made {
    /// A transform with a constructor, and the constructor's name.
    Known(fn(usize) -> papilio::Result<Plan<f64>>, &'static str),
    Fourier,
    Haar,
    Planted,
}

const fn known(name: &'static str, plan: fn(usize) -> papilio::Result<Plan<f64>>, constructor: &'static str) -> Kind {
    Kind { name, made: Made::Known(plan, constructor) }
}

const KINDS: &[Kind] = &[
    known("hadamard", synthesis::hadamard, "hadamard"),
    Kind { name: "dft", made: Made::Fourier },
    known("dct", synthesis::dct2, "dct2"),
    known("dct2", synthesis::dct2, "dct2"),
    known("dct3", synthesis::dct3, "dct3"),
    known("dct4", synthesis::dct4, "dct4"),
    known("dst", synthesis::dst2, "dst2"),
    known("dst2", synthesis::dst2, "dst2"),
    known("dst3", synthesis::dst3, "dst3"),
    known("dst4", synthesis::dst4, "dst4"),
    known("real-dft", synthesis::real_dft, "real_dft"),
    known("hartley", synthesis::hartley, "hartley"),
    known("wavelet", synthesis::haar, "haar"),
    Kind { name: "haar", made: Made::Haar },
    Kind { name: "planted", made: Made::Planted },
    Kind { name: "identity", made: Made::Known(|n| synthesis::signs(&vec![false; n]), "signs") },
];

/// Which order of a matrix is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Columns, as fast Fourier transforms take them
    Inputs,
    /// Rows
    Outputs,
}

/// What the command line says.
pub(crate) struct Request<'a> {
    /// A file, or `KIND:N`; then perhaps `noise:SIGMA`.
    pub(crate) words: &'a [String],
    pub(crate) tensor: Option<&'a str>,
    pub(crate) project: bool,
    pub(crate) bit_reversed: Option<Side>,
    pub(crate) complex: bool,
    pub(crate) group: Group,
    pub(crate) seed: u64,
}

/// A target over the field that it needs.
pub(crate) enum Given {
    Real(Target<f64>),
    Complex(Target<c64>),
}

/// A target and what there is to tell about it.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) given: Given,
    /// ‖target − file‖_F, where the file was not orthogonal to the last digit.
    pub(crate) moved: Option<f64>,
    /// The constructor that has it exactly, and its stages.
    pub(crate) known: Option<(&'static str, usize)>,
}

impl Request<'_> {
    /// The target. Sizes decide wirings, and planted targets need them: `layouts` has those of n coordinates.
    pub(crate) fn target(&self, layouts: impl Fn(usize) -> Result<Vec<StageLayout>, String>) -> Result<Named, String> {
        let told = |e: papilio::Error| e.to_string();
        let [first, rest @ ..] = self.words else { return Err("expected a target".into()) };
        let mut sigma = None;
        for word in rest {
            let value = word.strip_prefix("noise:").and_then(|value| value.parse::<f64>().ok());
            match value.filter(|s| s.is_finite() && *s >= 0.0) {
                Some(value) if sigma.is_none() => sigma = Some(value),
                _ => {
                    let word = printable(word);
                    return Err(format!("target: expected at most `noise:SIGMA` after `{first}`, got `{word}`"));
                }
            }
        }
        let mut found = match self.kind(first)? {
            Some((kind, n)) => self.made(kind, n, layouts)?,
            None => self.read(Path::new(first))?,
        };
        if let Some(side) = self.bit_reversed {
            found.given = match found.given {
                Given::Real(target) => Given::Real(bit_reversed(&target, side)?),
                Given::Complex(target) => Given::Complex(bit_reversed(&target, side)?),
            };
            found.name += if side == Side::Inputs { ", inputs bit-reversed" } else { ", outputs bit-reversed" };
            found.known = None;
        }
        if let Some(sigma) = sigma {
            found.given = match found.given {
                Given::Real(target) => Given::Real(target.with_noise(sigma, self.seed).map_err(told)?),
                Given::Complex(target) => Given::Complex(target.with_noise(sigma, self.seed).map_err(told)?),
            };
            found.name += &format!(", noise {sigma}");
            found.known = None;
        }
        if let (Given::Real(target), true) = (&found.given, self.complex) {
            let entries: Vec<c64> = target.entries().iter().map(|x| c64::from(*x)).collect();
            found.given = Given::Complex(Target::new(target.n(), &entries).map_err(told)?);
        }
        Ok(found)
    }

    /// The kind and size that a word names, if it is no file.
    fn kind(&self, word: &str) -> Result<Option<(&'static Kind, usize)>, String> {
        let Some((name, size)) = word.split_once(':').filter(|_| !Path::new(word).exists()) else { return Ok(None) };
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            let word = printable(word);
            return Err(format!("target: expected a file, or one of {} with its size, got `{word}`", names.join(", ")));
        };
        if let Some(tensor) = self.tensor {
            return Err(format!("--tensor {}: expected a file, got `{}`", printable(tensor), printable(word)));
        }
        match size.parse() {
            Ok(n) if (1..=MOST).contains(&n) => Ok(Some((kind, n))),
            _ => Err(format!("target: expected `{name}:N` with N from 1 to {MOST}, got `{}`", printable(word))),
        }
    }

    fn made(
        &self,
        kind: &Kind,
        n: usize,
        layouts: impl Fn(usize) -> Result<Vec<StageLayout>, String>,
    ) -> Result<Named, String> {
        let told = |e: papilio::Error| e.to_string();
        let mut known = None;
        let given = match (&kind.made, self.complex) {
            (Made::Known(plan, constructor), _) => {
                let plan = plan(n).map_err(told)?;
                known = Some((*constructor, plan.num_stages()));
                Given::Real(Target::of(&plan).map_err(told)?)
            }
            (Made::Fourier, _) => {
                let plan = synthesis::dft::<c64>(n).map_err(told)?;
                known = Some(("dft", plan.num_stages()));
                Given::Complex(Target::of(&plan).map_err(told)?)
            }
            (Made::Haar, false) => Given::Real(Target::haar(n, self.group, self.seed).map_err(told)?),
            (Made::Haar, true) => Given::Complex(Target::haar(n, self.group, self.seed).map_err(told)?),
            (Made::Planted, complex) => {
                let stages = layouts(n)?;
                if complex {
                    Given::Complex(Target::planted(n, &stages, self.group, self.seed).map_err(told)?)
                } else {
                    Given::Real(Target::planted(n, &stages, self.group, self.seed).map_err(told)?)
                }
            }
        };
        Ok(Named { name: format!("{}:{n}", kind.name), given, moved: None, known })
    }

    fn read(&self, path: &Path) -> Result<Named, String> {
        let told = |e: papilio::Error| e.to_string();
        let Matrix { name, n, kind, is_complex, data } = Matrix::read(path, self.tensor).map_err(told)?;
        let name = name.map_or_else(String::new, |name| format!(", tensor `{name}`"));
        let name = format!("{}{name}", path.display());
        let (given, moved) = if is_complex {
            let entries: Vec<c64> = data.as_chunks::<2>().0.iter().map(|&[re, im]| c64 { re, im }).collect();
            let (target, moved) = self.accept(&name, n, &entries, kind.eps())?;
            (Given::Complex(target), moved)
        } else {
            let (target, moved) = self.accept(&name, n, &data, kind.eps())?;
            (Given::Real(target), moved)
        };
        Ok(Named { name, given, moved: (moved > 0.0).then_some(moved), known: None })
    }

    /// The polar factor of a matrix that is orthogonal to the precision it was stored in, or that is to be projected.
    fn accept<W: Wide>(&self, name: &str, n: usize, entries: &[W], eps: f64) -> Result<(Target<W>, f64), String> {
        let found = if self.project { Target::project(n, entries) } else { Target::stored(n, entries, eps) };
        found.map_err(|e| {
            let advice = match e {
                papilio::Error::Domain { .. } if !self.project => {
                    " (--project fits the orthogonal matrix nearest to it, its polar factor)"
                }
                _ => "",
            };
            format!("{}: {e}{advice}", printable(name))
        })
    }
}

/// Q·P or P·Q with the permutation that reverses the bits of indices.
fn bit_reversed<W: Wide>(target: &Target<W>, side: Side) -> Result<Target<W>, String> {
    let n = target.n();
    if !n.is_power_of_two() {
        return Err(format!("--bit-reversed: expected n to be a power of 2, got {n}"));
    }
    let reversed = |j: usize| if n == 1 { 0 } else { j.reverse_bits() >> (usize::BITS - n.ilog2()) };
    let from = |i: usize, j: usize| match side {
        Side::Inputs => i * n + reversed(j),
        Side::Outputs => reversed(i) * n + j,
    };
    let entries: Vec<W> = (0..n * n).map(|at| target.entries()[from(at / n, at % n)]).collect();
    Target::new(n, &entries).map_err(|e| e.to_string())
}
