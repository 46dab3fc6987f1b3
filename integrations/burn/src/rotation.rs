//! What is trained on a layer: PEFT's variables, and the rotation and scale that they stand for.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};
use papilio::adapter::{LayerKind, Sides, Trainable};
use papilio::{Error, Op, Parallelism, Result, Workspace};

use crate::method::Method;
use crate::number::{check_float, data, wide};
use crate::rotate::{RealPlan, Rotate, Stored};

/// A method on a layer: R, and s where the method has a scale. Its parameters are PEFT's variables, in lower case; new ones
/// make R = I and s = 1.
#[derive(Module, Debug)]
pub struct Rotation {
    /// `boft_R` `[factors, n/block, block, block]`, of which the skew part counts.
    pub boft_r: Option<Param<Tensor<4>>>,
    /// `boft_s`, `[out, 1]` or for convolutions `[1, out]`.
    pub boft_s: Option<Param<Tensor<2>>>,
    /// `oft_R.weight` `[n/block or 1, block(block − 1)/2]`.
    pub oft_r: Option<Param<Tensor<2>>>,
    /// `oft_embedding_R.weight`, likewise.
    pub oft_embedding_r: Option<Param<Tensor<2>>>,
    #[module(skip)]
    structure: Structure,
}

/// What does not change.
#[derive(Debug, Clone)]
struct Structure {
    trainable: Trainable,
    /// Its plan for the numbers of the layer.
    fitted: RealPlan,
}

impl Rotation {
    /// A new one for a weight of this shape, as papilio has it, `[out, in]`. Half-precision layers get variables in `F32`.
    pub(crate) fn new(
        method: Method,
        kind: LayerKind,
        weight: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        check_float("weight of a layer to adapt", dtype)?;
        let trainable = papilio::adapter::Method::from(method).on(kind, weight)?;
        let fitted = RealPlan::fit(trainable.plan(), dtype)?;
        let stored = if dtype == DType::F64 { dtype } else { DType::F32 };
        let rotation = trainable.rotation().clone();
        let (boft_r, oft_r) = match rotation.shape[..] {
            [m, d, b, c] => (Some(Param::from_tensor(Tensor::zeros([m, d, b, c], (device, stored)))), None),
            ref shape => (None, Some(Param::from_tensor(Tensor::zeros([shape[0], shape[1]], (device, stored))))),
        };
        let ones = |shape: &[usize]| Param::from_tensor(Tensor::ones([shape[0], shape[1]], (device, stored)));
        let boft_s = trainable.scale().map(|scale| ones(&scale.shape));
        let (oft_r, oft_embedding_r) = if kind == LayerKind::Embedding { (None, oft_r) } else { (oft_r, None) };
        Ok(Self { boft_r, boft_s, oft_r, oft_embedding_r, structure: Structure { trainable, fitted } })
    }

    /// The method on this layer, in papilio's terms.
    pub fn trainable(&self) -> &Trainable {
        &self.structure.trainable
    }

    /// What is stored of R, flat.
    fn stored(&self) -> Result<Tensor<1>> {
        match (&self.boft_r, self.oft_r.as_ref().or(self.oft_embedding_r.as_ref())) {
            (Some(squares), None) => Ok(squares.val().flatten(0, 3)),
            (None, Some(theta)) => Ok(theta.val().flatten(0, 1)),
            _ => {
                let (what, expected) = ("variables of a rotation", "one of its parameters".to_string());
                Err(Error::Size { what, expected, got: "none or two".to_string() })
            }
        }
    }

    /// op(R) x along the last dimension.
    pub(crate) fn rotate<const D: usize>(&self, x: Tensor<D>, op: Op) -> Result<Tensor<D>> {
        let stored = self.trainable().squares().map_or(Stored::Theta, Stored::Squares);
        let parameters = if self.trainable().is_negative() { self.stored()?.neg() } else { self.stored()? };
        Rotate { plan: self.structure.fitted.clone(), stored, op }.apply(x, parameters)
    }

    /// s in a type and shape, if there is one.
    pub(crate) fn scale<const D: usize>(&self, shape: [usize; D], dtype: DType) -> Result<Option<Tensor<D>>> {
        let Some(scale) = &self.boft_s else { return Ok(None) };
        let (expected, got) = (shape.iter().product(), scale.dims().iter().product());
        if expected != got {
            return Err(Error::Length { what: "scale", expected, got });
        }
        Ok(Some(scale.val().cast(dtype).reshape(shape)))
    }

    /// R w for every row of the weight, times s: W' = diag(s)·W·Rᵀ, or E·R of an embedding.
    pub(crate) fn turned(&self, rows: Tensor<2>) -> Result<Tensor<2>> {
        if self.trainable().kind() == LayerKind::Embedding {
            return self.rotate(rows, Op::Transpose);
        }
        let ([outputs, _], dtype) = (rows.dims(), rows.dtype());
        let turned = self.rotate(rows, Op::None)?;
        Ok(match self.scale([outputs, 1], dtype)? {
            Some(scale) => turned * scale,
            None => turned,
        })
    }

    /// The rotation and the scale as they are now, in papilio's terms.
    ///
    /// # Errors
    /// Parameters that are not finite.
    pub fn sides(&self) -> Result<Sides> {
        let stored = wide(&self.stored()?)?;
        let scale = self.boft_s.as_ref().map(|scale| wide(&scale.val())).transpose()?;
        self.trainable().sides(&stored, scale)
    }

    /// Rigorous bound on ‖RᵀR − I‖₂ for the blocks that act, in the precision of the layer.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn defect(&self) -> Result<f64> {
        self.structure.fitted.defect(&self.trainable().theta(&wide(&self.stored()?)?)?)
    }

    /// The weight `[out, …]` with everything in it, computed in `f64` and rounded once.
    pub(crate) fn merged<const D: usize>(&self, weight: Tensor<D>) -> Result<Tensor<D>> {
        let (shape, dtype, device) = (weight.dims(), weight.dtype(), weight.device());
        let mut numbers = wide(&weight)?;
        self.sides()?.merge(&shape, &mut numbers, Parallelism::Rayon, &Workspace::new())?;
        Ok(Tensor::from_data(data(numbers, &shape, dtype), (&device, dtype)))
    }
}

/// A result for those who want a panic, as burn's own layers have it.
#[track_caller]
pub(crate) fn or_panic<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
