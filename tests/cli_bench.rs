//! `papilio bench` as users meet it: fields, refusals, pictures. Never how fast anything was.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;

use std::fs;

use command::{json, papilio, refused, stderr, stdout};
use papilio::Isa;
use serde_json::Value;
use tempfile::TempDir;

/// The JSON object of a run that goes well.
fn run(arguments: &[&str]) -> Value {
    let output = papilio(&[&["bench", "--json", "--seconds", "0"], arguments].concat());
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
    json(&output)
}

fn cases(arguments: &[&str]) -> Vec<Value> {
    run(arguments)["cases"].as_array().unwrap().clone()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_combination_is_a_case_with_all_fields() {
    let found = run(&["--n", "16,32", "--batch", "3", "--block", "2,4", "--type", "f32,f64,c32,c64,bf16,f16"]);
    assert_eq!(keys(&found), ["isa", "cases", "plot"]);
    assert_eq!((&found["isa"], &found["plot"]), (&Value::from(format!("{:?}", Isa::detect())), &Value::Null));
    let cases = found["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    let expected = [
        "n",
        "batch",
        "block",
        "topology",
        "chart",
        "type",
        "threads",
        "stages",
        "parameters",
        "entry_bytes",
        "flops",
        "peak",
        "seconds",
        "bound",
        "spread",
        "ns_per_element",
        "share_of_peak",
        "times_copy",
        "dense_over_apply",
        "passes",
    ];
    for case in cases {
        assert_eq!(keys(case), expected, "{case}");
        let seconds = |what: &str| case["seconds"][what].as_f64().unwrap_or_else(|| panic!("{what}: {case}"));
        let verbs = ["apply", "adjoint", "vjp", "realize", "realize_vjp", "copy", "dense"];
        assert_eq!(keys(&case["seconds"]), [&verbs[..], &["naive"]].concat());
        assert!(verbs.iter().all(|what| seconds(what) > 0.0 && seconds(what) < 60.0), "{case}");
        assert!(case["seconds"]["naive"].is_null());
        // What is derived agrees with what it is derived from.
        let number = |key: &str| case[key].as_f64().unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} {b}: {case}");
        near(number("ns_per_element"), 1e9 * seconds("apply") / (number("n") * number("batch")));
        near(number("share_of_peak"), number("flops") / seconds("apply") / number("peak"));
        near(number("times_copy"), seconds("apply") / seconds("copy"));
        near(number("dense_over_apply"), seconds("dense") / seconds("apply"));
    }
    // 4 stages of 8 blocks: 2 products and 2 multiply-adds each, for 3 vectors; complex ones are 6 and 8 operations.
    let one =
        |kind: &str| cases.iter().find(|c| (&c["n"], &c["block"], &c["type"]) == (&16.into(), &2.into(), &kind.into()));
    for (kind, flops, parameters, bytes) in
        [("f32", 576.0, 32, 512), ("f64", 576.0, 32, 1024), ("bf16", 576.0, 32, 512), ("c32", 2688.0, 128, 1024)]
    {
        let case = one(kind).unwrap();
        assert_eq!((case["flops"].as_f64(), &case["stages"]), (Some(flops), &4.into()), "{case}");
        assert_eq!((&case["parameters"], &case["entry_bytes"]), (&parameters.into(), &bytes.into()), "{case}");
    }
}

#[test]
fn options_choose_what_is_timed() {
    let small = ["--n", "16", "--batch", "2", "--block", "2"];
    let with = |more: &[&str]| cases(&[&small[..], more].concat()).remove(0);
    let null = |case: &Value| -> Vec<String> {
        let seconds = case["seconds"].as_object().unwrap().iter();
        seconds.filter(|(_, value)| value.is_null()).map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(null(&with(&["--naive"])), Vec::<String>::new());
    assert_eq!(null(&with(&["--no-dense"])), ["dense", "naive"]);
    assert_eq!(null(&with(&["--verbs", "vjp"])), ["adjoint", "realize", "realize_vjp", "naive"]);
    let case = with(&["--threads", "2", "--stages", "3"]);
    assert_eq!((&case["threads"], &case["stages"], &case["dense_over_apply"]), (&2.into(), &3.into(), &Value::Null));
    let case = with(&["--topology", "random-pairings", "--stages", "2", "--chart", "Givens"]);
    assert_eq!((&case["topology"], &case["chart"]), (&"random-pairings".into(), &"Givens".into()));
    for isa in Isa::available() {
        let name = format!("{isa:?}");
        assert_eq!(run(&[&small[..], &["--isa", &name.to_lowercase()]].concat())["isa"], name);
    }
    // One vector: the dense product has two layouts to choose from.
    assert!(cases(&["--n", "16", "--batch", "1", "--block", "2"])[0]["dense_over_apply"].is_f64());
}

#[test]
fn misfits_are_told_and_the_rest_goes_on() {
    let found = cases(&["--n", "8,64", "--batch", "1", "--block", "16"]);
    assert!(found[0]["does_not_fit"].as_str().unwrap().contains("expected"), "{}", found[0]);
    assert!(found[1]["does_not_fit"].is_null() && found[1]["stages"] == 3, "{}", found[1]);
    let complex = cases(&["--n", "8", "--block", "2", "--chart", "Mach-Zehnder", "--type", "f64,c64", "--batch", "1"]);
    assert!(complex[0]["does_not_fit"].as_str().unwrap().contains("real blocks"), "{}", complex[0]);
    assert!(complex[1]["does_not_fit"].is_null(), "{}", complex[1]);
    let large = &cases(&["--n", "16777216", "--batch", "16777216", "--block", "2", "--stages", "1"])[0];
    assert!(large["does_not_fit"].as_str().unwrap().contains("expected at most"), "{large}");
    let arguments = ["bench", "--n", "8,64", "--batch", "1", "--block", "16", "--seconds", "0"];
    for (more, start) in [(&[][..], "b=16 m=3 n=64 batch=1 f32  "), (&["--markdown"], "| b=16 m=3 n=64 batch=1 f32 | ")]
    {
        let text = stdout(&papilio(&[&arguments[..], more].concat()));
        assert!(text.lines().any(|line| line.starts_with(start)), "{text}");
        assert!(text.contains("b=16 n=8 batch=1 f32 does not fit: "), "{text}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_examples_run() {
    for arguments in [
        &["bench", "--n", "0"][..],
        &["bench", "--n", "16,"],
        &["bench", "--n", "99999999"],
        &["bench", "--batch", "-1"],
        &["bench", "--block", "0"],
        &["bench", "--topology", "bicycle"],
        &["bench", "--type", "f8"],
        &["bench", "--threads", "0"],
        &["bench", "--verbs", "swim"],
        &["bench", "--isa", "mmx"],
        &["bench", "--seconds", "-1"],
        &["bench", "--seconds", "nan"],
        &["bench", "--json", "--markdown"],
        &["bench", "--force"],
    ] {
        refused(arguments, &["--help"]);
    }
    refused(&["bench", "--chart", "Mercator"], &["--chart", "Cayley", "Mach-Zehnder", "Mercator"]);
    refused(&["bench", "--plot", ".."], &["--plot", "file name"]);
    if let Some(missing) = ["neon", "avx512", "avx2"]
        .iter()
        .find(|isa| !Isa::available().iter().any(|has| format!("{has:?}").to_lowercase() == **isa))
    {
        refused(&["bench", "--isa", missing], &["instruction set"]);
    }
    let help = stdout(&papilio(&["help", "bench"]));
    assert!(help.contains("Exit codes") && help.contains("JSON"), "{help}");
    let examples: Vec<_> = help.lines().filter_map(|line| line.strip_prefix("  papilio ")).collect();
    assert!(examples.len() >= 3, "{help}");
    let work = TempDir::new().unwrap();
    for example in examples {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_papilio"))
            .current_dir(work.path())
            .args(example.split_whitespace())
            .output()
            .unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{example}");
    }
    assert!(work.path().join("sizes.svg").exists());
}

#[test]
fn pictures_show_what_was_varied() {
    let work = TempDir::new().unwrap();
    let picture = |name: &str, arguments: &[&str]| {
        let target = work.path().join(name);
        let at = target.to_str().unwrap();
        assert_eq!(run(&[arguments, &["--plot", at]].concat())["plot"], at);
        let svg = fs::read_to_string(&target).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        svg
    };
    let [n, block, work_of_one] = ["ns for each coordinate", "% of the peak", "times faster than one thread"];
    for (name, arguments, shown) in [
        ("n.svg", &["--n", "8,16", "--batch", "1,2", "--block", "2"][..], [true, false, false]),
        ("b.svg", &["--n", "32", "--batch", "1", "--block", "2,4,8"], [false, true, false]),
        ("t.svg", &["--n", "8", "--batch", "1,2", "--block", "2", "--threads", "1,2"], [false, false, true]),
        ("all.svg", &["--n", "8,16", "--batch", "1", "--block", "2,4", "--threads", "1,2"], [true; 3]),
        ("one.svg", &["--n", "8", "--batch", "1", "--block", "2", "--type", "f32,f64"], [true, false, false]),
    ] {
        let svg = picture(name, arguments);
        assert_eq!([n, block, work_of_one].map(|label| svg.contains(label)), shown, "{name}");
    }
    assert!(picture("dense.svg", &["--n", "8,16", "--batch", "2", "--block", "2"]).contains("dense, batch 2"));
    assert!(picture("none.svg", &["--n", "7", "--block", "2"]).contains("no case fits"));
    // Nothing is replaced without being told to.
    let at = work.path().join("n.svg");
    fs::write(&at, "mine").unwrap();
    let arguments =
        ["bench", "--n", "8", "--batch", "1", "--block", "2", "--seconds", "0", "--plot", at.to_str().unwrap()];
    refused(&arguments, &["n.svg", "--force"]);
    assert_eq!(fs::read_to_string(&at).unwrap(), "mine");
    assert_eq!(papilio(&[&arguments[..], &["--force"]].concat()).status.code(), Some(0));
    assert!(fs::read_to_string(&at).unwrap().starts_with("<svg "));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_130_and_writes_nothing() {
    let work = TempDir::new().unwrap();
    let script = "$PAPILIO bench --n 16 --batch 1 --block 2 --seconds 600 --plot p.svg & pid=$!; sleep 1; kill -TERM $pid; \
                  wait $pid";
    let output = command::shell(script, work.path());
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was written"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(!work.path().join("p.svg").exists());
}
