//! `papilio fit`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use papilio::fit::{self, Group, Options, Start, Stop, Target};
use papilio::storage::Output;
use papilio::topology::Repeated;
use papilio::{Element, Isa, Parallelism, Plan, Scalar, StageLayout, Topology, Wide, c32, c64, verify};

use crate::Outcome;
use crate::bench::case::{self, Contender, Settings};
use crate::bench::topology;
use crate::signals::Interruption;
use crate::text::{complain, print, print_json, printable};
use crate::topology::files;
use crate::topology::registry::{ENTRIES, Entry, Request};

mod explored;
mod outputs;
mod plot;
mod report;
mod single;
mod target;

use explored::Tried;
use target::{Given, Named};

/// Approximate a given orthogonal matrix by a structured product: find its fast algorithm
///
/// TARGET is a square matrix in a file (.npy, or a tensor of a safetensors file or model), or one that is made here: hadamard:N,
/// dft:N (unitary), dct:N, dct3:N, dct4:N, dst:N, dst3:N, dst4:N, hartley:N, real-dft:N, wavelet:N (Haar's wavelet transform), haar:N (random,
/// from the Haar measure of the --group), planted:N (a product of random blocks of the wiring that is asked for), identity:N. noise:SIGMA after it
/// adds SIGMA·G/√N, G Gaussian, and takes the polar factor.
///
/// The blocks of the wiring are free orthogonal (unitary) blocks. Wirings that chain, such as butterflies, are factorized in one pass, exactly if
/// the target is in their class; sweeps of polar factors then lower the error (and raise it once to leave a wrong determinant). e = ‖Q − R‖²_F/(2n) is 0 for an exact fit and 1 for
/// a product that has nothing to do with the target; most matrices are far from every fast one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A matrix in a file, or KIND:N; perhaps noise:SIGMA after it
    #[arg(required = true, num_args = 1..=2, value_name = "TARGET")]
    target: Vec<String>,
    /// The tensor to fit, if the file holds several square ones
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    /// Fit the polar factor of a matrix that is not orthogonal
    #[arg(long)]
    project: bool,
    /// Take inputs, or give outputs, in bit-reversed order
    #[arg(long, value_name = "SIDE", value_enum)]
    bit_reversed: Option<target::Side>,
    /// Fit unitary blocks to a real target, too
    #[arg(long)]
    complex: bool,
    /// Topology; `papilio help topology` lists them [default: butterfly; any-butterfly if N is no power of 2]
    #[arg(long, value_name = "NAME", value_parser = topology(), hide_possible_values = true)]
    topology: Option<&'static Entry>,
    /// Block size, for topologies that have one to choose
    #[arg(long, value_name = "B", default_value_t = 2, value_parser = positive)]
    block: usize,
    /// Number of stages, for topologies that have it to choose [default: as many as make them dense, or fit]
    #[arg(long, value_name = "M", value_parser = positive)]
    stages: Option<usize>,
    /// The whole topology so many times, one after the other
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = positive)]
    repeat: usize,
    /// Try all kinds of structures of at most so many parameters, and take the best; with --goal, the cheapest that is good enough
    #[arg(long, value_name = "PARAMETERS", conflicts_with_all = ["topology", "block", "stages", "repeat", "method"])]
    budget: Option<usize>,
    /// How to fit
    #[arg(long, value_enum, default_value_t = Method::Auto)]
    method: Method,
    /// Blocks that are allowed: all orthogonal ones, or rotations
    #[arg(long, value_enum, default_value_t = Blocks::Full)]
    group: Blocks,
    /// Where sweeps begin; identity for targets near it
    #[arg(long, value_enum, default_value_t = From::Random)]
    start: From,
    /// Seed of random targets, wirings and starts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs from different starts, the product of one pass first if there is one, then random ones; the best counts
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = positive)]
    restarts: usize,
    /// Sweeps of a run, at most
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    sweeps: usize,
    /// A run ends when a sweep lowers the error by less than this part of it
    #[arg(long, value_name = "PART", default_value_t = 1e-6, value_parser = not_negative)]
    tolerance: f64,
    /// A run ends at this error e
    #[arg(long, value_name = "E", default_value_t = 0.0, value_parser = not_negative)]
    goal: f64,
    /// Fit on one thread
    #[arg(long)]
    one_thread: bool,
    /// Write the product as an operator that Orthogonal::load reads (docs/format.md)
    #[arg(long, value_name = "FILE.safetensors")]
    out: Option<PathBuf>,
    /// The operator in single precision
    #[arg(long, requires = "out")]
    single: bool,
    /// The operator with trainable blocks in this chart, instead of fixed ones; charts of rotations need --group special
    #[arg(long, value_name = "ID", requires = "out")]
    chart: Option<String>,
    /// Write the product as a dense matrix
    #[arg(long, value_name = "FILE.npy")]
    dense_out: Option<PathBuf>,
    /// Picture of the error against sweeps
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// With --budget: picture of the errors of all structures against their parameters and effective dimensions
    #[arg(long, value_name = "FILE.svg", requires = "budget")]
    pareto: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Time for measuring a product against a dense one; 0 measures nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3, value_parser = not_negative)]
    seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio fit hadamard:1024
  papilio fit dft:256 --bit-reversed inputs --out dft.safetensors
  papilio fit planted:512 noise:0.5 --plot error.svg
  papilio fit haar:128 --topology boft --block 4 --group special --restarts 3
  papilio fit haar:16 --repeat 5 --group special
  papilio fit haar:32 --budget 400 --pareto pareto.svg
  papilio fit rotation.npy --topology monarch --dense-out near.npy --json

JSON:
  {\"target\", \"n\", \"field\", \"moved\", \"topology\", \"block\", \"stages\", \"error\", \"relative_frobenius\",
   \"orthogonality_ratio\", \"parameters\", \"effective_dimension\", \"sweeps\", \"stop\", \"bound\", \"seconds\", \"apply_ns\",
   \"dense_apply_ns\", \"curve\", \"tried\", \"written\"}
  moved                ‖Q − file‖_F, where what is in the file is not orthogonal to the last digit
  error                e = ‖Q − R‖²_F/(2n), from the difference
  orthogonality_ratio  a rigorous bound on ‖RᴴR − I‖₂, over n·2⁻⁵²
  parameters           dimension of the groups that the blocks come from
  effective_dimension  how many directions the product can move in; null where that is not known
  stop                 exact (or at the goal), converged, sweeps, interrupted, or direct for methods without sweeps
  bound                no orthogonal product of this wiring has a smaller e; null where that is not known
  apply_ns             for one vector of a batch of 64 in double precision on one thread; dense_apply_ns by a dense product (faer)
  curve                e before the first sweep, and after each
  tried                with --budget all structures: {\"name\", \"block\", \"stages\", \"parameters\", \"effective_dimension\", \"flops\",
                       \"error\", \"sweeps\", \"apply_ns\", \"pareto\", \"pareto_dimension\"}; else null

An interrupt (Ctrl-C) ends the fit after the present sweep; the best product so far is told and written. What cannot be written is told after
the report.

Exit codes: 0 done, whatever the error; 2 bad usage or input, or outputs that cannot be written; 130 interrupted";

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// One pass where the wiring chains, then sweeps; sweeps alone for targets far away
    Auto,
    /// Sweeps of block polar factors
    Alternating,
    /// One pass by singular vectors of parts
    Hierarchical,
    /// One pass by eigenvectors, for radix 2
    Projection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Blocks {
    Full,
    Special,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Random,
    Identity,
}

/// The batch that is timed.
const BATCH: usize = 64;
/// Entries of a dense matrix that is timed, at most.
const MOST_DENSE: usize = 1 << 26;

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1 << 24).contains(&count) => Ok(count),
        _ => Err("expected a number from 1 to 16777216".into()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.0..=1e9).contains(&x) => Ok(x),
        _ => Err("expected a number that is not negative".into()),
    }
}

/// What a fit came to, whatever its field.
struct Finding {
    name: String,
    n: usize,
    field: &'static str,
    moved: Option<f64>,
    known: Option<(&'static str, usize)>,
    topology: String,
    /// At 2/n from a target of determinant −1, by rotations.
    reflection: bool,
    /// More than rounding is left: an exact stop was the goal.
    goal: bool,
    block: usize,
    stages: usize,
    error: f64,
    relative_frobenius: f64,
    ratio: f64,
    parameters: usize,
    dimension: Option<usize>,
    sweeps: usize,
    stop: Stop,
    bound: Option<f64>,
    seconds: f64,
    apply_ns: Option<f64>,
    dense_apply_ns: Option<f64>,
    curve: Vec<f64>,
    /// All structures, where one was to be found.
    tried: Option<Vec<Tried>>,
    written: Vec<PathBuf>,
}

/// What was found, and whether its files could be written.
type Outputs = (Finding, Result<(), String>);

/// A product, and how it was found.
struct Found<W: Wide> {
    fit: fit::Fit<W>,
    topology: String,
    dimension: Option<usize>,
    seconds: f64,
    interrupted: bool,
    tried: Option<Vec<Tried>>,
}

/// Where a path leads, for comparison.
fn place(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_path_buf());
    path.file_name().map_or(parent.clone(), |name| parent.join(name))
}

/// Whether an error is 2/n and the target a reflection: what keeps rotations away from it.
fn is_reflection<W: Wide>(target: &Target<W>, error: f64) -> bool {
    let n = target.n();
    !W::IS_COMPLEX
        && (error * n as f64 * 0.5 - 1.0).abs() < 0.05
        && faer::Mat::from_fn(n, n, |i, j| target.entries()[i * n + j].re()).determinant() < 0.0
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        self.check_outputs()?;
        let request = target::Request {
            words: &self.target,
            tensor: self.tensor.as_deref(),
            project: self.project,
            bit_reversed: self.bit_reversed,
            complex: self.complex,
            group: self.group(),
            seed: self.seed,
        };
        let named = request.target(|n| self.layouts(n).map(|(_, layouts)| layouts))?;
        let finding = match &named.given {
            Given::Real(target) => self.fit::<f64, f32>(target, &named, "real")?,
            Given::Complex(target) => self.fit::<c64, c32>(target, &named, "complex")?,
        };
        let Some((finding, written)) = finding else {
            complain("interrupted", "before anything was tried");
            return Ok(Outcome::Interrupted);
        };
        if self.json {
            print_json(&report::json(&finding))?;
        } else {
            print(&report::text(&finding))?;
        }
        written?;
        if finding.stop == Stop::Interrupted {
            complain("interrupted", "this is the best so far");
            return Ok(Outcome::Interrupted);
        }
        Ok(Outcome::Done)
    }

    /// Before any work: whether the outputs may be written, as far as can be seen.
    fn check_outputs(&self) -> Result<(), String> {
        let all: Vec<&PathBuf> = [&self.out, &self.dense_out, &self.plot, &self.pareto].into_iter().flatten().collect();
        for (at, path) in all.iter().enumerate() {
            if all[..at].iter().any(|other| place(other) == place(path)) {
                let path = printable(path.display());
                return Err(format!("{path}: expected a file of its own for each output, got the same for two"));
            }
        }
        for path in [&self.out, &self.dense_out].into_iter().flatten() {
            drop(Output::file(path, self.force).map_err(|e| e.to_string())?);
        }
        for path in [&self.plot, &self.pareto].into_iter().flatten() {
            let (directory, name) = files::split(path)?;
            files::check(directory, &[name], self.force)?;
        }
        Ok(())
    }

    fn group(&self) -> Group {
        match self.group {
            Blocks::Full => Group::Full,
            Blocks::Special => Group::Special,
        }
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        options.group = self.group();
        options.start = match self.start {
            From::Random => Start::Random,
            From::Identity => Start::Identity,
        };
        (options.seed, options.restarts, options.sweeps) = (self.seed, self.restarts, self.sweeps);
        (options.tolerance, options.goal) = (self.tolerance, self.goal);
        options.parallelism = if self.one_thread { Parallelism::None } else { Parallelism::Rayon };
        options
    }

    /// The topology on n coordinates, and its stages.
    fn layouts(&self, n: usize) -> Result<(Arc<dyn Topology>, Vec<StageLayout>), String> {
        let told = |e: papilio::Error| e.to_string();
        let topology = self.entry(n)?.made(Request { n, b: self.block, stages: self.stages, seed: self.seed });
        let mut topology = topology.map_err(told)?;
        if self.repeat > 1 {
            topology = Arc::new(Repeated::new(topology, self.repeat));
        }
        let layouts = fit::layouts(n, &topology).map_err(told)?;
        Ok((topology, layouts))
    }

    fn entry(&self, n: usize) -> Result<&'static Entry, String> {
        let default = if n.is_power_of_two() { "butterfly" } else { "any-butterfly" };
        let named = || ENTRIES.iter().find(|entry| entry.name == default);
        self.topology.or_else(named).ok_or_else(|| "no such topology".to_string())
    }

    /// What was found, if anything was, and whether it could be written.
    fn fit<W, S>(&self, target: &Target<W>, named: &Named, field: &'static str) -> Result<Option<Outputs>, String>
    where
        W: Wide + Element<Scalar = W> + faer::traits::ComplexField,
        S: Scalar<Wide = W>,
    {
        let told = |e: papilio::Error| e.to_string();
        let n = target.n();
        let chart = self.chart::<W>(n)?;
        let interruption = Interruption::listen();
        let found = match self.budget {
            Some(budget) => self.best(target, budget, &interruption)?,
            None => Some(self.single(target, &interruption)?),
        };
        let Some(found) = found else { return Ok(None) };
        let fit = &found.fit;
        let layouts = || fit.plan().stages().iter().map(papilio::Stage::layout);
        let factors = fit.plan().realize::<f64>(&[]).map_err(told)?;
        let defect = verify::certificate(fit.plan(), &factors).map_err(told)?.defect;
        let (apply_ns, dense_apply_ns) = self.times(fit.plan(), true, &interruption)?;
        let mut finding = Finding {
            name: named.name.clone(),
            n,
            field,
            moved: named.moved,
            known: named.known,
            topology: found.topology,
            reflection: self.group == Blocks::Special && is_reflection(target, fit.error),
            goal: fit.relative_frobenius > 16.0 * f64::EPSILON * layouts().len().max(1) as f64,
            block: layouts().map(StageLayout::block_size).max().unwrap_or(1),
            stages: layouts().len(),
            error: fit.error,
            relative_frobenius: fit.relative_frobenius,
            ratio: defect / (n as f64 * f64::EPSILON),
            parameters: fit.num_parameters(),
            dimension: found.dimension,
            sweeps: fit.sweeps,
            stop: if found.interrupted || interruption.came() { Stop::Interrupted } else { fit.stop },
            bound: fit.bound,
            seconds: found.seconds,
            apply_ns,
            dense_apply_ns,
            curve: fit.curve.clone(),
            tried: found.tried,
            written: Vec::new(),
        };
        let written = self.write::<W, S>(fit, chart, &mut finding);
        Ok(Some((finding, written)))
    }

    /// Nanoseconds for one vector, and those of a dense product.
    fn times<W>(
        &self,
        plan: &Plan<W>,
        dense: bool,
        interruption: &Interruption,
    ) -> Result<(Option<f64>, Option<f64>), String>
    where
        W: Wide + Element<Scalar = W> + faer::traits::ComplexField,
    {
        if self.seconds == 0.0 {
            return Ok((None, None));
        }
        let settings = Settings {
            batch: BATCH,
            threads: 1,
            isa: Isa::detect(),
            verbs: vec![Contender::Apply],
            dense: dense && plan.n().saturating_mul(plan.n()) <= MOST_DENSE,
            naive: false,
            time: Duration::from_secs_f64(if dense { self.seconds } else { 0.1 * self.seconds }),
        };
        let times = case::measure::<W>(plan, &settings, || interruption.came())?;
        let each = |seconds: f64| 1e9 * seconds / BATCH as f64;
        Ok((times.as_ref().map(|t| each(t.apply())), times.as_ref().and_then(case::Times::dense).map(each)))
    }
}
