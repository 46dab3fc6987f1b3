//! The kernels' own text, compiled by the host's C++ compiler and run on the CPU (`shim.h` is the GPU).
//!
//! Every launch runs twice, with threads and blocks in either order: results must be the same bits.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::string::{String, ToString};
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;
use std::{env, format, println};

use super::call::{Argument, Call};

const SHIM: &str = include_str!("shim.h");

/// Buffers by name.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory(pub(super) BTreeMap<&'static str, Vec<u8>>);

impl Memory {
    pub(super) fn with<T: bytemuck::Pod>(mut self, name: &'static str, numbers: &[T]) -> Self {
        self.0.insert(name, bytemuck::cast_slice(numbers).to_vec());
        self
    }

    pub(super) fn get<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        bytemuck::pod_collect_to_vec(&self.0[name])
    }

    /// Runs the call on these buffers.
    pub(super) fn run(&mut self, call: &Call) {
        let executable = compiled(call);
        let names: Vec<&str> = self.0.keys().copied().collect();
        let mut job = Vec::new();
        let mut word = |x: u64| job.extend(x.to_le_bytes());
        word(call.blocks as u64);
        word(call.threads as u64);
        word(call.shared as u64);
        word(names.len() as u64);
        for bytes in self.0.values() {
            job.extend((bytes.len() as u64).to_le_bytes());
            job.extend(bytes);
        }
        let mut word = |x: u64| job.extend(x.to_le_bytes());
        word(call.arguments.len() as u64);
        for argument in &call.arguments {
            let (kind, value) = match argument {
                Argument::Integer(x) => (0, *x as u64),
                Argument::Buffer(name) => {
                    let at = names.iter().position(|n| n == name);
                    (1, at.unwrap_or_else(|| panic!("no buffer {name} for {}", call.program.kernel)) as u64)
                }
                Argument::Nothing => (2, 0),
            };
            word(kind);
            word(value);
        }
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let process = std::process::id();
        let input = folder().join(format!("job-{process}-{number}"));
        fs::write(&input, &job).unwrap();
        let mut results = ["up", "down"].map(|order| {
            let output = folder().join(format!("result-{process}-{number}-{order}"));
            let run = Command::new(&executable).arg(&input).arg(&output).arg(order).output().unwrap();
            let messages = String::from_utf8_lossy(&run.stderr);
            // AddressSanitizer knows fibers well enough for what these do, but says that it does not know all.
            let silent = messages.lines().all(|line| line.contains("makecontext/swapcontext"));
            assert!(run.status.success() && silent, "{}: {}\n{messages}", call.program.kernel, run.status);
            let bytes = fs::read(&output).unwrap();
            fs::remove_file(output).unwrap();
            bytes
        });
        fs::remove_file(input).unwrap();
        assert!(results[0] == results[1], "{} depends on the order of its threads", call.program.kernel);
        let mut rest = &std::mem::take(&mut results[0])[..];
        for bytes in self.0.values_mut() {
            let (own, others) = rest.split_at(bytes.len());
            bytes.copy_from_slice(own);
            rest = others;
        }
    }
}

/// Whether there is a compiler; says so if not.
pub(super) fn is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let there = Command::new(compiler()).arg("--version").output().is_ok_and(|run| run.status.success());
        if !there {
            println!("skipped: no C++ compiler ({}) to run kernels on the CPU with", compiler());
        }
        there
    })
}

fn compiler() -> String {
    env::var("CXX").unwrap_or_else(|_| "c++".to_string())
}

/// Beside the test's own folder, so that what was compiled is there the next time and goes with the rest.
fn folder() -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder =
        test.parent().and_then(|deps| deps.parent()).map_or_else(env::temp_dir, |target| target.join("emulated"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The executable of a call's program; each is compiled once.
fn compiled(call: &Call) -> PathBuf {
    static DONE: Mutex<Option<HashMap<u64, &'static OnceLock<PathBuf>>>> = Mutex::new(None);
    let mut hasher = DefaultHasher::new();
    let more = env::var("PAPILIO_EMULATION_FLAGS").unwrap_or_default();
    (&*call.program, SHIM, &more, compiler()).hash(&mut hasher);
    let key = hasher.finish();
    let once = {
        let mut done = DONE.lock().unwrap();
        *done.get_or_insert_default().entry(key).or_insert_with(|| std::boxed::Box::leak(std::boxed::Box::default()))
    };
    once.get_or_init(|| {
        let path = folder().join(format!("{}-{key:x}", call.program.kernel));
        if path.exists() {
            return path;
        }
        let unfinished = folder().join(format!("{}-{key:x}-{}", call.program.kernel, std::process::id()));
        let text = unfinished.with_extension("cpp");
        let source = &call.program.source;
        let kernel = call.program.kernel;
        fs::write(
            &text,
            format!(
                "{SHIM}\n{source}\nstatic void enter() {{\n    call(&{kernel});\n    fibers[running].state = Fiber::DONE;\n}}\n"
            ),
        )
        .unwrap();
        let mut command = Command::new(compiler());
        command.args(["-std=c++17", "-O1", "-DEMULATED", "-DSTACK=131072", "-ffp-contract=off"]);
        command.args(["-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable", "-Werror"]);
        if cfg!(target_arch = "x86_64") {
            command.arg("-mfma");
        }
        // For instance -fsanitize=address,undefined, with ASAN_OPTIONS=detect_leaks=0.
        command.args(more.split_whitespace());
        let run = command.arg("-o").arg(&unfinished).arg(&text).output().unwrap();
        assert!(run.status.success(), "{}:\n{}", text.display(), String::from_utf8_lossy(&run.stderr));
        fs::remove_file(text).unwrap();
        fs::rename(unfinished, &path).unwrap();
        path
    })
    .clone()
}
