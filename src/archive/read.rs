//! Loading: nothing in the file is believed.

use std::collections::HashSet;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use super::recipe::{Budget, LayoutRecipe, Recipe, SharingRecipe, SourceRecipe, StageRecipe};
use super::{FORMAT, VERSION, dtype_name, tensor_name};
use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::orthogonal::Orthogonal;
use crate::parametrization::Charts;
use crate::plan::{Part, Plan, Source};
use crate::scalar::Scalar;
use crate::storage::{Container, Dtype, TensorInfo, field_error, file_error, tensor_error};

/// Reads a file, with the charts that it may name.
pub(super) fn load<T: Scalar>(path: &Path, charts: &Charts<T::Wide>) -> Result<Orthogonal<T>> {
    let file = Container::open(path)?;
    let recipe: Recipe = {
        let text = check_metadata::<T>(&file)?;
        serde_json::from_str(text).map_err(|e| field_error(path, "plan", "the recipe of a plan", e))?
    };
    let ranks = recipe.ranks().map_err(|got| {
        field_error(path, "theta_order", format!("every one of {} stages once", recipe.stages.len()), got)
    })?;
    let bytes = file.tensors().iter().map(TensorInfo::num_bytes).sum();
    let mut reader = Reader { file: &file, charts, n: recipe.n, budget: Budget::new(bytes), used: HashSet::new() };
    let mut parts = Vec::new();
    for (k, (stage, rank)) in recipe.stages.iter().zip(ranks).enumerate() {
        let part = reader.stage(k, stage, rank).map_err(|e| match e {
            Error::File { .. } => e,
            other => field_error(path, &format!("plan, stage {k}"), "a stage that fits its plan", other),
        })?;
        parts.push(part);
    }
    let plan = Plan::assemble(recipe.n, parts).map_err(|e| field_error(path, "plan", "a valid plan", e))?;
    let theta = reader.numbers("theta".to_string(), &[plan.num_params()])?;
    let used = reader.used;
    if let Some(stranger) = file.tensors().iter().find(|t| !used.contains(&t.name)) {
        return Err(tensor_error(path, &stranger.name, "no tensors but those of the plan", "one more"));
    }
    Orthogonal::new(plan, theta).map_err(|e| file_error(path, "an operator", e))
}

/// Format, version and type, in this order; returns the recipe's text.
fn check_metadata<T: Scalar>(file: &Container) -> Result<&str> {
    let path = file.path();
    let get = |key: &str| file.metadata().and_then(|m| m.get(key)).map(String::as_str);
    if get("format") != Some(FORMAT) {
        let got = get("format").map_or("none".to_string(), |f| format!("`{f}`"));
        return Err(field_error(path, "format", format!("`{FORMAT}`: a file that Orthogonal::save wrote"), got));
    }
    let version = get("version").unwrap_or("none");
    match version.parse::<u64>() {
        Ok(VERSION) if version == VERSION.to_string() => {}
        Ok(newer) if newer > VERSION => {
            let expected = format!("{VERSION}, the newest that this build reads; a newer papilio will read the file");
            return Err(field_error(path, "version", expected, newer));
        }
        _ => return Err(field_error(path, "version", format!("{VERSION}"), format!("`{version}`"))),
    }
    let (expected, dtype) = (dtype_name::<T>(), get("dtype").unwrap_or("none"));
    if dtype != expected {
        let got = format!("`{dtype}`");
        return Err(field_error(path, "dtype", format!("`{expected}`, as this Orthogonal's scalar"), got));
    }
    get("plan").ok_or_else(|| field_error(path, "plan", "the recipe of a plan", "none"))
}

struct Reader<'a, T: Scalar> {
    file: &'a Container,
    charts: &'a Charts<T::Wide>,
    n: usize,
    budget: Budget,
    used: HashSet<String>,
}

impl<'a, T: Scalar> Reader<'a, T> {
    /// One stage, its layout checked and its memory accounted for.
    fn stage(&mut self, k: usize, recipe: &StageRecipe, rank: usize) -> Result<Part<T>> {
        let layout = match recipe.layout {
            LayoutRecipe::Strided { unit, radix, distance, groups } => {
                StageLayout::Strided { unit, radix, distance, groups }
            }
            LayoutRecipe::Table { block } => {
                self.budget.take_table(self.n)?;
                let index = self.indices(tensor_name(k, "index"))?;
                let shape = [index.len().checked_div(block).unwrap_or(0), block];
                self.check_shape(&tensor_name(k, "index"), &shape)?;
                StageLayout::Table { block, index: index.into() }
            }
        };
        layout.validate(self.n)?;
        let (b, count) = (layout.block_size(), layout.num_blocks());
        let source = match &recipe.source {
            SourceRecipe::Chart { id, sharing } => {
                let chart = self.charts.find(id).ok_or_else(|| self.unknown_chart(k, id))?;
                Source::Chart { chart, sharing: self.sharing(k, *sharing, count)? }
            }
            SourceRecipe::Fixed => Source::Fixed(self.blocks(tensor_name(k, "blocks"), count, b)?),
            &SourceRecipe::Reflectors { count: vectors, orthonormal, sharing } => {
                Source::Reflectors { count: vectors, orthonormal, sharing: self.sharing(k, sharing, count)? }
            }
        };
        self.budget.take_stage(&layout, &source)?;
        Ok(Part { layout, source, adjoint: recipe.adjoint, rank })
    }

    /// What blocks share. Its size is that of a tensor in the file.
    fn sharing(&mut self, k: usize, recipe: SharingRecipe, blocks: usize) -> Result<Sharing> {
        Ok(match recipe {
            SharingRecipe::PerBlock => Sharing::PerBlock,
            SharingRecipe::All => Sharing::All,
            SharingRecipe::Groups => {
                let name = tensor_name(k, "groups");
                self.check_shape(&name, &[blocks])?;
                Sharing::Groups(self.indices(name)?.into())
            }
        })
    }

    /// Fixed blocks, as many as the file holds.
    fn blocks(&mut self, name: String, count: usize, b: usize) -> Result<Arc<[T::Wide]>> {
        let shape = [count, b, b, 2];
        if T::IS_COMPLEX {
            let parts = self.numbers(name, &shape)?;
            Ok(parts.chunks_exact(2).map(|x| T::Wide::from_parts(x[0], x[1])).collect())
        } else {
            Ok(self.numbers(name, &shape[..3])?.into_iter().map(T::Wide::from_real).collect())
        }
    }

    /// A tensor of finite numbers with this shape.
    fn numbers(&mut self, name: String, shape: &[usize]) -> Result<Vec<f64>> {
        self.check_shape(&name, shape)?;
        let tensor = self.tensor(name, Dtype::F64)?;
        self.file.read_finite(tensor)
    }

    /// A tensor of indices. Its length is that of bytes in the file.
    fn indices(&mut self, name: String) -> Result<Vec<u32>> {
        let tensor = self.tensor(name, Dtype::U32)?;
        self.file.read_indices(tensor)
    }

    fn tensor(&mut self, name: String, dtype: Dtype) -> Result<&'a TensorInfo> {
        let tensor = self.find(&name)?;
        if tensor.dtype != dtype {
            return Err(tensor_error(self.file.path(), &name, format!("type {dtype}"), tensor.dtype));
        }
        self.used.insert(name);
        Ok(tensor)
    }

    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let found = self.find(name)?;
        if found.shape == shape {
            return Ok(());
        }
        Err(tensor_error(self.file.path(), name, format!("shape {shape:?}"), format!("{:?}", found.shape)))
    }

    fn find(&self, name: &str) -> Result<&'a TensorInfo> {
        let missing = || tensor_error(self.file.path(), name, "a tensor, for the plan needs it", "none");
        self.file.get(name).ok_or_else(missing)
    }

    fn unknown_chart(&self, k: usize, id: &str) -> Error {
        let known: Vec<&str> = self.charts.ids().collect();
        let expected = format!(
            "a chart that is known ({}); others must be registered: Charts::register, then Orthogonal::load_with",
            known.join(", ")
        );
        field_error(self.file.path(), &format!("plan, stage {k}"), expected, format!("`{id}`"))
    }
}
