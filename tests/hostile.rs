//! Files that are damaged or made to harm: every reader answers with a value or an error that names the file, never
//! with a panic, and allocates no more than the file is long.
#![cfg(feature = "files")]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use papilio::adapter::{
    Adapter, ConvertOptions, ConvertTo, ExtractOptions, Hint, MergeOptions, PeftConfig, PreservedOptions, Strength,
    convert, extract, merge, preserved, unmerge,
};
use papilio::storage::{Checkpoint, Matrix, NpyArray};
use papilio::{Parallelism, Workspace};
use proptest::prelude::*;
use support::{f64s, noise, path, write};
use tempfile::TempDir;

/// A safetensors file with this header, with `data` zero bytes after it.
fn container(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn tensor(dtype: &str, shape: &str, start: &str, end: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn hostile_headers_are_errors() {
    let huge = (1u64 << 62).to_string();
    let one = |t: String| container(&format!(r#"{{"a":{t}}}"#), 16);
    let two = |s: String, t: String| container(&format!(r#"{{"a":{s},"b":{t}}}"#), 16);
    // Sixteen tensors of 2^60 bytes, less one: consistent in themselves, but any sum with the header's length overflows.
    let wrapping = {
        let ends: Vec<u64> = (1..=16u64).map(|i| (i << 60).wrapping_sub(u64::from(i == 16))).collect();
        let entry = |i: usize| {
            let (start, end) = (if i == 0 { 0 } else { ends[i - 1] }, ends[i]);
            let shape = format!("[{}]", end - start);
            format!(r#""t{i}":{}"#, tensor("U8", &shape, &start.to_string(), &end.to_string()))
        };
        container(&format!("{{{}}}", (0..16).map(entry).collect::<Vec<_>>().join(",")), 0)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("seven bytes", vec![0; 7]),
        ("no header", vec![0; 8]),
        ("header of 2^62 bytes", [(1u64 << 62).to_le_bytes().to_vec(), b"{}".to_vec()].concat()),
        ("header of 2^64 - 1 bytes", [u64::MAX.to_le_bytes().to_vec(), b"{}".to_vec()].concat()),
        ("header beyond the end", [100u64.to_le_bytes().to_vec(), b"{}".to_vec()].concat()),
        ("not JSON", container("hello, world", 0)),
        ("not UTF-8", [2u64.to_le_bytes().to_vec(), vec![0xff, 0xfe]].concat()),
        ("not an object", container("[1, 2, 3]", 0)),
        ("deep nesting", container(&"[".repeat(100_000), 0)),
        ("shape of 2^62", one(tensor("F32", &format!("[{huge}]"), "0", "16"))),
        ("shape that overflows", one(tensor("F32", &format!("[{huge},{huge}]"), "0", "16"))),
        ("offset of 2^62", one(tensor("F32", &format!("[{huge}]"), "0", &huge))),
        ("a sum that wraps", wrapping),
        ("overlap", two(tensor("F32", "[3]", "0", "12"), tensor("F32", "[2]", "8", "16"))),
        ("the same bytes twice", two(tensor("F32", "[4]", "0", "16"), tensor("F32", "[4]", "0", "16"))),
        ("gap", two(tensor("F32", "[1]", "0", "4"), tensor("F32", "[2]", "8", "16"))),
        ("backwards", one(tensor("F32", "[4]", "16", "0"))),
        ("too short", one(tensor("F32", "[8]", "0", "32"))),
        ("too long", one(tensor("F32", "[2]", "0", "8"))),
        ("shape and bytes disagree", one(tensor("F32", "[3]", "0", "16"))),
        ("negative", one(tensor("F32", "[-4]", "0", "16"))),
        ("unknown type", one(tensor("F31", "[4]", "0", "16"))),
        ("no type", container(r#"{"a":{"shape":[4],"data_offsets":[0,16]}}"#, 16)),
        ("metadata that is a number", container(r#"{"__metadata__":{"a":1}}"#, 0)),
    ];
    let work = TempDir::new().unwrap();
    for (name, bytes) in cases {
        let file = work.path().join("hostile.safetensors");
        fs::write(&file, bytes).unwrap();
        for error in [Checkpoint::open(&file).err(), Adapter::open(&file).err(), Matrix::read(&file, None).err()] {
            let message = error.unwrap_or_else(|| panic!("{name} was accepted")).to_string();
            assert!(message.contains("hostile.safetensors"), "{name}: {message}");
        }
    }
    // What looks odd and is allowed: no tensors, empty tensors, padding.
    for header in ["{}", r#"{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}   "#] {
        let file = work.path().join("odd.safetensors");
        fs::write(&file, container(header, 0)).unwrap();
        let model = Checkpoint::open(&file).unwrap();
        assert!(model.tensors().all(|t| t.is_empty()));
        assert!(Adapter::open(&file).is_err() && Matrix::read(&file, None).is_err());
    }
}

/// A small base, adapter, configuration, index and .npy file, as bytes.
struct Seeds {
    work: TempDir,
    base: Vec<u8>,
    adapter: Vec<u8>,
    config: Vec<u8>,
    index: Vec<u8>,
    npy: Vec<u8>,
}

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    let work = TempDir::new().unwrap();
    let file = work.path().join("seed");
    let made = |tensors: &[(&str, &support::Tensor)]| {
        write(&file, tensors);
        fs::read(&file).unwrap()
    };
    let (weight, bias) = (f64s(&[3, 8], noise(1, 24)), f64s(&[3], noise(2, 3)));
    let base = made(&[("a.weight", &weight), ("a.bias", &bias)]);
    let (blocks, scale) = (f64s(&[2, 4, 2, 2], noise(3, 32)), f64s(&[3, 1], noise(4, 3)));
    let adapter = made(&[
        ("base_model.model.a.boft_R", &blocks),
        ("base_model.model.a.boft_s", &scale),
        ("base_model.model.a.base_layer.bias", &bias),
    ]);
    let mut npy = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }".to_vec();
    npy.resize(10 + 0x46, b' ');
    npy.extend([1f64, 0.0, 0.0, 1.0].iter().flat_map(|x| x.to_le_bytes()));
    let config = fs::read(path("examples/data/boft_llama/adapter/adapter_config.json")).unwrap();
    let index =
        br#"{"metadata": {"total_size": 216}, "weight_map": {"a.weight": "x.safetensors", "a.bias": "x.safetensors"}}"#;
    Seeds { base, adapter, config, index: index.to_vec(), npy, work }
});

/// Tensors, configuration, and what has to be said of an adapter.
type Seed = (Vec<(&'static str, support::Tensor)>, String, Option<Hint>);

/// Small adapters of the other dialects of a layer `a` `[8, 8]`.
fn dialects() -> Vec<Seed> {
    let numbers = |shape: &[usize], seed: u64| f64s(shape, noise(seed, shape.iter().product()));
    let oft =
        r#"{"peft_type": "OFT", "peft_version": "0.18.0", "r": 2, "coft": true, "eps": 0.5, "use_cayley_neumann": "#;
    let peft = |name: &'static str, shape: &[usize], seed: u64| (name, numbers(shape, seed));
    let alpha = f64s(&[], vec![0.125]);
    vec![
        (
            vec![peft("base_model.model.a.oft_R.weight", &[2, 6], 5)],
            format!(r#"{oft} true, "num_cayley_neumann_terms": 5}}"#),
            None,
        ),
        (vec![peft("base_model.model.a.oft_R.weight", &[1, 6], 5)], format!("{oft} false}}"), None),
        (
            vec![peft("base_model.model.a.oft_r", &[2, 4, 4], 6), peft("base_model.model.a.oft_s", &[8, 1], 7)],
            r#"{"peft_type": "OFT", "r": 2, "coft": true, "eps": 0.01}"#.into(),
            None,
        ),
        (vec![peft("base_model.model.a.oft_r", &[3, 3, 3], 6)], r#"{"peft_type": "OFT", "r": 3}"#.into(), None),
        (
            vec![peft("base_model.model.a.hra_u", &[8, 4], 8)],
            r#"{"peft_type": "HRA", "r": 4, "apply_GS": true}"#.into(),
            None,
        ),
        (
            vec![peft("base_model.model.a.road_theta", &[4], 8), peft("base_model.model.a.road_alpha", &[4], 9)],
            r#"{"peft_type": "ROAD", "variant": "road_1", "group_size": 4}"#.into(),
            None,
        ),
        (
            vec![
                peft("base_model.model.a.psoft_R.weight", &[3], 8),
                peft("base_model.model.a.psoft_R.vector_a", &[3], 9),
            ],
            r#"{"peft_type": "PSOFT", "r": 3, "psoft_alpha": 6, "use_cayley_neumann": false}"#.into(),
            None,
        ),
        (
            vec![peft("lycoris_a.oft_blocks", &[3, 2, 4, 4][1..], 5), ("lycoris_a.alpha", alpha.clone())],
            String::new(),
            None,
        ),
        (
            vec![
                peft("lora_unet_a.oft_blocks", &[2, 2, 4, 4], 5),
                ("lora_unet_a.alpha", alpha.clone()),
                peft("lora_unet_a.rescale", &[8, 1], 6),
            ],
            String::new(),
            None,
        ),
        (vec![peft("lycoris_a.oft_diag", &[2, 4, 4], 5)], String::new(), None),
        (
            vec![
                peft("oft_unet_a.oft_blocks.0", &[2, 1, 1], 5),
                peft("oft_unet_a.oft_blocks.1", &[2, 3, 3], 6),
                ("oft_unet_a.alpha", alpha),
            ],
            String::new(),
            None,
        ),
        (
            vec![peft("lora_unet_a.oft_R.weight", &[2, 6], 5), peft("lora_unet_a.oft_R.scaled_oft", &[1], 6)],
            String::new(),
            Some(Hint::OneTrainer),
        ),
    ]
}

/// Everything that can be done with an adapter file, whatever it holds. Tells whether it could be opened, and merged.
fn everything(here: &Path, adapter: &Path, hint: Option<Hint>) -> [bool; 2] {
    let base = here.join("base.safetensors");
    write(&base, &[("a.weight", &f64s(&[8, 8], noise(1, 64))), ("a.bias", &f64s(&[8], noise(2, 8)))]);
    let Ok(opened) = Adapter::open_as(adapter, hint) else { return [false; 2] };
    for layer in opened.layers() {
        let _ = (layer.structure(), format!("{layer:?}"));
        let Ok(numbers) = opened.numbers(layer) else { continue };
        for shape in
            [None, Some(&[8, 8][..]), Some(&[8][..]), Some(&[0, 8]), Some(&[9, 7, 1, 1]), Some(&[usize::MAX, 2])]
        {
            let Ok(sides) = layer.sides(&numbers, shape) else { continue };
            let _ =
                (sides.defect(), sides.interpolate(0.5), sides.blend(0.5), sides.truncate(1), sides.inverse().is_ok());
            let mut weight = noise(3, 64);
            if sides.merge(&[8, 8], &mut weight, Parallelism::None, &Workspace::new()).is_ok() {
                let gradient = sides.vjp(&[8, 8], &noise(3, 64), &weight).unwrap();
                let _ = layer.pull(&numbers, shape, &gradient);
            }
        }
        let _ = layer.core(&numbers);
    }
    let out = here.join("out.safetensors");
    let mut merged = false;
    for strength in [Strength::Whole, Strength::Fraction(0.5), Strength::LinearBlend(2.0), Strength::Stages(1)] {
        let common = MergeOptions { dialect: hint, strength, force: true, ..MergeOptions::new(&base, adapter, &out) };
        merged |= merge(&common, |_| ControlFlow::Continue(())).is_ok();
        let _ = unmerge(&common, |_| ControlFlow::Continue(()));
    }
    let targets =
        [ConvertTo::PeftBoft, ConvertTo::PeftOft, ConvertTo::LycorisDiagOft, ConvertTo::Kohya, ConvertTo::Lora(2)];
    for to in targets {
        let options = ConvertOptions {
            adapter: adapter.into(),
            dialect: hint,
            to,
            base: Some(base.clone()),
            out: here.join(to.name()),
            force: true,
        };
        let _ = convert(&options, |_| ControlFlow::Continue(()));
    }
    [true, merged]
}

/// Blocks that are cut into two runs have an even size.
#[test]
fn odd_blocks_of_lycoris_are_refused() {
    let here = directory("odd");
    let file = here.join("odd.safetensors");
    for (name, b) in [("lycoris_a.oft_blocks", 3), ("lycoris_a.oft_diag", 1), ("lycoris_a.oft_blocks", 5)] {
        let blocks = f64s(&[1, 2, b, b], noise(3, 2 * b * b));
        write(&file, &[(name, &blocks), ("lycoris_a.alpha", &f64s(&[], vec![0.0]))]);
        assert!(Adapter::open(&file).unwrap_err().to_string().contains("even"), "{b}");
    }
}

/// An adapter is not written with numbers that its type does not hold: nothing could read it.
#[test]
fn numbers_beyond_the_type_of_an_adapter_are_refused() {
    let here = directory("beyond");
    let [base, tuned] = ["base", "tuned"].map(|name| here.join(format!("{name}.safetensors")));
    write(&base, &[("a.weight", &f64s(&[4, 4], noise(1, 16).iter().map(|x| 1e-30 * x).collect()))]);
    write(&tuned, &[("a.weight", &f64s(&[4, 4], noise(2, 16).iter().map(|x| 1e30 * x).collect()))]);
    let options = ExtractOptions { scale: true, ..ExtractOptions::new(&base, &tuned, here.join("adapter"), (1, 2)) };
    let message = extract(&options, |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(message.contains("boft_s") && message.contains("f32"), "{message}");
    assert_eq!(fs::read_dir(&here).unwrap().count(), 2);
}

/// What a factor of 0 made of the outputs cannot be compared, and that is not the base's fault.
#[test]
fn outputs_without_a_scale_are_not_compared() {
    let here = directory("zeros");
    let [base, adapter] = ["base", "adapter"].map(|name| here.join(format!("{name}.safetensors")));
    write(&base, &[("a.weight", &f64s(&[4, 4], noise(1, 16)))]);
    let (blocks, alpha) = (f64s(&[2, 2, 2], noise(3, 8)), f64s(&[], vec![0.0]));
    let rescale = f64s(&[4, 1], vec![1.0, 0.5, 0.0, 2.0]);
    write(&adapter, &[("lycoris_a.oft_blocks", &blocks), ("lycoris_a.alpha", &alpha), ("lycoris_a.rescale", &rescale)]);
    let found = preserved(&PreservedOptions::new(&base, &adapter), |_| ControlFlow::Continue(()));
    let message = found.unwrap_err().to_string();
    assert!(message.contains("lycoris_a") && message.contains("output 2"), "{message}");
}

#[test]
fn undamaged_dialects_are_accepted() {
    for (k, (tensors, config, hint)) in dialects().into_iter().enumerate() {
        let here = directory(&format!("dialect{k}"));
        let file = here.join("adapter_model.safetensors");
        write(&file, &tensors.iter().map(|(name, tensor)| (*name, tensor)).collect::<Vec<_>>());
        if !config.is_empty() {
            fs::write(here.join("adapter_config.json"), &config).unwrap();
        }
        let is_psoft = config.contains("PSOFT");
        assert_eq!(everything(&here, &file, hint), [true, !is_psoft], "{k} {:?}", Adapter::open_as(&file, hint));
    }
}

/// What happens to a file: some bytes change, it is cut, or something is appended.
fn damage() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"0123456789{}[]\",:-eE.".to_vec())];
    prop::collection::vec((0u8..10, any::<prop::sample::Index>(), byte), 1..6)
}

fn damaged(seed: &[u8], damage: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (kind, at, byte) in damage {
        if bytes.is_empty() {
            break;
        }
        match kind {
            0 => bytes.truncate(at.index(bytes.len())),
            1 => bytes.push(*byte),
            2 => bytes.insert(at.index(bytes.len()), *byte),
            3 => drop(bytes.remove(at.index(bytes.len()))),
            4 => {
                let i = at.index(bytes.len().min(16)); // the lengths at the front
                bytes[i] = *byte;
            }
            _ => {
                let i = at.index(bytes.len());
                bytes[i] = *byte;
            }
        }
    }
    bytes
}

fn directory(name: &str) -> PathBuf {
    let directory = SEEDS.work.path().join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn try_merge(base: &Path, adapter: &Path, out: &Path) -> bool {
    let options = MergeOptions { force: true, parallelism: Parallelism::None, ..MergeOptions::new(base, adapter, out) };
    let report = merge(&options, |_| ControlFlow::Continue(()));
    if let Ok(report) = &report {
        assert!(report.layers.iter().all(|l| l.defect.is_finite() && l.relative_change.is_finite()));
        assert!(Checkpoint::open(out).is_ok());
    }
    report.is_ok()
}

#[test]
fn undamaged_seeds_are_accepted() {
    let here = directory("seeds");
    let at = |name: &str, bytes: &[u8]| {
        fs::write(here.join(name), bytes).unwrap();
        here.join(name)
    };
    let (base, adapter) = (at("x.safetensors", &SEEDS.base), at("adapter_model.safetensors", &SEEDS.adapter));
    assert!(try_merge(&base, &adapter, &here.join("out.safetensors")));
    assert!(PeftConfig::read(&at("config.json", &SEEDS.config)).is_ok());
    assert_eq!(NpyArray::read(&at("m.npy", &SEEDS.npy)).unwrap().data, [1.0, 0.0, 0.0, 1.0]);
    at("model.safetensors.index.json", &SEEDS.index);
    assert!(Checkpoint::open(&here).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_safetensors_are_values_or_errors(damage in damage(), hit_base in any::<bool>()) {
        let here = directory("safetensors");
        let (base, adapter) = (here.join("base.safetensors"), here.join("adapter.safetensors"));
        let harm = |bytes: &[u8], hit: bool| if hit { damaged(bytes, &damage) } else { bytes.to_vec() };
        fs::write(&base, harm(&SEEDS.base, hit_base)).unwrap();
        fs::write(&adapter, harm(&SEEDS.adapter, !hit_base)).unwrap();
        try_merge(&base, &adapter, &here.join("out.safetensors"));
        let _ = Matrix::read(&base, None);
        prop_assert!(fs::read_dir(&here).unwrap().count() <= 3, "a temporary was left behind");
    }

    #[test]
    fn damaged_dialects_are_values_or_errors(
        damage in damage(),
        which in any::<prop::sample::Index>(),
        in_numbers in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(vec![
            0.0, -0.0, 1e-310, 1e300, -1e300, f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY,
        ]))),
        hit_config in any::<bool>(),
    ) {
        let (mut tensors, config, hint) = dialects().swap_remove(which.index(dialects().len()));
        let here = directory("dialects");
        let file = here.join("adapter_model.safetensors");
        if let Some((at, number)) = &in_numbers {
            let count = tensors.len();
            let data = &mut tensors[at.index(count)].1.data;
            let place = at.index(data.len());
            data[place] = *number;
        }
        write(&file, &tensors.iter().map(|(name, tensor)| (*name, tensor)).collect::<Vec<_>>());
        let _ = fs::remove_file(here.join("adapter_config.json"));
        let damaged_config = if hit_config { damaged(config.as_bytes(), &damage) } else { config.clone().into_bytes() };
        if !config.is_empty() {
            fs::write(here.join("adapter_config.json"), damaged_config).unwrap();
        }
        if !hit_config && in_numbers.is_none() {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, damaged(&bytes, &damage)).unwrap();
        }
        everything(&here, &file, hint);
        let left = fs::read_dir(&here).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
        prop_assert_eq!(left.count(), 0, "a temporary was left behind");
    }

    #[test]
    fn damaged_npy_files_are_values_or_errors(damage in damage()) {
        let file = directory("npy").join("m.npy");
        fs::write(&file, damaged(&SEEDS.npy, &damage)).unwrap();
        if let Ok(array) = NpyArray::read(&file) {
            prop_assert_eq!(array.data.len(), array.shape.iter().product::<usize>());
        }
        let _ = Matrix::read(&file, None);
    }

    #[test]
    fn damaged_json_is_a_value_or_an_error(damage in damage()) {
        let here = directory("json");
        fs::write(here.join("x.safetensors"), &SEEDS.base).unwrap();
        fs::write(here.join("model.safetensors.index.json"), damaged(&SEEDS.index, &damage)).unwrap();
        let _ = Checkpoint::open(&here);
        fs::write(here.join("config.json"), damaged(&SEEDS.config, &damage)).unwrap();
        let _ = PeftConfig::read(&here.join("config.json"));
    }
}
