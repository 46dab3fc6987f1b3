//! Methods of PEFT's as layers are trained with them: which tensors, by which names, and the sides they stand for.
//!
//! This is what a training framework's door needs to know; it brings tensors, gradients and an optimiser.

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::dialect::{Structure, oft_chart, peft_boft};
use super::sides::Sides;
use crate::error::{Error, Result, check_length};
use crate::layout::{Sharing, StageLayout};
use crate::orthogonal::Orthogonal;
use crate::plan::{Plan, Source};

/// An adapter of PEFT's, with the sizes that its configuration has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// BOFT: a product of butterfly factors, and a scale for each output. Variables `boft_R` `[factors, n/block, block, block]`,
    /// of which the skew part counts, and `boft_s`.
    Boft {
        /// `boft_n_butterfly_factor`, m.
        factors: usize,
        /// `boft_block_size`, b: even unless there is one factor; b·2ᵐ⁻¹ divides the inputs.
        block: usize,
    },
    /// OFT as of PEFT 0.16: one block-diagonal factor. Variable `oft_R.weight` (`oft_embedding_R.weight` of an embedding)
    /// `[n/block or 1, block(block − 1)/2]`.
    Oft {
        /// `oft_block_size`, which divides the inputs.
        block: usize,
        /// `block_share`: one block serves the whole diagonal.
        share: bool,
        /// `num_cayley_neumann_terms` of PEFT 0.18, at least 2, where `use_cayley_neumann` is on; `None` is the exact
        /// Cayley map.
        terms: Option<u32>,
    },
}

/// The layer to adapt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerKind {
    /// Weight `[out, in]`; R turns the inputs.
    Linear,
    /// Weight `[out, c, kh, kw]`; R turns patches of c·kh·kw numbers.
    Conv2d,
    /// Table `[entries, n]`; R turns what is looked up. OFT alone.
    Embedding,
}

/// A tensor that is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name after the module's, as PEFT spells it.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What all its numbers are at first, which makes R = I and s = 1.
    pub start: u8,
}

/// A method on a layer of some shape: the plan of R, and the variables that hold its numbers.
///
/// ```
/// use papilio::adapter::{LayerKind, Method};
///
/// let boft = Method::Boft { factors: 2, block: 4 }.on(LayerKind::Linear, &[12, 16])?;
/// assert_eq!((boft.rotation().name, &boft.rotation().shape[..]), ("boft_R", &[2, 4, 4, 4][..]));
/// assert_eq!(boft.scale().unwrap().shape, [12, 1]);
/// let stored = vec![0.5; 2 * 4 * 4 * 4]; // symmetric, so its skew part is 0 and R = I
/// assert_eq!(boft.theta(&stored)?, vec![0.0; boft.plan().num_params()]);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trainable {
    method: Method,
    kind: LayerKind,
    plan: Plan<f64>,
    squares: Option<peft_boft::Shape>,
    /// Whether θ is −stored.
    negative: bool,
    rotation: Variable,
    scale: Option<Variable>,
}

impl Method {
    /// `peft_type` of its configurations.
    pub fn peft_type(&self) -> &'static str {
        match self {
            Self::Boft { .. } => "BOFT",
            Self::Oft { .. } => "OFT",
        }
    }

    /// Whether a layer of a file was trained by this very method: the same map, of the same sizes. One stored block of OFT's may
    /// be meant for all or be all there is, which the shape of the weight tells.
    pub fn made(self, layer: &Structure) -> bool {
        match (self, layer.trained) {
            (Self::Oft { block, terms, .. }, Some(Self::Oft { block: b, share: true, terms: t })) => {
                (block, terms) == (b, t)
            }
            (method, trained) => trained == Some(method),
        }
    }

    /// The method on a layer with a weight of this shape.
    ///
    /// # Errors
    /// [`Error::Size`] for a weight without outputs or inputs, and for blocks that do not fit; [`Error::Unsupported`] for BOFT
    /// on an embedding and for a series with nothing to train.
    pub fn on(self, kind: LayerKind, weight: &[usize]) -> Result<Trainable> {
        let rank = if kind == LayerKind::Conv2d { 4 } else { 2 };
        if weight.len() != rank || weight.contains(&0) {
            let (what, expected) = ("weight of a layer to adapt", "at least one output and one input".to_string());
            return Err(Error::Size { what, expected, got: format!("{weight:?}") });
        }
        let outputs = weight[0];
        let n = weight[1..].iter().try_fold(1usize, |n, extent| n.checked_mul(*extent)).unwrap_or(usize::MAX);
        match self {
            Self::Boft { .. } if kind == LayerKind::Embedding => {
                Err(Error::Unsupported { what: "method for an embedding", expected: "OFT", got: "BOFT".to_string() })
            }
            Self::Boft { factors, block } => {
                fits(n, block)?;
                let squares = peft_boft::Shape::from_dims(&[factors, n / block, block, block])?;
                let shape = vec![factors, n / block, block, block];
                let scale = if kind == LayerKind::Conv2d { vec![1, outputs] } else { vec![outputs, 1] };
                Ok(Trainable {
                    method: self,
                    kind,
                    plan: squares.plan()?,
                    squares: Some(squares),
                    negative: false,
                    rotation: Variable { name: "boft_R", shape, start: 0 },
                    scale: Some(Variable { name: "boft_s", shape: scale, start: 1 }),
                })
            }
            Self::Oft { block, share, terms } => {
                fits(n, block)?;
                let (chart, sign) = oft_chart(terms)?;
                let sharing = if share { Sharing::All } else { Sharing::PerBlock };
                let layout = StageLayout::contiguous(block, n / block);
                let plan = Plan::from_stages(n, [(layout, Source::Chart { chart, sharing })])?;
                let name = if kind == LayerKind::Embedding { "oft_embedding_R.weight" } else { "oft_R.weight" };
                let rows = if share { 1 } else { n / block };
                let shape = vec![rows, plan.num_params() / rows];
                let rotation = Variable { name, shape, start: 0 };
                Ok(Trainable { method: self, kind, plan, squares: None, negative: sign < 0.0, rotation, scale: None })
            }
        }
    }
}

impl Trainable {
    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The kind of layer.
    pub fn kind(&self) -> LayerKind {
        self.kind
    }

    /// The plan of R.
    pub fn plan(&self) -> &Plan<f64> {
        &self.plan
    }

    /// The variable of R.
    pub fn rotation(&self) -> &Variable {
        &self.rotation
    }

    /// That of the scale, if the method has one.
    pub fn scale(&self) -> Option<&Variable> {
        self.scale.as_ref()
    }

    /// The sizes of whole squares, if those are stored; else θ is stored, [perhaps](Self::is_negative) with its sign changed.
    pub fn squares(&self) -> Option<peft_boft::Shape> {
        self.squares
    }

    /// Whether −θ is stored: PEFT's series turn the other way.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// θ of the plan from the numbers of the [rotation](Self::rotation).
    ///
    /// # Errors
    /// [`Error::Length`] unless they are as many as its shape says.
    pub fn theta(&self, stored: &[f64]) -> Result<Vec<f64>> {
        if let Some(squares) = self.squares {
            return squares.theta(stored);
        }
        check_length(self.rotation.name, self.plan.num_params(), stored.len())?;
        Ok(stored.iter().map(|x| if self.negative { -x } else { *x }).collect())
    }

    /// The adjoint of [`theta`](Self::theta): a gradient for θ as one for what is stored.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many as the plan has parameters.
    pub fn stored_gradient(&self, mut d_theta: Vec<f64>) -> Result<Vec<f64>> {
        if let Some(squares) = self.squares {
            return squares.stored_gradient(&d_theta);
        }
        check_length("gradient of theta", self.plan.num_params(), d_theta.len())?;
        if self.negative {
            d_theta.iter_mut().for_each(|g| *g = -*g);
        }
        Ok(d_theta)
    }

    /// What the variables do to the weight.
    ///
    /// # Errors
    /// As [`theta`](Self::theta); [`Error::Domain`] for numbers that are not finite.
    pub fn sides(&self, stored: &[f64], scale: Option<Vec<f64>>) -> Result<Sides> {
        let rotation = Orthogonal::new(self.plan.clone(), self.theta(stored)?)?;
        let rotation = if self.kind == LayerKind::Embedding { rotation.adjoint() } else { rotation };
        Ok(Sides::right(rotation).scaled(scale))
    }
}

fn fits(n: usize, block: usize) -> Result<()> {
    if block > 0 && n.is_multiple_of(block) {
        return Ok(());
    }
    let expected: String = format!("a divisor of {n}, the inputs of the layer");
    Err(Error::Size { what: "block of an adapter", expected, got: block.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFT: Method = Method::Oft { block: 4, share: false, terms: Some(5) };

    #[test]
    fn stored_numbers_and_theta_are_adjoint() {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for method in [Method::Boft { factors: 2, block: 4 }, OFT, Method::Oft { block: 8, share: true, terms: None }] {
            let trainable = method.on(LayerKind::Conv2d, &[3, 2, 2, 4]).unwrap();
            let count = trainable.rotation().shape.iter().product();
            let stored: Vec<f64> = (0..count).map(|i| f64::from((i * i % 11) as u32) - 5.0).collect();
            let theta = trainable.theta(&stored).unwrap();
            assert_eq!(theta.len(), trainable.plan().num_params());
            let g: Vec<f64> = (0..theta.len()).map(|i| f64::from((i * 7 % 13) as u32) - 6.0).collect();
            let pulled = trainable.stored_gradient(g.clone()).unwrap();
            assert_eq!(dot(&theta, &g), dot(&stored, &pulled), "{method:?}"); // exact in these numbers
            assert!(trainable.theta(&stored[1..]).is_err() && trainable.stored_gradient(g[1..].to_vec()).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let boft = Method::Boft { factors: 2, block: 4 };
        let text = |method: Method, kind, weight: &[usize]| method.on(kind, weight).unwrap_err().to_string();
        for (got, want) in [
            (text(boft, LayerKind::Embedding, &[4, 16]), "method for an embedding: expected OFT, got BOFT"),
            (text(boft, LayerKind::Linear, &[4, 18]), "expected a divisor of 18"),
            (text(boft, LayerKind::Linear, &[0, 16]), "at least one output"),
            (text(boft, LayerKind::Conv2d, &[4, 16]), "at least one output"),
            (text(boft, LayerKind::Conv2d, &[4, usize::MAX, 2, 2]), "expected a divisor of"),
            (
                text(Method::Oft { block: 4, share: true, terms: Some(1) }, LayerKind::Linear, &[4, 8]),
                "at least 2 terms",
            ),
        ] {
            assert!(got.contains(want), "{got}\n  instead of\n{want}");
        }
    }
}
