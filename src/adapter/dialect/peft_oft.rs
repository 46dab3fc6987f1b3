//! OFT adapters as HuggingFace PEFT stores them (Qiu et al. 2023, arXiv 2306.07280; Cayley–Neumann: arXiv 2506.19847).
//!
//! One block-diagonal rotation, four formats. b is the block size, S skew, C(S) = (I − S)(I + S)⁻¹.
//!
//! | PEFT | tensors | W' | block |
//! |---|---|---|---|
//! | 0.7 – 0.13 | `oft_r` `[r or 1, b, b]`, b = ⌈out/r⌉ | Rᵀ·W, R cut off to out×out | C(S), S = ½(M − Mᵀ) |
//! | 0.14 – 0.15 | `oft_r` `[in/b or 1, b, b]`, `oft_s` `[out, 1]` | diag(s)·W·Rᵀ | likewise |
//! | 0.16 – 0.17 | `oft_R.weight` `[in/b or 1, b(b−1)/2]` | W·Rᵀ | C(S), or I + 2S + … + 2Sᴷ⁻¹; S has the vector as its upper triangle |
//! | 0.18 – | the same, and `oft_embedding_R.weight`: E' = E·R | W·Rᵀ | C(S), or I + 2S + … + 2Sᴷ⁻² + Sᴷ⁻¹ |
//!
//! The series (`use_cayley_neumann`, the default, K = `num_cayley_neumann_terms`) is near (I + S)(I − S)⁻¹ = C(S)ᵀ: the flag turns a
//! rotation round. Here it is [`CayleyNeumann`] or [`CayleySeries`] at θ = −S. Since 0.18, K = 1 is I, K = 2 is I + 2S, K = 3 is the
//! same as 4. One block (`block_share`) serves the whole diagonal. The bias stays as it is.
//!
//! *COFT* (`coft`, `eps`) shortens blocks: ‖S‖_F > e ⇒ S·e/‖S‖_F with e = eps/√(blocks stored) since 0.16; before,
//! e = eps·⌈out/r⌉²/√(blocks stored) and the whole M instead of S. PEFT does this in place before each use, so files may hold longer
//! blocks than were meant; gradients are those at the shortened block.
//!
//! Cut-off blocks (r does not divide out, up to 0.13) are not orthogonal: the last one is taken as it is, without parameters.

use std::borrow::Cow;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::skew::{block_of, pairs, pull_skew_part, skew_part};
use super::{Context, Dialect, Form, Misfit, Numbers, Side, Structure, Tensors, extents, numbers};
use crate::adapter::method::Method;
use crate::adapter::sides::{Sides, SidesGradient};
use crate::adapter::train::coft_limit;
use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::orthogonal::Orthogonal;
use crate::parametrization::{Cayley, CayleyNeumann, CayleySeries, Parametrization};
use crate::plan::{Plan, Source};
use crate::storage::{field_error, tensor_error};
use crate::topology::BlockDiagonal;

pub(super) const DIALECT: Dialect = Dialect {
    name: "peft-oft",
    methods: &["OFT"],
    grammar: Grammar::Peft,
    parameters: &[
        Parameter { tail: ".weight", ..Parameter::named("oft_R") },
        Parameter { tail: ".weight", ..Parameter::named("oft_embedding_R") },
        Parameter::named("oft_r"),
        Parameter::named("oft_s"),
    ],
    form,
};

/// How a block comes from its skew matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// C(S)
    Cayley,
    /// I + 2S + … + 2Sᴷ⁻² + Sᴷ⁻¹
    Neumann { terms: u32 },
    /// I + 2S + … + 2Sᴷ⁻¹
    Series { terms: u32 },
}

/// Where R acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// W·Rᵀ
    Input,
    /// E·R
    Embedding,
    /// Rᵀ·W
    Output,
}

/// A layer.
#[derive(Debug)]
pub(super) struct Layer {
    parameter: &'static str,
    /// Blocks stored.
    stored: usize,
    block: usize,
    /// Whole squares M, not triangles.
    squares: bool,
    map: Block,
    place: Place,
    scale: Option<usize>,
    /// eps of COFT.
    coft: Option<f64>,
    /// Whether one stored block is meant for all.
    may_share: bool,
    /// What the stored numbers are divided by.
    divisor: f64,
}

/// A layer of OneTrainer: triangles, the series of PEFT 0.18 with 5 terms, on the inputs; `divisor` divides what is stored.
pub(super) fn onetrainer(shape: &[usize], parameter: &'static str, divisor: f64) -> Option<Layer> {
    let [stored, count] = *shape else { return None };
    let block = block_of(count).filter(|_| stored > 0)?;
    let map = Block::Neumann { terms: 5 };
    let place = Place::Input;
    Some(Layer {
        parameter,
        stored,
        block,
        squares: false,
        map,
        place,
        scale: None,
        coft: None,
        may_share: true,
        divisor,
    })
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let (parameter, place) = match () {
        () if tensors.contains_key("oft_R") => ("oft_R", Place::Input),
        () if tensors.contains_key("oft_embedding_R") => ("oft_embedding_R", Place::Embedding),
        () if tensors.contains_key("oft_s") => ("oft_r", Place::Input),
        () => ("oft_r", Place::Output),
    };
    let tensor = super::need(tensors, parameter, cx)?;
    if let Some(other) = tensors.iter().find(|(name, _)| **name != parameter && **name != "oft_s") {
        return Err(tensor_error(
            cx.path,
            &other.1.name,
            "one format of OFT for a module",
            format!("also {}", tensor.name),
        ));
    }
    let squares = parameter == "oft_r";
    let unfit = |expected: &str| tensor_error(cx.path, &tensor.name, expected, format!("shape {:?}", tensor.shape));
    let (stored, block) = match tensor.shape[..] {
        [stored, b, c] if squares && stored.min(b) > 0 && b == c => (stored, b),
        [stored, count] if !squares && stored > 0 => {
            (stored, block_of(count).ok_or_else(|| unfit("rows of b(b − 1)/2 numbers"))?)
        }
        _ if squares => return Err(unfit("shape [blocks, b, b]")),
        _ => return Err(unfit("shape [blocks, b(b - 1)/2]")),
    };
    let scale = match tensors.get("oft_s") {
        Some(scale) if matches!(scale.shape[..], [_, 1]) => Some(scale.len()),
        Some(scale) => {
            return Err(tensor_error(cx.path, &scale.name, "shape [out, 1]", format!("{:?}", scale.shape)));
        }
        None => None,
    };
    let config = match squares {
        true => cx.config,
        false => Some(cx.need_config(tensor, "use_cayley_neumann tells which way an OFT adapter turns")?),
    };
    let fail = |field: &str, expected: &str| {
        let path = cx.path.with_file_name("adapter_config.json");
        field_error(&path, field, expected, "something else, or nothing")
    };
    let mut coft = None;
    if let Some(config) = config
        && config.flag("coft").unwrap_or(false)
    {
        let eps = config.number("eps").filter(|eps| *eps > 0.0);
        coft = Some(eps.ok_or_else(|| fail("eps", "a positive number, for coft"))?);
    }
    let map = match config {
        Some(config) if !squares => block_map(config, cx).map_err(|(field, expected)| fail(field, &expected))?,
        _ => Block::Cayley,
    };
    let may_share = config.and_then(|config| config.flag("block_share")).unwrap_or(true);
    let layer = Layer { parameter, stored, block, squares, map, place, scale, coft, may_share, divisor: 1.0 };
    layer.check().map_err(|e| tensor_error(cx.path, &tensor.name, "blocks for a rotation", e))?;
    Ok(Arc::new(layer))
}

/// The map that the configuration asks for; a field, and what is expected of it, if it does not say.
fn block_map(
    config: &crate::adapter::PeftConfig,
    cx: &Context<'_>,
) -> core::result::Result<Block, (&'static str, String)> {
    let neumann = config.flag("use_cayley_neumann");
    if !neumann.ok_or_else(|| ("use_cayley_neumann", "true or false".into()))? {
        return Ok(Block::Cayley);
    }
    let field = "num_cayley_neumann_terms";
    let terms = config.size(field).filter(|terms| (1..=64).contains(terms));
    let terms = terms.ok_or_else(|| (field, "a number of terms from 1 to 64".into()))? as u32;
    // `peft_version` is written since 0.18, and the series changed with it.
    let version = cx.peft_version().map_err(|_| ("peft_version", "a version such as 0.18.1".into()))?;
    Ok(if version.is_some_and(|version| version >= (0, 18)) {
        Block::Neumann { terms }
    } else {
        Block::Series { terms }
    })
}

impl Block {
    /// Chart and sign of θ against S; `None` is the identity.
    fn chart(self) -> Option<(Arc<dyn Parametrization<f64>>, f64)> {
        match self {
            Self::Cayley => Some((Arc::new(Cayley), 1.0)),
            Self::Neumann { terms: 1 } | Self::Series { terms: ..=1 } | Self::Neumann { terms: 0 } => None,
            Self::Neumann { terms: 2 } => Some((Arc::new(CayleySeries { order: 1 }), -1.0)),
            Self::Neumann { terms } => Some((Arc::new(CayleyNeumann { order: terms.max(4) - 1 }), -1.0)),
            Self::Series { terms } => Some((Arc::new(CayleySeries { order: terms - 1 }), -1.0)),
        }
    }
}

/// Chart and sign of θ for a rotation that is trained as PEFT 0.18 trains it: exact, or by a series of so many terms.
///
/// # Errors
/// [`Error::Unsupported`] for fewer than two terms, which leave nothing to train.
pub fn oft_chart(terms: Option<u32>) -> Result<(Arc<dyn Parametrization<f64>>, f64)> {
    let block = terms.map_or(Block::Cayley, |terms| Block::Neumann { terms });
    block.chart().ok_or_else(|| Error::Unsupported {
        what: "series of OFT",
        expected: "at least 2 terms",
        got: format!("{}", terms.unwrap_or_default()),
    })
}

impl Layer {
    /// Size of the rotated space for a weight of this shape, and whether the last block is cut off.
    fn n(&self, weight: Option<&[usize]>) -> (usize, bool) {
        let whole = self.stored.saturating_mul(self.block);
        let Some(weight) = weight else { return (whole, false) };
        let (out, inner) = extents(weight);
        match self.place {
            // Shared: as many as there is room for.
            Place::Input | Place::Embedding if self.is_shared() && inner % self.block == 0 => (inner, false),
            Place::Input | Place::Embedding => (whole, false),
            Place::Output if self.is_shared() || (whole >= out && whole - out < self.stored) => {
                (out, !out.is_multiple_of(self.block))
            }
            Place::Output => (whole, false),
        }
    }

    /// Whether the one block that is stored serves the whole diagonal. (A single one that does not share is all there is.)
    fn is_shared(&self) -> bool {
        self.stored == 1 && self.may_share
    }

    /// Whether the blocks exist.
    pub(super) fn check(&self) -> Result<()> {
        self.plan(None).map(|_| ())
    }

    /// The plan of R. A block that is cut off is left out.
    fn plan(&self, weight: Option<&[usize]>) -> Result<Plan<f64>> {
        let (n, _) = self.n(weight);
        let Some((chart, _)) = self.map.chart() else { return Plan::identity(n) };
        let sharing = if self.is_shared() { Sharing::All } else { Sharing::PerBlock };
        let layout = StageLayout::contiguous(self.block, n / self.block);
        Plan::from_stages(n, [(layout, Source::Chart { chart, sharing })])
    }

    /// The stored numbers as they are used: shortened by COFT.
    fn shortened<'a>(&self, all: &'a Numbers, weight: Option<&[usize]>) -> Result<Cow<'a, [f64]>> {
        let (b, size) = (self.block, if self.squares { self.block * self.block } else { pairs(self.block) });
        let mut stored = Cow::Borrowed(numbers(all, self.parameter, self.stored * size)?);
        let Some(eps) = self.coft else { return Ok(stored) };
        let rows = self.stored as f64;
        let most = if self.squares {
            // PEFT adjusts r to the width; up to 0.13 blocks are the output's own.
            let r = self.n(weight).0 / b;
            let out = self.scale.or(weight.map(|w| extents(w).0)).unwrap_or(r * b);
            let c = if self.place == Place::Output { b } else { out.div_ceil(r.max(1)) } as f64;
            eps * c * c / rows.sqrt()
        } else {
            // S has every number twice.
            coft_limit(eps as f32, self.stored) / 2f64.sqrt()
        };
        for block in stored.to_mut().chunks_exact_mut(size.max(1)) {
            let length = block.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length > most {
                block.iter_mut().for_each(|x| *x *= most / length);
            }
        }
        Ok(stored)
    }

    fn theta(&self, stored: &[f64]) -> Vec<f64> {
        let Some((_, sign)) = self.map.chart() else { return Vec::new() };
        if self.squares {
            return skew_part(self.block, stored, 0.5 * sign, |i| i);
        }
        stored.iter().map(|x| sign * x / self.divisor).collect()
    }

    /// The sides at this θ, of which a cut-off block takes the rest.
    fn at(&self, mut theta: Vec<f64>, weight: Option<&[usize]>) -> Result<Sides> {
        let (n, is_cut) = self.n(weight);
        let plan = self.plan(weight)?;
        // A shared cut-off rotation may have no whole block at all.
        let at = if self.is_shared() { 0 } else { plan.num_params() };
        let cut = if is_cut { theta[at..at + pairs(self.block)].to_vec() } else { Vec::new() };
        theta.truncate(plan.num_params());
        let mut rotation = Orthogonal::owning(plan, theta)?;
        if is_cut {
            let (b, whole) = (self.block, n / self.block * self.block);
            let mut last = vec![0.0; b * b];
            Cayley.forward(b, &cut, &mut last);
            let rest = n - whole;
            let corner: Vec<f64> = (0..rest * rest).map(|at| last[at / rest * b + at % rest]).collect();
            let table = (whole as u32..n as u32).collect::<Vec<_>>();
            let layout = StageLayout::Table { block: rest, index: table.into() };
            let corner = Plan::from_stages(n, [(layout, Source::Fixed(corner.into()))])?;
            rotation = rotation.then(&Orthogonal::new::<f64>(corner, [])?)?;
        }
        Ok(match self.place {
            Place::Input => Sides::right(rotation),
            Place::Embedding => Sides::right(rotation.into_adjoint()),
            Place::Output => Sides::left(rotation.into_adjoint()),
        })
    }

    fn scale(&self, all: &Numbers) -> Result<Option<Vec<f64>>> {
        let scale = self.scale.map(|outputs| numbers(all, "oft_s", outputs)).transpose()?;
        Ok(scale.map(<[f64]>::to_vec))
    }
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        let method = match self.map {
            Block::Cayley => "OFT".into(),
            Block::Neumann { terms } => format!("OFT, Cayley-Neumann of {terms} terms"),
            Block::Series { terms } => format!("OFT, Cayley-Neumann of {terms} terms as before PEFT 0.18"),
        };
        // Older files have other tensors, and their rotation is elsewhere.
        let is_current = !self.squares && self.coft.is_none() && self.scale.is_none() && self.divisor == 1.0;
        let terms = match self.map {
            Block::Cayley => Some(None),
            Block::Neumann { terms } => Some(Some(terms)),
            Block::Series { .. } => None,
        };
        let terms = terms.filter(|_| is_current && self.place != Place::Output);
        let method_of = |terms| Method::Oft { block: self.block, share: self.is_shared(), terms };
        Structure {
            trained: terms.map(method_of),
            method: if self.coft.is_some() { format!("{method}, constrained") } else { method },
            side: if self.place == Place::Output { Side::Output } else { Side::Input },
            n: (!self.is_shared()).then(|| self.n(None).0),
            block: self.block,
            stages: 1,
            parameters: self.stored.saturating_mul(pairs(self.block)),
            outputs: self.scale,
        }
    }

    fn sides(&self, all: &Numbers, weight: Option<&[usize]>) -> Result<Sides> {
        let theta = self.theta(&self.shortened(all, weight)?);
        Ok(self.at(theta, weight)?.scaled(self.scale(all)?))
    }

    fn sides_from(&self, numbers: Numbers, weight: Option<&[usize]>) -> Result<Sides> {
        let (theta, scale) = (self.theta(&self.shortened(&numbers, weight)?), self.scale(&numbers)?);
        drop(numbers);
        Ok(self.at(theta, weight)?.scaled(scale))
    }

    /// Of a rotation that is cut off, the whole one moves.
    fn interpolate(&self, all: &Numbers, weight: Option<&[usize]>, t: f64) -> Result<Sides> {
        if !self.n(weight).1 {
            return self.sides(all, weight)?.interpolate(t);
        }
        let theta = self.theta(&self.shortened(all, weight)?);
        let whole = Plan::<f64>::new(self.stored * self.block, &BlockDiagonal::new(self.block), Cayley)?;
        let moved = Orthogonal::new(whole, theta)?.interpolate(t)?;
        Ok(self.at(moved.theta().to_vec(), weight)?.scaled(self.scale(all)?))
    }

    fn pull(&self, all: &Numbers, weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        let d_theta = if self.place == Place::Output { &gradient.left } else { &gradient.right };
        if self.n(weight).1 {
            let (what, expected) = ("gradient of an OFT layer", "blocks that divide the outputs");
            return Err(Error::Unsupported { what, expected, got: "a cut-off one".into() });
        }
        let count = all.get(self.parameter).map_or(0, Vec::len);
        let mut stored = match self.map.chart() {
            None => Vec::new(),
            Some((_, sign)) if self.squares => pull_skew_part(self.block, d_theta, 0.5 * sign, |i| i),
            Some((_, sign)) => d_theta.iter().map(|g| sign * g / self.divisor).collect(),
        };
        stored.resize(count, 0.0);
        let mut pulled = Numbers::from([(self.parameter, stored)]);
        if self.scale.is_some() {
            pulled.insert("oft_s", gradient.scale.clone());
        }
        Ok(pulled)
    }

    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit> {
        let (n, _) = self.n(Some(shape));
        let (out, inner) = extents(shape);
        let have = if self.place == Place::Output { out } else { inner };
        if n != have {
            return Err(Misfit::new(
                self.parameter,
                format!("{} blocks of {} for a weight of shape {shape:?}", self.stored, self.block),
            ));
        }
        Ok(())
    }
}
