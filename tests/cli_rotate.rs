//! `papilio rotate` as users meet it: quality, speed, a picture, refusals.
#![cfg(feature = "cli")]

#[path = "support/command.rs"]
mod command;

use command::{json, papilio, refused, stderr, stdout};
use papilio::random::{Input, quality_report};
use tempfile::TempDir;

/// Every figure of papilio's rotation is the library's own.
#[test]
fn quality_is_that_of_the_library() {
    let output = papilio(&["rotate", "--n", "100,130", "--seeds", "20", "--json"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let report = json(&output);
    assert_eq!(report["speed"].as_array().unwrap().len(), 0);
    for (found, n) in report["quality"].as_array().unwrap().iter().zip([100usize, 130]) {
        let (haar, own) = quality_report(n, 3, 20, 8).unwrap();
        assert_eq!(found["n"], n);
        assert!((found["haar"]["kurtosis"].as_f64().unwrap() - haar.kurtosis).abs() < 1e-15 * haar.kurtosis);
        let constructions = found["constructions"].as_array().unwrap();
        let names: Vec<_> = constructions.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["papilio", "HD³, padded", "FHT–Kac"]);
        for ((shown, own), input) in constructions[0]["inputs"].as_array().unwrap().iter().zip(own).zip(Input::ALL) {
            assert_eq!(shown["input"], input.name());
            for (key, own) in [("kurtosis", own.kurtosis), ("cosine", own.cosine), ("quantile", own.quantile)] {
                let shown = shown[key].as_f64().unwrap();
                assert!((shown - own).abs() <= 2.0 * f64::EPSILON * own, "{key}: {shown}, not {own}"); // as JSON is parsed
            }
            assert_eq!(shown["like_haar"], own.is_like_haar(&haar));
        }
    }
}

#[test]
fn tables_and_a_picture_that_is_not_replaced() {
    let work = TempDir::new().unwrap();
    let picture = work.path().join("quality.svg");
    let picture = picture.to_str().unwrap();
    let arguments =
        ["rotate", "--quality", "--bench", "1,3", "--n", "64", "--seeds", "4", "--seconds", "0.05", "--plot", picture];
    let output = papilio(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("8 equal neighbours") && text.contains("kurtosis") && text.contains("× copy"), "{text}");
    let drawn = std::fs::read_to_string(picture).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("Haar"), "{drawn}");
    refused(&arguments, &["quality.svg", "--force"]);
}

#[test]
fn bad_usage_is_refused() {
    refused(&["rotate", "--n", "0"], &["--n", "0"]);
    refused(&["rotate", "--n", "2000000"], &["--n", "1048576", "2000000"]);
    refused(&["rotate", "--rounds", "17"], &["--rounds", "1 to 16"]);
    refused(&["rotate", "--seeds", "1"], &["--seeds", "2 to"]);
    refused(&["rotate", "--bench", "x"], &["--bench", "x"]);
    refused(&["rotate", "--bench", "1", "--plot", "x.svg"], &["--plot", "--quality"]);
    refused(&["rotate", "--force"], &["--plot"]);
}
