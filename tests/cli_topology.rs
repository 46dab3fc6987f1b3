//! `papilio topology` as users meet it: figures, refusals, pictures.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;

use std::fs;
use std::path::Path;

use command::{json, papilio, refused, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

/// The entries of the JSON object by name.
fn topologies(arguments: &[&str]) -> Vec<(String, Value)> {
    let output = papilio(&[&["topology", "--json"], arguments].concat());
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let entries = json(&output)["topologies"].as_array().unwrap().clone();
    entries.into_iter().map(|entry| (entry["name"].as_str().unwrap().to_string(), entry)).collect()
}

fn one(arguments: &[&str], name: &str) -> Value {
    let mut found = topologies(&[arguments, &["--topology", name]].concat());
    assert_eq!(found.len(), 1);
    found.remove(0).1
}

#[test]
fn the_papers_example() {
    // d = 4: a dense rotation has 12 free edges, the butterfly 8.
    let [dense, butterfly] = ["dense", "butterfly"].map(|name| one(&["--n", "4"], name));
    assert_eq!((&dense["free_edges"], &butterfly["free_edges"]), (&12.into(), &8.into()));
    assert_eq!(butterfly["densities"], Value::from(vec![0.25, 0.5, 1.0]));
    let keys: Vec<_> = dense.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "name",
        "stages",
        "densities",
        "dense_after",
        "smallest_dense_depth",
        "free_edges",
        "paths_log2",
        "parameters",
        "dimension",
        "dimension_bound",
        "dimension_by",
        "rank",
        "multiply_adds",
        "entry_bytes",
        "vector_bytes",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn figures_of_many_topologies() {
    let boft = one(&["--n", "64", "--b", "8"], "boft");
    assert_eq!(
        (&boft["parameters"], &boft["dimension"], &boft["dimension_by"]),
        (&896.into(), &608.into(), &"closed form".into())
    );
    assert_eq!(
        (&boft["stages"], &boft["smallest_dense_depth"], &boft["paths_log2"]["min"]),
        (&4.into(), &4.into(), &6.0.into())
    );
    assert_eq!((&boft["multiply_adds"], &boft["vector_bytes"]), (&2048.into(), &512.into()));
    let short = one(&["--n", "64", "--b", "8", "--stages", "2"], "boft");
    assert_eq!((&short["dense_after"], &short["smallest_dense_depth"]), (&Value::Null, &4.into()));
    assert_eq!((&short["paths_log2"]["min"], &short["densities"][2]), (&Value::Null, &0.25.into()));
    let twice = one(&["--n", "16"], "butterfly-twice");
    assert_eq!((&twice["dimension"], &twice["dimension_by"]), (&64.into(), &"rank".into()));
    let [kept, dropped] = ["kept", "dropped"].map(|key| twice["rank"][key].as_f64().unwrap());
    assert!(kept > 1e-6 && dropped < 1e-12, "{kept} {dropped}");
    let limited = one(&["--n", "16", "--rank-limit", "10"], "butterfly-twice");
    assert_eq!(
        (&limited["dimension"], &limited["dimension_by"], &limited["dimension_bound"]),
        (&Value::Null, &Value::Null, &64.into())
    );
    // As many stages as asked for; and a name given twice is one topology.
    for name in ["butterfly", "random-tables", "random-shuffle", "random-pairings", "group-and-shuffle"] {
        assert_eq!(one(&["--n", "16", "--stages", "3", "--topology", name], name)["stages"], 3, "{name}");
    }
    // The smallest depth is that of a member of the family, and none below it is dense.
    let depth = one(&["--n", "16"], "random-tables")["smallest_dense_depth"].as_u64().unwrap();
    for stages in 0..=depth {
        let cut = one(&["--n", "16", "--stages", &stages.to_string()], "random-tables");
        assert_eq!(cut["densities"][stages as usize] == 1.0, stages == depth, "{cut}");
    }
    let [fixed, free] = [&["--n", "16", "--stages", "1"][..], &["--n", "16"]].map(|a| one(a, "generalized-boft"));
    assert_eq!(fixed, free);
    // The same seed, the same wiring; another, another.
    let random = |seed| one(&["--n", "32", "--seed", seed], "random-pairings");
    assert_eq!(random("7"), random("7"));
    assert_ne!(random("7")["rank"], random("8")["rank"]);
}

#[test]
fn every_name_works_and_refusals_are_told() {
    let all = topologies(&["--n", "16"]);
    assert!(all.len() >= 20, "{}", all.len());
    for (name, entry) in &all {
        assert!(entry["does_not_fit"].is_null(), "{name}: {entry}");
        let (params, bound) = (entry["parameters"].as_u64().unwrap(), entry["dimension_bound"].as_u64().unwrap());
        let dimension = entry["dimension"].as_u64().unwrap_or_else(|| panic!("{name}: {entry}"));
        assert!(dimension <= bound && bound <= params.min(120), "{name}: {dimension} {bound} {params}");
        assert!(stdout(&papilio(&["help", "topology"])).contains(name.as_str()));
    }
    for n in ["1", "2", "3", "17", "100"] {
        for (name, entry) in topologies(&["--n", n]) {
            let fits = entry["does_not_fit"].is_null();
            assert!(fits || entry["does_not_fit"].as_str().unwrap().contains("expected"), "{name} {entry}");
            assert!(fits == entry["stages"].is_u64(), "{name} {entry}");
        }
    }
    let table = stdout(&papilio(&["topology", "--n", "100", "--topology", "butterfly,brick"]));
    assert!(table.lines().any(|line| line.starts_with("brick ")), "{table}");
    assert!(table.contains("butterfly does not fit: butterfly topology: expected n = 1*2^m"), "{table}");
    let table = stdout(&papilio(&["topology", "--n", "8", "--topology", "butterfly"]));
    assert!(table.contains("after stages") && table.contains("smallest depth that is dense: 3"), "{table}");
}

#[test]
fn usage_errors_exit_with_2_and_examples_run() {
    for arguments in [
        &["topology"][..],
        &["topology", "--n", "0"],
        &["topology", "--n", "40000"],
        &["topology", "--n", "-3"],
        &["topology", "--n", "64", "--b", "0"],
        &["topology", "--n", "64", "--topology", "bicycle"],
        &["topology", "--n", "64", "--stages", "many"],
        &["topology", "--n", "64", "--force"],
    ] {
        refused(arguments, &["--help"]);
    }
    // Sizes that no memory holds are refused, not tried.
    let huge = topologies(&["--n", "64", "--stages", "18446744073709551615"]);
    let fits: Vec<_> =
        huge.iter().filter(|(_, entry)| entry["does_not_fit"].is_null()).map(|(name, _)| name.as_str()).collect();
    assert!(!fits.contains(&"butterfly") && !fits.contains(&"random-pairings"), "{fits:?}");
    let many = one(&["--n", "2", "--stages", "16000000"], "random-pairings");
    assert!(many["does_not_fit"].as_str().unwrap().contains("at most 524288 stages"), "{many}");
    let many = one(&["--n", "32768"], "brick");
    assert!(many["does_not_fit"].as_str().unwrap().contains("at most 4096 stages"), "{many}");
    let help = stdout(&papilio(&["help", "topology"]));
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
}

#[test]
fn pictures_appear_whole_or_not_at_all() {
    let work = TempDir::new().unwrap();
    let directory = work.path().join("new/pictures");
    let at = directory.to_str().unwrap();
    let arguments = ["topology", "--n", "8", "--topology", "butterfly,tree,kronecker,butterfly", "--plot", at];
    let output = papilio(&[&arguments[..], &["--json"]].concat());
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let written: Vec<_> =
        json(&output)["plots"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_string()).collect();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["butterfly-8.svg", "density-8.svg", "kronecker-8.svg", "tree-8.svg"]);
    assert_eq!(written.len(), 4);
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    for name in names() {
        let svg = read(&name);
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
    }
    let plot = read("density-8.svg");
    for word in ["butterfly", "tree", "kronecker", "parameters", "effective dimension"] {
        assert!(plot.contains(word), "{word}");
    }
    // Nothing is replaced without being told to; then the same bytes come again.
    refused(&arguments, &["density-8.svg", "--force"]);
    fs::write(directory.join("tree-8.svg"), "mine").unwrap();
    assert_eq!(papilio(&[&arguments[..], &["--force"]].concat()).status.code(), Some(0));
    assert_eq!(read("density-8.svg"), plot);
    assert!(read("tree-8.svg").starts_with("<svg "));
    refused(&["topology", "--n", "8", "--plot", &format!("{at}/tree-8.svg")], &["directory", "tree-8.svg"]);
    // Larger networks are not drawn, the plot is; sizes where only few fit have plots, too.
    for (n, topology) in [("100", "dense"), ("1", "dense,brick"), ("7", "butterfly"), ("2", "dense")] {
        let directory = work.path().join(n);
        let at = directory.to_str().unwrap();
        let output = papilio(&["topology", "--n", n, "--topology", topology, "--plot", at]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(directory.join(format!("density-{n}.svg")).exists());
        assert!(!directory.join("dense-100.svg").exists());
    }
}

#[test]
fn the_pictures_of_the_documentation_are_the_commands() {
    let work = TempDir::new().unwrap();
    let at = work.path().to_str().unwrap();
    assert_eq!(papilio(&["topology", "--n", "8", "--plot", at]).status.code(), Some(0));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/transmission");
    let mut compared = 0;
    for entry in fs::read_dir(docs).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with("-8.svg") && !name.starts_with("density") {
            let fresh = fs::read_to_string(work.path().join(&name)).unwrap();
            assert!(fs::read_to_string(entry.path()).unwrap() == fresh, "{name} is out of date");
            compared += 1;
        }
    }
    assert!(compared >= 3, "{compared}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_130_and_writes_nothing() {
    let work = TempDir::new().unwrap();
    // Hours of elimination, interrupted after a second.
    let script = "$PAPILIO topology --n 512 --topology butterfly-twice --rank-limit 9000 --plot d & pid=$!; sleep 1; \
                  kill -TERM $pid; wait $pid";
    let output = command::shell(script, work.path());
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was written"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(!work.path().join("d").exists());
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let work = TempDir::new().unwrap();
    // No file may grow beyond 4 blocks: writing fails like on a full disk, and nothing stays behind.
    let output = command::shell("ulimit -f 4; exec $PAPILIO topology --n 16 --topology brick --plot d", work.path());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("density-16.svg") || stderr(&output).contains("brick-16.svg"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read_dir(work.path().join("d")).unwrap().count(), 0);
}
