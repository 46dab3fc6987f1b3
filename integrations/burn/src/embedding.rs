//! burn's `Embedding`, frozen, with a rotation of what is looked up that is trained: e R, as if the table were E·R.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use papilio::Op;
use papilio::adapter::{LayerKind, Sides};

use crate::method::Method;
use crate::rotation::{Rotation, or_panic};

/// What an [`OrthogonalEmbedding`] is made of.
#[derive(Config, Debug)]
pub struct OrthogonalEmbeddingConfig {
    /// The layer to adapt.
    pub base: EmbeddingConfig,
    /// The method: OFT.
    pub method: Method,
}

impl OrthogonalEmbeddingConfig {
    /// A new base, frozen, and a rotation that is the identity.
    ///
    /// # Errors
    /// As [`OrthogonalEmbedding::new`].
    pub fn init(&self, device: &Device) -> papilio::Result<OrthogonalEmbedding> {
        OrthogonalEmbedding::new(self.base.init(device), self.method)
    }
}

/// A frozen [`Embedding`] before a rotation that is trained. Only rows that are looked up are turned.
#[derive(Module, Debug)]
pub struct OrthogonalEmbedding {
    base: Embedding,
    rotation: Rotation,
}

impl OrthogonalEmbedding {
    /// Adapts a layer by [`Method::Oft`]; else as [`OrthogonalLinear::new`](crate::OrthogonalLinear::new).
    ///
    /// # Errors
    /// As there, and for another method.
    pub fn new(base: Embedding, method: Method) -> papilio::Result<Self> {
        let base = base.no_grad();
        let (dtype, device) = (base.weight.base().dtype(), base.weight.device());
        let rotation = Rotation::new(method, LayerKind::Embedding, &base.weight.dims(), dtype, &device)?;
        Ok(Self { base, rotation })
    }

    /// The frozen layer.
    pub fn base(&self) -> &Embedding {
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

    /// The rotation as it is now, in papilio's terms.
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
    pub fn merge(&self) -> papilio::Result<Embedding> {
        let table = self.rotation.merged(self.base.weight.val())?;
        Ok(Embedding { weight: self.base.weight.clone().map(|_| table) })
    }

    /// Vectors `[batch, length, n]` for `[batch, length]` indices.
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) gives an error back, and as burn's own for indices beyond the table.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        or_panic(self.try_forward(ids))
    }

    /// Vectors `[batch, length, n]` for `[batch, length]` indices.
    ///
    /// # Errors
    /// On Flex, parameters that are not finite.
    ///
    /// # Panics
    /// As burn's own for indices beyond the table.
    pub fn try_forward(&self, ids: Tensor<2, Int>) -> papilio::Result<Tensor<3>> {
        self.rotation.rotate(self.base.forward(ids), Op::Transpose)
    }
}
