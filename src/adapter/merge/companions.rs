//! The other files of a model directory: configuration, tokenizer, index.
//!
//! Copied: every file that is not weights, also in subdirectories and through links (in the cache of the Hugging Face
//! hub every file is one). Left out: weights that the merge did not read (of other frameworks, or a second copy), which
//! would contradict the merged ones; pipes and devices; hidden files; `adapter_config.json`, which would make
//! transformers load an adapter again. They are listed before anything is written.

use std::format;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::model_config::ModelConfig;
use super::resolve::{Resolved, Shard};
use crate::error::Result;
use crate::storage::{Checkpoint, FloatType, Output, file_error, unwritable};

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

/// What lies beside the weights, as paths relative to the base.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// Files to copy.
    pub(super) files: Vec<PathBuf>,
    weights: Vec<PathBuf>,
    special: Vec<PathBuf>,
}

impl Companions {
    /// Walks through the directory of `base`.
    pub(super) fn list(base: &Checkpoint, shards: &[Shard<'_>]) -> Result<Self> {
        let mut found = Self::default();
        found.walk(base.path(), Path::new(""), &mut Vec::new())?;
        found.weights.retain(|path| {
            let index = base.index().is_some_and(|index| path == Path::new(&index.file_name));
            !index && !shards.iter().any(|shard| path == Path::new(&shard.file_name))
        });
        Ok(found)
    }

    /// Adds what is in `base/inside`; `open` are the real paths of the directories on the way there.
    fn walk(&mut self, base: &Path, inside: &Path, open: &mut Vec<PathBuf>) -> Result<()> {
        let directory = base.join(inside);
        let unreadable = |e| file_error(&directory, "a readable directory", e);
        let real = directory.canonicalize().map_err(unreadable)?;
        if open.contains(&real) {
            return Err(file_error(&directory, "a directory that does not contain itself", "a circle of links"));
        }
        open.push(real);
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort();
        for name in names {
            let (path, text) = (inside.join(&name), name.to_string_lossy());
            if text.starts_with('.') || text == "adapter_config.json" {
                continue;
            }
            let is_weights = WEIGHTS.iter().any(|ending| text.ends_with(ending));
            match fs::metadata(base.join(&path)) {
                Ok(metadata) if metadata.is_dir() => self.walk(base, &path, open)?,
                _ if is_weights => self.weights.push(path),
                Ok(metadata) if metadata.is_file() => self.files.push(path),
                Ok(_) => self.special.push(path),
                Err(e) => return Err(file_error(&base.join(&path), "a file, or a link to one", e)),
            }
        }
        open.pop();
        Ok(())
    }

    /// One sentence for each kind of file that is left out.
    pub(super) fn warnings(&self) -> Vec<String> {
        let list = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut sentences = Vec::new();
        if !self.weights.is_empty() {
            let weights = list(&self.weights);
            sentences.push(format!("not copied, because they are weights that the merge does not change: {weights}"));
        }
        if !self.special.is_empty() {
            sentences.push(format!("not copied, because they are no regular files: {}", list(&self.special)));
        }
        sentences
    }

    /// Copies the files to `output`, writes the index, and notes the new type in config.json.
    pub(super) fn write(
        &self,
        base: &Checkpoint,
        resolved: &Resolved<'_>,
        config: Option<ModelConfig>,
        dtype: Option<FloatType>,
        output: &Output,
    ) -> Result<()> {
        for file in &self.files {
            let (path, shown) = (output.path(file), output.shown(file));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| unwritable(&shown, e))?;
            }
            copy_file(&base.path().join(file), &path, &shown)?;
        }
        if let Some(index) = base.index() {
            let name = &index.file_name;
            if dtype.is_some() || resolved.has_new {
                let json = updated_index(index.json.clone(), &resolved.shards, resolved.num_bytes);
                write_json(&output.path(name), &output.shown(name), &json)?;
            } else {
                copy_file(&base.path().join(name), &output.path(name), &output.shown(name))?;
            }
        }
        if let Some((dtype, config)) = dtype.zip(config) {
            let name = ModelConfig::FILE_NAME;
            write_json(&output.path(name), &output.shown(name), &config.with_dtype(dtype))?;
        }
        Ok(())
    }
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

fn copy_file(from: &Path, to: &Path, shown: &Path) -> Result<()> {
    let mut source = fs::File::open(from).map_err(|e| file_error(from, "a readable file", e))?;
    let mut target = fs::File::create(to).map_err(|e| unwritable(shown, e))?;
    io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(|e| unwritable(shown, e))
}

fn write_json(path: &Path, shown: &Path, json: &Value) -> Result<()> {
    let text = format!("{json:#}\n");
    fs::File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|e| unwritable(shown, e))
}
