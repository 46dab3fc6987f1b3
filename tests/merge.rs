//! Merging whole files: golden models, every form of base and adapter, and what happens when something is wrong.
#![cfg(feature = "files")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use papilio::Error;
use papilio::adapter::{MergeEvent, MergeOptions, MergeReport, merge};
use papilio::storage::{Container, Dtype, FloatType};
use support::{Tensor, assert_close, f64s, golden, noise, path, raw, split, tensors, tolerance, write};
use tempfile::TempDir;

fn options(base: &Path, adapter: &Path, out: &Path) -> MergeOptions {
    MergeOptions::new(base, adapter, out)
}

fn run(options: &MergeOptions) -> papilio::Result<MergeReport> {
    merge(options, |_| ControlFlow::Continue(()))
}

fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// The llama model of the example data and its adapter.
fn llama() -> (PathBuf, PathBuf) {
    (path("examples/data/boft_llama/base"), path("examples/data/boft_llama/adapter"))
}

#[test]
fn golden_models_are_reproduced_and_the_rest_is_untouched() {
    let bert = path("tests/data/e2e_boft_bert_degraded");
    let llama = llama();
    for (base, adapter, io, layers, warnings) in [
        (llama.0, llama.1, path("tests/data/e2e_boft_llama/io.safetensors"), 14, 0),
        (bert.join("base"), bert.join("adapter"), bert.join("io.safetensors"), 4, 1), // its config says 3 factors
    ] {
        let work = TempDir::new().unwrap();
        let out = work.path().join("merged");
        let report = run(&options(&base, &adapter, &out)).unwrap();
        assert_eq!((report.layers.len(), report.warnings.len()), (layers, warnings), "{:?}", report.warnings);
        for layer in &report.layers {
            assert!(layer.defect < 1e-14 && layer.relative_change > 0.1, "{layer:?}");
            let shape = (layer.n / layer.block) * layer.block * (layer.block - 1) / 2;
            assert_eq!(layer.parameters, layer.stages * shape);
        }

        let (before, after) = (base.join("model.safetensors"), out.join("model.safetensors"));
        let (old, new, numbers) = (raw(&before), raw(&after), tensors(&after));
        let golden = tensors(&io);
        let merged: Vec<_> = golden.iter().filter_map(|(k, t)| Some((k.strip_prefix("merged.")?, t))).collect();
        assert!(merged.len() >= 6);
        for (name, want) in merged {
            assert_close(name, &numbers[name].data, &want.data, 2e-6);
        }
        let changed = |name: &str| {
            let module = name.rsplit_once('.').unwrap().0;
            report.layers.iter().any(|l| l.name == module) || name.starts_with("classifier.")
        };
        assert_eq!(old.len(), new.len());
        for (name, bytes) in &old {
            assert_eq!(bytes == &new[name], !changed(name), "{name}");
        }
        let (bytes_before, bytes_after) = (fs::read(&before).unwrap(), fs::read(&after).unwrap());
        assert_eq!(split(&bytes_before).0["__metadata__"], split(&bytes_after).0["__metadata__"]);
        let order =
            |file: &Path| Container::open(file).unwrap().tensors().iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(order(&before), order(&after));
        assert_eq!(fs::read(base.join("config.json")).unwrap(), fs::read(out.join("config.json")).unwrap());
        assert_eq!(names(&out), BTreeSet::from(["config.json".into(), "model.safetensors".into()]));
        assert_eq!(names(work.path()).len(), 1, "a temporary was left behind");
    }
}

#[test]
fn every_golden_layer_merges_as_a_file() {
    let cases: Vec<_> = golden("boft_linear_").into_iter().chain(golden("boft_conv2d_")).collect();
    let work = TempDir::new().unwrap();
    let [base, adapter, out] = ["base", "adapter", "out"].map(|n| work.path().join(n).with_extension("safetensors"));
    for (i, (name, case)) in cases.iter().enumerate() {
        write(&base, &[("net.layer.weight", &case["weight"]), ("net.other", &case["weight"])]);
        // As save_pretrained writes them, as state_dict has them, and without the prefix.
        let (front, back) = [("base_model.model.", ""), ("base_model.model.", ".default"), ("", "")][i % 3];
        let key = |parameter: &str| format!("{front}net.layer.{parameter}{back}");
        let mut parts = vec![(key("boft_R"), &case["boft_R"]), (key("boft_s"), &case["boft_s"])];
        let permutation = f64s(&[1, 2, 2], vec![0.0; 4]);
        if name.contains("linear") {
            parts.push((key("boft_P"), &permutation)); // PEFT up to 0.12: ignored
        }
        write(&adapter, &parts.iter().map(|(k, t)| (k.as_str(), *t)).collect::<Vec<_>>());
        let dialect = Some("peft-0.21.2".parse().unwrap());
        let report = run(&MergeOptions { force: i > 0, dialect, ..options(&base, &adapter, &out) }).unwrap();
        assert_eq!(report.layers.len(), 1);
        assert_eq!(report.layers[0].stages, case["boft_R"].shape[0]);
        let merged = tensors(&out);
        assert_eq!(merged["net.layer.weight"].dtype, case["merged_weight"].dtype);
        assert_close(name, &merged["net.layer.weight"].data, &case["merged_weight"].data, tolerance(name));
        assert_eq!(raw(&out)["net.other"], raw(&base)["net.other"]);
    }
}

/// The llama base as three shards with an index, and files that a model directory has besides.
fn sharded(work: &Path) -> PathBuf {
    let base = work.join("sharded");
    fs::create_dir_all(base.join("chat/templates")).unwrap();
    fs::create_dir(base.join("original")).unwrap();
    let all = tensors(&llama().0.join("model.safetensors"));
    let mut keys: Vec<&String> = all.keys().collect();
    keys.sort();
    let mut map = serde_json::Map::new();
    for (i, part) in keys.chunks(keys.len().div_ceil(3)).enumerate() {
        let file = format!("model-{:05}-of-00003.safetensors", i + 1);
        write(&base.join(&file), &part.iter().map(|k| (k.as_str(), &all[*k])).collect::<Vec<_>>());
        map.extend(part.iter().map(|k| (k.to_string(), file.clone().into())));
    }
    let size: usize = raw(&llama().0.join("model.safetensors")).values().map(Vec::len).sum();
    let index = serde_json::json!({"metadata": {"total_size": size, "by": "hand"}, "weight_map": map});
    fs::write(base.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::copy(llama().0.join("config.json"), base.join("config.json")).unwrap();
    for file in ["tokenizer.json", "generation_config.json", "chat/templates/a.jinja", "README.md"] {
        fs::write(base.join(file), file).unwrap();
    }
    for file in ["pytorch_model.bin", "original/consolidated.00.pth", ".gitattributes", "adapter_config.json"] {
        fs::write(base.join(file), "not to be copied").unwrap();
    }
    base
}

#[test]
fn shards_keep_their_files_and_index() {
    let work = TempDir::new().unwrap();
    let (base, adapter) = (sharded(work.path()), llama().1);
    let [whole, parts] = ["whole", "parts"].map(|name| work.path().join(name));
    run(&options(&llama().0, &adapter, &whole)).unwrap();
    let report = run(&options(&base, &adapter, &parts)).unwrap();
    let expected = [
        "README.md",
        "chat",
        "config.json",
        "generation_config.json",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names(&parts), expected.map(String::from).into());
    assert_eq!(fs::read_to_string(parts.join("chat/templates/a.jinja")).unwrap(), "chat/templates/a.jinja");
    assert_eq!(report.warnings.len(), 1);
    assert!(report.warnings[0].contains("consolidated.00.pth, pytorch_model.bin"), "{}", report.warnings[0]);

    let mut merged = raw(&whole.join("model.safetensors"));
    for shard in names(&parts).iter().filter(|n| n.ends_with(".safetensors")) {
        let order = |d: &Path| Container::open(&d.join(shard)).unwrap().tensors().to_vec();
        assert_eq!(order(&base), order(&parts));
        for (name, bytes) in raw(&parts.join(shard)) {
            assert_eq!(merged.remove(&name).unwrap(), bytes, "{name}");
        }
    }
    assert!(merged.is_empty());
    let index = |d: &Path| fs::read(d.join("model.safetensors.index.json")).unwrap();
    assert_eq!(index(&base), index(&parts));
}

#[test]
fn another_type_converts_every_float_tensor_once() {
    let work = TempDir::new().unwrap();
    let (base, adapter) = (sharded(work.path()), llama().1);
    let full = work.path().join("f64");
    run(&MergeOptions { dtype: Some(FloatType::F64), ..options(&base, &adapter, &full) }).unwrap();
    for dtype in FloatType::ALL {
        let out = work.path().join(format!("out-{dtype}"));
        let report = run(&MergeOptions { dtype: Some(dtype), ..options(&base, &adapter, &out) }).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["dtype"], dtype.torch_name());
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("model.safetensors.index.json")).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], report.bytes);
        assert_eq!(index["metadata"]["by"], "hand");
        for shard in names(&out).iter().filter(|n| n.ends_with(".safetensors")) {
            let exact = tensors(&full.join(shard));
            for (name, tensor) in tensors(&out.join(shard)) {
                assert_eq!(tensor.dtype, dtype.dtype(), "{name}");
                let error = tensor.data.iter().zip(&exact[&name].data).map(|(a, b)| (a - b).abs() / b.abs().max(1e-3));
                assert!(error.fold(0.0, f64::max) <= 0.5001 * dtype.eps(), "{name}"); // half a unit: rounded once
            }
        }
    }
}

/// A base with one Linear of 8 inputs and 3 outputs, and an adapter for it.
struct Small {
    work: TempDir,
    base: Vec<(String, Tensor)>,
    adapter: Vec<(String, Tensor)>,
    config: Option<String>,
}

impl Small {
    fn new() -> Self {
        let own = |(name, tensor): (&str, Tensor)| (name.to_string(), tensor);
        let f32s =
            |shape: &[usize], seed| Tensor { dtype: Dtype::F32, ..f64s(shape, noise(seed, shape.iter().product())) };
        Self {
            work: TempDir::new().unwrap(),
            base: vec![
                own(("a.weight", f32s(&[3, 8], 1))),
                own(("a.bias", f32s(&[3], 2))),
                own(("conv.weight", f32s(&[2, 2, 2, 2], 3))),
                own(("ids", Tensor { dtype: Dtype::I64, ..f64s(&[2], vec![1.0, 2.0]) })),
            ],
            adapter: vec![
                own(("base_model.model.a.boft_R", f32s(&[2, 4, 2, 2], 4))),
                own(("base_model.model.a.boft_s", f32s(&[3, 1], 5))),
            ],
            config: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn with(mut self, key: &str, tensor: Tensor) -> Self {
        self.adapter.retain(|(k, _)| k != key);
        self.adapter.push((key.to_string(), tensor));
        self
    }

    fn with_base(mut self, key: &str, tensor: Tensor) -> Self {
        self.base.retain(|(k, _)| k != key);
        self.base.push((key.to_string(), tensor));
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.adapter.retain(|(k, _)| k != key);
        self.base.retain(|(k, _)| k != key);
        self
    }

    fn with_config(mut self, json: &str) -> Self {
        self.config = Some(json.to_string());
        self
    }

    fn options(&self) -> MergeOptions {
        let write_all = |file: &str, tensors: &[(String, Tensor)]| {
            write(&self.path(file), &tensors.iter().map(|(k, t)| (k.as_str(), t)).collect::<Vec<_>>());
        };
        write_all("base.safetensors", &self.base);
        write_all("adapter.safetensors", &self.adapter);
        if let Some(json) = &self.config {
            fs::write(self.path("adapter_config.json"), json).unwrap();
        }
        options(&self.path("base.safetensors"), &self.path("adapter.safetensors"), &self.path("out.safetensors"))
    }

    /// Merges, expects an error with all of these words, and nothing written.
    fn fails(self, words: &[&str]) {
        self.fails_with(|_| (), words);
    }

    fn fails_with(self, change: impl FnOnce(&mut MergeOptions), words: &[&str]) {
        let mut options = self.options();
        change(&mut options);
        let before = names(self.work.path());
        let message = run(&options).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
        assert_eq!(names(self.work.path()), before, "{message}");
    }

    fn merged(self) -> (MergeReport, std::collections::HashMap<String, Tensor>) {
        let options = self.options();
        let report = run(&options).unwrap();
        (report, tensors(&options.out))
    }
}

#[test]
fn biases_and_saved_modules_replace_those_of_the_base() {
    let bias = |x: f64| f64s(&[3], vec![x; 3]);
    let (report, merged) = Small::new()
        .with("base_model.model.a.base_layer.bias", bias(7.0))
        .with("base_model.model.head.modules_to_save.default.weight", f64s(&[1, 2], vec![3.0, 4.0]))
        .with("base_model.model.head.original_module.weight", f64s(&[1, 2], vec![0.0, 0.0]))
        .with_base("head.weight", Tensor { dtype: Dtype::BF16, ..f64s(&[1, 2], vec![1.0, 2.0]) })
        .merged();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert_eq!(merged["a.bias"].data, [7.0; 3]);
    assert_eq!((merged["head.weight"].dtype, &merged["head.weight"].data[..]), (Dtype::BF16, &[3.0, 4.0][..]));
    assert_eq!(merged["ids"].data, [1.0, 2.0]);

    let head = Small::new().with("base_model.model.head.weight", f64s(&[1, 2], vec![3.0, 4.0]));
    let (report, merged) = head.with_config(r#"{"peft_type": "BOFT", "modules_to_save": ["head"]}"#).merged();
    assert_eq!(merged["head.weight"].data, [3.0, 4.0]);
    assert!(report.warnings[0].contains("head.weight"), "{:?}", report.warnings);
    let head = Small::new().with("base_model.model.head.weight", f64s(&[1, 2], vec![3.0, 4.0]));
    head.fails(&["base_model.model.head.weight", "base.safetensors"]);
}

#[test]
fn wrong_adapters_are_named() {
    let (r, s) = ("base_model.model.a.boft_R", "base_model.model.a.boft_s");
    let blocks = |shape: &[usize], x: f64| f64s(shape, vec![x; shape.iter().product()]);
    Small::new().without(s).fails(&[r, "boft_s"]);
    Small::new().without(r).fails(&[s, "boft_R"]);
    Small::new().without(r).without(s).fails(&["adapter.safetensors", "BOFT"]);
    Small::new().without("a.weight").fails(&["`a.weight`", "base.safetensors", r]);
    let renamed = Small::new().without("a.weight").with_base("model.a.weight", f64s(&[3, 8], noise(1, 24)));
    renamed.fails(&["`a.weight`", "`model.a.weight`"]);
    for shape in
        [&[2, 4, 2][..], &[2, 4, 2, 3], &[1, 5, 2, 2], &[2, 1, 8, 8], &[4, 4, 2, 2], &[0, 4, 2, 2], &[2, 2, 3, 3]]
    {
        Small::new().with(r, blocks(shape, 0.1)).fails(&[r, "got"]);
    }
    for shape in [&[3][..], &[1, 3], &[4, 1], &[3, 2], &[3, 1, 1]] {
        Small::new().with(s, blocks(shape, 1.0)).fails(&[s, "got"]);
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut tensor = blocks(&[2, 4, 2, 2], 0.1);
        tensor.data[21] = bad;
        Small::new().with(r, tensor).fails(&[r, "finite", "[1, 1, 0, 1]"]);
        Small::new().with(s, blocks(&[3, 1], bad)).fails(&[s, "finite"]);
        Small::new().with("base_model.model.a.bias", blocks(&[3], bad)).fails(&["a.bias", "finite"]);
        Small::new().with_base("a.weight", blocks(&[3, 8], bad)).fails(&["a.weight", "finite", "[0, 0]"]);
    }
    Small::new().with("base_model.model.a.bias", blocks(&[4], 1.0)).fails(&["base_model.model.a.bias", "[3]", "[4]"]);
    Small::new().with("base_model.model.b.lora_A.weight", blocks(&[4], 1.0)).fails(&["b.lora_A.weight"]);
    Small::new().with("surprise", blocks(&[4], 1.0)).fails(&["`surprise`", "unknown key"]);
    Small::new().with("base_model.model.ids", blocks(&[2], 1.0)).fails(&["base_model.model.ids", "I64"]);
    Small::new().with(&format!("{r}.second"), blocks(&[2, 4, 2, 2], 0.1)).fails(&["boft_R.second", r]);
    let other = Small::new().with("base_model.model.conv.boft_R.second", blocks(&[1, 4, 2, 2], 0.1));
    other.with("base_model.model.conv.boft_s.second", blocks(&[1, 2], 1.0)).fails(&["one adapter", "boft_R.second"]);
    let saved = |adapter: &str| format!("base_model.model.{adapter}.modules_to_save.{adapter}.weight");
    let heads = Small::new().with(&saved("one"), blocks(&[1, 2], 1.0)).with(&saved("two"), blocks(&[1, 2], 1.0));
    let heads = heads.with_base("one.weight", blocks(&[1, 2], 0.0)).with_base("two.weight", blocks(&[1, 2], 0.0));
    heads.fails(&["one adapter", &saved("one"), &saved("two")]);
    let mixed = Small::new().without(r).without(s).with(&saved("one"), blocks(&[1, 2], 1.0));
    let mixed =
        mixed.with(&format!("{r}.two"), blocks(&[2, 4, 2, 2], 0.1)).with_base("one.weight", blocks(&[1, 2], 0.0));
    mixed.with(&format!("{s}.two"), blocks(&[3, 1], 1.0)).fails(&["one adapter", &saved("one")]);
    let integers = Tensor { dtype: Dtype::I64, ..blocks(&[2, 4, 2, 2], 1.0) };
    Small::new().with(r, integers.clone()).fails(&[r, "I64"]);
    Small::new()
        .with_base("a.weight", Tensor { shape: vec![3, 8], data: vec![1.0; 24], ..integers })
        .fails(&["a.weight", "I64"]);
    Small::new().with_base("a.weight", blocks(&[24], 1.0)).fails(&["a.weight", "[24]"]);
}

#[test]
fn old_convolutions_need_to_be_told_apart() {
    let conv = || {
        Small::new()
            .with("base_model.model.conv.boft_R", f64s(&[1, 4, 2, 2], noise(9, 16)))
            .with("base_model.model.conv.boft_s", f64s(&[1, 2], vec![1.0; 2]))
    };
    conv().fails(&["conv.boft_R", "0.13", "--dialect"]);
    conv().with_config(r#"{"peft_type": "BOFT"}"#).fails(&["conv.boft_R", "peft_version", "--dialect"]);
    let merged = |small: Small, dialect: Option<&str>| {
        let dialect = dialect.map(|text| text.parse().unwrap());
        let options = MergeOptions { dialect, ..small.options() };
        let report = run(&options).unwrap();
        assert_eq!((report.layers.len(), report.warnings.len()), (2, 0), "{:?}", report.warnings);
        tensors(&options.out)["conv.weight"].data.clone()
    };
    let new = merged(conv().with_config(r#"{"peft_type": "BOFT", "peft_version": "0.18.0"}"#), None);
    assert_eq!(merged(conv(), Some("peft-0.14")), new);
    assert_eq!(merged(conv(), Some("peft-0.21.2")), new);
    // What a file says itself is not overruled by what is said of others.
    let told = conv().with_config(r#"{"peft_type": "BOFT", "peft_version": "0.18rc1"}"#);
    assert_eq!(merged(told, Some("peft-0.13.2")), new);
    let broken = || conv().with_config(r#"{"peft_type": "BOFT", "peft_version": "new"}"#);
    broken().fails(&["peft_version", "new"]);
    assert_eq!(merged(broken(), Some("peft-0.14")), new);
    let old = merged(conv(), Some("peft-0.13.2"));
    assert!(old.iter().zip(&new).any(|(a, b)| (a - b).abs() > 1e-3));
    assert_eq!(merged(conv().with("base_model.model.conv.boft_P", f64s(&[1], vec![0.0])), None), old);
    conv().with("base_model.model.conv.boft_s", f64s(&[2, 1], vec![1.0; 2])).fails(&["conv.boft_s", "[1, 2]"]);
    for wrong in ["", "peft", "peft-", "peft-x", "peft-0", "peft-0.x", "PEFT-0.13", "peft-0.13.", "lora"] {
        assert!(wrong.parse::<papilio::adapter::Hint>().is_err(), "{wrong}");
    }
}

#[test]
fn wrong_configurations_are_named() {
    for (json, word) in [
        (r#"{"peft_type": "LORA"}"#, "LORA"),
        (r#"{"peft_type": 3}"#, "peft_type"),
        (r#"["BOFT", "0.18.0", 4, 0, 1, "none", []]"#, "JSON"),
        (r#"{}"#, "peft_type"),
        (r#"[]"#, "JSON"),
        ("", "JSON"),
        ("{", "JSON"),
        ("\u{fffd}", "JSON"),
    ] {
        Small::new().with_config(json).fails(&["adapter_config.json", word]);
    }
}

/// ‖ΔW‖/‖W‖ does not depend on the size of W, also where squares would be beyond f64. Powers of two make it exact.
#[test]
fn the_relative_change_of_huge_and_tiny_weights_is_right() {
    let change = |factor: f64| {
        let data = noise(1, 3 * 8).iter().map(|x| x * factor).collect();
        let (report, _) = Small::new().with_base("a.weight", f64s(&[3, 8], data)).merged();
        report.layers[0].relative_change
    };
    let expected = change(1.0);
    assert!(expected > 0.1);
    for exponent in [-1000, -532, 532, 1000] {
        assert_eq!(change(2f64.powi(exponent)), expected, "2^{exponent}");
    }
}

#[test]
fn numbers_beyond_the_type_are_an_error() {
    let scale = f64s(&[3, 1], vec![1e6; 3]);
    let small = Small::new().with("base_model.model.a.boft_s", scale);
    small.fails_with(|o| o.dtype = Some(FloatType::F16), &["a.weight", "f16", "overflow"]);
    let large = Small::new().with_base("b", f64s(&[2], vec![1.0, 1e39]));
    large.fails_with(|o| o.dtype = Some(FloatType::F32), &["`b`", "f32", "[1]"]);
}

#[test]
fn outputs_appear_whole_or_not_at_all() {
    let small = Small::new();
    let options = small.options();
    let before = names(small.work.path());
    let interrupted = merge(&options, |event| match event {
        MergeEvent::Portion(p) if p.done == p.total => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let error = interrupted.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert_eq!(names(small.work.path()), before);

    let report = run(&options).unwrap();
    assert_eq!(report.output, options.out.to_string_lossy());
    let first = fs::read(&options.out).unwrap();
    assert!(run(&options).unwrap_err().to_string().contains("--force"));
    assert_eq!(fs::read(&options.out).unwrap(), first);
    // With force: a merge that fails leaves the old output, one that succeeds replaces it.
    let forced = MergeOptions { force: true, dtype: Some(FloatType::F64), ..options.clone() };
    assert!(merge(&forced, |_| ControlFlow::Break(())).is_err());
    assert_eq!(fs::read(&options.out).unwrap(), first);
    run(&forced).unwrap();
    assert_ne!(fs::read(&options.out).unwrap(), first);
    assert_eq!(names(small.work.path()).len(), before.len() + 1);
}

#[test]
fn directories_are_replaced_only_if_they_hold_a_model() {
    let work = TempDir::new().unwrap();
    let (base, adapter) = llama();
    let out = work.path().join("out");
    let forced = MergeOptions { force: true, ..options(&base, &adapter, &out) };
    fs::create_dir(&out).unwrap();
    assert!(run(&options(&base, &adapter, &out)).is_err());
    run(&forced).unwrap(); // empty
    fs::write(out.join("tokenizer.json"), "of the old output").unwrap();
    assert!(merge(&forced, |_| ControlFlow::Break(())).is_err());
    assert!(out.join("tokenizer.json").exists());
    run(&forced).unwrap(); // a model
    assert!(!out.join("tokenizer.json").exists());
    fs::remove_file(out.join("config.json")).unwrap();
    fs::write(out.join("thesis.tex"), "precious").unwrap();
    assert!(run(&forced).is_err());
    assert!(out.join("thesis.tex").exists());
    let file = work.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(run(&MergeOptions { out: file.clone(), ..forced.clone() }).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(run(&MergeOptions { out: work.path().join("no/such/parent"), ..forced }).is_err());
    assert_eq!(names(work.path()).len(), 2);
}

#[test]
fn what_appears_during_a_merge_is_not_replaced() {
    let work = TempDir::new().unwrap();
    let (base, adapter) = llama();
    for force in [false, true] {
        let out = work.path().join(format!("out-{force}"));
        let options = MergeOptions { force, ..options(&base, &adapter, &out) };
        let error = merge(&options, |_| {
            fs::create_dir_all(&out).unwrap();
            fs::write(out.join("thesis.tex"), "precious").unwrap();
            ControlFlow::Continue(())
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains(if force { "is replaced" } else { "--force" }), "{message}");
        assert_eq!(names(&out), ["thesis.tex".to_string()].into());
    }
    assert_eq!(names(work.path()).len(), 2);
}

#[test]
fn a_new_head_that_the_base_ties_is_told() {
    let work = TempDir::new().unwrap();
    let (old, adapter) = llama();
    let [base, out, own] = ["base", "out", "own"].map(|name| work.path().join(name));
    let all = tensors(&old.join("model.safetensors"));
    fs::create_dir(&base).unwrap();
    fs::create_dir(&own).unwrap();
    let kept: Vec<_> = all.iter().filter(|(k, _)| *k != "lm_head.weight").map(|(k, t)| (k.as_str(), t)).collect();
    write(&base.join("model.safetensors"), &kept);
    let mut trained = tensors(&adapter.join("adapter_model.safetensors"));
    trained.insert("base_model.model.lm_head.weight".into(), all["lm_head.weight"].clone());
    trained.insert("base_model.model.lm_head.extra".into(), f64s(&[3], vec![1.0; 3]));
    let trained: Vec<_> = trained.iter().map(|(k, t)| (k.as_str(), t)).collect();
    write(&own.join("adapter_model.safetensors"), &trained);
    fs::write(own.join("adapter_config.json"), r#"{"peft_type": "BOFT", "modules_to_save": "lm_head"}"#).unwrap();
    for (config, tied) in
        [(r#"{"tie_word_embeddings": true}"#, true), (r#"{"tie_word_embeddings": false}"#, false), ("not JSON", false)]
    {
        fs::write(base.join("config.json"), config).unwrap();
        let report = run(&MergeOptions { force: true, ..options(&base, &own, &out) }).unwrap();
        assert_eq!((report.warnings.len(), report.replaced), (2, 2));
        let told = |name| report.warnings.iter().find(|w| w.contains(name)).unwrap().contains("tie_word_embeddings");
        assert_eq!((told("lm_head.weight"), told("lm_head.extra")), (tied, false), "{:?}", report.warnings);
    }
}

#[test]
fn inputs_are_never_outputs() {
    let small = Small::new();
    let options = MergeOptions { force: true, ..small.options() };
    let inputs = [options.base.clone(), options.adapters[0].clone()];
    for out in inputs.iter().cloned().chain([small.work.path().to_path_buf(), small.path("./base.safetensors")]) {
        let error = run(&MergeOptions { out: out.clone(), ..options.clone() }).unwrap_err();
        assert!(matches!(&error, Error::File { .. }), "{error}");
        assert!(inputs.iter().all(|input| Container::open(input).is_ok()), "{}", out.display());
    }
    let base = sharded(small.work.path());
    let inside = base.join("merged");
    let error = run(&forced(&base, &inside)).unwrap_err().to_string();
    assert!(error.contains("overlaps") && !inside.exists(), "{error}");
}

/// Options for merging the llama adapter, whatever is at `out`.
fn forced(base: &Path, out: &Path) -> MergeOptions {
    MergeOptions { force: true, ..options(base, &llama().1, out) }
}

#[test]
fn broken_indexes_are_named() {
    let work = TempDir::new().unwrap();
    let base = sharded(work.path());
    let index = base.join("model.safetensors.index.json");
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let outside = work.path().join("x.safetensors");
    fs::copy(llama().0.join("model.safetensors"), &outside).unwrap();
    for (file, word) in [
        ("model-00009-of-00003.safetensors", "model-00009-of-00003.safetensors"),
        ("../x.safetensors", "../x.safetensors"),
        ("..", "bare name"),
        ("", "bare name"),
        (outside.to_str().unwrap(), "bare name"),
        ("config.json", "bare name"),
        ("model-00001-of-00003.safetensors", "lm_head.weight"), // it lies in another shard or in none
    ] {
        let mut bad = good.clone();
        let name = "model.norm.weight";
        bad["weight_map"][if word == "lm_head.weight" { "no.lm_head.weight" } else { name }] = file.into();
        fs::write(&index, bad.to_string()).unwrap();
        let error = run(&forced(&base, &work.path().join("out"))).unwrap_err().to_string();
        assert!(error.contains(word), "{file}: {error}");
    }
    for text in ["", "{}", "[]", r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#, r#"{"weight_map": "a"}"#] {
        fs::write(&index, text).unwrap();
        let error = run(&forced(&base, &work.path().join("out"))).unwrap_err().to_string();
        assert!(error.contains("index.json"), "{text}: {error}");
    }
    assert!(!work.path().join("out").exists());
}

#[test]
fn blocks_of_one_scale_only() {
    let identity = Small::new().with("base_model.model.a.boft_R", f64s(&[1, 8, 1, 1], noise(4, 8)));
    let weight = identity.base[0].1.data.clone();
    let scale = identity.adapter.iter().find(|(k, _)| k.ends_with("boft_s")).unwrap().1.data.clone();
    let (report, merged) = identity.merged();
    assert!(report.layers[0].parameters == 0 && report.layers[0].defect < 1e-15, "{:?}", report.layers[0]);
    let expected: Vec<f64> = (0..24).map(|i| f64::from(weight[i] as f32) * f64::from(scale[i / 8] as f32)).collect();
    assert_close("a.weight", &merged["a.weight"].data, &expected, 1e-7);
}
