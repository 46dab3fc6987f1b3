//! burn's `Linear`, frozen, with the rotation of its inputs and the scale of its outputs trained.
//!
//! > y = s ⊙ ((x R) Wᵀ) + bias, as if the weight were diag(s)·W·Rᵀ.
//!
//! burn stores Wᵀ, `[in, out]`. Inputs are turned, not the weight: a batch has fewer vectors than a weight, and then W, being
//! frozen, gets no gradient, so that a step has two products and not three. With a scale, burn keeps their result for ∂s.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, module};
use papilio::Op;
use papilio::adapter::{LayerKind, Sides};

use crate::method::Method;
use crate::rotation::{Rotation, or_panic};

/// What an [`OrthogonalLinear`] is made of.
#[derive(Config, Debug)]
pub struct OrthogonalLinearConfig {
    /// The layer to adapt.
    pub base: LinearConfig,
    /// The method.
    pub method: Method,
}

impl OrthogonalLinearConfig {
    /// A new base, frozen, and a rotation that is the identity: to load a record into, or to train from scratch.
    ///
    /// # Errors
    /// As [`OrthogonalLinear::new`].
    pub fn init(&self, device: &Device) -> papilio::Result<OrthogonalLinear> {
        OrthogonalLinear::new(self.base.init(device), self.method)
    }
}

/// A frozen [`Linear`] behind a rotation that is trained.
#[derive(Module, Debug)]
pub struct OrthogonalLinear {
    base: Linear,
    rotation: Rotation,
}

impl OrthogonalLinear {
    /// Adapts a layer, which is frozen, with its bias. The rotation is the identity at first.
    ///
    /// # Errors
    /// Sizes that do not fit; a weight that is quantised.
    pub fn new(base: Linear, method: Method) -> papilio::Result<Self> {
        let base = base.no_grad();
        let [inputs, outputs] = base.weight.dims();
        let (dtype, device) = (base.weight.base().dtype(), base.weight.device());
        let rotation = Rotation::new(method, LayerKind::Linear, &[outputs, inputs], dtype, &device)?;
        Ok(Self { base, rotation })
    }

    /// The frozen layer.
    pub fn base(&self) -> &Linear {
        &self.base
    }

    /// What is trained.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// The same layer with other variables, such as those of a file.
    #[must_use]
    pub fn with_rotation(self, rotation: Rotation) -> Self {
        Self { rotation, ..self }
    }

    /// The rotation and the scale as they are now, in papilio's terms.
    ///
    /// # Errors
    /// Parameters that are not finite.
    pub fn sides(&self) -> papilio::Result<Sides> {
        self.rotation.sides()
    }

    /// Rigorous bound on ‖RᵀR − I‖₂ for the blocks that act, in the precision of the layer.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn defect(&self) -> papilio::Result<f64> {
        self.rotation.defect()
    }

    /// A plain layer that does the same. Computed in `f64` and rounded once.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn merge(&self) -> papilio::Result<Linear> {
        let merged = self.rotation.merged(self.base.weight.val().transpose())?;
        let weight: Param<Tensor<2>> = self.base.weight.clone().map(|_| merged.transpose());
        Ok(Linear { weight, bias: self.base.bias.clone() })
    }

    /// y for x `[…, in]`.
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) gives an error back.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        or_panic(self.try_forward(x))
    }

    /// y for x `[…, in]`.
    ///
    /// # Errors
    /// Another length or type than the layer's; another device; on Flex, parameters that are not finite.
    pub fn try_forward<const D: usize>(&self, x: Tensor<D>) -> papilio::Result<Tensor<D>> {
        let z = self.rotation.rotate(x, Op::Transpose)?;
        let (weight, bias) = (self.base.weight.val(), self.base.bias.as_ref().map(|bias| bias.val()));
        let [_, outputs] = weight.dims();
        let mut shape = [1; D];
        shape[D - 1] = outputs; // D = 0 has been refused by now
        match self.rotation.scale(shape, weight.dtype())? {
            None => Ok(module::linear(z, weight, bias)),
            Some(scale) => {
                let y = module::linear(z, weight, None) * scale;
                Ok(match bias {
                    Some(bias) => y + bias.reshape(shape),
                    None => y,
                })
            }
        }
    }
}
