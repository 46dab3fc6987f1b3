//! `papilio bench`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use papilio::parametrization::Charts;
use papilio::{Element, Isa, Plan, Scalar, Topology, c32, c64};

use crate::Outcome;
use crate::signals::Interruption;
use crate::text::{complain, print, print_json};
use crate::topology::files;
use crate::topology::registry::{ENTRIES, Entry, Request};

pub(crate) mod case;
pub(crate) mod clock;
mod plot;
mod report;
pub(crate) mod yardsticks;

use case::{Contender, Settings, Times, VERBS};

/// Time papilio at your sizes, beside copies, the peak of multiply-add, and the dense product
///
/// Every option that is a list makes a case of each combination. All that a case compares takes turns on one machine, several
/// rounds, and medians count: trust ratios within a run, and repeat the run before you trust them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Lengths of the vectors
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1024", value_parser = number())]
    n: Vec<usize>,
    /// Numbers of vectors
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1,512", value_parser = number())]
    batch: Vec<usize>,
    /// Block sizes, for topologies that have one to choose
    #[arg(long, value_name = "B", value_delimiter = ',', default_value = "2,8", value_parser = number())]
    block: Vec<usize>,
    /// Number of stages, for topologies that have it to choose [default: as many as make them dense, or fit]
    #[arg(long, value_name = "M")]
    stages: Option<usize>,
    /// Topology; `papilio help topology` lists them
    #[arg(long, value_name = "NAME", default_value = "boft", value_parser = topology(), hide_possible_values = true)]
    topology: &'static Entry,
    /// Chart of the blocks: Cayley, Givens, Exponential, or another that files of operators may name
    #[arg(long, value_name = "ID", default_value = "Cayley")]
    chart: String,
    /// What the batch is stored as; half precision is computed with as f32
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', default_value = "f32")]
    types: Vec<Type>,
    /// Numbers of threads
    #[arg(long, value_name = "T", value_delimiter = ',', default_value = "1", value_parser = threads())]
    threads: Vec<usize>,
    /// What to time of papilio
    #[arg(long, value_name = "VERB", value_delimiter = ',', value_parser = verb(), default_value = "apply,adjoint,vjp,realize,realize_vjp")]
    verbs: Vec<Contender>,
    /// Instruction set [default: the best of this CPU]
    #[arg(long, value_name = "ISA")]
    isa: Option<Instructions>,
    /// Leave the dense product out (it is left out with several threads, and where its matrix takes more than 1 GiB)
    #[arg(long)]
    no_dense: bool,
    /// Time a plain loop over the same blocks, too
    #[arg(long)]
    naive: bool,
    /// Time for each case
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Tell what runs, too: kernels, operations, bytes, and the larger of arithmetic at the peak and a copy as a bound
    #[arg(long)]
    explain: bool,
    /// Print one JSON object instead of the table
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
    /// Picture of the results: against n, against the block size, against threads
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace a picture that exists
    #[arg(long, requires = "plot")]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio bench --n 64 --batch 16 --seconds 0.1 --explain
  papilio bench --n 256,1024 --block 2 --batch 512 --seconds 0.2 --plot sizes.svg
  papilio bench --batch 16 --type f32,bf16 --threads 1,2 --verbs vjp --seconds 0.1 --json

Columns: apply in ns for each coordinate of the batch; ± the distance of the quartiles; share of the FMA peak (a block is b \
products and b² − b multiply-adds for each vector); times a copy of the batch (below 1 MiB the faster of memcpy and a plain \
loop); how many times slower the dense product is (faer on one thread; for one vector the faster of two layouts); the other \
verbs relative to apply; the naive loop relative to apply. Then the yardsticks themselves.

JSON:
  {\"isa\", \"cases\": [{\"n\", \"batch\", \"block\", \"stages\", \"topology\", \"chart\", \"type\", \"threads\", \"parameters\",
   \"entry_bytes\", \"flops\", \"peak\", \"seconds\": {\"apply\", \"adjoint\", \"vjp\", \"realize\", \"realize_vjp\", \"copy\",
   \"dense\", \"naive\"}, \"bound\", \"spread\", \"ns_per_element\", \"share_of_peak\", \"times_copy\", \"dense_over_apply\",
   \"passes\": [{\"kernel\", \"stages\", \"block\", \"wirings\", \"flops\", \"entry_bytes\"}]}
   or {…, \"does_not_fit\"}], \"plot\"}
  seconds  of one run; null for what was not timed
  flops    of apply on the whole batch; peak is in flops per second, of all threads
  bound    seconds; the larger of flops at the peak and a copy
  spread   the distance of the quartiles of apply, relative to its median

Exit codes: 0 done, also if some cases do not fit; 2 bad usage or input, or a picture that cannot be written; 130 interrupted \
(SIGINT, SIGTERM, SIGHUP)";

/// Coordinates and vectors, at most.
const MOST: usize = 1 << 24;
/// Numbers in a batch, in a dense matrix, and in the blocks of a plan, at most: a gigabyte in single precision.
const MOST_NUMBERS: usize = 1 << 28;

/// How a batch is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Type {
    F32,
    F64,
    C32,
    C64,
    Bf16,
    F16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Instructions {
    Portable,
    Avx2,
    Avx512,
    Neon,
}

/// What is timed, and what came out.
#[derive(Debug)]
struct Finding {
    n: usize,
    batch: usize,
    block: usize,
    kind: String,
    threads: usize,
    /// Stages and times, or why it does not fit.
    result: Result<(usize, Times), String>,
}

fn within(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected a number from 1 to {most}")),
    }
}

pub(crate) fn number() -> impl TypedValueParser<Value = usize> {
    |text: &str| within(text, MOST)
}

fn threads() -> impl TypedValueParser<Value = usize> {
    |text: &str| within(text, 1024)
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.0..=3600.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("expected seconds from 0 to 3600".into()),
    }
}

fn verb() -> impl TypedValueParser<Value = Contender> {
    PossibleValuesParser::new(VERBS.map(|(name, _)| name))
        .try_map(|name| VERBS.iter().find(|verb| verb.0 == name).map(|verb| verb.1).ok_or("no such verb"))
}

pub(crate) fn topology() -> impl TypedValueParser<Value = &'static Entry> {
    PossibleValuesParser::new(ENTRIES.iter().map(|entry| PossibleValue::new(entry.name)))
        .try_map(|name| ENTRIES.iter().find(|entry| entry.name == name).ok_or("no such topology"))
}

impl Arguments {
    pub(crate) fn run(mut self) -> Result<Outcome, String> {
        let (real, complex) = (Charts::<f64>::new(), Charts::<c64>::new());
        if real.find(&self.chart).is_none() && complex.find(&self.chart).is_none() {
            let known: BTreeSet<&str> = real.ids().chain(complex.ids()).collect();
            let known: Vec<&str> = known.into_iter().collect();
            return Err(format!("--chart: expected one of {}, got {}", known.join(", "), self.chart));
        }
        if let Some(target) = &self.plot {
            let (directory, name) = files::split(target)?;
            files::check(directory, &[name], self.force)?;
        }
        if !self.verbs.contains(&Contender::Apply) {
            self.verbs.insert(0, Contender::Apply); // all others are told relative to it
        }
        let isa = match self.isa {
            None => Isa::detect(),
            Some(Instructions::Portable) => Isa::Portable,
            Some(Instructions::Avx2) => Isa::Avx2,
            Some(Instructions::Avx512) => Isa::Avx512,
            Some(Instructions::Neon) => Isa::Neon,
        };
        papilio::Workspace::with_isa(isa).map_err(|e| e.to_string())?;
        let interruption = Interruption::listen();
        let mut cases = Vec::new();
        for &kind in &self.types {
            for &threads in &self.threads {
                for &block in &self.block {
                    for &n in &self.n {
                        cases.extend(self.batch.iter().map(|&batch| (kind, threads, block, n, batch)));
                    }
                }
            }
        }
        let bar = ProgressBar::new(cases.len() as u64); // draws on a terminal only
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}") {
            bar.set_style(style);
        }
        let mut findings = Vec::new();
        for (kind, threads, block, n, batch) in cases {
            let kind_name = kind.to_possible_value().map_or(String::new(), |v| v.get_name().to_string());
            bar.set_message(format!("n = {n}, b = {block}, batch {batch}"));
            let settings = Settings {
                batch,
                threads,
                isa,
                verbs: self.verbs.clone(),
                dense: !self.no_dense && threads == 1 && n.saturating_mul(n) <= MOST_NUMBERS,
                naive: self.naive,
                time: self.seconds,
            };
            let time = match kind {
                Type::F32 => Self::time::<f32>,
                Type::F64 => Self::time::<f64>,
                Type::C32 => Self::time::<c32>,
                Type::C64 => Self::time::<c64>,
                Type::Bf16 => Self::time::<bf16>,
                Type::F16 => Self::time::<f16>,
            };
            let result = match time(&self, n, block, &settings, &interruption) {
                Ok(None) => {
                    bar.finish_and_clear();
                    complain("interrupted", "nothing was written");
                    return Ok(Outcome::Interrupted);
                }
                Ok(Some(found)) => Ok(found),
                Err(reason) => Err(reason),
            };
            findings.push(Finding { n, batch, block, kind: kind_name, threads, result });
            bar.inc(1);
        }
        bar.finish_and_clear();
        let plot = match &self.plot {
            Some(target) => {
                let (directory, name) = files::split(target)?;
                files::write(directory, &[(name, plot::draw(&findings)?)], self.force)?.pop()
            }
            None => None,
        };
        if self.json {
            print_json(&report::json(isa, self.topology.name, &self.chart, &findings, plot.as_deref()))?;
        } else {
            print(&report::text(isa, self.topology.name, &findings, plot.as_deref(), self.markdown, self.explain))?;
        }
        Ok(Outcome::Done)
    }

    /// Number of stages and times of one case; `None` if a signal came.
    fn time<E>(
        &self,
        n: usize,
        block: usize,
        settings: &Settings,
        interruption: &Interruption,
    ) -> Result<Option<(usize, Times)>, String>
    where
        E: Element,
        E::Scalar: faer::traits::ComplexField,
    {
        let topology = self.topology.made(Request { n, b: block, stages: self.stages, seed: 1 });
        let plan: Plan<E::Scalar> = plan(n, &topology.map_err(|e| e.to_string())?, &self.chart)?;
        let largest = plan.num_entries().max(plan.num_params()).max(n.saturating_mul(settings.batch));
        if largest > MOST_NUMBERS {
            return Err(format!("expected at most {MOST_NUMBERS} numbers in a batch and in all blocks, got {largest}"));
        }
        let times = case::measure::<E>(&plan, settings, || interruption.came())?;
        Ok(times.map(|times| (plan.num_stages(), times)))
    }
}

fn plan<T: Scalar>(n: usize, topology: &dyn Topology, chart: &str) -> Result<Plan<T>, String> {
    let Some(chart) = Charts::<T::Wide>::new().find(chart) else {
        let field = if T::IS_COMPLEX { "complex" } else { "real" };
        return Err(format!("chart {chart}: expected one that makes {field} blocks"));
    };
    Plan::new(n, topology, chart).map_err(|e| e.to_string())
}
