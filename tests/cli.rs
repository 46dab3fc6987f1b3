//! The `papilio` command as users meet it: exit codes, JSON, messages.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use command::{ADAPTER, BASE, json, papilio, refused, stderr, stdout};
use papilio::parametrization::Cayley;
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::{Orthogonal, Plan, Sharing, Source, StageLayout, c64};
use serde_json::Value;
use support::{f64s, golden, noise, write};
use tempfile::TempDir;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn merge_reports_every_layer() {
    let work = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| work.path().join(name).to_string_lossy().into_owned());
    let output = papilio(&["merge", "--base", BASE, "--adapter", ADAPTER, "--out", &first, "--json"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let report = json(&output);
    assert_eq!(keys(&report), ["layers", "output", "seconds", "peak_bytes"]);
    assert_eq!(report["output"], first);
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 14);
    for layer in layers {
        let expected =
            ["name", "n", "block", "stages", "parameters", "defect", "relative_change", "seconds", "method", "side"];
        assert_eq!(keys(layer), expected);
        assert_eq!((&layer["method"], &layer["side"]), (&"BOFT".into(), &"input".into()));
        assert_eq!((&layer["block"], &layer["stages"]), (&Value::from(4), &Value::from(3)));
        assert!(layer["defect"].as_f64().unwrap() < 1e-14);
    }
    if cfg!(target_os = "linux") {
        assert!(report["peak_bytes"].as_u64().unwrap() > 0);
    }
    let output = papilio(&["merge", "--base", BASE, "--adapter", ADAPTER, "--out", &second]);
    let table = stdout(&output);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert_eq!(table.lines().filter(|line| line.starts_with("model.layers.")).count(), 14, "{table}");
    assert!(table.lines().next().unwrap().starts_with("layer "), "{table}");
    let bytes = |out: &str| fs::read(Path::new(out).join("model.safetensors")).unwrap();
    assert_eq!(bytes(&first), bytes(&second));
    refused(&["merge", "--base", BASE, "--adapter", ADAPTER, "--out", &first], &[&first, "--force"]);
    let forced =
        papilio(&["merge", "--base", BASE, "--adapter", ADAPTER, "--out", &first, "--force", "--dtype", "bf16"]);
    assert_eq!(forced.status.code(), Some(0), "{}", stderr(&forced));
    assert!(bytes(&first).len() < bytes(&second).len());
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let work = TempDir::new().unwrap();
    let merged = ["1", "4"].map(|threads| {
        let out = work.path().join(threads);
        let output = Command::new(env!("CARGO_BIN_EXE_papilio"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("RAYON_NUM_THREADS", threads)
            .args(["merge", "--base", BASE, "--adapter", ADAPTER, "--dtype", "f64", "--out"])
            .arg(&out)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        fs::read(out.join("model.safetensors")).unwrap()
    });
    assert!(merged[0] == merged[1]);
}

#[test]
fn degraded_adapters_are_merged_with_a_warning() {
    let work = TempDir::new().unwrap();
    let out = work.path().join("out").to_string_lossy().into_owned();
    let [base, adapter] = ["base", "adapter"].map(|d| format!("tests/data/e2e_boft_bert_degraded/{d}"));
    let output = papilio(&["merge", "--base", &base, "--adapter", &adapter, "--out", &out, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output)["layers"][0]["stages"], 1);
    assert!(stderr(&output).contains("boft_n_butterfly_factor = 3"), "{}", stderr(&output));
    let table = stdout(&papilio(&["merge", "--base", &base, "--adapter", &adapter, "--out", &out, "--force"]));
    assert!(table.contains("4 layers merged, 6 tensors replaced (biases, heads); "), "{table}");
}

#[test]
fn inspect_tells_adapters_models_and_arrays_apart() {
    let adapter = json(&papilio(&["inspect", ADAPTER, "--json"]));
    assert_eq!((&adapter["kind"], adapter["layers"].as_array().unwrap().len()), (&"boft".into(), 14));
    let expected = ["name", "n", "block", "stages", "parameters", "outputs", "method", "side"];
    assert_eq!((keys(&adapter["layers"][0]), &adapter["dialect"]), (expected.to_vec(), &"peft-boft".into()));
    let other = json(&papilio(&["inspect", "tests/data/e2e_lycoris_boft_llama/lycoris.safetensors", "--json"]));
    assert_eq!((&other["kind"], &other["layers"][0]["side"]), (&"lycoris".into(), &"output".into()));
    let model = json(&papilio(&["inspect", BASE, "--json"]));
    assert_eq!((&model["kind"], model["tensors"].as_array().unwrap().len()), (&"model".into(), 21));
    let work = TempDir::new().unwrap();
    let file = npy(work.path(), "m.npy", "(2, 3)", &[0.0; 6]);
    let array = json(&papilio(&["inspect", &file, "--json"]));
    assert_eq!((&array["kind"], &array["dtype"], &array["shape"][1]), (&"npy".into(), &"f64".into(), &3.into()));
    for (path, word) in [(ADAPTER, "q_proj"), (BASE, "lm_head.weight"), (&file, "2×3")] {
        let output = papilio(&["inspect", path]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains(word), "{}", stdout(&output));
    }
}

/// A .npy file with this shape and these numbers.
fn npy(directory: &Path, name: &str, shape: &str, numbers: &[f64]) -> String {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    fs::write(directory.join(name), bytes).unwrap();
    directory.join(name).to_string_lossy().into_owned()
}

#[test]
fn verify_tells_orthogonal_matrices_from_others() {
    let work = TempDir::new().unwrap();
    let case = &golden("boft_linear_64x48_b8_m3_f64")[0].1;
    assert!(!case.contains_key("rotation"));
    let case = &golden("boft_linear_32x20_b2_m3_f64")[0].1;
    let good = case["rotation"].data.clone();
    let mut bad = good.clone();
    bad[5] += 1e-9;
    let check = |arguments: &[&str], code: i32| {
        let output = papilio(&[&["verify"], arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        let found = json(&output);
        let of_adapter = if arguments[0] == ADAPTER { &["layers"][..] } else { &[] };
        assert_eq!(keys(&found), [&["ratio", "defect", "orthogonal"], of_adapter].concat());
        assert_eq!(found["orthogonal"], code == 0);
        let text = stdout(&papilio(&[&["verify"], arguments].concat()));
        assert_eq!(text.contains("NOT orthogonal"), code == 1, "{text}");
        (found["ratio"].as_f64().unwrap(), found["defect"].as_f64().unwrap())
    };
    let file = npy(work.path(), "good.npy", "(32, 32)", &good);
    assert!(check(&[&file], 0).0 <= 1.0);
    let ratio = check(&[&file], 0).0;
    check(&[&file, "--ratio", &(ratio * 0.9).to_string()], 1);
    let file = npy(work.path(), "bad.npy", "(32, 32)", &bad);
    let (ratio, defect) = check(&[&file], 1);
    assert!((1e-10..1e-8).contains(&defect) && ratio > 1e4, "{ratio} {defect}");
    check(&[&file, "--ratio", "1e9"], 0);
    check(&[&npy(work.path(), "huge.npy", "(2, 2)", &[1e200; 4])], 1); // the ratio is beyond f64, the JSON is not
    check(&[ADAPTER], 0);

    let file = work.path().join("m.safetensors");
    let name = file.to_str().unwrap();
    let square = f64s(&[32, 32], bad);
    write(&file, &[("good", &case["rotation"]), ("bad", &square), ("flat", &case["weight"])]);
    check(&[name, "--tensor", "good"], 0);
    check(&[name, "--tensor", "bad"], 1);
    refused(&["verify", name], &["--tensor", "m.safetensors"]);
    refused(&["verify", name, "--tensor", "flat"], &["flat", "square", "[20, 32]"]);
    refused(&["verify", name, "--tensor", "none"], &["none"]);
    refused(&["verify", &npy(work.path(), "row.npy", "(3,)", &[1.0; 3])], &["row.npy", "square"]);
    refused(&["verify", &npy(work.path(), "flat.npy", "(2, 3)", &[1.0; 6])], &["flat.npy", "square"]);
    let nan = npy(work.path(), "nan.npy", "(2, 2)", &[1.0, 0.0, f64::NAN, 1.0]);
    refused(&["verify", &nan], &["nan.npy", "finite", "[1, 0]"]);
    refused(&["verify", &nan, "--json"], &["nan.npy"]);
}

#[test]
fn saved_operators_are_shown_and_certified() {
    let work = TempDir::new().unwrap();
    let path = |name: &str| work.path().join(name).to_string_lossy().into_owned();
    let butterfly = Plan::<f32>::new(64, &Butterfly::boft(2, 8).unwrap(), Cayley).unwrap();
    let reflections = Source::Reflectors { count: 3, orthonormal: true, sharing: Sharing::PerBlock };
    let more = Plan::from_stages(64, [(StageLayout::contiguous(64, 1), reflections)]).unwrap();
    let plan = butterfly.then(more).unwrap();
    let theta = noise(1, plan.num_params());
    Orthogonal::new(plan, theta).unwrap().save(path("q.safetensors")).unwrap();
    let output = papilio(&["inspect", &path("q.safetensors"), "--json"]);
    let shown = json(&output);
    assert_eq!(keys(&shown), ["kind", "path", "dtype", "n", "parameters", "defect", "ratio", "stages"]);
    assert_eq!((&shown["kind"], &shown["dtype"], &shown["n"]), (&"operator".into(), &"f32".into(), &64.into()));
    assert_eq!(shown["stages"][0]["source"], "Cayley");
    assert_eq!(shown["stages"][2]["source"], "3 orthonormal reflectors");
    assert_eq!(shown["parameters"], 2 * 8 * 28 + 3 * 64);
    let table = stdout(&papilio(&["inspect", &path("q.safetensors")]));
    assert!(table.contains("operator of type f32, n = 64") && table.contains("strided"), "{table}");
    let output = papilio(&["verify", &path("q.safetensors")]);
    assert!(stdout(&output).contains("orthogonal: ratio") && output.status.success(), "{}", stdout(&output));
    // The certificate is that of f32's eps; a limit below it does not pass.
    let output = papilio(&["verify", &path("q.safetensors"), "--json", "--ratio", "1e-9"]);
    let found = json(&output);
    assert_eq!((output.status.code(), &found["orthogonal"]), (Some(1), &false.into()));
    assert_eq!(found["ratio"], shown["ratio"]);
    assert!((1e-3..1.0).contains(&found["ratio"].as_f64().unwrap()), "{found}");

    let unitary = Plan::<c64>::new(6, &BlockDiagonal::new(3), Cayley).unwrap();
    let fixed =
        (StageLayout::contiguous(2, 3), Source::Fixed([0.9, 0.0, 0.0, 1.0].map(|x| c64::new(x, 0.0)).repeat(3).into()));
    let q = Orthogonal::identity(unitary.then(Plan::from_stages(6, [fixed]).unwrap()).unwrap()).unwrap();
    q.save(path("loose.safetensors")).unwrap();
    let output = papilio(&["verify", &path("loose.safetensors")]);
    assert!(output.status.code() == Some(1) && stdout(&output).contains("NOT orthogonal"), "{}", stdout(&output));
    refused(&["verify", &path("missing.safetensors")], &["missing.safetensors"]);
}

#[test]
fn precision_is_that_of_the_file() {
    let work = TempDir::new().unwrap();
    let case = &golden("boft_linear_16x24_b4_m2_f32")[0].1;
    let file = work.path().join("m.safetensors");
    write(&file, &[("rotation", &case["rotation"])]);
    let found = json(&papilio(&["verify", file.to_str().unwrap(), "--json"]));
    assert_eq!(found["orthogonal"], true);
    assert!(found["defect"].as_f64().unwrap() > 1e-9, "rounded to f32: {found}");
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for arguments in [
        &[][..],
        &["fly"],
        &["merge"],
        &["merge", "--base", BASE, "--adapter", ADAPTER],
        &["merge", "--base", BASE, "--adapter", ADAPTER, "--out", "x", "--dtype", "f8"],
        &["verify"],
        &["verify", ADAPTER, "--ratio", "-1"],
        &["verify", ADAPTER, "--ratio", "NaN"],
        &["inspect", ADAPTER, "--colour"],
    ] {
        refused(arguments, &["--help"]);
    }
    for command in ["merge", "inspect", "verify"] {
        let help = papilio(&["help", command]);
        assert_eq!(help.status.code(), Some(0));
        let text = stdout(&help);
        assert!(text.contains("Exit codes") && text.contains("JSON"), "{text}");
        // Every example is a command line that is understood: in a directory without these files it fails on a file.
        let examples: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  papilio ")).collect();
        assert!(examples.len() >= 2, "{text}");
        let empty = TempDir::new().unwrap();
        for example in examples {
            let output = Command::new(env!("CARGO_BIN_EXE_papilio"))
                .current_dir(empty.path())
                .args(example.split_whitespace())
                .output()
                .unwrap();
            let message = stderr(&output);
            assert!(message.contains("os error 2") && !message.contains("Usage"), "{example}: {message}");
        }
    }
}

#[test]
fn unreadable_inputs_are_named() {
    let work = TempDir::new().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let file = work.path().join(name);
        fs::write(&file, bytes).unwrap();
        file.to_string_lossy().into_owned()
    };
    let out = work.path().join("out").to_string_lossy().into_owned();
    let huge = at("huge.safetensors", &[(1u64 << 62).to_le_bytes().to_vec(), vec![b' '; 100]].concat());
    let overlap = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let overlap = [(overlap.len() as u64).to_le_bytes().to_vec(), overlap.to_vec(), vec![0; 4]].concat();
    let mut truncated = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(BASE).join("model.safetensors")).unwrap();
    truncated.pop();
    let hollow = work.path().join("hollow");
    fs::create_dir(&hollow).unwrap();
    let files = [
        huge,
        at("overlap.safetensors", &overlap),
        at("truncated.safetensors", &truncated),
        at("empty.safetensors", b""),
        at("text.safetensors", b"this is no safetensors file, it is only called so"),
        at("text.npy", b"this is no array"),
        hollow.to_string_lossy().into_owned(),
        work.path().join("missing").to_string_lossy().into_owned(),
    ];
    for file in &files {
        refused(&["merge", "--base", file, "--adapter", ADAPTER, "--out", &out], &[file]);
        refused(&["merge", "--base", BASE, "--adapter", file, "--out", &out, "--json"], &[file]);
        refused(&["inspect", file], &[file]);
        refused(&["verify", file, "--json"], &[file]);
    }
    assert!(!Path::new(&out).exists());
    refused(&["merge", "--base", BASE, "--adapter", BASE, "--out", &out], &[BASE, "adapter_model.safetensors"]);
    refused(&["merge", "--base", ADAPTER, "--adapter", ADAPTER, "--out", &out], &["down_proj.boft_R"]);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use command::shell;

    #[test]
    fn a_disk_without_room_leaves_nothing_behind() {
        let work = TempDir::new().unwrap();
        // No file may grow beyond 64 blocks: writing fails like on a full disk.
        let script = "ulimit -f 64; exec $PAPILIO merge --base $DATA/base --adapter $DATA/adapter --out merged";
        let output = shell(script, work.path());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("model.safetensors"), "{}", stderr(&output));
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
    }

    #[test]
    fn pipes_are_refused_and_closed_ones_forgiven() {
        let work = TempDir::new().unwrap();
        let output = shell("mkfifo p.safetensors && exec $PAPILIO inspect p.safetensors", work.path());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let output = shell("$PAPILIO inspect $DATA/base | true; $PAPILIO verify /dev/zero", work.path());
        assert_eq!(output.status.code(), Some(2));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }

    #[test]
    fn a_report_that_cannot_be_printed_is_told_apart() {
        let work = TempDir::new().unwrap();
        // No file may grow beyond 800 blocks: the model is smaller, the file that the report goes to is already larger.
        fs::File::create(work.path().join("report")).unwrap().set_len(1 << 20).unwrap();
        let script = "ulimit -f 800; exec $PAPILIO merge --base $DATA/base --adapter $DATA/adapter --out d >>report";
        let output = shell(script, work.path());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("the merged model is written"), "{}", stderr(&output));
        assert!(work.path().join("d/model.safetensors").exists());
    }

    /// Killed at any moment, a merge leaves the old file or the new one, or none where there was none.
    #[test]
    fn a_killed_merge_leaves_old_or_new() {
        use crate::support::{Tensor, f64s, noise, write};
        let work = TempDir::new().unwrap();
        let [base, adapter, out] =
            ["base", "adapter", "out"].map(|n| work.path().join(n).with_extension("safetensors"));
        let weight = Tensor { dtype: papilio::storage::Dtype::F32, ..f64s(&[1024, 512], noise(1, 1 << 19)) };
        let names: Vec<String> = (0..6).map(|k| format!("l{k}.weight")).collect();
        write(&base, &names.iter().map(|name| (name.as_str(), &weight)).collect::<Vec<_>>());
        let (blocks, scale) = (f64s(&[2, 64, 8, 8], noise(2, 8192)), f64s(&[1024, 1], noise(3, 1024)));
        let parts: Vec<(String, &Tensor)> =
            (0..6).flat_map(|k| [(format!("l{k}.boft_R"), &blocks), (format!("l{k}.boft_s"), &scale)]).collect();
        write(&adapter, &parts.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect::<Vec<_>>());
        let command = |out: &Path| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_papilio"));
            command.args(["merge", "--force", "--base"]).arg(&base).arg("--adapter").arg(&adapter);
            command.arg("--out").arg(out).stdout(std::process::Stdio::null());
            command
        };
        let whole = work.path().join("whole.safetensors");
        let start = std::time::Instant::now();
        assert!(command(&whole).status().unwrap().success());
        let (time, want) = (start.elapsed(), fs::read(&whole).unwrap());
        let mut killed = 0;
        for (k, fraction) in noise(7, 24).into_iter().enumerate() {
            let old = (k % 2 == 1).then(|| fs::read(&base).unwrap());
            let _ = fs::remove_file(&out);
            if let Some(old) = &old {
                fs::write(&out, old).unwrap();
            }
            let mut child = command(&out).spawn().unwrap();
            std::thread::sleep(time.mul_f64(0.5 + 0.5 * fraction));
            let _ = child.kill(); // SIGKILL: nothing can be tidied up
            killed += usize::from(!child.wait().unwrap().success());
            match fs::read(&out) {
                Ok(found) => assert!(found == want || Some(found) == old, "a partial file"),
                Err(e) => assert!(old.is_none(), "the old file is gone: {e}"),
            }
        }
        assert!(killed > 0, "no merge was killed in time");
    }

    #[test]
    fn outputs_are_readable_as_the_umask_says() {
        use std::os::unix::fs::PermissionsExt;
        let work = TempDir::new().unwrap();
        let script = "umask 022; $PAPILIO merge --base $DATA/base --adapter $DATA/adapter --out d && \
                      $PAPILIO merge --base $DATA/base/model.safetensors --adapter $DATA/adapter --out f";
        assert_eq!(shell(script, work.path()).status.code(), Some(0));
        let mode = |name: &str| fs::metadata(work.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("d"), mode("d/model.safetensors"), mode("f")), (0o755, 0o644, 0o644));
    }

    /// A weight of 64 MiB is merged in far less memory: neither it nor R is ever held as a whole.
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_does_not_grow_with_the_model() {
        let work = TempDir::new().unwrap();
        let (n, out) = (4096, 4096);
        let row = noise(1, n);
        let weight = support::Tensor { dtype: papilio::storage::Dtype::F32, ..f64s(&[out, n], row.repeat(out)) };
        write(&work.path().join("base.safetensors"), &[("a.weight", &weight), ("b.weight", &weight)]);
        let (blocks, scale) = (f64s(&[2, n / 4, 4, 4], noise(2, 8 * n)), f64s(&[out, 1], vec![1.5; out]));
        write(&work.path().join("adapter.safetensors"), &[("a.boft_R", &blocks), ("a.boft_s", &scale)]);
        let script =
            "$PAPILIO merge --base base.safetensors --adapter adapter.safetensors --out out.safetensors --json";
        let output = shell(script, work.path());
        let report = json(&output);
        // (What a sanitizer keeps of its own counts as memory, too.)
        let sanitized = std::env::var_os("ASAN_OPTIONS").is_some();
        assert!(sanitized || report["peak_bytes"].as_u64().unwrap() < 64 << 20, "{}", report["peak_bytes"]);
        // Equal rows stay equal, in whatever portion they are; a rotation keeps their length, the scale multiplies it.
        let merged = support::raw(&work.path().join("out.safetensors"));
        let rows: Vec<&[u8]> = merged["a.weight"].chunks_exact(4 * n).collect();
        assert!(rows.iter().all(|r| *r == rows[0]));
        let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
        let after = norm(&mut rows[0].as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
        let before = norm(&mut row.iter().map(|x| f64::from(*x as f32)));
        assert!((after / before - 1.5).abs() < 1e-7, "{}", after / before);
    }
}
