//! House rules that no compiler checks, read from the sources under `src/` (their reasons: `docs/design.md`).
//!
//! * Arrows point down only: a file imports from its own folder and from lower layers, nothing else. The two foundations
//!   that know each other, `scalar` and `simd`, stand in layer 0, where neighbours may meet.
//! * `#[cfg(feature = …)]` stays at the doors, `unsafe` in the named files, and neither list names a file in vain.
//! * No `todo!`, `unimplemented!` or `dbg!`; no file longer than a reader can hold in mind.
//!
//! The sources are cut into tokens (comments and strings dropped), and every path that starts with `crate` or `super` is
//! followed to the module it reaches, in `use` trees and inline.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

mod tokens;
use tokens::{Token, tokens};

/// Top-level modules from the ground up. The command under `bin/` is a crate of its own and sees the public API only.
const LAYERS: [&[&str]; 8] = [
    &["error", "scalar", "simd", "parallel", "generator", "layout", "batch"],
    &["dense"],
    &["parametrization", "topology", "kernel"],
    &["plan"],
    &["verify", "storage", "transmission", "synthesis"],
    &["orthogonal", "fit", "random"],
    &["adapter", "archive", "cuda"],
    &["interop"],
];

/// Files that may ask which features are on, with the reason.
const FEATURE_DOORS: &[(&str, &str)] = &[
    ("lib.rs", "chooses modules"),
    ("interop/mod.rs", "chooses libraries"),
    ("scalar.rs", "`half`: elements whose type is another crate's"),
    ("parallel.rs", "threads and locks, or the calling thread alone"),
    ("verify/mod.rs", "`proptest`: strategies are public API of one feature only"),
    ("orthogonal/mod.rs", "`rand`: initialisers that take an `impl rand::Rng`; `files`: adapters let go of θ"),
];

/// Files that may hold unsafe code, with the reason.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("batch.rs", "strided views whose interleaved pieces go to several threads"),
    ("cuda/blas.rs", "a product of device memory by cuBLAS"),
    ("cuda/buffer.rs", "device memory: copies, and a framework's"),
    ("cuda/device.rs", "launches of kernels, and a framework's streams"),
    ("cuda/driver.rs", "CUDA's libraries are loaded and NVRTC is called"),
    ("cuda/plan.rs", "launches: what the verbs have checked"),
    ("cuda/pool.rs", "attributes of the driver's memory pool"),
    ("cuda/random.rs", "likewise"),
    ("interop/faer.rs", "views of a library become batches: a pointer and strides"),
    ("interop/nalgebra.rs", "likewise"),
    ("interop/ndarray.rs", "likewise"),
    ("random/places.rs", "registers at places that are checked once for all vectors"),
    ("simd/memory.rs", "a hint to the CPU, whatever the address"),
    ("storage/map.rs", "memory-mapped windows of a file"),
];

const MOST_LINES: usize = 450;

#[test]
fn sources_keep_the_rules() {
    let files = sources();
    assert!(files.len() > 20 && files.iter().any(|(path, _)| path == "lib.rs"), "found {} sources", files.len());
    let root = &files.iter().find(|(path, _)| path == "lib.rs").unwrap().1;
    let reexports = reexports(root);
    let broken: Vec<_> = files.iter().flat_map(|(path, source)| violations(path, source, &reexports)).collect();
    assert!(broken.is_empty(), "{} rules broken:\n{}", broken.len(), broken.join("\n"));
}

/// All of `src/`, as paths relative to it (with `/`) and texts.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                walk(&path, &format!("{prefix}{name}/"), files);
            } else if name.ends_with(".rs") {
                files.push((format!("{prefix}{name}"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    files.sort();
    files
}

/// What is wrong with one file, one line each. `reexports` maps names at the crate root to their modules.
fn violations(path: &str, source: &str, reexports: &BTreeMap<String, String>) -> Vec<String> {
    let tokens = tokens(source);
    let mut broken = Vec::new();
    let mut complain = |line: usize, what: String| broken.push(format!("src/{path}:{line}: {what}"));

    let lines = source.lines().count();
    if lines > MOST_LINES {
        complain(lines, format!("longer than {MOST_LINES} lines"));
    }
    for pair in tokens.windows(2) {
        if pair[1].text == "!" && ["todo", "unimplemented", "dbg"].contains(&pair[0].text) {
            complain(pair[0].line, format!("{}!", pair[0].text));
        }
    }
    let listed = |list: &[(&str, &str)]| list.iter().any(|(file, _)| *file == path);
    let unsafe_code = tokens.iter().find(|t| t.text == "unsafe").map(|t| t.line);
    let feature = feature_question(&tokens);
    for (what, list, found) in [("unsafe code", UNSAFE_FILES, unsafe_code), ("cfg(feature)", FEATURE_DOORS, feature)] {
        match (listed(list), found) {
            (false, Some(line)) => complain(line, format!("{what} outside the named files")),
            (true, None) => complain(1, format!("named for {what}, but holds none")),
            _ => {}
        }
    }
    let home = modules_of(path);
    let Some(own) = home.first().filter(|own| *own != "bin") else { return broken };
    let Some(height) = height(own) else {
        complain(1, format!("module `{own}` has no layer"));
        return broken;
    };
    let mut paths = absolute_paths(&tokens, &home);
    paths.dedup_by(|a, b| a.0 == b.0 && a.1.first() == b.1.first());
    for (line, reached) in paths {
        let name = reached.first().map_or("*", |first| reexports.get(first).unwrap_or(first));
        match self::height(name) {
            _ if name == own => {}
            Some(other) if other < height || (other == 0 && height == 0) => {}
            Some(other) => complain(line, format!("layer {height} reaches for `{name}` in layer {other}")),
            None => complain(line, format!("`{}` is in no layer", reached.join("::"))),
        }
    }
    broken
}

fn height(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// `plan/mod.rs` is the module [plan], `plan/apply.rs` is [plan, apply], `lib.rs` is [].
fn modules_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(String::from).collect() }
}

/// Names that `lib.rs` lifts to the root: `pub use error::{Error, Result};` gives Error ↦ error.
fn reexports(root: &str) -> BTreeMap<String, String> {
    let tokens = tokens(root);
    let mut names = BTreeMap::new();
    for at in 0..tokens.len() {
        if tokens[at].text == "use" {
            let mut paths = Vec::new();
            use_tree(&tokens, at + 1, &[], &mut paths);
            for (_, path) in paths.iter().filter(|(_, path)| path.len() > 1) {
                names.insert(path[path.len() - 1].clone(), path[0].clone());
            }
        }
    }
    names
}

/// Every path that starts with `crate` or `super`, from the crate root. `home` is the file's module.
fn absolute_paths(tokens: &[Token<'_>], home: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut paths = Vec::new();
    let mut braces: Vec<Option<&str>> = Vec::new(); // the name where a brace opens an inline module
    let mut at = 0;
    let text = |at: usize| tokens.get(at).map_or("", |t: &Token<'_>| t.text);
    while at < tokens.len() {
        match text(at) {
            "{" => braces.push((at >= 2 && text(at - 2) == "mod").then(|| text(at - 1))),
            "}" => drop(braces.pop()),
            // A renamed root would hide what is reached through it.
            "crate" | "super" if text(at + 1) == "as" => paths.push((tokens[at].line, vec![text(at).to_string()])),
            "crate" if text(at + 1) == "::" => {
                at = use_tree(tokens, at + 2, &[], &mut paths);
                continue;
            }
            "super" if text(at + 1) == "::" => {
                let mut base = home.to_vec();
                base.extend(braces.iter().flatten().map(|name| name.to_string()));
                while text(at) == "super" && text(at + 1) == "::" {
                    base.pop();
                    at += 2;
                }
                at = use_tree(tokens, at, &base, &mut paths);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    paths
}

/// Follows `a::{b, c::d as e}` from token `at`; returns the token after it.
fn use_tree(tokens: &[Token<'_>], mut at: usize, prefix: &[String], paths: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|t| t.text != "}") {
                match tokens[at].text {
                    "," => at += 1,
                    "as" => at += 2,
                    _ => at = use_tree(tokens, at, &path, paths).max(at + 1),
                }
            }
            return at + 1;
        }
        if token.text != "*" && !token.is_word() {
            break; // a turbofish: the path before it has been collected
        }
        path.push(token.text.to_string());
        at += 1;
        match tokens.get(at) {
            Some(next) if next.text == "::" => at += 1,
            _ => break,
        }
    }
    let line = tokens.get(at.saturating_sub(1)).map_or(0, |t| t.line);
    paths.push((line, path));
    at
}

/// The line of the first `cfg`, `cfg!` or `cfg_attr` that asks for a feature.
fn feature_question(tokens: &[Token<'_>]) -> Option<usize> {
    (0..tokens.len())
        .find(|&at| tokens[at].text.starts_with("cfg") && asks(&tokens[at + 1..]))
        .map(|at| tokens[at].line)
}

/// Whether the parenthesis that opens here, after an optional `!`, holds the word `feature`.
fn asks(tokens: &[Token<'_>]) -> bool {
    let mut depth = 0;
    for token in tokens.iter().skip_while(|t| t.text == "!") {
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            "feature" => return depth > 0,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

mod the_checker {
    use super::*;

    fn check(path: &str, source: &str) -> Vec<String> {
        let root = "pub use error::{Error, Result};\npub use plan::Plan;";
        violations(path, source, &reexports(root)).iter().map(|v| v.trim_start_matches("src/").to_string()).collect()
    }

    fn only(path: &str, source: &str, line: usize, what: &str) {
        let found = check(path, source);
        let expected = format!("{path}:{line}: ");
        assert!(found.len() == 1 && found[0].starts_with(&expected) && found[0].contains(what), "{source}: {found:?}");
    }

    #[test]
    fn imports_from_below_and_from_home_pass() {
        for (path, source) in [
            ("plan/apply.rs", "use super::Factors;\nuse crate::kernel::{self, Step};"),
            ("plan/apply.rs", "use crate::{batch::{Batch, BatchMut}, error::Result as R};"),
            ("plan/mod.rs", "pub(crate) fn f() -> crate::Result<u8> { crate::error::check::<u8>() }"),
            ("scalar.rs", "use crate::simd::Vectorize; #[cfg(feature = \"half\")] mod half;"),
            ("kernel/tile.rs", "#[cfg(test)] mod tests { use super::*; use super::super::Step; }"),
            ("bin/papilio/main.rs", "use crate::text; use papilio::adapter::merge;"),
            ("lib.rs", "mod plan; pub use plan::Plan; #[cfg(feature = \"files\")] pub mod adapter;"),
        ] {
            assert_eq!(check(path, source), Vec::<String>::new(), "{path}: {source}");
        }
    }

    #[test]
    fn imports_from_above_or_beside_are_found() {
        only("kernel/tile.rs", "\nuse crate::plan::Plan;", 2, "layer 2 reaches for `plan` in layer 3");
        only("kernel/tile.rs", "use crate::parametrization::Cayley;", 1, "`parametrization`");
        only("kernel/tile.rs", "use crate::{layout::StageLayout,\n plan::{Op, Plan as P}};", 2, "`plan`");
        only("kernel/tile.rs", "fn f() {\n  crate::verify::certificate();\n}", 2, "`verify`");
        only("kernel/tile.rs", "use super::super::plan::Op;", 1, "`plan`");
        only("kernel/mod.rs", "mod tests { use super::super::plan::Op; }", 1, "`plan`");
        only("kernel/mod.rs", "use crate::Plan;", 1, "`plan`");
        only("error.rs", "use super::dense::solve;", 1, "`dense`");
        only("error.rs", "use crate::nowhere::x;", 1, "`nowhere::x` is in no layer");
        only("error.rs", "use crate::*;", 1, "`*` is in no layer");
        only("error.rs", "use crate as root;", 1, "`crate` is in no layer");
        only("error.rs", "use crate::{self as root};", 1, "`self` is in no layer");
        only("extra.rs", "", 1, "module `extra` has no layer");
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = r##"//! [`Plan`](crate::plan::Plan), unsafe, todo!()
            /* crate::plan /* nested */ unsafe */
            const A: (&str, &str) = ("crate::plan::Plan \" unsafe", r#"todo!() " cfg(feature)"#);
            fn f<'a>(x: &'a u8) -> char { 'u'; b'\''; '"' } // unsafe"##;
        assert_eq!(check("kernel/tile.rs", source), Vec::<String>::new());
    }

    #[test]
    fn misplaced_features_and_unsafe_code_are_found() {
        only("kernel/tile.rs", "\n#[cfg(all(test, feature = \"rayon\"))] fn f() {}", 2, "cfg(feature)");
        only("kernel/tile.rs", "fn f() -> bool { cfg!(feature = \"rayon\") }", 1, "cfg(feature)");
        only("kernel/tile.rs", "#[cfg_attr(feature = \"std\", derive(Debug))] struct S;", 1, "cfg(feature)");
        only("kernel/tile.rs", "fn f<'a>(x: &'a [u8]) -> u8 { unsafe { *x.as_ptr() } }", 1, "unsafe code");
        only("parallel.rs", "fn f() {}", 1, "named for cfg(feature), but holds none");
        only("batch.rs", "fn f() {}", 1, "named for unsafe code, but holds none");
        assert_eq!(
            check("kernel/tile.rs", "#[cfg(test)] mod t {} #[cfg(target_arch = \"x\")] fn feature() {}").len(),
            0
        );
    }

    #[test]
    fn leftovers_and_long_files_are_found() {
        only("kernel/tile.rs", "fn f() { todo!() }", 1, "todo!");
        only("kernel/tile.rs", "fn f() {\n unimplemented!(\"later\") }", 2, "unimplemented!");
        only("kernel/tile.rs", &"\n".repeat(MOST_LINES + 1), MOST_LINES + 1, "longer than 450 lines");
        assert_eq!(check("kernel/tile.rs", &"\n".repeat(MOST_LINES)).len(), 0);
    }
}
