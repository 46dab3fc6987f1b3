//! A model on disk: one safetensors file, or a directory of shards with an index.
//!
//! In a directory the first of these counts: `model.safetensors` and `model.safetensors.index.json`, in this order as in
//! transformers; then, for directories of other programs, the only `*.safetensors.index.json`, the only `*.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::format;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::{Map, Value};

use super::{Container, TensorInfo, file_error, read_json, tensor_error};
use crate::error::Result;

/// An open model. Tensors keep their shard and their order in it.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Container>,
    index: Option<Index>,
    shard_of: HashMap<String, usize>,
}

/// The JSON beside the shards that says which tensor lies in which: `{"metadata": …, "weight_map": {tensor: file}}`.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    /// File name in the model's directory.
    pub(crate) file_name: String,
    /// The whole object, other fields included.
    pub(crate) json: Map<String, Value>,
}

impl Checkpoint {
    /// Opens a safetensors file or a directory with one or several.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the file and tensor: no weights, a bad header, an index that names
    /// missing files, files outside the directory, or tensors that their shard lacks.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| file_error(path, "a file or directory", e))?;
        let (shards, index) = if !metadata.is_dir() {
            (vec![Container::open(path)?], None)
        } else {
            match find_weights(path)? {
                Weights::Single(name) => (vec![Container::open(&path.join(name))?], None),
                Weights::Indexed(name) => open_shards(path, name)?,
            }
        };
        let mut shard_of = HashMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for tensor in shard.tensors() {
                if let Some(first) = shard_of.insert(tensor.name.clone(), i) {
                    let also: &Container = &shards[first];
                    let got = format!("another one in {}", also.path().display());
                    return Err(tensor_error(shard.path(), &tensor.name, "a tensor in one shard only", got));
                }
            }
        }
        let model = Self { path: path.into(), shards, index, shard_of };
        model.check_index()?;
        Ok(model)
    }

    /// The file or directory it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was opened from a directory.
    pub fn is_directory(&self) -> bool {
        self.shards.first().is_none_or(|s| s.path() != self.path)
    }

    /// Its files, sorted by name.
    pub fn shards(&self) -> &[Container] {
        &self.shards
    }

    /// The shard with this tensor, and the tensor.
    pub fn get(&self, name: &str) -> Option<(&Container, &TensorInfo)> {
        let shard = &self.shards[*self.shard_of.get(name)?];
        Some((shard, shard.get(name)?))
    }

    /// All tensors, shard by shard.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.shards.iter().flat_map(Container::tensors)
    }

    pub(crate) fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// Every tensor that the index names must lie in the shard it names.
    fn check_index(&self) -> Result<()> {
        let Some(index) = &self.index else { return Ok(()) };
        let path = self.path.join(&index.file_name);
        for (name, file) in weight_map(&path, &index.json)? {
            if self.get(name).is_none_or(|(shard, _)| shard.path() != self.path.join(file)) {
                return Err(tensor_error(&path, name, "a tensor that its shard holds", format!("none in {file}")));
            }
        }
        Ok(())
    }
}

enum Weights {
    Single(String),
    Indexed(String),
}

fn find_weights(directory: &Path) -> Result<Weights> {
    let unreadable = |e| file_error(directory, "a readable directory", e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        if let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() {
            names.push(name);
        }
    }
    let has = |name: &str| names.iter().any(|n| n == name);
    let only = |suffix: &str| match &names.iter().filter(|n| n.ends_with(suffix)).collect::<Vec<_>>()[..] {
        [name] => Some((*name).clone()),
        _ => None,
    };
    if has("model.safetensors") {
        return Ok(Weights::Single("model.safetensors".into()));
    }
    if has("model.safetensors.index.json") {
        return Ok(Weights::Indexed("model.safetensors.index.json".into()));
    }
    if let Some(index) = only(".safetensors.index.json") {
        return Ok(Weights::Indexed(index));
    }
    if let Some(single) = only(".safetensors") {
        return Ok(Weights::Single(single));
    }
    let got = if names.iter().any(|n| n.ends_with(".safetensors")) {
        "several safetensors files and no index"
    } else if names.iter().any(|n| n.ends_with(".bin") || n.ends_with(".pt") || n.ends_with(".pth")) {
        "pickled PyTorch weights only (convert them to safetensors: save_pretrained does)"
    } else {
        "a directory with neither"
    };
    Err(file_error(directory, "model.safetensors or model.safetensors.index.json", got))
}

fn open_shards(directory: &Path, index: String) -> Result<(Vec<Container>, Option<Index>)> {
    let path = directory.join(&index);
    let json: Map<String, Value> = read_json(&path)?;
    let mut shards = BTreeMap::new();
    for (name, file) in weight_map(&path, &json)? {
        if shards.contains_key(file) {
            continue;
        }
        // A bare name: nothing an index says may lead out of the model's directory.
        let plain = Path::new(file).file_name().is_some_and(|f| f == file) && !file.contains(['/', '\\', ':']);
        if !plain || !file.ends_with(".safetensors") {
            return Err(tensor_error(&path, name, "the bare name of a .safetensors file", format!("`{file}`")));
        }
        shards.insert(file.to_string(), Container::open(&directory.join(file))?);
    }
    Ok((shards.into_values().collect(), Some(Index { file_name: index, json })))
}

/// The pairs tensor → file of an index.
fn weight_map<'a>(path: &Path, json: &'a Map<String, Value>) -> Result<Vec<(&'a str, &'a str)>> {
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.filter(|map| !map.is_empty()).ok_or_else(|| {
        file_error(path, "an object `weight_map` from tensor names to file names", "none, or an empty one")
    })?;
    map.iter()
        .map(|(name, file)| {
            let file = file.as_str().ok_or_else(|| tensor_error(path, name, "a file name", file))?;
            Ok((name.as_str(), file))
        })
        .collect()
}
