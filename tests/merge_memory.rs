//! How much memory `papilio merge` takes, as it reports itself: anonymous memory against the size of the weight.
//!
//! The weight is large beside everything else, so that a second copy of it would be seen.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use papilio::adapter::Adapter;
use papilio::storage::{Dtype, FloatType};
use papilio::{Parallelism, Workspace};
use support::{Tensor, noise, raw, write};
use tempfile::TempDir;

const ROWS: usize = 4096;
/// No multiple of the columns of a portion.
const COLUMNS: usize = 2048 + 24;
const NUMBERS: u64 = (ROWS * COLUMNS) as u64;

/// What a merge holds besides weights and rotations: a portion in double precision (8 MiB), strips of it for each of the two
/// threads, what is waiting to be written, the program itself.
const ALLOWANCE: u64 = 24 << 20;

fn f32s(shape: &[usize], data: Vec<f64>) -> Tensor {
    let data = data.into_iter().map(|x| f64::from(x as f32)).collect();
    Tensor { shape: shape.to_vec(), dtype: Dtype::F32, data }
}

struct Case {
    work: TempDir,
    weight: Tensor,
}

impl Case {
    fn new() -> Self {
        let case = Self { work: TempDir::new().unwrap(), weight: f32s(&[ROWS, COLUMNS], noise(1, ROWS * COLUMNS)) };
        let bias = f32s(&[ROWS], noise(2, ROWS));
        write(&case.path("base"), &[("net.lin.weight", &case.weight), ("net.lin.bias", &bias)]);
        let blocks = f32s(&[2, ROWS / 8, 8, 8], noise(3, 2 * ROWS * 8));
        let (alpha, rescale) = (f32s(&[], vec![0.0]), f32s(&[ROWS, 1], noise(4, ROWS)));
        let key = |parameter| format!("lycoris_net_lin.{parameter}");
        let parts = [(key("oft_blocks"), &blocks), (key("alpha"), &alpha), (key("rescale"), &rescale)];
        write(&case.path("outputs"), &parts.each_ref().map(|(key, tensor)| (key.as_str(), *tensor)));
        let (blocks, scale) = (f32s(&[1, COLUMNS / 8, 8, 8], noise(5, COLUMNS * 8)), f32s(&[ROWS, 1], noise(6, ROWS)));
        write(&case.path("inputs"), &[("net.lin.boft_R", &blocks), ("net.lin.boft_s", &scale)]);
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name).with_extension("safetensors")
    }

    /// Runs a command that merges, `more` being files of this case or options, and gives the peak that it reports.
    fn peak(&self, command: &str, model: &str, adapters: &[&str], out: &str, more: &[&str]) -> u64 {
        let mut papilio = Command::new(env!("CARGO_BIN_EXE_papilio"));
        papilio.env("RAYON_NUM_THREADS", "2").args([command, "--json", "--out"]).arg(self.path(out)).args(more);
        papilio.arg(if command == "merge" { "--base" } else { "--merged" }).arg(self.path(model));
        for adapter in adapters {
            papilio.arg("--adapter").arg(self.path(adapter));
        }
        let output = papilio.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["peak_bytes"].as_u64().unwrap()
    }
}

/// Bytes of the adapter's blocks and parameters in double precision: θ and the entries.
fn factors(block: usize, n: usize, stages: usize) -> u64 {
    (stages * n / block * (block * block + block * (block - 1) / 2) * 8) as u64
}

#[test]
fn a_merge_holds_no_more_than_the_output_of_one_weight() {
    let case = Case::new();
    let outputs = factors(8, ROWS, 2);
    let inputs = factors(8, COLUMNS, 1);
    let within = |what: &str, peak: u64, weight: u64, factors: u64| {
        let bound = weight + factors + ALLOWANCE;
        println!(
            "{what}: {:.1} MB, weight {:.1}, factors {:.1}",
            peak as f64 / 1e6,
            weight as f64 / 1e6,
            factors as f64 / 1e6
        );
        assert!(peak <= bound, "{what}: {peak} bytes, at most {bound} expected");
        assert!(peak >= weight, "{what}: {peak} bytes, but {weight} are held");
    };
    within("inputs", case.peak("merge", "base", &["inputs"], "rows", &[]), 0, inputs);
    within("outputs", case.peak("merge", "base", &["outputs"], "merged", &[]), 4 * NUMBERS, outputs);
    within("outputs, undone", case.peak("unmerge", "merged", &["outputs"], "back", &[]), 4 * NUMBERS, outputs);
    let half = case.peak("merge", "base", &["outputs"], "half", &["--dtype", "bf16"]);
    within("outputs to bf16", half, 2 * NUMBERS, outputs);
    let twice = case.peak("merge", "base", &["outputs", "outputs"], "twice", &[]);
    within("outputs twice", twice, 4 * NUMBERS, 2 * outputs);
    // Rows and columns are both mixed: one copy in double precision.
    let both = case.peak("merge", "base", &["inputs", "outputs"], "both", &[]);
    within("inputs and outputs", both, 8 * NUMBERS, inputs + outputs);

    // Portions change no bit: the same as on the whole matrix in double precision, rounded once.
    let adapter = Adapter::open(&case.path("outputs")).unwrap();
    let shape = [ROWS, COLUMNS];
    let sides = adapter.sides(&adapter.layers()[0], Some(&shape)).unwrap();
    let mut whole = case.weight.data.clone();
    sides.merge(&shape, &mut whole, Parallelism::Rayon, &Workspace::new()).unwrap();
    bits("merged", &case.path("merged"), FloatType::F32, &whole);
    bits("half", &case.path("half"), FloatType::Bf16, &whole);
    let undo = sides.inverse().unwrap();
    let mut back: Vec<f64> = whole.iter().map(|x| f64::from(*x as f32)).collect();
    undo.merge(&shape, &mut back, Parallelism::None, &Workspace::new()).unwrap();
    bits("back", &case.path("back"), FloatType::F32, &back);
}

/// The weight in this file is these numbers, rounded once.
fn bits(what: &str, file: &Path, kind: FloatType, numbers: &[f64]) {
    let bytes = &raw(file)["net.lin.weight"];
    let want: Vec<u8> = match kind {
        FloatType::F32 => numbers.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|x| ((bf16(*x) as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec()).collect(),
    };
    assert_eq!(bytes.len(), want.len());
    let wrong = bytes.iter().zip(&want).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "{what}");
}

/// To 8 binary places of a normal number, a tie to even.
fn bf16(x: f64) -> f64 {
    let (bits, lost) = (x.to_bits(), 52 - 7);
    f64::from_bits((bits + (1 << (lost - 1)) - 1 + (bits >> lost & 1)) >> lost << lost)
}
