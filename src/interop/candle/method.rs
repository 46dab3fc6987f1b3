//! What is trained on a layer: PEFT's methods, their variables by name, and the sides they stand for.

use std::string::ToString;

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::door;
use super::numbers::wide_tensor;
use super::rotate::{RealPlan, Stored, defect};
use crate::adapter::peft_boft;
use crate::adapter::{Sides, dialect::oft_chart};
use crate::error::Error;
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

/// A method on a layer: structure, and variables.
#[derive(Debug, Clone)]
pub(super) struct Adapted {
    pub(super) plan: Plan<f64>,
    /// The same for the numbers of the layer.
    pub(super) fitted: RealPlan,
    pub(super) stored: Stored,
    /// `boft_R` or `oft_R.weight`.
    parameters: Tensor,
    /// Whether θ is −`parameters`.
    negative: bool,
    pub(super) scale: Option<Tensor>,
}

/// The layer to adapt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Linear,
    Conv2d,
    Embedding,
}

impl Adapted {
    pub(super) fn new(method: Method, kind: Kind, weight: &Tensor, vb: &VarBuilder<'_>) -> Result<Self> {
        let outputs = weight.dim(0)?;
        let n = weight.dims()[1..].iter().product();
        let (zero, one) = (Init::Const(0.0), Init::Const(1.0));
        match method {
            Method::Boft { .. } if kind == Kind::Embedding => door(Err(Error::Unsupported {
                what: "method for an embedding",
                expected: "OFT",
                got: "BOFT".to_string(),
            })),
            Method::Boft { factors, block } => {
                door(fits(n, block))?;
                let shape = door(peft_boft::Shape::from_dims(&[factors, n / block, block, block]))?;
                let plan = door(shape.plan::<f64>())?;
                let parameters = vb.get_with_hints((factors, shape.blocks, block, block), "boft_R", zero)?;
                let scale = if kind == Kind::Conv2d { (1, outputs) } else { (outputs, 1) };
                let scale = Some(vb.get_with_hints(scale, "boft_s", one)?);
                let (fitted, stored) = (RealPlan::fit(&plan, weight.dtype())?, Stored::Squares(shape));
                Ok(Self { plan, fitted, stored, parameters, negative: false, scale })
            }
            Method::Oft { block, share, terms } => {
                door(fits(n, block))?;
                let (chart, sign) = door(oft_chart(terms))?;
                let sharing = if share { Sharing::All } else { Sharing::PerBlock };
                let layout = StageLayout::contiguous(block, n / block);
                let plan = door(Plan::from_stages(n, [(layout, Source::Chart { chart, sharing })]))?;
                let name = if kind == Kind::Embedding { "oft_embedding_R.weight" } else { "oft_R.weight" };
                let rows = if share { 1 } else { n / block };
                let parameters = vb.get_with_hints((rows, plan.num_params() / rows.max(1)), name, zero)?;
                let fitted = RealPlan::fit(&plan, weight.dtype())?;
                Ok(Self { plan, fitted, stored: Stored::Theta, parameters, negative: sign < 0.0, scale: None })
            }
        }
    }

    /// What an operation takes as its parameters.
    pub(super) fn parameters(&self) -> Result<Tensor> {
        if self.negative { self.parameters.neg() } else { Ok(self.parameters.clone()) }
    }

    fn theta(&self) -> Result<std::vec::Vec<f64>> {
        self.stored.theta(wide_tensor(&self.parameters()?)?)
    }

    pub(super) fn sides(&self, kind: Kind) -> Result<Sides> {
        let rotation = door(Orthogonal::new(self.plan.clone(), self.theta()?))?;
        let rotation = if kind == Kind::Embedding { rotation.adjoint() } else { rotation };
        Ok(Sides::right(rotation).scaled(self.scale.as_ref().map(wide_tensor).transpose()?))
    }

    pub(super) fn defect(&self) -> Result<f64> {
        door(defect(&self.fitted, &self.theta()?))
    }

    /// The weight with everything in it, rounded once.
    pub(super) fn merged(&self, kind: Kind, weight: &Tensor) -> Result<Tensor> {
        let mut numbers = wide_tensor(weight)?;
        let sides = self.sides(kind)?;
        let (par, ws) = (crate::parallel::Parallelism::Rayon, crate::plan::Workspace::new());
        door(sides.merge(weight.dims(), &mut numbers, par, &ws))?;
        super::numbers::like(weight, &numbers)
    }
}

/// That the weight holds numbers that can be rotated, frozen from here on.
pub(super) fn frozen(weight: &Tensor) -> Result<Tensor> {
    super::check_device(weight)?;
    if weight.elem_count() == 0 || weight.rank() < 2 {
        let (what, expected) = ("weight of a layer to adapt", "at least one output and one input".to_string());
        return door(Err(Error::Size { what, expected, got: std::format!("{:?}", weight.dims()) }));
    }
    match weight.dtype() {
        DType::F32 | DType::F64 | DType::BF16 | DType::F16 => Ok(weight.detach()),
        other => door(Err(Error::Unsupported {
            what: "weight of a layer to adapt",
            expected: "F32, F64, BF16 or F16",
            got: std::format!("{other:?}"),
        })),
    }
}

fn fits(n: usize, block: usize) -> crate::Result<()> {
    if block > 0 && n.is_multiple_of(block) {
        return Ok(());
    }
    let expected = std::format!("a divisor of {n}, the inputs of the layer");
    Err(Error::Size { what: "block of an adapter", expected, got: block.to_string() })
}
