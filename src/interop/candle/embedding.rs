//! `candle_nn::Embedding`, frozen, with a rotation of what is looked up that is trained: e R, as if the table were E·R.

use candle_core::{Result, Tensor};
use candle_nn::{Embedding, Module, VarBuilder};

use super::method::{Adapted, Kind, Method, frozen};
use crate::adapter::Sides;
use crate::plan::Op;

/// A frozen [`Embedding`] before a rotation that is trained. Only rows that are looked up are turned.
#[derive(Debug, Clone)]
pub struct OrthogonalEmbedding {
    base: Embedding,
    adapted: Adapted,
    table: Embedding,
}

impl OrthogonalEmbedding {
    /// Adapts a layer by [`Method::Oft`]; else as [`OrthogonalLinear::new`](super::OrthogonalLinear::new).
    ///
    /// # Errors
    /// As there, and for another method.
    pub fn new(base: Embedding, method: Method, vb: VarBuilder<'_>) -> Result<Self> {
        let rows = frozen(base.embeddings())?;
        rows.dims2()?;
        let adapted = Adapted::new(method, Kind::Embedding, &rows, &vb)?;
        let table = Embedding::new(rows, base.hidden_size());
        Ok(Self { base, adapted, table })
    }

    /// Computes by candle's tensor operations from here on, on the CPU too: [`TensorRotation`](super::TensorRotation). So a device
    /// can be compared with the CPU, step by step.
    ///
    /// # Errors
    /// Those of the device.
    pub fn with_tensor_operations(self) -> Result<Self> {
        Ok(Self { adapted: self.adapted.with_tensor_operations()?, ..self })
    }

    /// The frozen layer.
    pub fn base(&self) -> &Embedding {
        &self.base
    }

    /// The rotation as it is now, in papilio's terms.
    ///
    /// # Errors
    /// Parameters that are not finite.
    pub fn sides(&self) -> Result<Sides> {
        self.adapted.sides()
    }

    /// Rigorous bound on ‖RᵀR − I‖₂ for the blocks that act, in the precision of the layer.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn defect(&self) -> Result<f64> {
        self.adapted.defect()
    }

    /// A plain layer that does the same. Computed in `f64` and rounded once.
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn merge(&self) -> Result<Embedding> {
        let table = self.adapted.merged(self.base.embeddings())?;
        Ok(Embedding::new(table, self.base.hidden_size()))
    }
}

impl Module for OrthogonalEmbedding {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.adapted.rotate(&self.table.forward(ids)?, Op::Transpose)
    }
}
