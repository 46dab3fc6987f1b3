//! `papilio verify ADAPTER`: reports on rotations against dense matrices, merges of random weights, and their rounding.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use command::{ADAPTER, json, papilio, stderr, stdout};
use faer::Mat;
use half::bf16;
use papilio::adapter::{Adapter, RotationReport, Sides};
use papilio::{Error, Orthogonal, Parallelism, Workspace};
use support::{f64s, noise, path, write};
use tempfile::TempDir;

fn dense(q: &Orthogonal<f64>) -> Mat<f64> {
    let columns: Vec<Vec<f64>> = (0..q.n())
        .map(|j| q.apply(&(0..q.n()).map(|i| f64::from(u8::from(i == j))).collect::<Vec<_>>()).unwrap())
        .collect();
    Mat::from_fn(q.n(), q.n(), |i, j| columns[j][i])
}

/// Root mean square over the entries of random weights `[out, in]`: of W' − W, of what rounding W' to bf16 changes, of W.
fn merged(sides: &Sides, out: usize, inner: usize) -> [f64; 3] {
    let [mut change, mut lost, mut whole] = [0.0; 3];
    for seed in 0..6 {
        // Sums of uniform numbers are near enough to Gaussian ones; weights of models are.
        let terms = [0, 1, 2].map(|k| noise(100 * seed + k + 1, out * inner));
        let before: Vec<f64> = (0..out * inner).map(|i| terms.iter().map(|t| t[i]).sum()).collect();
        let mut after = before.clone();
        sides.merge(&[out, inner], &mut after, Parallelism::None, &Workspace::new()).unwrap();
        for (w, v) in before.iter().zip(&after) {
            change += (v - w).powi(2);
            lost += (bf16::from_f64(*v).to_f64() - v).powi(2);
            whole += w * w;
        }
    }
    [change, lost, whole].map(f64::sqrt)
}

fn adapters() -> Vec<PathBuf> {
    let peft = ["adapter_boft_linear", "adapter_oft_linear", "adapter_oft_linear_share", "adapter_oft_linear_cn5"];
    let legacy = ["0.12.0", "0.13.2", "0.17.1"].map(|version| format!("tests/data/legacy/peft-{version}"));
    let mut all: Vec<PathBuf> =
        legacy.iter().flat_map(|at| peft.map(|name| path(at).join(name))).filter(|at| at.exists()).collect();
    all.push(path(ADAPTER));
    all.push(path("tests/data/e2e_oft_bert/adapter"));
    all.push(path("tests/data/e2e_lycoris_boft_llama/lycoris.safetensors"));
    all.push(path("tests/data/e2e_lycoris_diag_oft_llama/lycoris.safetensors"));
    all
}

#[test]
fn reports_agree_with_dense_matrices_and_merged_weights() {
    let (mut layers, mut with_scale) = (0, 0);
    for at in adapters() {
        let adapter = Adapter::open(&at).unwrap();
        for layer in adapter.layers() {
            let what = format!("{} {}", at.display(), layer.module);
            let report = adapter.rotation(layer).unwrap();
            let sides = adapter.sides(layer, None).unwrap();
            let [q] = sides.rotations().collect::<Vec<_>>()[..] else { panic!("{what}") };
            let gap = &dense(q) - Mat::<f64>::identity(q.n(), q.n());
            let moves = gap.norm_l2() / (q.n() as f64).sqrt();
            assert!((report.moves - moves).abs() <= 1e-13 * moves, "{what}: {} not {moves}", report.moves);
            let spectral = gap.singular_values().unwrap()[0];
            assert!(report.distance >= spectral * (1.0 - 1e-13), "{what}: {} below {spectral}", report.distance);
            let most = (q.plan().num_stages() as f64) * 1.1 * spectral;
            assert!(report.distance <= most, "{what}: {} for {spectral}", report.distance);
            assert_eq!(report.exact, q.plan().is_exact(), "{what}");

            let out = sides.left.as_ref().map(Orthogonal::n).or(sides.scale.as_ref().map(Vec::len)).unwrap_or(40);
            let inner = sides.right.as_ref().map_or(40, Orthogonal::n);
            let [change, lost, whole] = merged(&sides, out, inner);
            let near = |name: &str, got: Option<f64>, want: f64, tolerance: f64| {
                let got = got.unwrap();
                assert!((got - want).abs() <= tolerance * want, "{what}, {name}: {got} for {want}");
            };
            near("change", report.change, change / whole, 0.15);
            near("lost", report.lost_in_bf16, lost / change, 0.15);
            layers += 1;
            with_scale += usize::from(sides.scale.is_some());
        }
    }
    assert!(layers > 30 && with_scale > 14, "{layers} layers, {with_scale} with a scale");
}

/// An adapter of one layer in a directory.
fn adapter(work: &TempDir, name: &str, config: &str, tensors: &[(&str, usize, f64)]) -> PathBuf {
    let directory = work.path().join(name);
    fs::create_dir_all(&directory).unwrap();
    let numbers: Vec<_> = tensors
        .iter()
        .map(|(key, count, size)| {
            let data = noise(7, *count).iter().map(|x| size * x).collect();
            let shape = if key.ends_with("oft_R.weight") { vec![1, *count] } else { vec![*count] };
            (format!("base_model.model.a.{key}"), f64s(&shape, data))
        })
        .collect();
    let numbers: Vec<_> = numbers.iter().map(|(key, tensor)| (key.as_str(), tensor)).collect();
    write(&directory.join("adapter_model.safetensors"), &numbers);
    fs::write(directory.join("adapter_config.json"), config).unwrap();
    directory
}

fn oft(work: &TempDir, name: &str, size: f64, series: bool) -> PathBuf {
    let config = format!(
        r#"{{"peft_type": "OFT", "peft_version": "0.18.0", "use_cayley_neumann": {series}, "num_cayley_neumann_terms": 5}}"#
    );
    adapter(work, name, &config, &[("oft_R.weight", 28, size)])
}

fn verified(at: &Path) -> (i32, serde_json::Value, String) {
    let output = papilio(&["verify", at.to_str().unwrap(), "--json"]);
    (output.status.code().unwrap(), json(&output), stderr(&output))
}

#[test]
fn a_series_that_is_no_rotation_is_told() {
    let work = TempDir::new().unwrap();
    let (code, found, warnings) = verified(&oft(&work, "loose", 0.3, true));
    assert_eq!(code, 1);
    assert!(warnings.contains("1 of 1 layers are no rotations") && warnings.contains("`a`"), "{warnings}");
    assert!(found["layers"][0]["defect"].as_f64().unwrap() > 0.1, "{found}");
    assert_eq!(found["layers"][0]["exact"], false);

    // The same numbers through the exact transform, and few of them through the series.
    let (code, found, warnings) = verified(&oft(&work, "exact", 0.3, false));
    assert_eq!((code, warnings.as_str()), (0, ""));
    assert_eq!(found["layers"][0]["exact"], true);
    let (_, found, warnings) = verified(&oft(&work, "small", 0.01, true));
    assert!(!warnings.contains("rotations"), "{warnings}: {found}");
}

#[test]
fn what_bf16_would_lose_is_told() {
    let work = TempDir::new().unwrap();
    let (_, found, warnings) = verified(&oft(&work, "faint", 1e-4, false));
    assert!(warnings.contains("1 of 1 layers turn by so little"), "{warnings}");
    assert_eq!(found["layers"][0]["lost_in_bf16"], 1.0);
    let (_, found, warnings) = verified(&oft(&work, "still", 0.0, false));
    assert_eq!(warnings, "");
    let zero = ["moves", "change", "lost_in_bf16"].map(|field| found["layers"][0][field].as_f64());
    assert_eq!(zero, [Some(0.0); 3]);
}

#[test]
fn the_core_of_psoft_is_judged_without_its_vectors() {
    let work = TempDir::new().unwrap();
    let config = r#"{"peft_type": "PSOFT", "r": 3, "psoft_alpha": 6, "use_cayley_neumann": false}"#;
    let tensors = [("psoft_R.weight", 3, 0.5), ("psoft_R.vector_a", 3, 1.0)];
    let at = adapter(&work, "psoft", config, &tensors);
    let (code, found, _) = verified(&at);
    assert_eq!(code, 0, "{found}");
    let layer = &found["layers"][0];
    assert_eq!((layer["method"].as_str(), layer["change"].as_f64()), (Some("PSOFT"), None));
    assert!(layer["defect"].as_f64().unwrap() < 1e-14);
    let opened = Adapter::open(&at).unwrap();
    let numbers = opened.numbers(&opened.layers()[0]).unwrap();
    let core = opened.layers()[0].core(&numbers).unwrap().unwrap();
    let gap: f64 = core.rotation.iter().enumerate().map(|(i, x)| (x - f64::from(u8::from(i % 4 == 0))).powi(2)).sum();
    assert!((layer["moves"].as_f64().unwrap() - (gap / 3.0).sqrt()).abs() < 1e-14);
}

#[test]
fn products_of_reflections_have_the_trivial_bound() {
    let work = TempDir::new().unwrap();
    let directory = work.path().join("hra");
    fs::create_dir_all(&directory).unwrap();
    write(&directory.join("adapter_model.safetensors"), &[("base_model.model.a.hra_u", &f64s(&[8, 2], noise(3, 16)))]);
    fs::write(directory.join("adapter_config.json"), r#"{"peft_type": "HRA", "r": 2, "apply_GS": false}"#).unwrap();
    let opened = Adapter::open(&directory).unwrap();
    let report: RotationReport = opened.rotation(&opened.layers()[0]).unwrap();
    assert!(report.exact && (report.distance - 2.0).abs() < 1e-12 && report.moves < 2.0, "{report:?}");
}

#[test]
fn the_table_shows_every_layer() {
    let text = stdout(&papilio(&["verify", ADAPTER]));
    let rows = text.lines().filter(|line| line.starts_with("model.layers.")).count();
    assert_eq!(rows, Adapter::open(&path(ADAPTER)).unwrap().layers().len());
    assert!(text.contains("bf16 loses") && text.contains("orthogonal: ratio"), "{text}");
}

/// Long products of reflections are sampled, and say so; what moves only some coordinates is not missed.
#[test]
fn samples_are_told_and_miss_nothing_regular() {
    let (work, n, count) = (TempDir::new().unwrap(), 1 << 16, 5);
    let directory = work.path().join("hra");
    fs::create_dir_all(&directory).unwrap();
    let numbers: Vec<f64> =
        noise(3, n * count).into_iter().enumerate().map(|(at, x)| if at / count % 8 == 1 { x } else { 0.0 }).collect();
    write(&directory.join("adapter_model.safetensors"), &[("base_model.model.a.hra_u", &f64s(&[n, count], numbers))]);
    fs::write(directory.join("adapter_config.json"), r#"{"peft_type": "HRA", "r": 5, "apply_GS": false}"#).unwrap();
    let opened = Adapter::open(&directory).unwrap();
    let report = opened.rotation(&opened.layers()[0]).unwrap();
    // ‖Q − I‖_F² = 2n − 2 tr Q is near 4 for each of few vectors that are nearly orthogonal.
    let truth = (4.0 * count as f64 / n as f64).sqrt();
    assert!(report.sampled && (report.moves / truth - 1.0).abs() < 0.2, "{} for {truth}", report.moves);
    let small = Adapter::open(&path(ADAPTER)).unwrap();
    assert!(!small.rotation(&small.layers()[0]).unwrap().sampled);
}

/// Blocks that are no rotations by design, or no longer: scaled, stored as they are, a series that left every bound.
#[test]
fn what_is_no_rotation_is_measured_as_it_is() {
    let work = TempDir::new().unwrap();
    let road = adapter(
        &work,
        "road",
        r#"{"peft_type": "ROAD", "variant": "road_1", "group_size": 4}"#,
        &[("road_theta", 4, 1.0), ("road_alpha", 4, 1.0)],
    );
    let (code, found, warnings) = verified(&road);
    assert_eq!((code, &found["layers"][0]["exact"]), (1, &serde_json::json!(false)));
    assert!(warnings.contains("stored or scaled") && !warnings.contains("Neumann"), "{warnings}");
    // Nothing is left of the weight: the change is all of it.
    let zeros = work.path().join("zeros.safetensors");
    let (blocks, scale) = (f64s(&[2, 4, 4], vec![0.0; 32]), f64s(&[8, 1], vec![2.0; 8]));
    write(&zeros, &[("lycoris_a.oft_diag", &blocks), ("lycoris_a.rescale", &scale)]);
    let (_, found, _) = verified(&zeros);
    assert!((found["layers"][0]["change"].as_f64().unwrap() - 1.0).abs() < 1e-15, "{found}");
    let config =
        r#"{"peft_type": "OFT", "peft_version": "0.18.0", "use_cayley_neumann": true, "num_cayley_neumann_terms": 64}"#;
    let (_, found, warnings) = verified(&adapter(&work, "huge", config, &[("oft_R.weight", 28, 1e38)]));
    assert_eq!(found["layers"][0]["change"], f64::MAX, "{warnings}");
    // Sides alone know nothing of RoAd's two kinds of parameters; the layer does.
    let opened = Adapter::open(&road).unwrap();
    let (layer, numbers) = (&opened.layers()[0], opened.numbers(&opened.layers()[0]).unwrap());
    assert!(matches!(layer.sides(&numbers, None).unwrap().interpolate(0.5), Err(Error::Unsupported { .. })));
    let still = layer.interpolate(&numbers, None, 0.0).unwrap();
    let left = still.left.or(still.right).unwrap();
    let x = noise(4, left.n());
    assert_eq!(left.apply(&x).unwrap(), x);
}

#[test]
fn a_series_inside_of_psoft_is_told() {
    let work = TempDir::new().unwrap();
    let config = r#"{"peft_type": "PSOFT", "r": 3, "psoft_alpha": 6, "use_cayley_neumann": true, "num_cayley_neumann_terms": 5}"#;
    let (_, found, _) = verified(&adapter(&work, "psoft", config, &[("psoft_R.weight", 3, 0.01)]));
    let layer = &found["layers"][0];
    assert_eq!(layer["exact"], false);
    assert!(layer["method"].as_str().unwrap().contains("5 terms"), "{layer}");
}
