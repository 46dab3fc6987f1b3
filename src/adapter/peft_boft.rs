//! BOFT adapters as HuggingFace PEFT stores them (Liu et al. 2023, arXiv 2311.06243; PEFT 0.14 and later).
//!
//! For a module `mod` the file holds `base_model.model.<mod>.boft_R` of shape `[N, D, b, b]` and `….boft_s` of shape
//! `[out, 1]` (Linear) or `[1, out]` (Conv2d). With M = `boft_R[i, j]`,
//!
//! > S = ½(M − Mᵀ),  Q_ij = (I − S)(I + S)⁻¹,  R = B_{N−1} ··· B_1 B_0,  W' = diag(s)·W·Rᵀ,
//!
//! where factor B_i has the blocks Q_i0 … Q_i(D−1) on pairs of half-blocks at distance 2ⁱ·b/2. That is papilio's
//! [`Butterfly::boft`] with [`Cayley`] blocks, stage i = factor i, and θ the strict upper triangle of S. With N = 1 the
//! half-blocks are neighbours and b may be odd. A Conv2d weight `[out, c, kh, kw]` is taken as `[out, c·kh·kw]`.
//!
//! Only the skew part of M matters; optimisers keep M skew, but a symmetric part in a file is ignored, as PEFT does.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use crate::error::{Error, Result, check_length};
use crate::parametrization::Cayley;
use crate::plan::Plan;
use crate::scalar::Scalar;
use crate::topology::{BlockDiagonal, Butterfly};

/// The sizes of a `boft_R` tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// N, the number of butterfly factors.
    pub stages: usize,
    /// D, the number of blocks in a factor.
    pub blocks: usize,
    /// b, the size of a block.
    pub block: usize,
}

impl Shape {
    /// From the dimensions `[N, D, b, b]`.
    ///
    /// # Errors
    /// [`Error::Size`] for any other form, or an empty one.
    pub fn from_dims(dims: &[usize]) -> Result<Self> {
        match *dims {
            [stages, blocks, block, columns] if block == columns && stages.min(blocks).min(block) > 0 => {
                Ok(Self { stages, blocks, block })
            }
            _ => Err(Error::Size {
                what: "shape of boft_R",
                expected: "[N, D, b, b], all at least 1".into(),
                got: format!("{dims:?}"),
            }),
        }
    }

    /// d = D·b, the size of the rotated space.
    pub fn n(&self) -> usize {
        self.blocks.saturating_mul(self.block)
    }

    /// Free parameters of R: N·D·b(b−1)/2.
    pub fn num_params(&self) -> usize {
        let pairs = self.block.saturating_mul(self.block - self.block.min(1)) / 2;
        self.stages.saturating_mul(self.blocks).saturating_mul(pairs)
    }

    /// The plan of R, over any real scalar.
    ///
    /// # Errors
    /// [`Error::Size`] unless b is even and b·2ᴺ⁻¹ divides d (for N > 1).
    pub fn plan<T: Scalar<Wide = f64>>(&self) -> Result<Plan<T>> {
        if self.stages == 1 {
            Plan::new(self.n(), &BlockDiagonal::new(self.block), Cayley)
        } else {
            Plan::new(self.n(), &Butterfly::boft(self.stages, self.block)?, Cayley)
        }
    }

    /// θ from the stored M: for each block the strict upper triangle of ½(M − Mᵀ), row-major.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are N·D·b² numbers; [`Error::Size`] if memory does not suffice.
    pub fn theta(&self, stored: &[f64]) -> Result<Vec<f64>> {
        let b = self.block;
        check_length("boft_R", self.stages * self.blocks * b * b, stored.len())?;
        let mut theta = crate::storage::reserve(self.num_params()).map_err(|got| Error::Size {
            what: "parameters of boft_R",
            expected: "as many as fit into memory".into(),
            got,
        })?;
        for m in stored.chunks_exact(b * b) {
            theta.extend(upper(b).map(|(i, j)| 0.5 * m[i * b + j] - 0.5 * m[j * b + i]));
        }
        Ok(theta)
    }

    /// The adjoint of [`theta`](Self::theta): a gradient for θ as the gradient for M, which is skew:
    /// `G[i][j] = ½g`, `G[j][i] = −½g`.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are N·D·b(b−1)/2 numbers.
    pub fn stored_gradient(&self, d_theta: &[f64]) -> Result<Vec<f64>> {
        let (b, count) = (self.block, self.stages * self.blocks);
        check_length("gradient of theta", count * (b * (b - 1) / 2), d_theta.len())?;
        let mut stored = vec![0.0; count * b * b];
        let mut gradient = d_theta.iter();
        for block in stored.chunks_exact_mut(b * b) {
            for ((i, j), g) in upper(b).zip(&mut gradient) {
                block[i * b + j] = 0.5 * g;
                block[j * b + i] = -0.5 * g;
            }
        }
        Ok(stored)
    }
}

/// The strict upper triangle, row by row.
fn upper(b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..b).flat_map(move |i| (i + 1..b).map(move |j| (i, j)))
}

/// What a key of an adapter file stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// `boft_R` of a module, with the adapter's name if the key has one (`boft_R.default`).
    Blocks { module: &'a str, adapter: Option<&'a str> },
    /// `boft_s` of a module.
    Scale { module: &'a str, adapter: Option<&'a str> },
    /// `boft_P`, the permutation matrices that PEFT up to 0.12 stored with every layer. They follow from N and b.
    Permutation,
    /// A tensor of the base model, trained as a whole, with the adapter's name if the key has one.
    Whole { name: String, adapter: Option<&'a str> },
    /// The copy of a trained module from before the training (`original_module`).
    Untrained,
    /// Anything else.
    Unknown,
}

/// Reads a key: `base_model.model.<mod>.…`, as `save_pretrained` or `state_dict` of a `PeftModel` write it.
pub(super) fn parse_key(key: &str) -> Key<'_> {
    let stripped = key.strip_prefix("base_model.model.");
    let path = stripped.unwrap_or(key);
    if let Some((module, adapter)) = split_parameter(path, "boft_R") {
        return Key::Blocks { module, adapter };
    }
    if let Some((module, adapter)) = split_parameter(path, "boft_s") {
        return Key::Scale { module, adapter };
    }
    if split_parameter(path, "boft_P").is_some() {
        return Key::Permutation;
    }
    if path.contains(".original_module.") {
        return Key::Untrained;
    }
    if let Some((module, rest)) = path.split_once(".modules_to_save.") {
        // <mod>.modules_to_save.<adapter>.<parameter>
        return match rest.split_once('.') {
            Some((adapter, parameter)) => Key::Whole { name: format!("{module}.{parameter}"), adapter: Some(adapter) },
            None => Key::Unknown,
        };
    }
    match stripped {
        Some(path) => Key::Whole { name: path.replace(".base_layer.", "."), adapter: None },
        None => Key::Unknown,
    }
}

/// `<module>.<parameter>` or `<module>.<parameter>.<adapter>` as (module, adapter).
fn split_parameter<'a>(path: &'a str, parameter: &str) -> Option<(&'a str, Option<&'a str>)> {
    let module = |front: &'a str| front.strip_suffix(parameter)?.strip_suffix('.').filter(|m| !m.is_empty());
    if let Some(module) = module(path) {
        return Some((module, None));
    }
    let (front, adapter) = path.rsplit_once('.')?;
    Some((module(front)?, Some(adapter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_saved_and_live_models_are_understood() {
        let blocks = |module, adapter| Key::Blocks { module, adapter };
        let whole = |name: &str| Key::Whole { name: name.into(), adapter: None };
        let trained = |name: &str| Key::Whole { name: name.into(), adapter: Some("default") };
        assert_eq!(parse_key("base_model.model.a.b.boft_R"), blocks("a.b", None));
        assert_eq!(parse_key("base_model.model.a.b.boft_R.default"), blocks("a.b", Some("default")));
        assert_eq!(parse_key("a.boft_R"), blocks("a", None));
        let scale = Key::Scale { module: "a.b", adapter: Some("x") };
        assert_eq!(parse_key("base_model.model.a.b.boft_s.x"), scale);
        assert_eq!(parse_key("base_model.model.a.boft_P"), Key::Permutation);
        assert_eq!(parse_key("base_model.model.a.base_layer.bias"), whole("a.bias"));
        assert_eq!(parse_key("base_model.model.head.weight"), whole("head.weight"));
        assert_eq!(parse_key("base_model.model.head.modules_to_save.default.0.weight"), trained("head.0.weight"));
        assert_eq!(parse_key("base_model.model.head.original_module.weight"), Key::Untrained);
        for key in ["", ".", "boft_R", ".boft_R", "x", "lora_A.weight", "head.modules_to_save.x"] {
            assert_eq!(parse_key(key), Key::Unknown, "{key}");
        }
    }

    #[test]
    fn theta_ignores_the_symmetric_part_and_its_adjoint_is_skew() {
        let shape = Shape::from_dims(&[1, 2, 3, 3]).unwrap();
        let stored: Vec<f64> = (0..18).map(|i| f64::from(i * i % 7)).collect();
        let theta = shape.theta(&stored).unwrap();
        let symmetric: Vec<f64> =
            (0..18).map(|i| [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]][i % 9 / 3][i % 3]).collect();
        let shifted: Vec<f64> = stored.iter().zip(&symmetric).map(|(m, s)| m + s).collect();
        assert_eq!(shape.theta(&shifted).unwrap(), theta);
        // <theta(M), g> = <M, stored_gradient(g)>, exactly in these small numbers.
        let g = [1.0, -2.0, 4.0, 8.0, 16.0, -32.0];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gradient = shape.stored_gradient(&g).unwrap();
        assert_eq!(dot(&theta, &g), dot(&stored, &gradient));
        assert!((0..18).all(|i| gradient[i] == -gradient[i / 9 * 9 + i % 3 * 3 + i % 9 / 3]));
    }

    #[test]
    fn impossible_shapes_are_errors() {
        for dims in [&[][..], &[1, 4, 4], &[1, 4, 4, 5], &[0, 4, 4, 4], &[1, 0, 4, 4], &[1, 1, 0, 0], &[1; 5]] {
            assert!(Shape::from_dims(dims).is_err(), "{dims:?}");
        }
        let plan = |stages, blocks, block| Shape { stages, blocks, block }.plan::<f64>();
        assert!(plan(1, 5, 3).is_ok() && plan(3, 4, 2).is_ok() && plan(1, 4, 1).is_ok());
        assert!(plan(2, 4, 3).is_err() && plan(2, 5, 4).is_err() && plan(4, 4, 4).is_err());
        assert!(plan(usize::MAX, 4, 4).is_err());
    }
}
