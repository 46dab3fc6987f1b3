//! What the tests of adapters share: golden tensors, comparison, building small files.
#![allow(dead_code, unreachable_pub)] // every test binary uses a part

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use papilio::storage::{Container, Dtype, FloatType, TensorSpec, Writer};

/// A tensor as numbers.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub data: Vec<f64>,
}

/// A tensor of type f64, from its shape and numbers.
pub fn f64s(shape: &[usize], data: Vec<f64>) -> Tensor {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    Tensor { shape: shape.to_vec(), dtype: Dtype::F64, data }
}

/// Numbers without a pattern, in (−1, 1): xorshift is random enough here.
pub fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// All tensors of a file.
pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    let file = Container::open(path).unwrap();
    let read = |t: &papilio::storage::TensorInfo| Tensor {
        shape: t.shape.clone(),
        dtype: t.dtype,
        data: match FloatType::from_dtype(t.dtype) {
            Some(_) => file.read_finite(t).unwrap(),
            None => integers(path, t),
        },
    };
    file.tensors().iter().map(|t| (t.name.clone(), read(t))).collect()
}

/// An I64 tensor, found through the header by hand.
fn integers(path: &Path, tensor: &papilio::storage::TensorInfo) -> Vec<f64> {
    assert_eq!(tensor.dtype, Dtype::I64);
    let bytes = raw(path).remove(&tensor.name).unwrap();
    bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
}

/// The bytes of all tensors, read without papilio: header length, JSON, data.
pub fn raw(path: &Path) -> HashMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (header, data) = split(&bytes);
    let header = header.as_object().unwrap();
    let range = |entry: &serde_json::Value, i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
    header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| (name.clone(), data[range(entry, 0)..range(entry, 1)].to_vec()))
        .collect()
}

/// Header and data of a safetensors file.
pub fn split(bytes: &[u8]) -> (serde_json::Value, &[u8]) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), &bytes[8 + length..])
}

/// Writes a safetensors file; every tensor in its own type.
pub fn write(path: &Path, tensors: &[(&str, &Tensor)]) {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, t)| TensorSpec { name: name.to_string(), dtype: t.dtype, shape: t.shape.clone() })
        .collect();
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let mut out = Writer::new(File::create(path).unwrap(), path, Some(&metadata), &specs).unwrap();
    for (_, tensor) in tensors {
        for &x in &tensor.data {
            match tensor.dtype {
                Dtype::F64 => out.write(&x.to_le_bytes()),
                Dtype::F32 => out.write(&(x as f32).to_le_bytes()),
                Dtype::BF16 => out.write(&half::bf16::from_f64(x).to_le_bytes()),
                Dtype::F16 => out.write(&half::f16::from_f64(x).to_le_bytes()),
                Dtype::I64 => out.write(&(x as i64).to_le_bytes()),
                other => panic!("{other:?} is not needed here"),
            }
            .unwrap();
        }
    }
    out.finish().unwrap();
}

/// max|got − want| ≤ tolerance · max|want|. Returns the ratio.
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let error = got.iter().zip(want).fold(0.0f64, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() });
    assert!(error <= tolerance * largest, "{what}: error {error:e} with largest entry {largest:e}");
    if largest > 0.0 { error / largest } else { 0.0 }
}

/// What is asked of a case, by the type in its name: f64 1e-12, f32 2e-6, bf16 3e-2 of the largest entry.
pub fn tolerance(name: &str) -> f64 {
    match name.rsplit('_').next() {
        Some("f64") => 1e-12,
        Some("f32") => 2e-6,
        Some("bf16") => 3e-2,
        other => panic!("no type in {name}: {other:?}"),
    }
}

/// Names and tensors of the golden cases of BOFT that begin with `prefix`.
pub fn golden(prefix: &str) -> Vec<(String, HashMap<String, Tensor>)> {
    golden_in("tests/data/peft_boft", prefix)
}

/// The same of another folder.
pub fn golden_in(folder: &str, prefix: &str) -> Vec<(String, HashMap<String, Tensor>)> {
    let mut cases: Vec<_> = std::fs::read_dir(path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|file| (file.file_stem().unwrap().to_string_lossy().into_owned(), file))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, file)| (name, tensors(&file)))
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}
