//! `papilio fit` as users meet it: fields, files, refusals, pictures, an interrupt.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;

use std::path::Path;

use command::{json, papilio, refused, stderr, stdout};
use papilio::storage::{FloatType, NpyArray};
use papilio::{Orthogonal, c32, c64, verify};
use serde_json::Value;
use tempfile::TempDir;

/// The JSON object of a run that goes well.
fn run(arguments: &[&str]) -> Value {
    let output = papilio(&[&["fit", "--json", "--seconds", "0"], arguments].concat());
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
    json(&output)
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key}: {value}"))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A .npy file of a matrix.
fn npy(directory: &TempDir, name: &str, n: usize, kind: FloatType, data: Vec<f64>) -> String {
    let path = directory.path().join(name);
    NpyArray { shape: vec![n, n], kind, is_complex: false, data }.write(&path, false).unwrap();
    text(&path).to_string()
}

#[test]
fn the_exact_class_is_found_with_all_fields() {
    let output = papilio(&["fit", "hadamard:64", "--json", "--seconds", "0.02"]);
    let found = json(&output);
    let expected = [
        "target",
        "n",
        "field",
        "moved",
        "topology",
        "block",
        "stages",
        "error",
        "relative_frobenius",
        "orthogonality_ratio",
        "parameters",
        "effective_dimension",
        "sweeps",
        "stop",
        "bound",
        "seconds",
        "apply_ns",
        "dense_apply_ns",
        "curve",
        "tried",
        "written",
    ];
    assert_eq!(keys(&found), expected);
    assert!(number(&found, "relative_frobenius") <= 8.0 * f64::EPSILON * 6.0);
    assert!(number(&found, "orthogonality_ratio") < 1.0);
    assert_eq!((&found["parameters"], &found["effective_dimension"]), (&192.into(), &192.into()));
    assert_eq!((&found["stop"], &found["sweeps"]), (&"exact".into(), &0.into()));
    assert!(number(&found, "apply_ns") > 0.0 && number(&found, "dense_apply_ns") > 0.0);

    let fourier = run(&["dft:32", "--bit-reversed", "inputs"]);
    assert!(number(&fourier, "relative_frobenius") <= 8.0 * f64::EPSILON * 5.0, "{fourier}");
    assert_eq!((&fourier["field"], &fourier["parameters"]), (&"complex".into(), &(5 * 16 * 4).into()));
    // Without the order a butterfly is far from it.
    assert!(number(&run(&["dft:32"]), "error") > 0.1);
    for planted in
        [&["planted:64"][..], &["planted:64", "--topology", "boft", "--block", "4"], &["planted:32", "--complex"]]
    {
        assert!(number(&run(planted), "relative_frobenius") < 2e-14, "{planted:?}");
    }
    // A rotation by repeated butterflies; a reflection stays 2/n away from rotations.
    let all = run(&["haar:8", "--repeat", "4", "--group", "special"]);
    assert!(number(&all, "error") < 1e-12, "{all}");
}

#[test]
fn text_says_what_was_found() {
    let output = papilio(&["fit", "dct:8", "--seconds", "0.01"]);
    let text = stdout(&output);
    for words in [
        "dct:8, real 8×8",
        "papilio::synthesis::dct2",
        "e = 0.",
        "effective dimension 12 of 28",
        "a vector; dense product",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Rotations at 2/n from a rotation.
    let other =
        ["fit", "haar:4", "--group", "special", "--topology", "block-diagonal", "--seed", "5", "--seconds", "0"];
    let other = stdout(&papilio(&other));
    assert!(other.contains("e = 0.4") || other.contains("e = 0.5"), "{other}");
    assert!(!other.contains("determinant"), "{other}");
    let goal = stdout(&papilio(&["fit", "haar:8", "--goal", "0.9", "--seconds", "0"]));
    assert!(goal.contains("at its goal after") && !goal.contains("exact"), "{goal}");
    let exact = stdout(&papilio(&["fit", "hadamard:8", "--seconds", "0"]));
    assert!(exact.contains("exact after one pass"), "{exact}");
    let reflection = papilio(&["fit", "hadamard:2", "--group", "special", "--seconds", "0"]);
    assert!(stdout(&reflection).contains("determinant −1"), "{}", stdout(&reflection));
}

#[test]
fn what_is_written_is_the_product() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| text(&directory.path().join(name)).to_string();
    let (operator, dense, plot) = (path("q.safetensors"), path("q.npy"), path("error.svg"));
    let outputs = ["--out", &operator, "--dense-out", &dense, "--plot", &plot];
    let found = run(&[&["haar:16", "--seed", "3"], &outputs[..]].concat());
    assert_eq!(found["written"].as_array().unwrap().len(), 3);
    let array = NpyArray::read(directory.path().join("q.npy").as_path()).unwrap();
    let q = Orthogonal::<f64>::load(&operator).unwrap();
    assert_eq!((array.shape, array.is_complex), (vec![16, 16], false));
    let matrix = verify::dense::matrix(q.plan(), q.factors()).unwrap();
    assert!(matrix.iter().zip(&array.data).all(|(x, y)| (x - y).abs() < 1e-15));
    assert!(std::fs::read_to_string(&plot).unwrap().contains("haar:16: butterfly, b = 2, 4 stages"));
    // The product is in the class, so that it is found again.
    assert!(number(&run(&[&dense]), "relative_frobenius") < 1e-14);
    // Nothing is replaced unless asked to.
    for output in outputs.chunks(2) {
        refused(&[&["fit", "haar:4"], output].concat(), &["--force"]);
    }
    run(&[&["haar:16", "--seed", "3", "--force"], &outputs[..]].concat());

    let (single, trainable) = (path("single.safetensors"), path("trainable.safetensors"));
    run(&["haar:8", "--complex", "--out", &single, "--single"]);
    assert_eq!(Orthogonal::<c32>::load(&single).unwrap().theta().len(), 0);
    let unitary = path("unitary.npy");
    run(&["haar:8", "--complex", "--dense-out", &unitary]);
    assert!(NpyArray::read(Path::new(&unitary)).unwrap().is_complex);
    assert!(papilio(&["verify", &unitary]).status.success());
    let again = run(&[unitary.as_str()]);
    assert!(number(&again, "relative_frobenius") < 1e-13 && again["field"] == "complex", "{again}");
    run(&["haar:8", "--group", "special", "--out", &trainable, "--chart", "Cayley"]);
    assert_eq!(Orthogonal::<f64>::load(&trainable).unwrap().theta().len(), 12);
    run(&["dft:8", "--out", &trainable, "--chart", "Cayley", "--force"]);
    assert_eq!(Orthogonal::<c64>::load(&trainable).unwrap().theta().len(), 48);
}

#[test]
fn matrices_that_are_not_orthogonal_are_refused_or_projected() {
    let directory = TempDir::new().unwrap();
    let rotation = [0.6, -0.8, 0.8, 0.6];
    let single = npy(&directory, "f32.npy", 2, FloatType::F32, rotation.to_vec());
    let found = run(&[&single]);
    assert!((1e-9..1e-7).contains(&number(&found, "moved")) && number(&found, "error") < 1e-30, "{found}");
    let skewed = npy(&directory, "skewed.npy", 2, FloatType::F64, vec![1.0, 0.1, 0.0, 1.0]);
    refused(&["fit", &skewed], &["skewed.npy", "orthogonal", "a defect of", "--project"]);
    let projected = run(&[&skewed, "--project"]);
    assert!((0.05..0.1).contains(&number(&projected, "moved")) && number(&projected, "error") < 1e-30, "{projected}");
    let nan = npy(&directory, "nan.npy", 2, FloatType::F64, vec![1.0, 0.0, f64::NAN, 1.0]);
    refused(&["fit", &nan, "--project"], &["nan.npy", "NaN", "[1, 0]"]);
    let singular = npy(&directory, "zero.npy", 2, FloatType::F64, vec![1.0, 0.0, 0.0, 0.0]);
    refused(&["fit", &singular, "--project"], &["zero.npy"]);
    let wide = directory.path().join("wide.npy");
    NpyArray { shape: vec![1, 2], kind: FloatType::F64, is_complex: false, data: vec![1.0, 0.0] }
        .write(&wide, false)
        .unwrap();
    refused(&["fit", text(&wide)], &["a square matrix"]);
}

#[test]
fn a_budget_finds_the_structure() {
    let directory = TempDir::new().unwrap();
    let picture = directory.path().join("pareto.svg");
    let arguments = ["hadamard:16", "--budget", "64", "--goal", "1e-20", "--pareto", text(&picture)];
    let found = run(&arguments);
    assert_eq!((&found["topology"], &found["parameters"]), (&"BOFT(4, 2)".into(), &32.into()), "{found}");
    let tried = found["tried"].as_array().unwrap();
    assert!(tried.len() > 5 && tried.iter().all(|row| number(row, "parameters") <= 64.0));
    let fields = [
        "name",
        "block",
        "stages",
        "parameters",
        "effective_dimension",
        "flops",
        "error",
        "sweeps",
        "apply_ns",
        "pareto",
        "pareto_dimension",
    ];
    assert!(tried.iter().all(|row| keys(row) == fields));
    assert!(tried.iter().any(|row| row["name"] == "BOFT(4, 2)" && row["pareto"] == true));
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.contains("BOFT(4, 2)") && svg.contains("effective dimension"));
    // Without a goal, digits of rounding do not buy parameters.
    let found = run(&["hadamard:16", "--budget", "200"]);
    assert_eq!(found["parameters"], 32, "{found}");
    let table = stdout(&papilio(&["fit", "haar:8", "--budget", "20", "--seconds", "0"]));
    assert!(table.contains("structure") && table.contains("BOFT(1, 2)"), "{table}");
    refused(&["fit", "haar:8", "--budget", "20", "--topology", "boft"], &["--topology"]);
    refused(&["fit", "haar:8", "--pareto", "x.svg"], &["--budget"]);
}

#[test]
fn the_same_seed_gives_the_same_fit_on_any_threads() {
    let fit = |more: &[&str]| {
        let found = run(&[&["haar:32", "--topology", "benes", "--sweeps", "20"], more].concat());
        (found["curve"].clone(), found["error"].clone())
    };
    assert_eq!(fit(&["--seed", "7"]), fit(&["--seed", "7", "--one-thread"]));
    assert_ne!(fit(&["--seed", "7"]), fit(&["--seed", "8"]));
}

#[test]
fn bad_arguments_are_told() {
    refused(&["fit", "foo:12"], &["foo:12", "hadamard", "planted"]);
    refused(&["fit", "haar:0"], &["`haar:N`", "haar:0"]);
    refused(&["fit", "haar:99999999999999999999"], &["8192"]);
    refused(&["fit", "haar:8", "noise:x"], &["noise:SIGMA", "noise:x"]);
    refused(&["fit", "haar:8", "noise:-1"], &["noise:-1"]);
    refused(&["fit", "no-such-file.npy"], &["no-such-file.npy"]);
    refused(&["fit", "haar:12", "--bit-reversed", "inputs"], &["a power of 2", "12"]);
    refused(&["fit", "haar:8", "--tensor", "q"], &["--tensor q"]);
    refused(&["fit", "haar:8", "--complex", "--group", "special"], &["unitary"]);
    refused(&["fit", "haar:8", "--topology", "butterfly", "--stages", "9"], &["at most 3 stages"]);
    refused(&["fit", "haar:16", "--topology", "kronecker"], &["independent"]);
    refused(&["fit", "haar:8", "--topology", "benes", "--method", "hierarchical"], &["chain"]);
    refused(&["fit", "haar:8", "--chart", "Nope", "--out", "x.safetensors"], &["Nope", "Cayley"]);
    refused(&["fit", "haar:8", "--chart", "Cayley", "--out", "x.safetensors"], &["--group special"]);
    refused(&["fit", "haar:8", "--out", "no/such/directory/x.safetensors"], &["parent directory"]);
    refused(
        &[
            "fit",
            "haar:8",
            "--topology",
            "block-diagonal",
            "--block",
            "4",
            "--chart",
            "Givens",
            "--out",
            "x.safetensors",
        ],
        &["Givens"],
    );
    for same in [["--out", "x.npy", "--dense-out", "x.npy"], ["--plot", "./x.svg", "--dense-out", "x.svg"]] {
        refused(&[&["fit", "haar:8"], &same[..]].concat(), &["a file of its own"]);
    }
    refused(&["fit", "haar:8", "--goal", "NaN"], &["not negative"]);
    refused(&["fit", "haar:8", "--block", "0"], &["--block"]);
    assert!(!Path::new("x.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_best_so_far() {
    let directory = TempDir::new().unwrap();
    // Again and again until it ends, but not for ever: the first may come before anybody listens.
    let interrupted = |fit: &str| {
        let script = format!(
            "\"$PAPILIO\" fit {fit} & fit=$!; \
             (sleep 2; for i in $(seq 100); do kill -INT $fit || exit 0; sleep 0.3; done; kill -KILL $fit) 2>/dev/null & wait $fit"
        );
        command::shell(&script, directory.path())
    };
    let output = interrupted(
        "haar:192 --topology brick --tolerance 0 --sweeps 100000000 --seconds 0 --json --out q.safetensors",
    );
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let found = json(&output);
    assert_eq!(found["stop"], "interrupted");
    assert!(number(&found, "error") < 1.0 && !stderr(&output).contains("error"));
    let q = Orthogonal::<f64>::load(directory.path().join("q.safetensors")).unwrap();
    assert_eq!(q.n(), 192);
    // Also while times are taken.
    let output = interrupted("hadamard:64 --seconds 1000 --json");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(json(&output)["stop"], "interrupted");
}
