//! Dialects: what the tensors of a layer mean. One file each.
//!
//! A dialect names its parameters and how keys are spelled, checks the shapes of a layer's tensors, and turns their numbers
//! into [`Sides`], W' = diag(s)·L·W·Rᵀ, and gradients back. Everything foreign ends here: index orders, signs, halves,
//! transposes, meanings that changed from version to version.
//!
//! A dialect is one row of a table. Which one a file is written in is told by its keys, its shapes and its
//! configuration. Where these leave a choice that would change the result, opening fails and asks for a [`Hint`].

use core::fmt::Debug;
use std::collections::BTreeMap;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use super::config::PeftConfig;
use super::method::Method;
use super::sides::{Sides, SidesGradient};
use crate::error::{Error, Result};
use crate::storage::{TensorInfo, field_error, tensor_error};

pub(super) mod keys;
mod kohya;
mod lycoris;
mod onetrainer;
pub mod peft_boft;
mod peft_hra;
mod peft_oft;
pub mod peft_psoft;
mod peft_road;
mod skew;

pub use peft_oft::oft_chart;

use keys::{Grammar, Parameter};

/// Numbers of a layer by the names of their parameters.
pub type Numbers = BTreeMap<&'static str, Vec<f64>>;

/// Tensors of a layer, likewise.
pub(super) type Tensors = BTreeMap<&'static str, TensorInfo>;

/// Which side of the weight is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// R: W' = W·Rᵀ.
    Input,
    /// L: W' = L·W.
    Output,
}

impl Side {
    /// `input` or `output`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Size and kind of a layer's rotation, as its tensors have it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Structure {
    /// The method, with what changes its meaning: `BOFT`, `OFT, Cayley-Neumann with 5 terms`.
    pub method: String,
    /// The rotated side.
    pub side: Side,
    /// Size of the rotated space; `None` if only the weight tells, because all blocks are one.
    pub n: Option<usize>,
    /// Block size b; n for a product of reflections.
    pub block: usize,
    /// Stages m (butterfly factors), or reflections.
    pub stages: usize,
    /// Free parameters of the rotation.
    pub parameters: usize,
    /// Factors of the outputs, if the layer scales them.
    pub outputs: Option<usize>,
    /// The method that layers are trained by here, if it is one, with its sizes. One stored block counts as shared.
    pub trained: Option<Method>,
}

/// The tensors of one layer, their shapes checked: a value of its dialect.
pub(super) trait Form: Debug + Send + Sync {
    /// Size and kind.
    fn structure(&self) -> Structure;

    /// The sides at these numbers. `weight` is the shape of the base's weight; without it, what depends on it is as small as
    /// the tensors allow.
    fn sides(&self, numbers: &Numbers, weight: Option<&[usize]>) -> Result<Sides>;

    /// [`sides`](Self::sides) of numbers that nobody else needs, which may be let go before blocks are made of them.
    fn sides_from(&self, numbers: Numbers, weight: Option<&[usize]>) -> Result<Sides> {
        self.sides(&numbers, weight)
    }

    /// Gradients for the stored numbers from those for the sides: the adjoint of the derivative of `sides`.
    fn pull(&self, numbers: &Numbers, weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers>;

    /// Whether a weight of this shape fits; what does not, if not.
    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit>;

    /// The rotated core of a low-rank part, for methods that add one.
    fn core(&self, _numbers: &Numbers) -> Option<Result<peft_psoft::Core>> {
        None
    }

    /// Gradients for the stored numbers from that for the core's rotation.
    fn pull_core(&self, _numbers: &Numbers, _d_rotation: &[f64]) -> Option<Result<Numbers>> {
        None
    }

    /// The first k factors alone. Of forms with one factor that is all for k ≥ 1.
    fn truncate(&self, numbers: &Numbers, weight: Option<&[usize]>, k: usize) -> Result<Sides> {
        self.sides(numbers, weight)?.truncate(if k > 0 { usize::MAX } else { 0 })
    }

    /// Whether the bias turns along.
    fn turns_bias(&self) -> bool {
        false
    }

    /// Fraction `t` of the layer's effect.
    fn interpolate(&self, numbers: &Numbers, weight: Option<&[usize]>, t: f64) -> Result<Sides> {
        self.sides(numbers, weight)?.interpolate(t)
    }
}

/// Why a layer and a weight do not go together.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The parameter that shows it; the layer's first if it has none of that name.
    pub(super) parameter: &'static str,
    /// What should be, if it is not just another size.
    pub(super) expected: Option<String>,
    /// What is.
    pub(super) got: String,
}

impl Misfit {
    fn new(parameter: &'static str, got: String) -> Self {
        Self { parameter, expected: None, got }
    }
}

/// What the user says of a file that does not say it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// A version of PEFT, such as (0, 13): `peft-0.13.2`.
    Peft(u32, u32),
    /// `lycoris`
    Lycoris,
    /// `kohya`
    Kohya,
    /// `onetrainer`
    OneTrainer,
}

impl core::str::FromStr for Hint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let version = |text: &str| {
            let mut parts = text.split('.').map(str::parse::<u32>);
            let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
            parts.all(|part| part.is_ok()).then_some(Self::Peft(major, minor))
        };
        let hint = match text {
            "lycoris" => Some(Self::Lycoris),
            "kohya" => Some(Self::Kohya),
            "onetrainer" => Some(Self::OneTrainer),
            _ => text.strip_prefix("peft-").and_then(version),
        };
        let expected = "peft-VERSION such as peft-0.13.2, lycoris, kohya or onetrainer";
        hint.ok_or_else(|| Error::Domain { what: "dialect".to_string(), expected, got: format!("`{text}`") })
    }
}

/// What a dialect may look at besides the tensors of a layer.
pub(super) struct Context<'a> {
    /// The file, for messages.
    pub(super) path: &'a Path,
    pub(super) config: Option<&'a PeftConfig>,
    pub(super) hint: Option<Hint>,
    /// Whether the file holds `boft_P`.
    pub(super) has_permutations: bool,
}

impl Context<'_> {
    /// The version of PEFT that wrote the file: what the configuration says, or else what the user says.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) for a version in the configuration that is none, if the user says nothing.
    pub(super) fn peft_version(&self) -> Result<Option<(u32, u32)>> {
        let told = match self.hint {
            Some(Hint::Peft(major, minor)) => Some((major, minor)),
            _ => None,
        };
        let Some(text) = self.config.and_then(|config| config.peft_version.as_ref()) else { return Ok(told) };
        // `0.18.1`, `0.19.0.dev0`, `0.18rc1`
        let mut parts = text.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u32>().ok()
        });
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => Ok(Some((major, minor))),
            _ if told.is_some() => Ok(told),
            _ => {
                let path = self.path.with_file_name("adapter_config.json");
                Err(field_error(&path, "peft_version", "a version such as 0.18.1", format!("`{text}`")))
            }
        }
    }

    /// The configuration, which `why` needs.
    pub(super) fn need_config(&self, tensor: &TensorInfo, why: &str) -> Result<&PeftConfig> {
        self.config.ok_or_else(|| {
            tensor_error(self.path, &tensor.name, format!("adapter_config.json beside the file ({why})"), "none")
        })
    }
}

/// One dialect.
pub(super) struct Dialect {
    /// Its name.
    pub(super) name: &'static str,
    /// `peft_type` of its configurations.
    pub(super) methods: &'static [&'static str],
    /// How its keys are spelled.
    pub(super) grammar: Grammar,
    /// What a layer may hold; the first one that is there tells the dialect.
    pub(super) parameters: &'static [Parameter],
    /// Checks a layer.
    pub(super) form: fn(&Tensors, &Context<'_>) -> Result<Arc<dyn Form>>,
}

/// All of them.
pub(super) const DIALECTS: &[Dialect] = &[
    peft_boft::DIALECT,
    peft_oft::DIALECT,
    peft_hra::DIALECT,
    peft_road::DIALECT,
    peft_psoft::DIALECT,
    lycoris::DIALECT,
    kohya::DIALECT,
    onetrainer::DIALECT,
];

/// The tensor of a parameter that a layer must have.
pub(super) fn need<'a>(tensors: &'a Tensors, name: &'static str, cx: &Context<'_>) -> Result<&'a TensorInfo> {
    tensors
        .get(name)
        .ok_or_else(|| tensor_error(cx.path, any(tensors), format!("a {name} of the same module beside it"), "none"))
}

/// The name of one tensor of a layer, for messages about all.
pub(super) fn any(tensors: &Tensors) -> &str {
    tensors.values().next().map_or("", |tensor| tensor.name.as_str())
}

/// The numbers of a parameter, as many as the layer's shapes say.
pub(super) fn numbers<'a>(all: &'a Numbers, name: &'static str, count: usize) -> Result<&'a [f64]> {
    let found = all.get(name).map_or(&[][..], Vec::as_slice);
    crate::error::check_length(name, count, found.len())?;
    Ok(found)
}

/// The length of a row and the number of rows of a weight of this shape: (outputs, inputs).
pub(super) fn extents(weight: &[usize]) -> (usize, usize) {
    let inner = weight.iter().skip(1).try_fold(1usize, |n, &extent| n.checked_mul(extent));
    (weight.first().copied().unwrap_or(0), inner.unwrap_or(usize::MAX))
}
