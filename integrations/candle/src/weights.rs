//! Where the tensors of a model come from: a model on disk, memory, or a random start.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use papilio::generator::Generator;
use papilio::storage::{Checkpoint, Output};

use crate::error::{Result, input};
use crate::hash::Fnv;

/// Tensors by name, read when they are asked for.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    dtype: DType,
}

#[derive(Debug)]
enum Source {
    Disk(Checkpoint),
    Memory(BTreeMap<String, Tensor>),
    Random { seed: u64, deviation: f64 },
}

/// How a tensor starts that a model on disk does not have, or that training starts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// One number everywhere.
    Constant(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in ±limit.
    Uniform(f64),
}

impl Weights {
    /// A safetensors file, or a directory with one or with shards and an index. Numbers become `dtype`, F32 or F64.
    ///
    /// # Errors
    /// papilio's, naming what cannot be read.
    pub fn open(path: &Path, dtype: DType) -> Result<Self> {
        Ok(Self { source: Source::Disk(Checkpoint::open(path)?), dtype })
    }

    /// Tensors in memory.
    pub fn in_memory(tensors: BTreeMap<String, Tensor>, dtype: DType) -> Self {
        Self { source: Source::Memory(tensors), dtype }
    }

    /// A fresh start: every tensor as its [`Init`] says, by its name and this seed alone. Normal ones get this deviation
    /// instead of their own: small networks need more than large ones.
    pub fn random(seed: u64, deviation: f64, dtype: DType) -> Self {
        Self { source: Source::Random { seed, deviation }, dtype }
    }

    /// The type of all tensors.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether there is one of this name (of a random start: always).
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Disk(file) => file.get(name).is_some(),
            Source::Memory(tensors) => tensors.contains_key(name),
            Source::Random { .. } => true,
        }
    }

    /// The shape of one that is stored.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.source {
            Source::Disk(file) => file.get(name).map(|(_, tensor)| tensor.shape.clone()),
            Source::Memory(tensors) => tensors.get(name).map(|tensor| tensor.dims().to_vec()),
            Source::Random { .. } => None,
        }
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if there is none, or one of another shape; papilio's for numbers that cannot be read or are
    /// not finite.
    pub fn get(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let what = || format!("tensor `{name}` of the model");
        let tensor = match &self.source {
            Source::Random { seed, deviation } => {
                let init = if let Init::Normal(_) = init { Init::Normal(*deviation) } else { init };
                return start(name, *seed, shape, init, self.dtype);
            }
            Source::Memory(tensors) => tensors.get(name).cloned(),
            Source::Disk(file) => match file.get(name) {
                Some((shard, info)) if info.shape == shape => {
                    Some(Tensor::from_vec(shard.read_finite(info)?, shape, &Device::Cpu)?)
                }
                Some((_, info)) => return input(what(), format!("shape {shape:?}"), format!("{:?}", info.shape)),
                None => None,
            },
        };
        match tensor {
            Some(tensor) if tensor.dims() == shape => Ok(tensor.to_dtype(self.dtype)?),
            Some(tensor) => input(what(), format!("shape {shape:?}"), format!("{:?}", tensor.dims())),
            None => input(what(), "one of this name", "none"),
        }
    }
}

/// Numbers of the largest tensor that starts at random: 2 GiB of doubles.
const LARGEST: usize = 1 << 28;

/// A new tensor, by its name and a seed.
pub(crate) fn start(name: &str, seed: u64, shape: &[usize], init: Init, dtype: DType) -> Result<Tensor> {
    let count = shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim)).filter(|count| *count <= LARGEST);
    let Some(count) = count else {
        return input(format!("new tensor `{name}`"), format!("at most {LARGEST} numbers"), format!("shape {shape:?}"));
    };
    let mut hash = Fnv::default();
    hash.write(name.as_bytes());
    let mut generator = Generator::new(seed ^ hash.0);
    let mut number = || match init {
        Init::Constant(c) => c,
        Init::Uniform(limit) => limit * (2.0 * generator.uniform() - 1.0),
        Init::Normal(deviation) => {
            let radius = (-2.0 * (1.0 - generator.uniform()).ln()).sqrt(); // Box and Muller
            deviation * radius * (std::f64::consts::TAU * generator.uniform()).cos()
        }
    };
    let numbers: Vec<f64> = (0..count).map(|_| number()).collect();
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

/// Writes tensors and texts into a directory that appears whole or not at all. `file` is the safetensors file's name.
///
/// # Errors
/// papilio's and candle's: a directory that holds other things than these files, no space, numbers that are not finite.
pub fn save_directory(
    directory: &Path,
    file: &str,
    tensors: &BTreeMap<String, Tensor>,
    texts: &[(&str, String)],
    replace: bool,
) -> Result<()> {
    for (name, tensor) in tensors {
        let numbers = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
            return input(format!("tensor `{name}` to write"), "finite numbers", format!("{} at [{at}]", numbers[at]));
        }
    }
    let files = texts.iter().map(|(name, _)| *name).chain([file]).map(Into::into).collect::<Vec<_>>();
    let output = Output::directory(directory, replace, files)?;
    for (name, text) in texts {
        write(&output.path(name), text.as_bytes())?;
    }
    let views = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), tensor.contiguous()?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let bytes = safetensors::serialize(views.iter().map(|(name, tensor)| (*name, tensor)), Some(metadata));
    let bytes = bytes.map_err(candle_core::Error::from)?;
    write(&output.path(file), &bytes)?;
    Ok(output.commit()?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).or_else(|e| input(path.display().to_string(), "a writable file", e))
}
