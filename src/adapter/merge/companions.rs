//! The other files of a model directory: configuration, tokenizer, index.
//!
//! Copied: every file that is not weights, also in subdirectories. Left out: weights that the merge did not read (of
//! other frameworks, or a second copy), which would contradict the merged ones; hidden files; `adapter_config.json`,
//! which would make transformers load an adapter again.

use std::format;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::string::String;
use std::vec;
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::resolve::Shard;
use crate::adapter::storage::{Checkpoint, FloatType, Output, file_error, read_json, unwritable};
use crate::error::Result;

/// Endings of weight files.
const WEIGHTS: [&str; 14] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".gguf",
    ".npz",
    ".pkl",
    ".tflite",
    ".index.json",
];

/// Copies the companions of `base` to `output`, writes the index, and notes the new type in config.json. Returns
/// warnings.
pub(super) fn write(
    base: &Checkpoint,
    shards: &[Shard<'_>],
    num_bytes: u64,
    dtype: Option<FloatType>,
    output: &Output,
) -> Result<Vec<String>> {
    let mut left_out = Vec::new();
    copy_directory(base.path(), &output.path(""), &output.shown(""), &mut left_out)?;
    left_out.retain(|name| {
        let index = base.index().map(|index| index.file_name.as_str());
        Some(name.as_str()) != index && !shards.iter().any(|shard| shard.file_name == *name)
    });
    if let Some(index) = base.index() {
        let name = &index.file_name;
        let has_new = shards.iter().map(|shard| shard.entries.len()).sum::<usize>() != base.tensors().count();
        if dtype.is_some() || has_new {
            let json = updated_index(index.json.clone(), shards, num_bytes);
            write_json(&output.path(name), &output.shown(name), &json)?;
        } else {
            copy_file(&base.path().join(name), &output.path(name), &output.shown(name))?;
        }
    }
    let (config, shown) = (output.path("config.json"), output.shown("config.json"));
    if let Some(dtype) = dtype.filter(|_| config.is_file()) {
        let mut json: Value = read_json(&config)?;
        set_dtype(&mut json, dtype);
        write_json(&config, &shown, &json)?;
    }
    left_out.sort();
    Ok(if left_out.is_empty() {
        vec![]
    } else {
        vec![format!("not copied, because they are weights that the merge does not change: {}", left_out.join(", "))]
    })
}

/// The index with the new total size and the places of new tensors.
fn updated_index(mut json: Map<String, Value>, shards: &[Shard<'_>], num_bytes: u64) -> Value {
    let metadata = json.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("total_size".into(), num_bytes.into());
    }
    if let Some(map) = json.get_mut("weight_map").and_then(Value::as_object_mut) {
        for shard in shards {
            for entry in &shard.entries {
                map.entry(entry.spec.name.clone()).or_insert_with(|| shard.file_name.clone().into());
            }
        }
    }
    Value::Object(json)
}

/// Copies what is not weights; `left_out` gathers the names of what is. Messages call the target `shown`.
fn copy_directory(from: &Path, to: &Path, shown: &Path, left_out: &mut Vec<String>) -> Result<()> {
    let unreadable = |e| file_error(from, "a readable directory", e);
    for entry in fs::read_dir(from).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, name) = (entry.path(), entry.file_name());
        let (copy, shown) = (to.join(&name), shown.join(&name));
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == "adapter_config.json" {
            continue;
        }
        if entry.file_type().map_err(unreadable)?.is_dir() {
            fs::create_dir(&copy).map_err(|e| unwritable(&shown, e))?;
            copy_directory(&path, &copy, &shown, left_out)?;
            let _ = fs::remove_dir(&copy); // succeeds if it is empty: there were only weights
        } else if WEIGHTS.iter().any(|ending| name.ends_with(ending)) {
            left_out.push(name.into_owned());
        } else if fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            copy_file(&path, &copy, &shown)?; // through links: in the cache of the Hugging Face hub every file is one
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, shown: &Path) -> Result<()> {
    let mut source = fs::File::open(from).map_err(|e| file_error(from, "a readable file", e))?;
    let mut target = fs::File::create(to).map_err(|e| unwritable(shown, e))?;
    io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(|e| unwritable(shown, e))
}

/// Sets `dtype` and `torch_dtype` wherever a model configuration names a floating-point type.
fn set_dtype(json: &mut Value, dtype: FloatType) {
    let Some(fields) = json.as_object_mut() else { return };
    for (key, value) in fields {
        let names_type = value.as_str().is_some_and(|name| name.parse::<FloatType>().is_ok());
        if names_type && (key == "dtype" || key == "torch_dtype") {
            *value = dtype.torch_name().into();
        }
        set_dtype(value, dtype);
    }
}

fn write_json(path: &Path, shown: &Path, json: &Value) -> Result<()> {
    let text = format!("{json:#}\n");
    fs::File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|e| unwritable(shown, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_name_a_type_change() {
        let mut config = json!({
            "torch_dtype": "float16", "text_config": {"dtype": "bfloat16"}, "dtype": null,
            "quantization": {"bnb_4bit_compute_dtype": "float16"}, "name": "float16",
        });
        set_dtype(&mut config, FloatType::F32);
        assert_eq!(
            config,
            json!({
                "torch_dtype": "float32", "text_config": {"dtype": "float32"}, "dtype": null,
                "quantization": {"bnb_4bit_compute_dtype": "float16"}, "name": "float16",
            })
        );
    }
}
