//! Adapters written again, converted to other dialects, and extracted from what fine-tuning changed.
#![cfg(feature = "files")]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use papilio::Result;
use papilio::adapter::{
    Adapter, ConvertOptions, ConvertTo, ConvertedLayer, ExtractOptions, Hint, MergeOptions, convert, extract, merge,
};
use serde_json::{Value, json};
use support::{Tensor, assert_close, f64s, noise, path, tensors, write};
use tempfile::TempDir;

struct Model {
    work: TempDir,
}

impl Model {
    /// A base with a few weights.
    fn new() -> Self {
        let model = Self { work: TempDir::new().unwrap() };
        write(
            &model.path("base.safetensors"),
            &[
                ("net.a.weight", &f64s(&[12, 16], noise(1, 192))),
                ("net.a.bias", &f64s(&[12], noise(2, 12))),
                ("net.b.weight", &f64s(&[16, 16], noise(3, 256))),
                ("conv.weight", &f64s(&[6, 4, 2, 2], noise(4, 96))),
            ],
        );
        model
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn adapter(&self, name: &str, config: Option<Value>, parts: &[(&str, Tensor)]) -> PathBuf {
        let directory = self.path(name);
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("adapter_model.safetensors");
        write(&file, &parts.iter().map(|(k, t)| (*k, t)).collect::<Vec<_>>());
        match config {
            Some(config) => {
                fs::write(directory.join("adapter_config.json"), config.to_string()).unwrap();
                directory
            }
            None => file,
        }
    }

    fn merged(&self, adapter: &Path, dialect: Option<&str>) -> std::collections::HashMap<String, Tensor> {
        let out = self.path("merged.safetensors");
        let dialect = dialect.map(|text| text.parse::<Hint>().unwrap());
        let options =
            MergeOptions { force: true, dialect, ..MergeOptions::new(self.path("base.safetensors"), adapter, &out) };
        merge(&options, |_| ControlFlow::Continue(())).unwrap();
        tensors(&out)
    }

    fn convert(
        &self,
        adapter: &Path,
        to: ConvertTo,
        base: bool,
        dialect: Option<&str>,
    ) -> Result<(PathBuf, Vec<ConvertedLayer>)> {
        let flat = matches!(to, ConvertTo::LycorisDiagOft | ConvertTo::Kohya);
        let out = self.path(&format!("{}{}", to.name(), if flat { ".safetensors" } else { "" }));
        let options = ConvertOptions {
            adapter: adapter.into(),
            dialect: dialect.map(|text| text.parse().unwrap()),
            to,
            base: base.then(|| self.path("base.safetensors")),
            out: out.clone(),
            force: true,
        };
        Ok((out, convert(&options, |_| ControlFlow::Continue(()))?))
    }

    /// The converted adapter merges to the same weights.
    fn agrees(&self, adapter: &Path, to: ConvertTo, dialect: Option<&str>) -> PathBuf {
        let (out, layers) = self.convert(adapter, to, true, dialect).unwrap_or_else(|e| panic!("{}: {e}", to.name()));
        assert!(layers.iter().all(|layer| layer.error == 0.0 && layer.numbers > 0), "{layers:?}");
        let (want, got) = (self.merged(adapter, dialect), self.merged(&out, None));
        for (name, want) in &want {
            assert_close(&format!("{} {name}", to.name()), &got[name].data, &want.data, 1e-13);
        }
        out
    }

    fn refuses(&self, adapter: &Path, to: ConvertTo, base: bool, word: &str) {
        let message = self.convert(adapter, to, base, None).unwrap_err().to_string();
        assert!(message.contains(word), "`{word}` is not in: {message}");
        assert!(!self.path(to.name()).exists() && !self.path(&format!("{}.safetensors", to.name())).exists());
    }
}

fn oft(neumann: bool) -> Value {
    json!({"peft_type": "OFT", "peft_version": "0.18.0", "use_cayley_neumann": neumann, "num_cayley_neumann_terms": 5})
}

#[test]
fn inputs_by_one_factor_are_oft_and_boft() {
    let model = Model::new();
    let parts = [
        ("base_model.model.net.a.oft_R.weight", f64s(&[4, 6], noise(5, 24))),
        ("base_model.model.net.b.oft_R.weight", f64s(&[1, 6], noise(6, 6))), // one for all
        ("base_model.model.conv.oft_R.weight", f64s(&[4, 6], noise(7, 24))),
    ];
    let adapter = model.adapter("oft", Some(oft(false)), &parts);
    let boft = model.agrees(&adapter, ConvertTo::PeftBoft, None);
    let shapes = tensors(&boft.join("adapter_model.safetensors"));
    assert_eq!(shapes["base_model.model.net.b.boft_R"].shape, [1, 4, 4, 4]);
    assert_eq!(shapes["base_model.model.conv.boft_s"].shape, [1, 6]);
    let back = model.agrees(&boft, ConvertTo::PeftOft, None);
    let config: Value = serde_json::from_slice(&fs::read(back.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["r"], &config["oft_block_size"]), (&json!(0), &json!(4)));
    assert_close("v", &tensors(&back.join("adapter_model.safetensors"))[parts[0].0].data, &parts[0].1.data, 1e-15);

    let model = Model::new();
    let adapter = model.adapter("oft", Some(oft(false)), &parts[..1]);
    model.refuses(&adapter, ConvertTo::PeftBoft, false, "base");
    model.refuses(&adapter, ConvertTo::LycorisDiagOft, true, "outputs");
    model.refuses(&adapter, ConvertTo::Kohya, true, "outputs");
    let series = model.adapter("series", Some(oft(true)), &parts[..1]);
    model.refuses(&series, ConvertTo::PeftBoft, true, "Cayley-Neumann");
    let boft = json!({"peft_type": "BOFT", "peft_version": "0.18.0"});
    let scaled = [
        ("base_model.model.net.a.boft_R", f64s(&[1, 4, 4, 4], noise(8, 64))),
        ("base_model.model.net.a.boft_s", f64s(&[12, 1], noise(9, 12))),
    ];
    model.refuses(&model.adapter("scaled", Some(boft.clone()), &scaled), ConvertTo::PeftOft, true, "scale");
    let deep = [
        ("base_model.model.net.a.boft_R", f64s(&[2, 4, 4, 4], noise(8, 128))),
        ("base_model.model.net.a.boft_s", f64s(&[12, 1], vec![1.0; 12])),
    ];
    let deep = model.adapter("deep", Some(boft), &deep);
    model.refuses(&deep, ConvertTo::PeftOft, true, "2 factors");
    model.agrees(&deep, ConvertTo::PeftBoft, None);
}

#[test]
fn outputs_by_one_factor_are_lycoris_kohya_and_old_peft() {
    let model = Model::new();
    let old = json!({"peft_type": "OFT", "r": 3});
    let adapter = model.adapter(
        "old",
        Some(old),
        &[
            ("base_model.model.net.a.oft_r", f64s(&[3, 4, 4], noise(5, 48))),
            ("base_model.model.conv.oft_r", f64s(&[3, 2, 2], noise(6, 12))),
        ],
    );
    let lycoris = model.agrees(&adapter, ConvertTo::LycorisDiagOft, None);
    assert!(tensors(&lycoris).contains_key("lycoris_net_a.oft_blocks"));
    let kohya = model.agrees(&lycoris, ConvertTo::Kohya, None);
    let again = model.agrees(&kohya, ConvertTo::LycorisDiagOft, None);
    assert!(again.ends_with("lycoris-diag-oft.safetensors"));
    model.refuses(&adapter, ConvertTo::PeftOft, true, "inputs");
    // With a constraint that binds, and factors.
    let constrained = model.adapter(
        "constrained",
        None,
        &[
            ("lycoris_net_a.oft_blocks", f64s(&[3, 4, 4], noise(5, 48))),
            ("lycoris_net_a.alpha", f64s(&[], vec![0.125])),
            ("lycoris_net_a.rescale", f64s(&[12, 1], noise(6, 12))),
        ],
    );
    model.agrees(&constrained, ConvertTo::LycorisDiagOft, None);
    let fresh = Model::new();
    fresh.refuses(&constrained, ConvertTo::Kohya, true, "scale");
}

/// Text encoders and the rest of a model keep apart.
#[test]
fn parts_of_a_model_keep_their_names() {
    let model = Model::new();
    let parts = ["oft_te1_q", "oft_te2_q", "oft_unet_q"].map(|module| {
        [
            (format!("{module}.oft_blocks"), f64s(&[2, 4, 4], noise(5, 32))),
            (format!("{module}.alpha"), f64s(&[], vec![9.0])),
        ]
    });
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let parts: Vec<_> = parts.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let adapter = model.adapter("kohya", None, &parts);
    let (lycoris, layers) = model.convert(&adapter, ConvertTo::LycorisDiagOft, false, None).unwrap();
    assert_eq!(layers.len(), 3);
    let names = ["lora_te1_q", "lora_te2_q", "lora_unet_q"].map(|module| format!("{module}.oft_blocks"));
    assert!(names.iter().all(|name| tensors(&lycoris).contains_key(name)));
    let (kohya, _) = model.convert(&lycoris, ConvertTo::Kohya, false, None).unwrap();
    assert!(parts.iter().all(|(name, _)| tensors(&kohya).contains_key(*name)));
}

/// One configuration holds one block size or one number of blocks.
#[test]
fn layers_of_other_sizes_have_one_configuration_or_none() {
    let oft_of = |first: &[usize], second: &[usize]| {
        let numbers = |shape: &[usize]| f64s(shape, noise(5, shape.iter().product()));
        [
            ("base_model.model.net.a.oft_R.weight", numbers(first)),
            ("base_model.model.conv.oft_R.weight", numbers(second)),
        ]
    };
    let model = Model::new();
    let same_count = model.adapter("count", Some(oft(false)), &oft_of(&[4, 6], &[4, 6]));
    model.agrees(&same_count, ConvertTo::PeftBoft, None);
    let model = Model::new();
    let different = model.adapter("none", Some(oft(false)), &oft_of(&[4, 6], &[2, 28]));
    model.refuses(&different, ConvertTo::PeftBoft, true, "block sizes");
}

#[test]
fn low_rank_sums_say_what_they_lose() {
    let model = Model::new();
    let adapter = model.adapter(
        "oft",
        Some(oft(true)),
        &[("base_model.model.net.a.oft_R.weight", f64s(&[4, 6], noise(5, 24).iter().map(|x| 0.3 * x).collect()))],
    );
    let want = model.merged(&adapter, None)["net.a.weight"].data.clone();
    let base = tensors(&model.path("base.safetensors"))["net.a.weight"].data.clone();
    let mut last = 1.0;
    for rank in [1, 3, 12, 99] {
        let (out, layers) = model.convert(&adapter, ConvertTo::Lora(rank), true, None).unwrap();
        let lora = tensors(&out.join("adapter_model.safetensors"));
        let (a, b) = (&lora["base_model.model.net.a.lora_A.weight"], &lora["base_model.model.net.a.lora_B.weight"]);
        let r = a.shape[0];
        // One rank for all layers: what is beyond the smaller side is zeros.
        assert_eq!((r, &a.shape[..], &b.shape[..]), (rank, &[r, 16][..], &[12, r][..]));
        let sum: Vec<f64> = (0..192)
            .map(|at| base[at] + (0..r).map(|k| b.data[at / 16 * r + k] * a.data[k * 16 + at % 16]).sum::<f64>())
            .collect();
        let norm = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        let error = norm(&sum, &want) / norm(&base, &want);
        assert!((error - layers[0].error).abs() < 1e-6 && layers[0].error < last, "rank {rank}: {error} {layers:?}");
        last = layers[0].error;
        let config: Value = serde_json::from_slice(&fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!((&config["peft_type"], &config["lora_alpha"]), (&json!("LORA"), &config["r"]));
        if rank >= 12 {
            assert!(error < 1e-6);
            last = 1.0;
        }
    }
    let fresh = Model::new();
    fresh.refuses(&adapter, ConvertTo::Lora(0), true, "rank");
    fresh.refuses(&adapter, ConvertTo::Lora(4), false, "--base");
}

#[test]
fn written_files_are_read_to_the_same_bytes() {
    let work = TempDir::new().unwrap();
    for (case, is_directory) in [
        ("examples/data/boft_llama/adapter", true),
        ("tests/data/e2e_oft_bert/adapter", true),
        ("tests/data/e2e_lycoris_boft_llama/lycoris.safetensors", false),
        ("tests/data/legacy/peft-0.13.2/adapter_oft_linear_share", true),
    ] {
        let [first, second] = ["first", "second"].map(|name| {
            work.path().join(format!("{name}{}{}", case.len(), if is_directory { "" } else { ".safetensors" }))
        });
        let adapter = Adapter::open(&path(case)).unwrap();
        adapter.save(&first, false).unwrap();
        let again = Adapter::open(&first).unwrap();
        again.save(&second, false).unwrap();
        assert!(again.save(&second, false).is_err(), "what exists is not replaced");
        let bytes = |directory: &Path, name: &str| {
            fs::read(if is_directory { directory.join(name) } else { directory.into() }).unwrap()
        };
        for name in ["adapter_model.safetensors", "adapter_config.json"] {
            assert!(bytes(&first, name) == bytes(&second, name), "{case} {name}");
        }
        assert_eq!(adapter.layers().len(), again.layers().len());
        for (a, b) in adapter.layers().iter().zip(again.layers()) {
            assert_eq!(adapter.numbers(a).unwrap(), again.numbers(b).unwrap());
        }
    }
}

#[test]
fn what_rotated_is_extracted() {
    let model = Model::new();
    let boft = json!({"peft_type": "BOFT", "peft_version": "0.18.0"});
    let small = |seed: u64, count: usize| noise(seed, count).iter().map(|x| 0.1 * x).collect::<Vec<_>>();
    for (stages, scale) in [(1, false), (1, true), (2, false), (3, true)] {
        let scales = if scale { noise(9, 12).iter().map(|x| 1.0 + 0.2 * x).collect() } else { vec![1.0; 12] };
        let parts = [
            ("base_model.model.net.a.boft_R", f64s(&[stages, 4, 4, 4], small(8, stages * 64))),
            ("base_model.model.net.a.boft_s", f64s(&[12, 1], scales)),
        ];
        let adapter = model.adapter(&format!("planted{stages}{scale}"), Some(boft.clone()), &parts);
        model.merged(&adapter, None);
        let tuned = model.path(&format!("tuned{stages}{scale}.safetensors"));
        fs::rename(model.path("merged.safetensors"), &tuned).unwrap();
        let out = model.path(&format!("found{stages}{scale}"));
        let options = ExtractOptions {
            scale,
            sweeps: 3000,
            ..ExtractOptions::new(model.path("base.safetensors"), &tuned, &out, (stages, 4))
        };
        let report = extract(&options, |_| ControlFlow::Continue(())).unwrap();
        let [layer] = &report.layers[..] else { panic!("{report:?}") };
        assert!(layer.change > 0.05 && report.unexplained.is_empty(), "{report:?}");
        assert!(layer.residual < 2e-3, "{stages} {scale}: {report:?}");
        let (want, got) = (tensors(&tuned), model.merged(&out, None));
        assert_close("merged", &got["net.a.weight"].data, &want["net.a.weight"].data, 1e-3);
        let adapter = Adapter::open(&out).unwrap();
        assert_eq!(adapter.dialect(), if stages == 1 && !scale { "peft-oft" } else { "peft-boft" });
    }
}

#[test]
fn what_cannot_be_extracted_is_told() {
    let model = Model::new();
    let base = model.path("base.safetensors");
    let mut changed: Vec<(String, Tensor)> = tensors(&base).into_iter().collect();
    changed.sort_by(|a, b| a.0.cmp(&b.0));
    let options = |tuned: &Path| ExtractOptions::new(&base, tuned, model.path("out"), (1, 3));
    let fails = |options: &ExtractOptions, word: &str| {
        let message = extract(options, |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(message.contains(word) && !model.path("out").exists(), "{message}");
    };
    fails(&options(&base), "changed");
    for (name, tensor) in &mut changed {
        if name == "net.a.weight" {
            tensor.data[5] += 1.0;
        }
    }
    let save = |changed: &[(String, Tensor)]| {
        let tuned = model.path("tuned.safetensors");
        write(&tuned, &changed.iter().map(|(name, t)| (name.as_str(), t)).collect::<Vec<_>>());
        tuned
    };
    let tuned = save(&changed);
    fails(&options(&tuned), "blocks of 3"); // 3 does not divide 16
    fails(&ExtractOptions { block: 1, ..options(&tuned) }, "b >= 2");
    fails(&ExtractOptions { block: 4, layers: vec!["other".into()], ..options(&tuned) }, "changed");
    changed.retain(|(name, _)| name != "net.a.bias");
    fails(&options(&save(&changed)), "net.a.bias");
}

/// Beside a change that no rotation makes, R and s together are better than one after the other.
#[test]
fn rotations_and_factors_are_found_together() {
    let (out, n, b) = (12, 16, 4);
    let model = Model::new();
    let (before, noisy) = (noise(3, out * n), noise(4, out * n));
    let after: Vec<f64> = (0..out * n)
        .map(|i| (0.4 + 0.1 * (i / n) as f64) * before[i / n * n + (i + 1) % n] + 0.2 * noisy[i] + before[i])
        .collect();
    let [base, tuned] = ["before", "after"].map(|name| model.path(&format!("{name}.safetensors")));
    write(&base, &[("net.a.weight", &f64s(&[out, n], before.clone()))]);
    write(&tuned, &[("net.a.weight", &f64s(&[out, n], after.clone()))]);
    let found = |scale: bool, name: &str| {
        let to = model.path(name);
        let options = ExtractOptions { scale, ..ExtractOptions::new(&base, &tuned, &to, (1, b)) };
        let report = extract(&options, |_| ControlFlow::Continue(())).unwrap();
        (report.layers[0].residual, to)
    };
    let ((rotation, _), (both, to)) = (found(false, "rotation"), found(true, "both"));
    // At a minimum over s alone: residuals of rows are orthogonal to the turned rows.
    let merge_options = MergeOptions { force: true, ..MergeOptions::new(&base, &to, model.path("m.safetensors")) };
    merge(&merge_options, |_| ControlFlow::Continue(())).unwrap();
    let merged = &tensors(&model.path("m.safetensors"))["net.a.weight"].data;
    for (got, want) in merged.chunks_exact(n).zip(after.chunks_exact(n)) {
        let dot: f64 = got.iter().zip(want).map(|(g, w)| g * (w - g)).sum();
        assert!(dot.abs() < 1e-5 * got.iter().map(|x| x * x).sum::<f64>(), "{dot}");
    }
    // Against factors that are found after the rotation.
    let adapter = Adapter::open(&model.path("rotation")).unwrap();
    let sides = adapter.sides(&adapter.layers()[0], Some(&[out, n])).unwrap();
    let mut turned = before.clone();
    sides.merge(&[out, n], &mut turned, papilio::Parallelism::None, &papilio::Workspace::new()).unwrap();
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let left: f64 =
        turned.chunks_exact(n).zip(after.chunks_exact(n)).map(|(t, v)| dot(v, v) - dot(t, v).powi(2) / dot(t, t)).sum();
    let change: f64 = before.iter().zip(&after).map(|(w, v)| (v - w).powi(2)).sum();
    let after_one_another = (left / change).sqrt();
    println!("rotation {rotation:.4}, then factors {after_one_another:.4}, together {both:.4}");
    assert!(both < after_one_another && after_one_another < rotation);
}

/// Embeddings are rows that turn as those of layers do, but PEFT stores their rotation the other way round.
#[test]
fn embeddings_are_extracted_and_converted() {
    let model = Model::new();
    let base = model.path("base.safetensors");
    write(&base, &[("net.embed_tokens.weight", &f64s(&[20, 16], noise(1, 320)))]);
    let numbers: Vec<f64> = noise(5, 24).iter().map(|x| 0.2 * x).collect();
    let key = "base_model.model.net.embed_tokens.oft_embedding_R.weight";
    let adapter = model.adapter("embedding", Some(oft(false)), &[(key, f64s(&[4, 6], numbers.clone()))]);
    let want = model.merged(&adapter, None)["net.embed_tokens.weight"].data.clone();
    let tuned = model.path("tuned.safetensors");
    fs::rename(model.path("merged.safetensors"), &tuned).unwrap();
    let out = model.path("found");
    extract(&ExtractOptions::new(&base, &tuned, &out, (1, 4)), |_| ControlFlow::Continue(())).unwrap();
    assert_close("numbers", &tensors(&out.join("adapter_model.safetensors"))[key].data, &numbers, 1e-6);
    // BOFT has none.
    let boft = ExtractOptions::new(&base, &tuned, model.path("boft"), (2, 4));
    assert!(extract(&boft, |_| ControlFlow::Continue(())).unwrap_err().to_string().contains("changed"));
    model.refuses(&adapter, ConvertTo::PeftBoft, true, "embedding");
    let (again, _) = model.convert(&adapter, ConvertTo::PeftOft, true, None).unwrap();
    assert_close("again", &tensors(&again.join("adapter_model.safetensors"))[key].data, &numbers, 1e-15);
    // By another name, and taken for a layer.
    let named = |embeddings: &[&str], name: &str| {
        let embeddings = Some(embeddings.iter().map(|text| text.to_string()).collect());
        let options = ExtractOptions { embeddings, ..ExtractOptions::new(&base, &tuned, model.path(name), (1, 4)) };
        extract(&options, |_| ControlFlow::Continue(())).unwrap().layers[0].embedding
    };
    assert!(named(&["tokens"], "named") && !named(&["nothing"], "unnamed"));
    // LoRA's are transposed: ΔE = (B·A)ᵀ.
    let (out, _) = model.convert(&adapter, ConvertTo::Lora(16), true, None).unwrap();
    let lora = tensors(&out.join("adapter_model.safetensors"));
    let part = |name: &str| &lora[&format!("base_model.model.net.embed_tokens.lora_embedding_{name}")];
    let (a, b) = (part("A"), part("B"));
    assert_eq!((&a.shape[..], &b.shape[..]), (&[16, 20][..], &[16, 16][..]));
    let before = &tensors(&base)["net.embed_tokens.weight"].data;
    let got: Vec<f64> = (0..320)
        .map(|at| before[at] + (0..16).map(|k| b.data[at % 16 * 16 + k] * a.data[k * 20 + at / 16]).sum::<f64>())
        .collect();
    assert_close("LoRA", &got, &want, 1e-6);
}

/// Half precision stays where numbers only move, and becomes single where it would round.
#[test]
fn conversions_tell_what_they_round() {
    let model = Model::new();
    let halves = |shape: &[usize], seed: u64| Tensor {
        dtype: papilio::storage::Dtype::BF16,
        ..f64s(shape, noise(seed, shape.iter().product()))
    };
    let mut config = oft(false);
    config["bias"] = json!("oft_only");
    let key = "base_model.model.net.a.oft_R.weight";
    let bias = "base_model.model.net.a.base_layer.bias";
    let adapter = model.adapter("half", Some(config), &[(key, halves(&[4, 6], 5)), (bias, halves(&[12], 6))]);
    let (boft, layers) = model.convert(&adapter, ConvertTo::PeftBoft, true, None).unwrap();
    assert_eq!(layers[0].error, 0.0);
    let written = tensors(&boft.join("adapter_model.safetensors"));
    assert_eq!(written["base_model.model.net.a.boft_R"].dtype, papilio::storage::Dtype::BF16);
    assert!(written.contains_key(bias));
    let config: Value = serde_json::from_slice(&fs::read(boft.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["bias"], "boft_only");

    // Differences of two numbers of half precision need more of it, and a constraint scales them.
    let old = json!({"peft_type": "OFT", "r": 3, "coft": true, "eps": 1e-3});
    let adapter = model.adapter("old", Some(old), &[("base_model.model.net.a.oft_r", halves(&[3, 4, 4], 5))]);
    let (lycoris, layers) = model.convert(&adapter, ConvertTo::LycorisDiagOft, true, None).unwrap();
    assert!(layers[0].error > 0.0 && layers[0].error < 6e-8, "{layers:?}");
    assert_eq!(tensors(&lycoris)["lycoris_net_a.oft_blocks"].dtype, papilio::storage::Dtype::F32);
}
