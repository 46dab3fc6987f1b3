//! A model in a directory: index, configuration and shards.
//!
//! The parts of an input: the type of the merged model (`bf16`, or nothing), `model.safetensors.index.json`, `config.json`, the
//! tensors of `a.safetensors` and `b.safetensors` (lines, see [`tensors`](super::tensors)), data. A small adapter of a layer
//! `a` is merged into it.

use papilio::Parallelism;
use papilio::adapter::{MergeOptions, merge};
use papilio::storage::{Checkpoint, FloatType};

use super::{Files, go_on, heard, parts, tensors};

const ADAPTER: &[u8] = b"F32 2,6 base_model.model.a.oft_R.weight\nF32 3 base_model.model.b.bias";
const CONFIG: &[u8] = br#"{"peft_type": "OFT", "peft_version": "0.18.0", "r": 2, "use_cayley_neumann": false}"#;

/// Opens it and merges into it.
pub fn model(input: &[u8]) -> bool {
    let [dtype, index, config, first, second, data] = parts(input);
    let data = &mut tensors::Data::new(data);
    let (Some(first), Some(second)) = (tensors::file(first, None, data), tensors::file(second, None, data)) else {
        return false;
    };
    let files = Files::new();
    files.write("model/model.safetensors.index.json", index);
    files.write("model/a.safetensors", &first);
    files.write("model/b.safetensors", &second);
    if !config.is_empty() {
        files.write("model/config.json", config);
    }
    let numbers = [0.5f32, -0.25, 0.125].map(f32::to_le_bytes).concat();
    let adapter = tensors::file(ADAPTER, None, &mut tensors::Data::new(&numbers)).expect("a small adapter");
    let adapter = files.write("adapter/adapter_model.safetensors", &adapter);
    files.write("adapter/adapter_config.json", CONFIG);

    let path = files.path("model");
    let Some(base) = heard(Checkpoint::open(&path)) else { return false };
    assert!(base.is_directory() && base.tensors().all(|t| base.get(&t.name).is_some_and(|(_, found)| found == t)));
    let dtype: Option<FloatType> = String::from_utf8_lossy(dtype).parse().ok();
    let out = files.path("out");
    let options = MergeOptions { dtype, parallelism: Parallelism::None, ..MergeOptions::new(&path, adapter, &out) };
    if heard(merge(&options, go_on)).is_some() {
        let merged = Checkpoint::open(&out).expect("a model that was written");
        for tensor in base.tensors() {
            let (_, written) = merged.get(&tensor.name).expect("every tensor of the base");
            let own = FloatType::from_dtype(tensor.dtype).and(dtype).map_or(tensor.dtype, FloatType::dtype);
            assert_eq!((written.dtype, &written.shape), (own, &tensor.shape), "{}", tensor.name);
        }
        let added = usize::from(base.get("b.bias").is_none()); // from the adapter
        assert_eq!(merged.tensors().count(), base.tensors().count() + added);
        assert_eq!(merged.shards().len(), base.shards().len());
    }
    files.check_no_temporaries();
    true
}
