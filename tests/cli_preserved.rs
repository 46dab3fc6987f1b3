//! `papilio verify --base … --adapter …` against the definitions: weights of a merge, pair by pair, and faer's SVD.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use command::{ADAPTER, BASE, json, papilio, refused, stderr, stdout};
use papilio::Parallelism;
use papilio::adapter::{Adapter, MergeEvent, PreservedOptions, preserved};
use papilio::storage::Dtype;
use serde_json::Value;
use support::{Tensor, f64s, noise, tensors, write};
use tempfile::TempDir;

/// Rows of a weight as papilio's own code has nothing to do with it.
struct Weight {
    rows: Vec<Vec<f64>>,
}

impl Weight {
    fn new(tensor: &Tensor) -> Self {
        let n: usize = tensor.shape[1..].iter().product();
        Self { rows: tensor.data.chunks_exact(n).map(<[f64]>::to_vec).collect() }
    }

    fn pairs<T>(&self, of: impl Fn(&[f64], &[f64]) -> T) -> Vec<T> {
        let unit: Vec<Vec<f64>> =
            self.rows.iter().map(|row| row.iter().map(|x| x / length(row.iter().copied())).collect()).collect();
        (0..unit.len()).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| of(&unit[i], &unit[j])).collect()
    }

    fn cosines(&self) -> Vec<f64> {
        self.pairs(|a, b| a.iter().zip(b).map(|(x, y)| x * y).sum())
    }

    fn energy(&self) -> f64 {
        let all = self.pairs(|a, b| 1.0 / length(a.iter().zip(b).map(|(x, y)| x - y)));
        all.iter().sum::<f64>() / all.len() as f64
    }

    fn singular_values(&self) -> Vec<f64> {
        let w = faer::Mat::from_fn(self.rows.len(), self.rows[0].len(), |i, k| self.rows[i][k]);
        w.singular_values().unwrap()
    }
}

fn length(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

fn close(what: &str, got: &Value, want: f64, tolerance: f64) {
    let got = got.as_f64().unwrap_or_else(|| panic!("{what}: {got}"));
    assert!((got - want).abs() <= tolerance, "{what}: {got:e}, not {want:e}");
}

fn verify(base: &str, adapter: &str, more: &[&str]) -> std::process::Output {
    papilio(&[&["verify", "--base", base, "--adapter", adapter], more].concat())
}

#[test]
fn every_figure_is_that_of_the_merged_weights() {
    let work = TempDir::new().unwrap();
    let bert = |part: &str| format!("tests/data/e2e_boft_bert_degraded/{part}");
    for (k, (base, adapter)) in [(BASE.into(), ADAPTER.into()), (bert("base"), bert("adapter"))].iter().enumerate() {
        let (base, adapter): (&String, &String) = (base, adapter);
        let out = work.path().join(k.to_string());
        let merged = papilio(&["merge", "--base", base, "--adapter", adapter, "--out", out.to_str().unwrap()]);
        assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
        let old = tensors(&Path::new(env!("CARGO_MANIFEST_DIR")).join(base).join("model.safetensors"));
        let new = tensors(&out.join("model.safetensors"));
        let stored = tensors(&Path::new(env!("CARGO_MANIFEST_DIR")).join(adapter).join("adapter_model.safetensors"));

        let output = verify(base, adapter, &["--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report = json(&output);
        assert_eq!(report["preserved"], true);
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), [14, 4][k]);
        for layer in layers {
            let name = layer["name"].as_str().unwrap();
            let weight = |of: &std::collections::HashMap<String, Tensor>| Weight::new(&of[&format!("{name}.weight")]);
            let (before, after) = (weight(&old), weight(&new));
            let (rows, n) = (before.rows.len(), before.rows[0].len());
            assert_eq!((&layer["rows"], &layer["n"], &layer["dtype"]), (&rows.into(), &n.into(), &"f32".into()));
            assert_eq!((&layer["neurons"], &layer["sampled"]), (&rows.into(), &false.into()));
            assert_eq!(
                (&layer["pairs"], &layer["all_singular_values"]),
                (&(rows * (rows - 1) / 2).into(), &true.into())
            );

            let changes: Vec<f64> = before.cosines().iter().zip(after.cosines()).map(|(a, b)| (a - b).abs()).collect();
            let largest = changes.iter().fold(0.0, |m: f64, x| m.max(*x));
            close("cosine_max", &layer["cosine_max"], largest, 1e-14);
            let square = changes.iter().map(|x| x * x).sum::<f64>() / changes.len() as f64;
            close("cosine_rms", &layer["cosine_rms"], square.sqrt(), 1e-14);
            assert!(largest > 0.0 && largest < f64::from(f32::EPSILON), "{name}: {largest:e}");
            close("energy", &layer["energy"][0], before.energy(), 1e-12);
            close("energy", &layer["energy"][1], after.energy(), 1e-12);
            let (sigma, turned) = (before.singular_values(), after.singular_values());
            close("spectral_norm", &layer["spectral_norm"][0], sigma[0], 1e-12 * sigma[0]);
            close("spectral_norm", &layer["spectral_norm"][1], turned[0], 1e-12 * sigma[0]);

            // What there was to round, in double precision.
            let adapter = Adapter::open(&support::path(adapter)).unwrap();
            let module = adapter.layers().iter().find(|module| module.module == name).unwrap();
            let shape = old[&format!("{name}.weight")].shape.clone();
            let mut exact = before.rows.concat();
            let sides = adapter.sides(module, Some(&shape)).unwrap();
            sides.merge(&shape, &mut exact, Parallelism::None, &papilio::Workspace::new()).unwrap();
            let gap = |a: &[f64], b: &[f64]| length(a.iter().zip(b).map(|(a, b)| a - b));
            let (rounded, start) = (after.rows.concat(), before.rows.concat());
            close("change", &layer["change"], gap(&rounded, &start) / length(start.iter().copied()), 1e-12);
            let lost = gap(&rounded, &exact) / gap(&rounded, &start);
            assert!(lost > 1e-9 && lost < 1e-5, "{name}: {lost:e}");
            close("lost", &layer["lost"], lost, 1e-6 * lost);

            // The rotation's part: diag(s)·W beside W'.
            let s = &stored[&format!("base_model.model.{name}.boft_s")].data;
            let is_scaled = s.iter().any(|s| *s != 1.0);
            assert_eq!(layer["scale"].is_null(), !is_scaled);
            if is_scaled {
                close("scale", &layer["scale"][0], s.iter().copied().fold(f64::INFINITY, f64::min), 1e-15);
                close("scale", &layer["scale"][1], s.iter().copied().fold(0.0, f64::max), 1e-15);
            }
            let scaled = before.rows.iter().zip(s).map(|(row, s)| row.iter().map(|w| w * s).collect());
            let scaled = Weight { rows: scaled.collect() };
            let sigma = scaled.singular_values();
            let change = sigma.iter().zip(&turned).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            close("singular_max", &layer["singular_max"], change / sigma[0], 1e-13);
            let lengths = scaled
                .rows
                .iter()
                .zip(&after.rows)
                .map(|(a, b)| (length(b.iter().copied()) / length(a.iter().copied()) - 1.0).abs());
            close("norm_max", &layer["norm_max"], lengths.fold(0.0, f64::max), 1e-14);
            let ratio = layer["ratio"].as_f64().unwrap();
            assert!(ratio > 0.01 && ratio <= 1.0, "{name}: ratio {ratio}");
        }
        let worst = layers.iter().map(|l| l["ratio"].as_f64().unwrap()).fold(0.0, f64::max);
        close("ratio", &report["ratio"], worst, 0.0);

        let table = stdout(&verify(base, adapter, &[]));
        assert!(table.lines().any(|line| line.starts_with("preserved: ratio ")), "{table}");
        assert!(table.contains("s ≠ 1 scales neurons") && !table.contains('*') && !table.contains('†'), "{table}");
        assert_eq!(table.lines().filter(|line| line.contains("f32")).count(), layers.len());
    }
}

/// Where outputs are rotated the neurons are columns: those of the merged file, in more columns than are rotated at a time.
#[test]
fn rotated_outputs_are_compared_by_columns() {
    let work = TempDir::new().unwrap();
    let [base, adapter, out] =
        ["base", "adapter", "out"].map(|name| work.path().join(name).with_extension("safetensors"));
    let (rows, columns) = (8_200, 40);
    let weight = f64s(&[rows, columns], noise(1, rows * columns));
    write(&base, &[("net.lin.weight", &weight)]);
    let (blocks, alpha) = (f64s(&[rows / 4, 4, 4], noise(2, rows * 4)), f64s(&[], vec![0.0]));
    write(&adapter, &[("lycoris_net_lin.oft_blocks", &blocks), ("lycoris_net_lin.alpha", &alpha)]);
    let [base, adapter, out] = [&base, &adapter, &out].map(|path| path.to_str().unwrap());
    let merged = papilio(&["merge", "--base", base, "--adapter", adapter, "--out", out]);
    assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
    let across = |tensor: &Tensor| {
        let column = |j: usize| tensor.data[j..].iter().step_by(columns).copied();
        Weight::new(&f64s(&[columns, rows], (0..columns).flat_map(column).collect()))
    };
    let (before, after) = (across(&weight), across(&tensors(Path::new(out))["net.lin.weight"]));

    let output = verify(base, adapter, &["--json", "--singular-values", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let layer = &json(&output)["layers"][0];
    assert_eq!((&layer["rows"], &layer["n"], &layer["neurons"]), (&columns.into(), &rows.into(), &columns.into()));
    close("energy", &layer["energy"][0], before.energy(), 1e-12);
    close("energy", &layer["energy"][1], after.energy(), 1e-12);
    let both = before.rows.iter().flatten().zip(after.rows.iter().flatten());
    assert!(length(both.map(|(a, b)| a - b)) > 0.1 * length(weight.data.iter().copied()), "nothing was rotated");
    assert!(layer["cosine_max"].as_f64().unwrap() < 1e-14 && layer["norm_max"].as_f64().unwrap() < 1e-14, "{layer}");
}

#[test]
fn large_weights_are_sampled_and_said_to_be() {
    let of = |more: &[&str]| json(&verify(BASE, ADAPTER, &[&["--json", "--layer", "q_proj"], more].concat()));
    let (all, some) = (of(&[]), of(&["--neurons", "20", "--singular-values", "8"]));
    let layers = |report: &Value| report["layers"].as_array().unwrap().clone();
    assert_eq!((layers(&all).len(), layers(&some).len(), &some["preserved"]), (2, 2, &true.into()));
    for (all, some) in layers(&all).iter().zip(layers(&some)) {
        assert_eq!((&some["neurons"], &some["pairs"], &some["sampled"]), (&20.into(), &190.into(), &true.into()));
        assert_eq!(some["all_singular_values"], false);
        for at in [0, 1] {
            let (bound, exact) =
                (some["spectral_norm"][at].as_f64().unwrap(), all["spectral_norm"][at].as_f64().unwrap());
            assert!(bound <= exact * (1.0 + 1e-12) && bound >= 0.99 * exact, "{bound} {exact}");
            let (part, whole) = (some["energy"][at].as_f64().unwrap(), all["energy"][at].as_f64().unwrap());
            assert!((part / whole - 1.0).abs() < 0.05, "{part} {whole}");
        }
        assert!(some["cosine_max"].as_f64() <= all["cosine_max"].as_f64());
        assert!(some["singular_max"].as_f64().unwrap() < 1e-7);
    }
    let other = of(&["--neurons", "20", "--seed", "1"]);
    assert_ne!(other["layers"][0]["energy"], some["layers"][0]["energy"]);
    let table = stdout(&verify(BASE, ADAPTER, &["--neurons", "20", "--singular-values", "8", "--layer", "v_proj"]));
    assert!(table.contains("* 190 pairs of a sample of 20 neurons") && table.contains("† the largest"), "{table}");
}

/// A base of one layer `lin`, and an adapter of b = 4, m = 2 for it.
struct Case {
    work: TempDir,
    weight: Tensor,
    blocks: Tensor,
    scale: Tensor,
}

impl Case {
    fn new(rows: usize) -> Self {
        let work = TempDir::new().unwrap();
        let (weight, blocks) = (f64s(&[rows, 16], noise(1, rows * 16)), f64s(&[2, 4, 4, 4], noise(2, 128)));
        Self { work, weight, blocks, scale: f64s(&[rows, 1], vec![1.0; rows]) }
    }

    fn paths(&self) -> [String; 2] {
        let path = |name| -> PathBuf { self.work.path().join(name) };
        let (base, adapter) = (path("base.safetensors"), path("adapter.safetensors"));
        write(&base, &[("lin.weight", &self.weight)]);
        write(&adapter, &[("base_model.model.lin.boft_R", &self.blocks), ("base_model.model.lin.boft_s", &self.scale)]);
        [base, adapter].map(|p| p.to_string_lossy().into_owned())
    }

    fn verify(&self, code: i32) -> Value {
        let [base, adapter] = self.paths();
        let output = verify(&base, &adapter, &["--json"]);
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        let report = json(&output);
        assert_eq!(report["preserved"], code == 0);
        let text = stdout(&verify(&base, &adapter, &[]));
        assert_eq!(text.contains("NOT preserved"), code == 1, "{text}");
        report
    }
}

#[test]
fn every_type_is_measured_by_its_own_eps() {
    for dtype in [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16] {
        let mut case = Case::new(24);
        case.weight.dtype = dtype;
        let report = case.verify(0);
        let ratio = report["ratio"].as_f64().unwrap();
        println!("{dtype:?}: ratio {ratio:.3}");
        assert!((0.02..1.0).contains(&ratio), "{dtype:?}: {ratio}");
        assert_eq!(report["layers"][0]["scale"], Value::Null);
    }
}

/// What rounding loses is found in portions of 2²⁰ numbers, each with the scales of its own rows.
#[test]
fn portions_know_which_rows_they_are() {
    let rows = (1 << 16) + 100;
    let mut case = Case::new(rows);
    case.weight.dtype = Dtype::BF16;
    case.scale.data = (0..rows).map(|row| 1.0 + (row % 7) as f64 / 8.0).collect();
    let [base, adapter] = case.paths();
    let output = verify(&base, &adapter, &["--json", "--neurons", "20", "--singular-values", "0"]);
    let lost = json(&output)["layers"][0]["lost"].as_f64().unwrap();

    let start = tensors(Path::new(&base))["lin.weight"].data.clone();
    let (adapter, mut exact) = (Adapter::open(Path::new(&adapter)).unwrap(), start.clone());
    let sides = adapter.sides(&adapter.layers()[0], Some(&case.weight.shape)).unwrap();
    sides.merge(&case.weight.shape, &mut exact, Parallelism::None, &papilio::Workspace::new()).unwrap();
    let rounded: Vec<f64> = exact.iter().map(|x| half::bf16::from_f64(*x).to_f64()).collect();
    let gap = |a: &[f64], b: &[f64]| length(a.iter().zip(b).map(|(a, b)| a - b));
    let want = gap(&rounded, &exact) / gap(&rounded, &start);
    // Lengths before and after rounding differ in second order.
    assert!((1e-3..1e-2).contains(&want) && (lost / want - 1.0).abs() < 1e-5, "{lost:e}, not {want:e}");
}

/// A weight that the adapter replaces is rotated from its own type and written in the base's, here as in a merge.
#[test]
fn replaced_weights_are_measured_as_merged() {
    let mut case = Case::new(24);
    case.weight.dtype = Dtype::BF16;
    let [base, adapter] = case.paths();
    let (weight, name) = (f64s(&[24, 16], noise(5, 24 * 16)), "base_model.model.lin.base_layer.weight");
    let (blocks, scale) = ("base_model.model.lin.boft_R", "base_model.model.lin.boft_s");
    write(Path::new(&adapter), &[(blocks, &case.blocks), (scale, &case.scale), (name, &weight)]);
    let report = json(&verify(&base, &adapter, &["--json"]));
    let layer = &report["layers"][0];
    assert_eq!(layer["dtype"], "bf16");
    assert!(layer["cosine_max"].as_f64().unwrap() > 1e-5 && layer["ratio"].as_f64().unwrap() < 1.0, "{layer}");
}

/// Numbers below what f16 resolves lose their directions when a rotation is rounded: no angle is kept, and that is said.
#[test]
fn what_rounding_destroys_is_reported() {
    let mut case = Case::new(24);
    case.weight.dtype = Dtype::F16;
    case.weight.data.iter_mut().for_each(|w| *w *= 3e-7);
    let report = case.verify(1);
    let (ratio, change) = (&report["ratio"], &report["layers"][0]["cosine_max"]);
    assert!(ratio.as_f64().unwrap() > 50.0 && change.as_f64().unwrap() > 0.05, "{ratio} {change}");
    let [base, adapter] = case.paths();
    assert_eq!(verify(&base, &adapter, &["--ratio", "1e6"]).status.code(), Some(0));
}

#[test]
fn scales_change_lengths_and_are_said_to() {
    let mut case = Case::new(8);
    case.scale.data = vec![1.0, 2.0, 0.5, 1.0, 1.0, -3.0, 0.0, 1.0];
    let report = case.verify(0);
    let layer = &report["layers"][0];
    assert_eq!((&layer["scale"][0], &layer["scale"][1], &layer["neurons"]), (&(-3.0).into(), &2.0.into(), &7.into()));
    assert!(layer["spectral_norm"][1].as_f64().unwrap() > 1.2 * layer["spectral_norm"][0].as_f64().unwrap());
    assert!(layer["norm_max"].as_f64().unwrap() < 1e-14);
    let [base, adapter] = case.paths();
    let text = stdout(&verify(&base, &adapter, &[]));
    assert!(text.contains("-3.000e0…2.0000") || text.contains("-3.0000…2.0000"), "{text}");
    assert!(text.contains("s < 0 turns neurons round"), "{text}");
}

#[test]
fn bad_files_and_usage_are_refused() {
    for few in ["0", "1"] {
        refused(&["verify", "--base", BASE, "--adapter", ADAPTER, "--neurons", few], &["at least 2"]);
    }
    let with = |change: &dyn Fn(&mut Case), words: &[&str]| {
        let mut case = Case::new(8);
        change(&mut case);
        let [base, adapter] = case.paths();
        refused(&["verify", "--base", &base, "--adapter", &adapter], words);
    };
    with(&|case| case.blocks.data[7] = f64::NAN, &["boft_R", "finite", "[0, 0, 1, 3]"]);
    with(&|case| case.weight.data[17] = f64::INFINITY, &["lin.weight", "finite", "[1, 1]"]);
    with(&|case| case.blocks = f64s(&[1, 1, 8, 8], noise(3, 64)), &["boft_R", "16"]);
    with(&|case| case.scale = f64s(&[7, 1], vec![1.0; 7]), &["boft_s"]);
    let [base, adapter] = Case::new(8).paths();
    refused(&["verify", "--base", BASE, "--adapter", ADAPTER, "--layer", "nowhere"], &["nowhere"]);
    refused(&["verify", "--base", "missing", "--adapter", ADAPTER], &["missing"]);
    refused(&["verify", "--base", &base], &["--adapter"]);
    refused(&["verify", "--adapter", &adapter], &["--base"]);
    refused(&["verify", ADAPTER, "--base", &base, "--adapter", &adapter], &["cannot be used with"]);
    refused(&["verify", "--base", &base, "--adapter", &adapter, "--tensor", "x"], &["cannot be used with"]);
    refused(&["verify"], &["PATH"]);
    for option in ["--layer", "--neurons", "--seed", "--singular-values"] {
        refused(&["verify", ADAPTER, option, "2"], &["cannot be used with"]);
    }
}

#[test]
fn progress_ends_with_everything_and_can_be_stopped() {
    let options = PreservedOptions::new(BASE, ADAPTER);
    let mut last = (0, 1);
    let report = preserved(&options, |event| {
        if let MergeEvent::Portion(progress) = event {
            assert!(progress.done >= last.0 && progress.done <= progress.total);
            last = (progress.done, progress.total);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((report.layers.len(), last.0), (14, last.1));
    for stop in [0, 1, 5] {
        let mut told = 0;
        let stopped = preserved(&options, |_| {
            told += 1;
            if told > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(papilio::Error::Interrupted { .. })), "{stopped:?}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let of = |parallelism, singular_values| {
        let options = PreservedOptions { parallelism, singular_values, ..PreservedOptions::new(BASE, ADAPTER) };
        let mut report = preserved(&options, |_| ControlFlow::Continue(())).unwrap();
        report.layers.iter_mut().for_each(|layer| layer.seconds = 0.0);
        report
    };
    for singular_values in [0, 1024] {
        assert_eq!(of(Parallelism::None, singular_values), of(Parallelism::Rayon, singular_values));
    }
}
