//! Every dialect against the library that wrote it: forward, gradients and merged weights of all golden cases, as files.
#![cfg(feature = "files")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use papilio::adapter::{Adapter, Hint, MergeOptions, MergeReport, Strength, merge, unmerge};
use papilio::{Parallelism, Result, Workspace};
use serde_json::{Map, Value, json};
use support::{Tensor, assert_close, path, raw, tensors, tolerance, write};
use tempfile::TempDir;

/// One case: a layer, an input, and what the library made of them.
struct Case {
    name: String,
    kind: String,
    config: Map<String, Value>,
    tensors: HashMap<String, Tensor>,
}

impl Case {
    fn size(&self, field: &str) -> Option<usize> {
        Some(self.config.get(field)?.as_u64()? as usize)
    }

    /// Stride and padding of a convolution.
    fn convolution(&self) -> Option<(usize, usize)> {
        self.size("kernel_size").map(|_| (self.size("stride").unwrap(), self.size("padding").unwrap()))
    }
}

fn cases(wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let manifest: Value = serde_json::from_slice(&fs::read(path("tests/data/golden/manifest.json")).unwrap()).unwrap();
    let all = manifest["cases"].as_array().unwrap().iter().filter_map(|case| {
        let (kind, name) = (case["kind"].as_str().unwrap(), case["name"].as_str().unwrap());
        let file = path("tests/data/golden").join(format!("{name}.safetensors"));
        (wanted(kind) && !kind.starts_with("e2e")).then(|| Case {
            name: name.into(),
            kind: kind.into(),
            config: case["config"].as_object().unwrap().clone(),
            tensors: tensors(&file),
        })
    });
    all.collect()
}

/// What a parameter of a case is called, spelled as in a file: (in the case, in the file).
const SPELLED: [(&str, &str); 15] = [
    ("boft_R", "boft_R"),
    ("boft_s", "boft_s"),
    ("oft_R", "oft_R.weight"),
    ("oft_embedding_R", "oft_embedding_R.weight"),
    ("oft_r", "oft_r"),
    ("oft_s", "oft_s"),
    ("hra_u", "hra_u"),
    ("road_theta", "road_theta"),
    ("road_alpha", "road_alpha"),
    ("oft_blocks", "oft_blocks"),
    ("rescale", "rescale"),
    ("alpha", "alpha"),
    ("psoft_R", "psoft_R.weight"),
    ("vector_a", "psoft_R.vector_a"),
    ("vector_b", "psoft_R.vector_b"),
];

/// The case as an adapter of `net.layer` in a directory, and the tensors that went there.
fn as_adapter(case: &Case, work: &Path, suffix: &str) -> PathBuf {
    let directory = work.join(format!("adapter{suffix}"));
    fs::create_dir_all(&directory).unwrap();
    let is_peft = case.kind.starts_with("peft");
    let front = if is_peft { "base_model.model.net.layer" } else { "lycoris_net_layer" };
    let parameters: Vec<(String, &Tensor)> = SPELLED
        .iter()
        .filter_map(|(name, spelled)| {
            Some((format!("{front}.{spelled}"), case.tensors.get(&format!("{name}{suffix}"))?))
        })
        .collect();
    let parameters: Vec<_> = parameters.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
    if !is_peft {
        let file = directory.join("lycoris.safetensors");
        write(&file, &parameters);
        return file;
    }
    write(&directory.join("adapter_model.safetensors"), &parameters);
    let method = case.kind.split('.').nth(1).unwrap().to_uppercase();
    let mut config = case.config.clone();
    config.insert("peft_type".into(), json!(method));
    config.insert("peft_version".into(), json!("0.21.2"));
    fs::write(directory.join("adapter_config.json"), Value::Object(config).to_string()).unwrap();
    directory
}

/// y = x Wᵀ + b, or the convolution.
fn forward(case: &Case, weight: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    if let Some(ids) = case.tensors.get("ids") {
        let n = case.tensors["weight"].shape[1];
        return ids.data.iter().flat_map(|&id| weight[id as usize * n..][..n].to_vec()).collect();
    }
    let out = case.tensors["weight"].shape[0];
    let patches = patches(case);
    let places = patches.rows / patches.per_image;
    let mut y = vec![0.0; patches.rows * out];
    for row in 0..patches.rows {
        let (image, at) = (row / patches.per_image, row % patches.per_image);
        for o in 0..out {
            let dot: f64 = (0..patches.n).map(|i| patches.data[row * patches.n + i] * weight[o * patches.n + i]).sum();
            y[(image * out + o) * patches.per_image + at] = dot + bias.map_or(0.0, |b| b[o]);
        }
    }
    assert!(places * patches.per_image == patches.rows);
    y
}

/// What the rows of a weight are multiplied with: vectors, or patches of images.
struct Patches {
    data: Vec<f64>,
    rows: usize,
    n: usize,
    /// Places of an output image; 1 for vectors.
    per_image: usize,
    /// For every number of `data` its place in x, if it is not padding.
    source: Vec<Option<usize>>,
}

fn patches(case: &Case) -> Patches {
    let (x, weight) = (&case.tensors["x"], &case.tensors["weight"]);
    let n: usize = weight.shape[1..].iter().product();
    let Some((stride, padding)) = case.convolution() else {
        let source = (0..x.data.len()).map(Some).collect();
        return Patches { data: x.data.clone(), rows: x.data.len() / n, n, per_image: 1, source };
    };
    let [images, channels, height, width] = x.shape[..] else { panic!("{:?}", x.shape) };
    let (kh, kw) = (weight.shape[2], weight.shape[3]);
    let (high, wide) = ((height + 2 * padding - kh) / stride + 1, (width + 2 * padding - kw) / stride + 1);
    let mut source = Vec::new();
    for image in 0..images {
        for at in 0..high * wide {
            for i in 0..n {
                let (c, u, v) = (i / (kh * kw), i / kw % kh, i % kw);
                let (row, column) = (at / wide * stride + u, at % wide * stride + v);
                let inside = row >= padding && column >= padding && row - padding < height && column - padding < width;
                source
                    .push(inside.then(|| ((image * channels + c) * height + row - padding) * width + column - padding));
            }
        }
    }
    let data = source.iter().map(|at| at.map_or(0.0, |at| x.data[at])).collect();
    Patches { data, rows: images * high * wide, n, per_image: high * wide, source }
}

/// Gradients of ⟨y, cotangent⟩ for merged weight, merged bias and input.
fn backward(case: &Case, weight: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let cotangent = &case.tensors["cotangent"].data;
    let mut d_weight = vec![0.0; weight.len()];
    if let Some(ids) = case.tensors.get("ids") {
        let n = case.tensors["weight"].shape[1];
        for (row, &id) in ids.data.iter().enumerate() {
            (0..n).for_each(|i| d_weight[id as usize * n + i] += cotangent[row * n + i]);
        }
        return (d_weight, Vec::new(), Vec::new());
    }
    let out = case.tensors["weight"].shape[0];
    let patches = patches(case);
    let (mut d_bias, mut d_x) = (vec![0.0; out], vec![0.0; case.tensors["x"].data.len()]);
    for row in 0..patches.rows {
        let (image, at) = (row / patches.per_image, row % patches.per_image);
        for o in 0..out {
            let g = cotangent[(image * out + o) * patches.per_image + at];
            d_bias[o] += g;
            for i in 0..patches.n {
                d_weight[o * patches.n + i] += g * patches.data[row * patches.n + i];
                if let Some(source) = patches.source[row * patches.n + i] {
                    d_x[source] += g * weight[o * patches.n + i];
                }
            }
        }
    }
    (d_weight, d_bias, d_x)
}

/// Checks one case from file to gradients.
fn check(case: &Case) {
    let (name, work) = (&case.name, TempDir::new().unwrap());
    let tolerance = name.split('_').rev().find(|part| ["f64", "f32", "bf16"].contains(part)).map(tolerance).unwrap();
    let adapter = Adapter::open(&as_adapter(case, work.path(), "")).unwrap_or_else(|e| panic!("{name}: {e}"));
    let [layer] = adapter.layers() else { panic!("{name}: {:?}", adapter.layers()) };
    let (weight, shape) = (&case.tensors["weight"].data, &case.tensors["weight"].shape[..]);
    let numbers = adapter.numbers(layer).unwrap();
    let sides = layer.sides(&numbers, Some(shape)).unwrap();

    let mut merged = weight.clone();
    sides.merge(shape, &mut merged, Parallelism::Rayon, &Workspace::new()).unwrap();
    assert_close(&format!("{name}: merged_weight"), &merged, &case.tensors["merged_weight"].data, tolerance);
    let mut bias = case.tensors.get("bias").map(|b| b.data.clone());
    if let Some(bias) = &mut bias {
        sides.merge_bias(bias, &Workspace::new()).unwrap();
        if let Some(want) = case.tensors.get("merged_bias") {
            assert_close(&format!("{name}: merged_bias"), bias, &want.data, tolerance);
        }
    }
    let y = forward(case, &merged, bias.as_deref());
    for key in ["y", "y_merged"] {
        if let Some(want) = case.tensors.get(key) {
            assert_close(&format!("{name}: {key}"), &y, &want.data, tolerance);
        }
    }
    if let Some(want) = case.tensors.get("merged_weight_multiplier_0_5") {
        let mut half = weight.clone();
        sides.blend(0.5).unwrap().merge(shape, &mut half, Parallelism::None, &Workspace::new()).unwrap();
        assert_close(&format!("{name}: half"), &half, &want.data, tolerance);
    }
    let mut back = merged.clone();
    sides.inverse().unwrap().merge(shape, &mut back, Parallelism::Rayon, &Workspace::new()).unwrap();
    assert_close(&format!("{name}: unmerged"), &back, weight, 1e-12);

    if !case.tensors.contains_key("cotangent") {
        return;
    }
    let (d_weight, d_bias, d_x) = backward(case, &merged);
    if let Some(want) = case.tensors.get("grad_x") {
        assert_close(&format!("{name}: grad_x"), &d_x, &want.data, tolerance);
    }
    // A bias that turns along is one more column of the weight.
    let (out, n) = (shape[0], weight.len() / shape[0]);
    let gradient = match (&bias, sides.turns_bias) {
        (Some(_), true) => {
            let join = |weight: &[f64], bias: &[f64]| -> Vec<f64> {
                (0..out).flat_map(|o| [&weight[o * n..(o + 1) * n], &bias[o..o + 1]].concat()).collect()
            };
            let both = join(weight, &case.tensors["bias"].data);
            sides.vjp(&[out, n + 1], &both, &join(&d_weight, &d_bias)).unwrap()
        }
        _ => sides.vjp(shape, weight, &d_weight).unwrap(),
    };
    let pulled = layer.pull(&numbers, Some(shape), &gradient).unwrap();
    let mut compared = 0;
    for (parameter, got) in &pulled {
        if let Some(want) = case.tensors.get(&format!("grad_{parameter}")) {
            assert_close(&format!("{name}: grad_{parameter}"), got, &want.data, tolerance);
            compared += 1;
        }
    }
    let known = case.tensors.keys().filter(|key| key.starts_with("grad_") && *key != "grad_x").count();
    assert_eq!(compared, known, "{name}: a gradient was not compared; pulled {:?}", pulled.keys());
}

fn check_all(prefix: &str, least: usize) {
    let all = cases(|kind| kind.starts_with(prefix) && !kind.contains("two_adapters") && !kind.contains("dropout"));
    assert!(all.len() >= least, "{} cases of {prefix}", all.len());
    all.iter().for_each(check);
}

#[test]
fn boft() {
    check_all("peft.boft", 22);
}

#[test]
fn oft() {
    check_all("peft.oft", 24);
}

#[test]
fn hra() {
    check_all("peft.hra", 6);
}

#[test]
fn road() {
    check_all("peft.road", 3);
}

#[test]
fn lycoris() {
    check_all("lycoris", 10);
}

/// PSOFT's core with the singular vectors that the library used.
#[test]
fn psoft() {
    let all = cases(|kind| kind.starts_with("peft.psoft"));
    assert!(all.len() >= 2);
    for case in all {
        let work = TempDir::new().unwrap();
        let directory = as_adapter(&case, work.path(), "");
        let adapter = Adapter::open(&directory).unwrap();
        let [layer] = adapter.layers() else { panic!("{:?}", adapter.layers()) };
        let core = layer.core(&adapter.numbers(layer).unwrap()).unwrap().unwrap();
        assert_close("rotation", &core.rotation, &case.tensors["rotation"].data, 2e-6);
        let mut merged = case.tensors["weight"].data.clone();
        core.merge(&mut merged, &case.tensors["A"].data, &case.tensors["B"].data).unwrap();
        assert_close(&case.name, &merged, &case.tensors["merged_weight"].data, 2e-6);
        // ∂ℓ/∂W' = gᵀx.
        let (x, g) = (&case.tensors["x"], &case.tensors["cotangent"]);
        let (inner, out) = (x.shape[1], g.shape[1]);
        let row = |at: usize| (&x.data[at * inner..][..inner], &g.data[at * out..][..out]);
        let d_merged: Vec<f64> = (0..out * inner)
            .map(|at| (0..x.shape[0]).map(|k| row(k).1[at / inner] * row(k).0[at % inner]).sum())
            .collect();
        let d_rotation = core.pull(&d_merged, &case.tensors["A"].data, &case.tensors["B"].data).unwrap();
        let pulled = layer.pull_core(&adapter.numbers(layer).unwrap(), &d_rotation).unwrap().unwrap();
        for name in ["psoft_R", "vector_a", "vector_b"] {
            assert_close(name, &pulled[name], &case.tensors[&format!("grad_{name}")].data, 2e-6);
        }
        // From a base alone the signs are unknown.
        let base = work.path().join("base.safetensors");
        write(&base, &[("net.layer.weight", &case.tensors["weight"])]);
        let out = work.path().join("out.safetensors");
        let error = run(&MergeOptions::new(&base, &directory, &out), false).unwrap_err().to_string();
        assert!(error.contains("singular vectors") && !out.exists(), "{error}");
    }
}

fn run(options: &MergeOptions, undo: bool) -> Result<MergeReport> {
    if undo {
        return unmerge(options, |_| ControlFlow::Continue(()));
    }
    merge(options, |_| ControlFlow::Continue(()))
}

/// Files of PEFT 0.12, 0.13, 0.15 and 0.17, merged as those versions did.
#[test]
fn legacy_files() {
    let mut count = 0;
    for version in ["0.12.0", "0.13.2", "0.15.2", "0.17.1"] {
        let directory = path("tests/data/legacy").join(format!("peft-{version}"));
        let manifest: Value = serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap();
        for case in manifest["cases"].as_array().unwrap() {
            let name = format!("{version} {}", case["name"].as_str().unwrap());
            let tensors = tensors(&directory.join(case["file"].as_str().unwrap()));
            let (weight, bias) = (&tensors["weight"], &tensors["bias"]);
            let work = TempDir::new().unwrap();
            let [base, out, back] = ["base", "out", "back"].map(|n| work.path().join(n).with_extension("safetensors"));
            let (weight_name, bias_name) = ("lin.weight", "lin.bias");
            write(&base, &[(weight_name, weight), (bias_name, bias)]);
            let adapter = directory.join(case["adapter"].as_str().unwrap());
            let mut options = MergeOptions::new(&base, &adapter, &out);
            if case["name"].as_str().unwrap() == "boft_conv2d" && version != "0.12.0" {
                // Neither keys nor configuration tell 0.13 from 0.17 here.
                let error = run(&options, false).unwrap_err().to_string();
                assert!(error.contains("--dialect") && !out.exists(), "{error}");
                options.dialect = Some(format!("peft-{version}").parse::<Hint>().unwrap());
            }
            let report = run(&options, false).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(report.layers.len(), 1, "{name}");
            let merged = support::tensors(&out);
            assert_close(&name, &merged[weight_name].data, &tensors["merged_weight"].data, 2e-6);
            assert_eq!(raw(&out)[bias_name], raw(&base)[bias_name], "{name}");
            // And out again. A rotation that was cut off is not orthogonal, and undone all the same.
            run(&MergeOptions { base: out.clone(), out: back.clone(), ..options }, true).unwrap();
            assert_close(&format!("{name}, undone"), &support::tensors(&back)[weight_name].data, &weight.data, 2e-5);
            count += 1;
        }
    }
    assert!(count >= 19, "{count}");
}

#[test]
fn whole_models() {
    for (directory, adapter, layers) in [
        ("e2e_oft_bert", "adapter", 1),
        ("e2e_lycoris_boft_llama", "lycoris.safetensors", 1),
        ("e2e_lycoris_diag_oft_llama", "lycoris.safetensors", 1),
    ] {
        let work = TempDir::new().unwrap();
        let directory = path("tests/data").join(directory);
        let out = work.path().join("merged");
        let report = run(&MergeOptions::new(directory.join("base"), directory.join(adapter), &out), false).unwrap();
        assert!(report.layers.len() >= layers, "{:?}", report.layers.len());
        let (golden, merged) = (tensors(&directory.join("io.safetensors")), tensors(&out.join("model.safetensors")));
        let mut compared = 0;
        for (name, want) in golden.iter().filter_map(|(k, t)| Some((k.strip_prefix("merged.")?, t))) {
            let name = if merged.contains_key(name) { name.to_string() } else { format!("model.{name}") };
            assert_close(&name, &merged[&name].data, &want.data, 2e-6);
            compared += 1;
        }
        assert!(compared >= 5, "{compared}");
    }
}

/// Two adapters of one layer, in order, in one merge with one rounding; out again; and by halves.
#[test]
fn several_adapters_act_in_order() {
    let case = cases(|kind| kind == "peft.boft.linear_two_adapters").remove(0);
    let work = TempDir::new().unwrap();
    let [base, out, back] = ["base", "out", "back"].map(|n| work.path().join(n).with_extension("safetensors"));
    write(&base, &[("net.layer.weight", &case.tensors["weight"])]);
    let adapters = [".first", ".second"].map(|suffix| as_adapter(&case, work.path(), suffix)).to_vec();
    let options = MergeOptions { adapters, ..MergeOptions::new(&base, "", &out) };
    let report = run(&options, false).unwrap();
    assert_eq!(report.layers.len(), 2);
    let weight = |file: &Path| tensors(file)["net.layer.weight"].data.clone();
    assert_close("both", &weight(&out), &case.tensors["merged_weight"].data, 1e-12);
    let undo = MergeOptions { base: out.clone(), out: back.clone(), force: true, ..options.clone() };
    run(&undo, true).unwrap();
    assert_close("neither", &weight(&back), &case.tensors["weight"].data, 1e-12);
    // The other order is another weight.
    let swapped = MergeOptions { adapters: options.adapters.iter().rev().cloned().collect(), ..options.clone() };
    run(&MergeOptions { out: back.clone(), force: true, ..swapped }, false).unwrap();
    let [both, other] = [weight(&out), weight(&back)];
    assert!(both.iter().zip(&other).any(|(a, b)| (a - b).abs() > 1e-3));
    assert!(run(&MergeOptions { adapters: Vec::new(), ..options }, false).is_err());
}

/// Strengths of 0 and 1 are nothing and all; what lies between keeps lengths of rows, unless blended.
#[test]
fn strengths() {
    let case = cases(|kind| kind == "peft.boft.linear").into_iter().find(|case| case.name.contains("_m3_f64")).unwrap();
    let work = TempDir::new().unwrap();
    let [base, out] = ["base", "out"].map(|n| work.path().join(n).with_extension("safetensors"));
    let unscaled = Case {
        tensors: {
            let mut tensors = case.tensors.clone();
            let scale = tensors.get_mut("boft_s").unwrap();
            scale.data.fill(1.0);
            tensors
        },
        ..case
    };
    let adapter = as_adapter(&unscaled, work.path(), "");
    let weight = &unscaled.tensors["weight"];
    write(&base, &[("net.layer.weight", weight)]);
    let at = |strength: Strength| {
        let options = MergeOptions { strength, force: true, ..MergeOptions::new(&base, &adapter, &out) };
        run(&options, false).map(|_| tensors(&out)["net.layer.weight"].data.clone())
    };
    let whole = at(Strength::Whole).unwrap();
    assert_close("none", &at(Strength::Fraction(0.0)).unwrap(), &weight.data, 1e-14);
    assert_close("all", &at(Strength::Fraction(1.0)).unwrap(), &whole, 1e-14);
    assert_close("all stages", &at(Strength::Stages(9)).unwrap(), &whole, 1e-14);
    assert_close("no stage", &at(Strength::Stages(0)).unwrap(), &weight.data, 1e-14);
    assert_close("no blend", &at(Strength::LinearBlend(0.0)).unwrap(), &weight.data, 1e-14);
    assert_close("whole blend", &at(Strength::LinearBlend(1.0)).unwrap(), &whole, 1e-14);
    let n = weight.shape[1];
    let lengths = |w: &[f64]| -> Vec<f64> {
        w.chunks_exact(n).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
    };
    let before = lengths(&weight.data);
    for strength in [Strength::Fraction(0.5), Strength::Fraction(-1.3), Strength::Stages(1), Strength::Stages(2)] {
        let some = at(strength).unwrap();
        assert_close("lengths", &lengths(&some), &before, 1e-13);
        assert!(some.iter().zip(&whole).any(|(a, b)| (a - b).abs() > 1e-3), "{strength:?}");
    }
    let blended = lengths(&at(Strength::LinearBlend(0.5)).unwrap());
    assert!(blended.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-4 * b), "a blend is not orthogonal");
    assert!(at(Strength::Fraction(f64::NAN)).is_err());
}

/// n×n product of dense matrices.
fn times(n: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    (0..n * n).map(|at| (0..n).map(|k| a[at / n * n + k] * b[k * n + at % n]).sum()).collect()
}

fn transposed(n: usize, a: &[f64]) -> Vec<f64> {
    (0..n * n).map(|at| a[at % n * n + at / n]).collect()
}

/// A file with these tensors, merged into `net.layer.weight` = I of this size: what multiplies the weight.
fn on_identity(n: usize, parts: &[(&str, Tensor)], dialect: Option<&str>) -> Vec<f64> {
    let work = TempDir::new().unwrap();
    let [base, adapter, out] = ["base", "adapter", "out"].map(|n| work.path().join(n).with_extension("safetensors"));
    let identity = support::f64s(&[n, n], (0..n * n).map(|at| f64::from(u8::from(at % (n + 1) == 0))).collect());
    write(&base, &[("net.layer.weight", &identity)]);
    write(&adapter, &parts.iter().map(|(name, tensor)| (*name, tensor)).collect::<Vec<_>>());
    let dialect = dialect.map(|text| text.parse::<Hint>().unwrap());
    run(&MergeOptions { dialect, ..MergeOptions::new(&base, &adapter, &out) }, false).unwrap();
    tensors(&out)["net.layer.weight"].data.clone()
}

/// kohya's OFT: planes turn by 2·atan of the constrained number, transposed; alpha = 0 is no rotation at all.
#[test]
fn kohya_turns_planes_as_its_constraint_allows() {
    let (x, y) = (0.75f64, -0.5f64);
    let blocks = |x: f64| support::f64s(&[1, 2, 2], vec![0.3, x / 2.0, -x / 2.0, 0.3]);
    let alpha = |a: f64| ("oft_unet_net_layer.alpha", support::f64s(&[], vec![a]));
    for (a, factor) in
        [(9.0, 1.0), (0.25, (0.5 + 1e-8) / (2f64.sqrt() * 0.75 + 1e-8)), (0.0, 1e-8 / (2f64.sqrt() * 0.75 + 1e-8))]
    {
        let got = on_identity(2, &[("oft_unet_net_layer.oft_blocks", blocks(x)), alpha(a)], None);
        // R = (I + q)(I − q)⁻¹ with q = (0, t; −t, 0) turns by −2·atan t; Rᵀ back.
        let (s, c) = (2.0 * (x * factor).atan()).sin_cos();
        assert_close(&format!("alpha {a}"), &got, &[c, -s, s, c], 1e-14);
    }
    let split =
        [("oft_unet_net_layer.oft_blocks.0", blocks(x)), ("oft_unet_net_layer.oft_blocks.1", blocks(y)), alpha(9.0)];
    let got = on_identity(4, &split, None);
    let ((s, c), (t, d)) = ((2.0 * x.atan()).sin_cos(), (2.0 * y.atan()).sin_cos());
    let want = [c, -s, 0.0, 0.0, s, c, 0.0, 0.0, 0.0, 0.0, d, -t, 0.0, 0.0, t, d];
    assert_close("split", &got, &want, 1e-14);
}

/// OneTrainer: I + 2S + 2S² + 2S³ + S⁴ from the triangle, transposed onto the inputs; scaled by the root of its length.
#[test]
fn onetrainer_is_the_series_of_five_terms() {
    let v: Vec<f64> = support::noise(3, 3).iter().map(|x| 0.4 * x).collect();
    for scaled in [false, true] {
        let divisor = if scaled { 3f64.sqrt() } else { 1.0 };
        let [a, b, c] = [v[0], v[1], v[2]].map(|x| x / divisor);
        let s = [0.0, a, b, -a, 0.0, c, -b, -c, 0.0];
        let (s2, mut want) = (times(3, &s, &s), vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let (s3, s4) = (times(3, &s2, &s), times(3, &s2, &s2));
        for at in 0..9 {
            want[at] += 2.0 * (s[at] + s2[at] + s3[at]) + s4[at];
        }
        let mut parts = vec![("lora_unet_net_layer.oft_R.weight", support::f64s(&[1, 3], v.clone()))];
        if scaled {
            parts.push(("lora_unet_net_layer.oft_R.scaled_oft", support::f64s(&[], vec![1.0])));
        }
        let got = on_identity(3, &parts, Some("onetrainer"));
        assert_close("series", &got, &transposed(3, &want), 1e-14);
    }
}

/// Files of LyCORIS with finished blocks do what those with parameters do, for diag-oft and boft.
#[test]
fn finished_blocks_of_lycoris() {
    // Blocks of 2: (I + q)(I − q)⁻¹ for q = (0, t; −t, 0).
    let block = |t: f64| {
        let (s, c) = (2.0 * t.atan()).sin_cos();
        [c, s, -s, c]
    };
    let t = support::noise(5, 4);
    let finished: Vec<f64> = t.iter().flat_map(|t| block(*t)).collect();
    let parameters: Vec<f64> = t.iter().flat_map(|t| [0.1, *t, 0.0, 0.2]).collect();
    let alpha = ("lycoris_net_layer.alpha", support::f64s(&[], vec![0.0]));
    for shape in [&[2, 2, 2][..], &[2, 2, 2, 2]] {
        let count = shape.iter().product::<usize>();
        let merged = |name: &'static str, numbers: &[f64]| {
            on_identity(4, &[(name, support::f64s(shape, numbers[..count].to_vec())), alpha.clone()], None)
        };
        let (want, got) =
            (merged("lycoris_net_layer.oft_blocks", &parameters), merged("lycoris_net_layer.oft_diag", &finished));
        assert_close("finished", &got, &want, 1e-14);
        assert!(got[1].abs() > 1e-3);
    }
}

/// The path from nothing to all of it, for every kind of every dialect, cut-off blocks and rounded ones included: where it
/// begins and ends, and that it has no jump.
#[test]
fn fractions_of_every_dialect() {
    let work = TempDir::new().unwrap();
    let mut adapters: Vec<(String, PathBuf, Tensor)> = cases(|kind| !kind.starts_with("peft.psoft"))
        .iter()
        .filter(|case| case.name.ends_with("_f64") && !case.name.contains("stacked"))
        .map(|case| {
            let directory = work.path().join(&case.name);
            (case.name.clone(), as_adapter(case, &directory, ""), case.tensors["weight"].clone())
        })
        .collect();
    for version in ["0.13.2", "0.15.2"] {
        for entry in fs::read_dir(path("tests/data/legacy").join(format!("peft-{version}"))).unwrap() {
            let file = entry.unwrap().path();
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            let adapter = file.with_file_name(format!("adapter_{stem}"));
            if file.extension().is_some() && adapter.exists() && !stem.contains("boft_conv2d") {
                adapters.push((format!("{version} {stem}"), adapter, tensors(&file)["weight"].clone()));
            }
        }
    }
    // Finished blocks, rounded to half precision.
    let rounded = work.path().join("rounded.safetensors");
    let block = |t: f64| {
        let (s, c) = t.sin_cos();
        [c, s, -s, c].map(|x| half::f16::from_f64(x).to_f64())
    };
    let finished = support::f64s(&[8, 2, 2], support::noise(5, 8).into_iter().flat_map(block).collect());
    write(&rounded, &[("lycoris_net_layer.oft_diag", &finished)]);
    adapters.push(("rounded".into(), rounded, support::f64s(&[16, 24], support::noise(3, 16 * 24))));

    let (mut moved, mut mirrors) = (0, 0);
    for (name, adapter, weight) in &adapters {
        let opened = Adapter::open(adapter).unwrap();
        let module = &opened.layers()[0].module;
        let key = if module.contains('.') || !module.contains("net") {
            format!("{module}.weight")
        } else {
            "net.layer.weight".into()
        };
        let [base, out] = ["base", "out"].map(|n| work.path().join(n).with_extension("safetensors"));
        write(&base, &[(&key, &Tensor { dtype: papilio::storage::Dtype::F64, ..weight.clone() })]);
        let at = |strength: Strength| {
            let options = MergeOptions { strength, force: true, ..MergeOptions::new(&base, adapter, &out) };
            run(&options, false).map(|_| tensors(&out)[&key].data.clone())
        };
        let whole = at(Strength::Whole).unwrap();
        assert_eq!(at(Strength::Fraction(1.0)).unwrap(), whole, "{name}");
        let half = match at(Strength::Fraction(0.5)) {
            Ok(half) => half,
            Err(e) if e.to_string().contains("determinant −1") => {
                assert!(name.starts_with("hra") && (name.contains("_r1") || name.contains("_r3")), "{name}: {e}");
                mirrors += 1;
                continue;
            }
            Err(e) => panic!("{name}: {e}"),
        };
        let near = |what: &str, a: &[f64], b: &[f64], most: f64| {
            let (mut gap, mut all) = (0.0, 0.0);
            a.iter().zip(b).for_each(|(a, b)| (gap, all) = (gap + (a - b).powi(2), all + b * b));
            assert!(gap.sqrt() <= most * f64::sqrt(all), "{name}, {what}: {:e}", (gap / all).sqrt());
        };
        near("nothing", &at(Strength::Fraction(0.0)).unwrap(), &weight.data, 1e-13);
        near("almost nothing", &at(Strength::Fraction(1e-7)).unwrap(), &weight.data, 3e-6);
        near("almost all", &at(Strength::Fraction(1.0 - 1e-7)).unwrap(), &whole, 3e-6);
        let far = |to: &[f64]| half.iter().zip(to).any(|(a, b)| (a - b).abs() > 1e-6);
        moved += usize::from(far(&weight.data) && far(&whole));
    }
    assert!(moved > 40 && mirrors >= 2, "{moved} moved, {mirrors} mirrors");
}
