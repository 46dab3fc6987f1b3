//! The `papilio` command among files as they are found: links, pipes, half a download, precious neighbours, signals.
#![cfg(all(feature = "cli", unix))]

#[path = "support/command.rs"]
mod command;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use command::{ADAPTER, BASE, json, papilio, refused, shell, stderr, stdout};
use papilio::storage::Dtype;
use support::{Tensor, f64s, noise, path, raw, write};
use tempfile::TempDir;

/// `papilio merge`; options follow.
fn merge<'a>(base: &'a Path, adapter: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let text = |path: &'a Path| path.to_str().unwrap();
    [&["merge", "--base", text(base), "--adapter", text(adapter), "--out", text(out)], more].concat()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = papilio(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

/// A copy of the example base, with some other files of a model.
fn base(work: &Path) -> PathBuf {
    let base = work.join("base");
    fs::create_dir(&base).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(path(BASE).join(file), base.join(file)).unwrap();
    }
    fs::write(base.join("tokenizer.json"), "{}").unwrap();
    base
}

fn entries(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn inputs_behind_links_are_never_replaced() {
    let work = TempDir::new().unwrap();
    let (real, links, adapter) = (base(work.path()), work.path().join("links"), path(ADAPTER));
    fs::create_dir(&links).unwrap();
    for file in entries(&real) {
        symlink(real.join(&file), links.join(&file)).unwrap();
    }
    refused(&merge(&links, &adapter, &real, &["--force"]), &["overlaps"]);
    let file = real.join("model.safetensors");
    refused(&merge(&links.join("model.safetensors"), &adapter, &file, &["--force"]), &["overlaps"]);
    // A configuration alone, or one companion, is an input too.
    let (own, config) = (work.path().join("own"), work.path().join("config"));
    fs::create_dir(&own).unwrap();
    fs::create_dir(&config).unwrap();
    fs::copy(adapter.join("adapter_model.safetensors"), own.join("adapter_model.safetensors")).unwrap();
    fs::copy(adapter.join("adapter_config.json"), config.join("adapter_config.json")).unwrap();
    symlink(config.join("adapter_config.json"), own.join("adapter_config.json")).unwrap();
    for file in ["config.json", "x.safetensors"] {
        fs::write(config.join(file), "").unwrap();
    }
    refused(&merge(&real, &own, &config, &["--force"]), &["overlaps", "adapter_config.json"]);
    assert_eq!(entries(&config).len(), 3);
    assert_eq!(entries(&real), ["config.json", "model.safetensors", "tokenizer.json"]);
    succeeds(&merge(&links, &adapter, &work.path().join("out"), &[]));
    assert_eq!(entries(&work.path().join("out")), entries(&real));
}

#[test]
fn force_replaces_only_what_holds_weights() {
    let work = TempDir::new().unwrap();
    let (base, adapter) = (base(work.path()), path(ADAPTER));
    let at = |name: &str| work.path().join(name);
    let file = base.join("model.safetensors");
    fs::write(at("thesis.tex"), "precious").unwrap();
    assert!(shell("mkfifo pipe", work.path()).status.success());
    symlink(at("thesis.tex"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let before = entries(work.path());
    for (name, word) in [
        ("thesis.tex", "something else"),
        ("pipe", "special file"),
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("directory", "existing directory"),
    ] {
        refused(&merge(&file, &adapter, &at(name), &["--force"]), &[name, word]);
        let message = refused(&merge(&file, &adapter, &at(name), &[]), &[name]);
        assert_eq!(message.contains("--force"), name != "directory", "{message}"); // it would not help
    }
    for name in ["pipe", "link", "thesis.tex"] {
        refused(&merge(&base, &adapter, &at(name), &["--force"]), &[name]);
    }
    assert_eq!(fs::read_to_string(at("thesis.tex")).unwrap(), "precious");
    assert_eq!(entries(work.path()), before);
    fs::write(at("empty"), "").unwrap();
    succeeds(&merge(&file, &adapter, &at("empty"), &["--force"]));
    succeeds(&merge(&file, &adapter, &at("empty"), &["--force", "--dtype", "float64"]));
    assert!(fs::metadata(at("empty")).unwrap().len() > fs::metadata(&file).unwrap().len());
}

#[test]
fn force_spares_directories_with_more_than_a_model() {
    let work = TempDir::new().unwrap();
    let (base, adapter, out) = (base(work.path()), path(ADAPTER), work.path().join("out"));
    fs::create_dir(base.join("onnx")).unwrap();
    fs::write(base.join("onnx/config.json"), "{}").unwrap();
    succeeds(&merge(&base, &adapter, &out, &[]));
    succeeds(&merge(&base, &adapter, &out, &["--force"]));
    for precious in [".git/HEAD", "checkpoint-500/state", "onnx/thesis.tex", "onnx/old/state", ".env"] {
        fs::create_dir_all(out.join(precious).parent().unwrap()).unwrap();
        fs::write(out.join(precious), "precious").unwrap();
        let name = precious.split('/').next().unwrap();
        refused(&merge(&base, &adapter, &out, &["--force"]), &["no other is replaced", name]);
        assert_eq!(fs::read_to_string(out.join(precious)).unwrap(), "precious");
        let top = out.join(precious.rsplit_once('/').map_or(precious, |(parent, _)| parent));
        match precious {
            "onnx/thesis.tex" | ".env" => fs::remove_file(out.join(precious)).unwrap(),
            _ => fs::remove_dir_all(top).unwrap(),
        }
    }
    fs::write(out.join("vocab.txt"), "of an older model").unwrap();
    succeeds(&merge(&base, &adapter, &out, &["--force"]));
    assert_eq!(entries(&out), ["config.json", "model.safetensors", "onnx", "tokenizer.json"]);
}

#[test]
fn an_output_without_a_configuration_can_be_replaced_by_itself() {
    let work = TempDir::new().unwrap();
    let (base, out) = (base(work.path()), work.path().join("out"));
    fs::remove_file(base.join("config.json")).unwrap();
    succeeds(&merge(&base, &path(ADAPTER), &out, &[]));
    succeeds(&merge(&base, &path(ADAPTER), &out, &["--force"]));
    fs::write(out.join("thesis.tex"), "precious").unwrap();
    refused(&merge(&base, &path(ADAPTER), &out, &["--force"]), &["thesis.tex"]);
}

#[test]
fn companions_are_copied_through_links_or_named() {
    let work = TempDir::new().unwrap();
    let (base, adapter, out) = (base(work.path()), path(ADAPTER), work.path().join("out"));
    let templates = work.path().join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("chat.jinja"), "hello").unwrap();
    symlink(&templates, base.join("templates")).unwrap();
    fs::create_dir(base.join("onnx")).unwrap();
    fs::write(base.join("onnx/model.safetensors"), "").unwrap();
    assert!(shell("mkfifo base/pipe", work.path()).status.success());
    let warnings = succeeds(&merge(&base, &adapter, &out, &[]));
    assert_eq!(fs::read_to_string(out.join("templates/chat.jinja")).unwrap(), "hello");
    assert!(warnings.contains("weights") && warnings.contains("onnx/model.safetensors"), "{warnings}");
    assert!(warnings.contains("no regular files: pipe"), "{warnings}");
    assert_eq!(entries(&out), ["config.json", "model.safetensors", "templates", "tokenizer.json"]);
    assert!(!fs::symlink_metadata(out.join("templates")).unwrap().is_symlink());

    let other = work.path().join("other");
    symlink(work.path().join("missing blob"), base.join("vocab.json")).unwrap();
    refused(&merge(&base, &adapter, &other, &[]), &["vocab.json"]);
    fs::remove_file(base.join("vocab.json")).unwrap();
    symlink(&base, base.join("again")).unwrap();
    refused(&merge(&base, &adapter, &other, &[]), &["again", "circle"]);
    assert!(!other.exists());
}

#[test]
fn a_broken_configuration_is_named_before_anything_is_written() {
    let work = TempDir::new().unwrap();
    let (base, out) = (base(work.path()), work.path().join("out"));
    let config = base.join("config.json");
    for broken in ["{", "[]", ""] {
        fs::write(&config, broken).unwrap();
        let message = refused(&merge(&base, &path(ADAPTER), &out, &["--dtype", "bf16"]), &[config.to_str().unwrap()]);
        assert!(!message.contains(".papilio-"), "{message}");
    }
    succeeds(&merge(&base, &path(ADAPTER), &out, &[])); // copied as it is
    assert_eq!(fs::read(out.join("config.json")).unwrap(), b"");
}

#[test]
#[cfg(target_os = "linux")]
fn temporaries_are_never_shown() {
    // Nobody can make files there, not even the superuser.
    for base in [path(BASE), path(BASE).join("model.safetensors")] {
        let message =
            refused(&merge(&base, &path(ADAPTER), Path::new("/proc/papilio"), &[]), &["/proc/papilio", "room"]);
        assert!(!message.contains(".papilio-"), "{message}");
    }
}

/// A base that takes a while: an adapted layer, and zeros that take no room on disk.
fn slow_model(work: &Path) {
    let weight = f64s(&[4, 8], noise(1, 32));
    write(
        &work.join("adapter.safetensors"),
        &[("a.boft_R", &f64s(&[1, 2, 4, 4], noise(2, 32))), ("a.boft_s", &f64s(&[4, 1], vec![1.0; 4]))],
    );
    let zeros = 1u64 << 32;
    let header = format!(
        r#"{{"a.weight":{{"dtype":"F64","shape":[4,8],"data_offsets":[0,256]}},"z":{{"dtype":"I64","shape":[{}],"data_offsets":[256,{}]}}}}"#,
        zeros / 8,
        zeros + 256
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(weight.data.iter().flat_map(|x| x.to_le_bytes()));
    fs::write(work.join("base.safetensors"), &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(work.join("base.safetensors")).unwrap();
    file.set_len(bytes.len() as u64 + zeros).unwrap();
}

/// Whether this process was started so, as far as the system tells.
fn hangups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

#[test]
fn signals_leave_nothing_behind() {
    let work = TempDir::new().unwrap();
    slow_model(work.path());
    let before = entries(work.path());
    // Under nohup hangups are ignored, by children as well, and a merge goes on.
    let signals = if hangups_are_ignored() { &["INT", "TERM"][..] } else { &["INT", "TERM", "HUP"] };
    for &signal in signals {
        let mut child = Command::new(env!("CARGO_BIN_EXE_papilio"))
            .current_dir(work.path())
            .args([
                "merge",
                "--base",
                "base.safetensors",
                "--adapter",
                "adapter.safetensors",
                "--out",
                "out.safetensors",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while entries(work.path()) == before {
            assert!(start.elapsed() < Duration::from_secs(60), "no temporary appears");
            std::thread::sleep(Duration::from_millis(1));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success() && child.wait().unwrap().code() == Some(130), "{signal}");
        assert_eq!(entries(work.path()), before, "{signal}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn nohup_protects_a_merge() {
    let work = TempDir::new().unwrap();
    slow_model(work.path());
    let script = "trap '' HUP; ulimit -f 200000; $PAPILIO merge --base base.safetensors --adapter adapter.safetensors \
                  --out out & until ls -A | grep -q papilio; do sleep 0.01; done; kill -s HUP $!; wait $!";
    let output = shell(script, work.path());
    // It goes on until the limit ends it as a full disk would.
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let work = TempDir::new().unwrap();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\r";
    let adapter = work.path().join(format!("{evil}.safetensors"));
    let (blocks, scale) = (f64s(&[1, 2, 4, 4], noise(2, 32)), f64s(&[4, 1], vec![1.0; 4]));
    let [r, s, w] = ["boft_R", "boft_s", "weight"].map(|parameter| format!("{evil}.{parameter}"));
    write(&adapter, &[(&r, &blocks), (&s, &scale)]);
    let model = work.path().join("base.safetensors");
    write(&model, &[(&w, &f64s(&[4, 8], noise(1, 32)))]);
    let out = work.path().join(format!("{evil}out"));
    let missing = work.path().join(evil);
    for arguments in [
        vec!["inspect", adapter.to_str().unwrap()],
        vec!["inspect", model.to_str().unwrap()],
        vec!["inspect", missing.to_str().unwrap()],
        vec!["verify", adapter.to_str().unwrap()],
        vec!["verify", model.to_str().unwrap(), "--tensor", &w],
        merge(&model, &adapter, &out, &[]),
        merge(&model, &adapter, &out, &[]), // exists
        merge(&path(BASE).join("model.safetensors"), &adapter, &out, &["--force"]),
    ] {
        let output = papilio(&arguments);
        let text = stdout(&output) + &stderr(&output);
        let raw = text.chars().find(|&c| c.is_control() && c != '\n');
        assert!(raw.is_none() && text.contains("\\u{1b}"), "{arguments:?}: {raw:?}: {text:?}");
    }
    let listed = json(&papilio(&["inspect", adapter.to_str().unwrap(), "--json"]));
    assert_eq!(listed["layers"][0]["name"], evil);
}

#[test]
#[cfg(target_os = "linux")] // macOS has no limit of address space
fn absurd_sizes_are_errors() {
    let work = TempDir::new().unwrap();
    // 128 MiB of zeros on no disk: they would be 512 MiB of doubles, where 400 MiB are allowed.
    let zeros = |name: &str, head: &[u8]| {
        let file = work.path().join(name);
        fs::write(&file, head).unwrap();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(head.len() as u64 + (1 << 27)).unwrap();
    };
    let head = "{'descr': '<f2', 'fortran_order': False, 'shape': (8192, 8192)}";
    zeros("m.npy", &[b"\x93NUMPY\x01\x00", &(head.len() as u16).to_le_bytes()[..], head.as_bytes()].concat());
    let header = r#"{"m":{"dtype":"F16","shape":[8192,8192],"data_offsets":[0,134217728]}}"#;
    zeros("m.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    if !shell("ulimit -v 409600; exec $PAPILIO --version", work.path()).status.success() {
        return eprintln!("skipped: built with a sanitizer, the command cannot even start within such a limit");
    }
    for file in ["m.safetensors", "m.npy"] {
        let output = shell(&format!("ulimit -v 409600; exec $PAPILIO verify {file}"), work.path());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("memory") && stderr(&output).contains(file), "{}", stderr(&output));
    }
}

#[test]
fn warnings_are_told_before_an_error() {
    let bert = path("tests/data/e2e_boft_bert_degraded");
    let work = TempDir::new().unwrap();
    // The adapter's configuration contradicts its tensors, and then the base is another model.
    let message = refused(&merge(&path(BASE), &bert.join("adapter"), &work.path().join("out"), &[]), &["error:"]);
    assert!(message.starts_with("warning: ") && message.contains("boft_n_butterfly_factor"), "{message}");
}

#[test]
fn messages_lead_on() {
    let work = TempDir::new().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let file = work.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        file.to_string_lossy().into_owned()
    };
    for command in ["verify", "inspect"] {
        refused(&[command, &at("empty.npy", b"")], &["empty.npy", "a .npy file"]);
        refused(&[command, &at("empty.npz", b"")], &["empty.npz", "a .npy file"]);
        refused(&[command, &at("a.npz", b"PK\x03\x04 and so on")], &["a.npz", ".npz archive"]);
    }
    let weights = fs::read(path(ADAPTER).join("adapter_model.safetensors")).unwrap();
    at("saved/second/adapter_model.safetensors", &weights);
    let saved = work.path().join("saved");
    refused(&merge(&path(BASE), &saved, &work.path().join("out"), &[]), &["saved/second", "give that path"]);

    let identity = f64s(&[2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    write(&work.path().join("m.safetensors"), &[("the.one", &identity), ("flat", &f64s(&[1, 2], vec![1.0; 2]))]);
    let text = stdout(&papilio(&["verify", work.path().join("m.safetensors").to_str().unwrap()]));
    assert!(text.contains("`the.one`"), "{text}");

    let lora = at("lora/adapter_config.json", br#"{"peft_type": "LORA"}"#);
    write(&work.path().join("lora/adapter_model.safetensors"), &[("a.lora_A.weight", &identity)]);
    let lora = Path::new(&lora).parent().unwrap().to_str().unwrap();
    let text = stdout(&papilio(&["inspect", lora]));
    assert!(text.contains("LORA adapter") && text.contains("a.lora_A.weight"), "{text}");
    let found = json(&papilio(&["inspect", lora, "--json"]));
    assert_eq!((&found["kind"], &found["peft_type"]), (&"adapter".into(), &"LORA".into()));
    refused(&["verify", lora], &["adapter_config.json", "peft_type", "LORA"]);
    assert_eq!(json(&papilio(&["inspect", ADAPTER, "--json"]))["permutations"], false);
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let work = TempDir::new().unwrap();
    let file = work.path().join("twice.safetensors");
    // Either of them alone would be a valid file.
    let one = r#""a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}"#;
    let header = format!("{{{one},{one}}}");
    fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat()).unwrap();
    refused(&["inspect", file.to_str().unwrap()], &["twice.safetensors", "two tensors `a`"]);
}

#[test]
fn outputs_are_the_same_bytes_every_time() {
    let work = TempDir::new().unwrap();
    let empty = Tensor { dtype: Dtype::F32, ..f64s(&[0], vec![]) };
    let names: Vec<String> = (0..12).map(|i| format!("empty.{i}")).collect();
    let weight = f64s(&[4, 8], noise(1, 32));
    let mut tensors: Vec<(&str, &Tensor)> = vec![("a.weight", &weight)];
    tensors.extend(names.iter().map(|name| (name.as_str(), &empty)));
    let (base, adapter) = (work.path().join("base.safetensors"), work.path().join("adapter.safetensors"));
    write(&base, &tensors);
    write(&adapter, &[("a.boft_R", &f64s(&[1, 2, 4, 4], noise(2, 32))), ("a.boft_s", &f64s(&[4, 1], vec![1.0; 4]))]);
    let merged = ["1", "2", "3"].map(|name| {
        let out = work.path().join(name);
        succeeds(&merge(&base, &adapter, &out, &[]));
        assert_eq!(raw(&out).len(), 13);
        fs::read(out).unwrap()
    });
    assert!(merged[0] == merged[1] && merged[1] == merged[2]);
}
