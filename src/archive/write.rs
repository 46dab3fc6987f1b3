//! Saving.

use std::collections::HashMap;
use std::format;
use std::fs::File;
use std::path::Path;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::recipe::{Budget, Recipe};
use super::{FORMAT, VERSION, dtype_name, tensor_name};
use crate::error::Result;
use crate::layout::{Sharing, StageLayout};
use crate::orthogonal::Orthogonal;
use crate::plan::Source;
use crate::scalar::Scalar;
use crate::storage::{Dtype, Output, TensorSpec, Writer, file_error, unwritable};

/// A tensor and where its numbers are.
enum Numbers<'a, W> {
    Real(&'a [f64]),
    Wide(&'a [W]),
    Indices(&'a [u32]),
}

/// The whole file, in a temporary beside `path` that is renamed when it is complete.
pub(super) fn save<T: Scalar>(q: &Orthogonal<T>, path: &Path) -> Result<()> {
    let plan = q.plan();
    let recipe = serde_json::to_string(&Recipe::of(plan)).map_err(|e| file_error(path, "a plan as JSON", e))?;
    let pair = |key: &str, value: String| (key.to_string(), value);
    let metadata = HashMap::from([
        pair("format", FORMAT.into()),
        pair("version", VERSION.to_string()),
        pair("dtype", dtype_name::<T>().into()),
        pair("plan", recipe),
    ]);
    // Numbers of eight bytes come first: then all of them are aligned.
    let mut tensors = vec![("theta".to_string(), vec![q.theta().len()], Numbers::Real(q.theta()))];
    let mut indices = Vec::new();
    for (k, stage) in plan.stages().iter().enumerate() {
        let (b, count) = (stage.layout().block_size(), stage.layout().num_blocks());
        if let Source::Fixed(blocks) = stage.source() {
            let mut shape = vec![count, b, b];
            shape.extend(T::IS_COMPLEX.then_some(2));
            tensors.push((tensor_name(k, "blocks"), shape, Numbers::Wide(blocks)));
        }
        if let StageLayout::Table { index, .. } = stage.layout() {
            indices.push((tensor_name(k, "index"), vec![count, b], Numbers::Indices(index)));
        }
        if let Source::Chart { sharing: Sharing::Groups(groups), .. }
        | Source::Reflectors { sharing: Sharing::Groups(groups), .. } = stage.source()
        {
            indices.push((tensor_name(k, "groups"), vec![count], Numbers::Indices(groups)));
        }
    }
    tensors.extend(indices);
    let spec = |(name, shape, numbers): &(String, Vec<usize>, Numbers<'_, T::Wide>)| TensorSpec {
        name: name.clone(),
        dtype: if matches!(numbers, Numbers::Indices(_)) { Dtype::U32 } else { Dtype::F64 },
        shape: shape.clone(),
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    check_budget(q, &specs, path)?;

    let output = Output::file(path, true)?;
    let file = File::options().write(true).open(output.path("")).map_err(|e| unwritable(path, e))?;
    let mut writer = Writer::new(file, path, Some(&metadata), &specs)?;
    for (_, _, numbers) in &tensors {
        match numbers {
            Numbers::Real(numbers) => numbers.iter().try_for_each(|x| writer.write(&x.to_le_bytes()))?,
            Numbers::Indices(numbers) => numbers.iter().try_for_each(|i| writer.write(&i.to_le_bytes()))?,
            Numbers::Wide(numbers) => {
                for x in *numbers {
                    writer.write(&x.re().to_le_bytes())?;
                    if T::IS_COMPLEX {
                        writer.write(&x.im().to_le_bytes())?;
                    }
                }
            }
        }
    }
    writer.finish()?;
    output.commit()
}

/// Nothing is saved that would be refused when it is loaded.
fn check_budget<T: Scalar>(q: &Orthogonal<T>, specs: &[TensorSpec], path: &Path) -> Result<()> {
    let bytes = specs.iter().try_fold(0u64, |sum, spec| Ok(sum.saturating_add(spec.num_bytes(path)?)))?;
    let mut budget = Budget::new(bytes);
    for stage in q.plan().stages() {
        let table = match stage.layout() {
            StageLayout::Table { .. } => budget.take_table(q.n()),
            StageLayout::Strided { .. } => Ok(()),
        };
        let taken = table.and_then(|()| budget.take_stage(stage.layout(), stage.source()));
        taken.map_err(|e| file_error(path, "an operator that can be loaded again", format!("{e}")))?;
    }
    Ok(())
}
