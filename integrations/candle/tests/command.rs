//! `finetune_text` as its users call it: what it refuses, before anything is written; what goes on, and what is merged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The example, which cargo builds with the tests, beside them.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(Path::parent).unwrap();
    built.join("examples").join(format!("finetune_text{}", std::env::consts::EXE_SUFFIX))
}

fn run(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(example());
    command.current_dir(folder).args(arguments.split_whitespace()).env("RAYON_NUM_THREADS", "1");
    command.output().unwrap_or_else(|e| panic!("{}: {e}", example().display()))
}

fn succeeds(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(folder: &Path, arguments: &str, want: &str) {
    let before = files(folder);
    let output = run(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(want), "{arguments}: {text}\n  instead of\n{want}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(files(folder) == before, "{arguments} changed files");
}

/// All files below a folder, with their bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push((entry.clone(), fs::read(&entry).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn refusals_resumption_and_merging() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    for (arguments, want) in [
        ("--held-out 1", "--held-out: expected a share between 0 and 1, got 1"),
        ("--held-out NaN", "--held-out: expected a share between 0 and 1, got NaN"),
        ("--steps many", "invalid value 'many'"),
        ("--model nowhere", "--data"),
        ("--model nowhere --data none.csv", "nowhere"),
        ("--model m --data d --kind llama", "cannot be used with"),
        ("--merged no/such", "no/such: expected an existing directory around it, got none"),
        ("--merged finetuned", "finetuned: expected another place than that of"),
    ] {
        refused(folder, arguments, want);
    }
    // Four steps at once are two and two more, bit by bit.
    let settings = "--quick --evaluate-every 2 --checkpoint-every 2 --batch 8 --out";
    succeeds(folder, &format!("{settings} tiny --steps 2"));
    let all = fs::read_to_string(folder.join("tiny/quick-bert/data.csv")).unwrap();
    let few: Vec<&str> = all.lines().take(61).collect(); // and a header
    fs::write(folder.join("few.csv"), few.join("\n")).unwrap();
    let given = format!("--model tiny/quick-bert --data few.csv {settings}");
    succeeds(folder, &format!("{given} once --steps 4 --merged merged"));
    succeeds(folder, &format!("{given} twice --steps 2"));
    let adapter = |out: &str| fs::read(folder.join(out).join("adapter/adapter_model.safetensors")).unwrap();
    assert!(adapter("once") != adapter("twice"));
    for (arguments, want) in [
        (format!("{given} twice --steps 4"), "--resume goes on from a checkpoint"),
        (format!("{given} twice --steps 4 --resume"), "got what an earlier run wrote"), // the adapter
        (format!("{given} new --steps 4 --resume"), "checkpoint.safetensors"),
        (format!("{given} twice --steps 4 --resume --force --rate 0.01"), "checkpoint"), // of another training
        (format!("{given} new --length 1000"), "--length: expected at most"),
        (format!("{given} new --targets query,quary"), "quary"),
        (format!("{given} new --merged tiny/quick-bert --force"), "expected another place than that of"),
    ] {
        refused(folder, &arguments, want);
    }
    succeeds(folder, &format!("{given} twice --steps 4 --resume --force"));
    assert!(adapter("once") == adapter("twice"));

    // A merged model is a plain one: the same score before anything is trained as the adapted one had at its end.
    let text = succeeds(folder, &format!("--model merged --data few.csv {settings} again --steps 1"));
    let before = text.lines().find_map(|line| line.strip_prefix("before: held-out ")).unwrap();
    let history = fs::read_to_string(folder.join("once/history.csv")).unwrap();
    let losses = history.lines().filter_map(|line| line.split(',').nth(2)?.parse().ok());
    let best = losses.fold(f64::INFINITY, f64::min);
    assert!(before.contains(&format!("loss {best:.4}")), "{before} after {best}");
}
