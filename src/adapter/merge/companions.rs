//! The other files of a model directory: configuration, tokenizer, index.
//!
//! Copied: every file that is not weights, also in subdirectories. Left out: weights that the merge did not read (of
//! other frameworks, or a second copy), which would contradict the merged ones; hidden files; `adapter_config.json`,
//! which would make transformers load an adapter again.

use std::format;
use std::fs;
use std::path::Path;
use std::string::String;
use std::vec;
use std::vec::Vec;

use serde_json::{Value, json};

use super::resolve::Shard;
use crate::adapter::storage::{Checkpoint, FloatType, Output, file_error, read_json};
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
    copy_directory(base.path(), &output.path(""), &mut left_out)?;
    left_out.retain(|name| {
        let index = base.index().map(|index| index.file_name.as_str());
        Some(name.as_str()) != index && !shards.iter().any(|shard| shard.file_name == *name)
    });
    if let Some(index) = base.index() {
        let mut json = index.json.clone();
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
        write_json(&output.path(&index.file_name), &Value::Object(json))?;
    }
    let config = output.path("config.json");
    if let Some(dtype) = dtype.filter(|_| config.is_file()) {
        let mut json: Value = read_json(&config)?;
        set_dtype(&mut json, dtype);
        write_json(&config, &json)?;
    }
    left_out.sort();
    Ok(if left_out.is_empty() {
        vec![]
    } else {
        vec![format!("not copied, because they are weights that the merge does not change: {}", left_out.join(", "))]
    })
}

/// Copies what is not weights; `left_out` gathers the names of what is.
fn copy_directory(from: &Path, to: &Path, left_out: &mut Vec<String>) -> Result<()> {
    let unreadable = |e| file_error(from, "a readable directory", e);
    for entry in fs::read_dir(from).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let copy = to.join(entry.file_name());
        let unwritable = |e| file_error(&copy, "room and permission to write", e);
        if name.starts_with('.') || name == "adapter_config.json" {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            // Directories of nothing but weights leave no empty directory behind.
            fs::create_dir(&copy).map_err(unwritable)?;
            copy_directory(&path, &copy, left_out)?;
            let _ = fs::remove_dir(&copy);
        } else if WEIGHTS.iter().any(|ending| name.ends_with(ending)) {
            left_out.push(name);
        } else if fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            // Links are followed: in the cache of the Hugging Face hub every file is one.
            let mut source = fs::File::open(&path).map_err(|e| file_error(&path, "a readable file", e))?;
            let mut target = fs::File::create(&copy).map_err(unwritable)?;
            std::io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(unwritable)?;
        }
    }
    Ok(())
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

fn write_json(path: &Path, json: &Value) -> Result<()> {
    let text = format!("{json:#}\n");
    fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|e| file_error(path, "room and permission to write", e))
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
