//! burn's `Conv2d`, frozen, with a rotation of each patch that is trained.
//!
//! A filter is a vector of c·kh·kw numbers, and R acts on those: W' = diag(s)·W·Rᵀ for W as `[out, c·kh·kw]`, as PEFT since 0.14
//! has it. Patches overlap, so the filters are turned rather than the inputs: `out` vectors for a pass, however
//! large the images.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use papilio::adapter::{LayerKind, Sides};

use crate::method::Method;
use crate::rotation::{Rotation, or_panic};

/// What an [`OrthogonalConv2d`] is made of.
#[derive(Config, Debug)]
pub struct OrthogonalConv2dConfig {
    /// The layer to adapt.
    pub base: Conv2dConfig,
    /// The method.
    pub method: Method,
}

impl OrthogonalConv2dConfig {
    /// A new base, frozen, and a rotation that is the identity.
    ///
    /// # Errors
    /// As [`OrthogonalConv2d::new`].
    pub fn init(&self, device: &Device) -> papilio::Result<OrthogonalConv2d> {
        OrthogonalConv2d::new(self.base.init(device), self.method)
    }
}

/// A frozen [`Conv2d`] behind a rotation of its patches that is trained.
#[derive(Module, Debug)]
pub struct OrthogonalConv2d {
    base: Conv2d,
    rotation: Rotation,
}

impl OrthogonalConv2d {
    /// Adapts a layer; as [`OrthogonalLinear::new`](crate::OrthogonalLinear::new).
    ///
    /// # Errors
    /// As there.
    pub fn new(base: Conv2d, method: Method) -> papilio::Result<Self> {
        let base = base.no_grad();
        let (dtype, device) = (base.weight.base().dtype(), base.weight.device());
        let rotation = Rotation::new(method, LayerKind::Conv2d, &base.weight.dims(), dtype, &device)?;
        Ok(Self { base, rotation })
    }

    /// The frozen layer.
    pub fn base(&self) -> &Conv2d {
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
    pub fn merge(&self) -> papilio::Result<Conv2d> {
        Ok(self.with_filters(self.rotation.merged(self.base.weight.val())?))
    }

    /// y for images `[batch, c, h, w]`.
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) gives an error back, and as burn's own for images that do not fit.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        or_panic(self.try_forward(x))
    }

    /// y for images `[batch, c, h, w]`.
    ///
    /// # Errors
    /// On Flex, parameters that are not finite.
    ///
    /// # Panics
    /// As burn's own for images that do not fit.
    pub fn try_forward(&self, x: Tensor<4>) -> papilio::Result<Tensor<4>> {
        let filters = self.base.weight.val();
        let shape = filters.dims();
        let turned = self.rotation.turned(filters.flatten(1, 3))?;
        Ok(self.with_filters(turned.reshape(shape)).forward(x))
    }

    fn with_filters(&self, filters: Tensor<4>) -> Conv2d {
        let mut conv = self.base.clone();
        conv.weight = self.base.weight.clone().map(|_| filters);
        conv
    }
}
