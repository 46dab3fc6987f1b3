//! HRA adapters as HuggingFace PEFT stores them (Yuan et al. 2024, arXiv 2405.17484).
//!
//! `hra_u` of shape `[n, r]`, n the inputs (of a Conv2d c·kh·kw); its columns u_0 … u_{r−1} are vectors of reflections,
//!
//! > H_i = I − 2u_i u_iᵀ/‖u_i‖²,  W' = W·H_0 H_1 ··· H_{r−1},
//!
//! so Rᵀ = H_0 ··· H_{r−1} and R = H_{r−1} ··· H_0, papilio's product of reflectors with u_0 first. With `apply_GS` the columns are
//! made orthonormal first. The bias stays as it is.

use std::format;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::{Context, Dialect, Form, Misfit, Numbers, Side, Structure, Tensors, extents, need, numbers};
use crate::adapter::sides::{Sides, SidesGradient};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::orthogonal::Orthogonal;
use crate::plan::{Plan, Source};
use crate::storage::{field_error, tensor_error};

pub(super) const DIALECT: Dialect = Dialect {
    name: "peft-hra",
    methods: &["HRA"],
    grammar: Grammar::Peft,
    parameters: &[Parameter::named("hra_u")],
    form,
};

/// A layer.
#[derive(Debug)]
struct Layer {
    n: usize,
    count: usize,
    orthonormal: bool,
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let tensor = need(tensors, "hra_u", cx)?;
    let [n, count] = tensor.shape[..] else {
        return Err(tensor_error(cx.path, &tensor.name, "shape [in, r]", format!("{:?}", tensor.shape)));
    };
    let config = cx.need_config(tensor, "apply_GS tells what the vectors of HRA mean")?;
    let Some(orthonormal) = config.flag("apply_GS") else {
        let path = cx.path.with_file_name("adapter_config.json");
        return Err(field_error(&path, "apply_GS", "true or false", "something else, or nothing"));
    };
    let layer = Layer { n, count, orthonormal };
    layer.plan().map_err(|e| tensor_error(cx.path, &tensor.name, "vectors of reflections", e))?;
    Ok(Arc::new(layer))
}

/// Rows `[rows, columns]` to columns.
fn transposed(rows: usize, columns: usize, matrix: &[f64]) -> Vec<f64> {
    let mut turned = vec![0.0; matrix.len()];
    for (i, row) in matrix.chunks_exact(columns.max(1)).enumerate() {
        for (j, x) in row.iter().enumerate() {
            turned[j * rows + i] = *x;
        }
    }
    turned
}

impl Layer {
    fn plan(&self) -> Result<Plan<f64>> {
        let source = match self.orthonormal {
            true => Source::orthonormal_reflectors(self.count),
            false => Source::reflectors(self.count),
        };
        Plan::from_stages(self.n, [(StageLayout::contiguous(self.n, 1), source)])
    }
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        Structure {
            method: if self.orthonormal { "HRA, orthonormal" } else { "HRA" }.into(),
            side: Side::Input,
            n: Some(self.n),
            block: self.n,
            stages: self.count,
            parameters: self.n.saturating_mul(self.count),
            outputs: None,
            trained: None,
        }
    }

    fn sides(&self, all: &Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        let stored = numbers(all, "hra_u", self.n.saturating_mul(self.count))?;
        Ok(Sides::right(Orthogonal::new(self.plan()?, transposed(self.n, self.count, stored))?))
    }

    fn pull(&self, _all: &Numbers, _weight: Option<&[usize]>, gradient: &SidesGradient) -> Result<Numbers> {
        Ok(Numbers::from([("hra_u", transposed(self.count, self.n, &gradient.right))]))
    }

    /// The first k reflections.
    fn truncate(&self, all: &Numbers, weight: Option<&[usize]>, k: usize) -> Result<Sides> {
        let count = k.min(self.count);
        let stored = numbers(all, "hra_u", self.n.saturating_mul(self.count))?;
        let kept = stored.chunks_exact(self.count.max(1)).flat_map(|row| &row[..count]).copied().collect();
        let fewer = Layer { count, ..*self };
        fewer.sides(&Numbers::from([("hra_u", kept)]), weight)
    }

    fn check_weight(&self, shape: &[usize]) -> core::result::Result<(), Misfit> {
        match extents(shape).1 {
            inner if inner == self.n => Ok(()),
            inner => Err(Misfit::new("hra_u", format!("vectors of {} numbers for {inner} inputs", self.n))),
        }
    }
}
