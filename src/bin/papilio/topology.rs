//! `papilio topology`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use papilio::parametrization::Cayley;
use papilio::transmission::{Dimension, MOST_DRAWN, MOST_REACHABILITY, Network, RankOptions, smallest_dense_depth};
use papilio::{Plan, Transmission};
use serde_json::{Value, json};

use crate::Outcome;
use crate::signals::Interruption;
use crate::text::{Table, complain, print, print_json, printable};

pub(crate) mod files;
mod plot;
pub(crate) mod registry;

use registry::{ENTRIES, Entry, Request};

/// Compare topologies: what they connect, over how many paths, with how many parameters and dimensions, at what cost
///
/// Every block is a trainable rotation of its own, unless the topology shares parameters. The effective dimension is given in
/// closed form where the wiring decides it, else as the rank of the parameter Jacobian at a random point, else not at all.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Length of the vectors
    #[arg(long, value_name = "N", value_parser = size)]
    n: usize,
    /// Only these topologies (repeat the option, or separate names by commas)
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = entry())]
    topology: Vec<&'static Entry>,
    /// Block size, for topologies that have one to choose [default: 8; 4 for n < 64; 2 for n < 16]
    #[arg(long, value_name = "B", value_parser = size)]
    b: Option<usize>,
    /// Number of stages, for topologies that have it to choose [default: as many as make them dense, or fit]
    #[arg(long, value_name = "M")]
    stages: Option<usize>,
    /// Seed of random topologies, and of the points at which ranks are computed
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Most parameters for which a rank is computed; time grows with the third power, memory with the second
    #[arg(long, value_name = "P", default_value = "3072")]
    rank_limit: usize,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Directory for pictures: a plot of parameters and dimension against density, and each network of at most 64 coordinates and stages
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Replace pictures that exist
    #[arg(long, requires = "plot")]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio topology --n 64
  papilio topology --n 1024 --topology butterfly,boft --b 32 --json
  papilio topology --n 16 --topology butterfly --plot pictures

Columns: stages; density of the product; dense after (first stages whose product is dense); free edges (links less one for \
each coordinate and stage, as in the BOFT paper); log₂ of the mean number of paths between a connected input and output; \
parameters; dimension (how many directions Q can move in), and how that is known; multiplications for a vector; bytes of the \
blocks in f32. With one topology, the density after every stage follows.

JSON:
  {\"n\", \"b\", \"seed\", \"topologies\": [{\"name\", \"stages\", \"densities\", \"dense_after\", \"smallest_dense_depth\",
   \"free_edges\", \"paths_log2\": {\"min\", \"max\", \"mean\"}, \"parameters\", \"dimension\", \"dimension_bound\",
   \"dimension_by\", \"rank\": {\"kept\", \"dropped\"}, \"multiply_adds\", \"entry_bytes\", \"vector_bytes\"}
   or {\"name\", \"does_not_fit\"}], \"plots\"}
  densities             of the product of the first 0, 1, … stages
  smallest_dense_depth  the least number of stages with which the topology is dense at all, where it can be chosen (n ≤ 4096)
  paths_log2            null where counting takes too long; min is null if some pair has no path
  dimension_by          \"closed form\" or \"rank\"; null, like dimension, where neither is available
  rank                  the last pivot that counts and the next, relative to the first; null for closed forms

Exit codes: 0 done, also if some topologies do not fit; 2 bad usage or input, or pictures that cannot be written; 130 \
interrupted (SIGINT, SIGTERM, SIGHUP)";

/// Beyond, the smallest dense depth is not searched.
const MOST_SEARCHED: usize = 4096;

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MOST_REACHABILITY).contains(&n) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MOST_REACHABILITY}")),
    }
}

fn entry() -> impl TypedValueParser<Value = &'static Entry> {
    let values = ENTRIES.iter().map(|entry| PossibleValue::new(entry.name).help(entry.about));
    PossibleValuesParser::new(values)
        .try_map(|name| ENTRIES.iter().find(|entry| entry.name == name).ok_or("no such topology"))
}

/// What was found about one topology.
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    /// The figures, or why it does not fit.
    pub(crate) figures: Result<Figures, String>,
}

pub(crate) struct Figures {
    pub(crate) report: Transmission,
    /// Parameters of the first 0, 1, … stages.
    pub(crate) params: Vec<usize>,
    smallest_dense_depth: Option<usize>,
    network: Network,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let n = self.n;
        let b = self.b.unwrap_or(if n < 16 {
            2
        } else if n < 64 {
            4
        } else {
            8
        });
        let request = Request { n, b, stages: self.stages, seed: self.seed };
        let mut entries: Vec<&Entry> = Vec::new();
        for entry in if self.topology.is_empty() { ENTRIES.iter().collect() } else { self.topology.clone() } {
            // A name given twice is one topology, and one picture.
            if entries.iter().all(|other| other.name != entry.name) {
                entries.push(entry);
            }
        }
        if let Some(directory) = &self.plot {
            files::check(directory, &names(&entries, n), self.force)?;
        }
        let interruption = Interruption::listen();
        let bar = ProgressBar::new(1000 * entries.len() as u64); // draws on a terminal only
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent}% {eta} {wide_msg}") {
            bar.set_style(style);
        }
        let options = RankOptions { seed: self.seed, most: self.rank_limit };
        let mut findings = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            bar.set_message(entry.name);
            let examined = examine(entry, request, &options, |share| {
                bar.set_position(1000 * at as u64 + (1000.0 * share) as u64);
                if interruption.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let figures = match examined {
                Err(papilio::Error::Interrupted { .. }) => return Ok(interrupted(&bar)),
                other => other.map_err(|e| e.to_string()),
            };
            findings.push(Finding { name: entry.name, figures });
            if interruption.came() {
                return Ok(interrupted(&bar));
            }
        }
        bar.finish_and_clear();
        let plots = match &self.plot {
            Some(directory) => write_plots(directory, n, &findings, self.force)?,
            None => Vec::new(),
        };
        if self.json {
            let topologies: Vec<Value> = findings.iter().map(value).collect();
            let plots: Vec<_> = plots.iter().map(|path| path.to_string_lossy()).collect();
            print_json(&json!({"n": n, "b": b, "seed": self.seed, "topologies": topologies, "plots": plots}))?;
        } else {
            print(&text(n, b, &findings, &plots))?;
        }
        Ok(Outcome::Done)
    }
}

fn interrupted(bar: &ProgressBar) -> Outcome {
    bar.finish_and_clear();
    complain("interrupted", "nothing was written");
    Outcome::Interrupted
}

fn examine(
    entry: &Entry,
    request: Request,
    options: &RankOptions,
    progress: impl FnMut(f64) -> ControlFlow<()>,
) -> papilio::Result<Figures> {
    let n = request.n;
    let topology = entry.made(request)?;
    let plan = Plan::<f32>::new(n, &topology, Cayley)?;
    let search = entry.has_depth && n <= MOST_SEARCHED;
    let family = |stages| (entry.make)(Request { stages: Some(stages), ..request });
    let most = 4 * n.ilog2() as usize + 4;
    Ok(Figures {
        params: [0].into_iter().chain(plan.stages().iter().map(|stage| stage.theta().end)).collect(),
        smallest_dense_depth: if search { smallest_dense_depth(n, most, family)? } else { None },
        report: Transmission::with(&plan, options, progress)?,
        network: Network::of(&plan),
    })
}

/// The files that `--plot` writes, if all topologies fit.
fn names(entries: &[&Entry], n: usize) -> Vec<String> {
    let networks = entries.iter().filter(|_| n <= MOST_DRAWN).map(|entry| entry.name);
    ["density"].into_iter().chain(networks).map(|name| format!("{name}-{n}.svg")).collect()
}

fn write_plots(directory: &Path, n: usize, findings: &[Finding], force: bool) -> Result<Vec<PathBuf>, String> {
    let mut pictures = vec![(format!("density-{n}.svg"), plot::density(n, findings)?)];
    for finding in findings {
        let Ok(figures) = &finding.figures else { continue };
        if n <= MOST_DRAWN && figures.network.num_stages() <= MOST_DRAWN {
            let title = format!("{}, n = {n}", finding.name);
            let svg = figures.network.picture(&title, Some(0)).map_err(|e| e.to_string())?;
            pictures.push((format!("{}-{n}.svg", finding.name), svg));
        }
    }
    files::write(directory, &pictures, force)
}

fn value(finding: &Finding) -> Value {
    let Figures { report, smallest_dense_depth, .. } = match &finding.figures {
        Ok(figures) => figures,
        Err(reason) => return json!({"name": finding.name, "does_not_fit": reason}),
    };
    // JSON has no infinities: they become null.
    let paths = report.paths.map(|p| json!({"min": p.min_log2, "max": p.max_log2, "mean": p.mean_log2}));
    let rank = match &report.dimension {
        Some(Dimension::Rank(found)) => Some(json!({"kept": found.kept, "dropped": found.dropped})),
        _ => None,
    };
    json!({
        "name": finding.name,
        "stages": report.num_stages(),
        "densities": report.densities,
        "dense_after": report.dense_after,
        "smallest_dense_depth": smallest_dense_depth,
        "free_edges": report.free_edges,
        "paths_log2": paths,
        "parameters": report.params,
        "dimension": report.dimension.map(|d| d.value()),
        "dimension_bound": report.dimension_bound,
        "dimension_by": report.dimension.map(|d| known_by(&d)),
        "rank": rank,
        "multiply_adds": report.cost.multiply_adds,
        "entry_bytes": report.cost.entry_bytes,
        "vector_bytes": report.cost.vector_bytes,
    })
}

fn known_by(dimension: &Dimension) -> &'static str {
    match dimension {
        Dimension::ClosedForm(_) => "closed form",
        Dimension::Rank(_) => "rank",
    }
}

fn text(n: usize, b: usize, findings: &[Finding], plots: &[PathBuf]) -> String {
    let header =
        ["topology", "stages", "density", "dense after", "free edges", "log₂ paths", "parameters", "dimension"];
    let [a, s, d, f, e, l, p, r] = header;
    let mut table = Table::new([a, s, d, f, e, l, p, r, "known by", "multiplications", "bytes"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    for finding in findings {
        let Ok(Figures { report, .. }) = &finding.figures else { continue };
        table.row([
            finding.name.into(),
            report.num_stages().to_string(),
            percent(report.density()),
            or_dash(report.dense_after.map(|k| k.to_string())),
            report.free_edges.to_string(),
            or_dash(report.paths.map(|paths| format!("{:.1}", (paths.mean_log2 - report.density().log2()).abs()))),
            report.params.to_string(),
            report.dimension.map_or(format!("≤ {}", report.dimension_bound), |d| d.value().to_string()),
            or_dash(report.dimension.map(|d| known_by(&d).into())),
            report.cost.multiply_adds.to_string(),
            report.cost.entry_bytes.to_string(),
        ]);
    }
    let mut text = format!("n = {n}, b = {b}\n\n");
    if findings.iter().any(|finding| finding.figures.is_ok()) {
        text += &table.render();
    }
    for finding in findings {
        if let Err(reason) = &finding.figures {
            text += &format!("{} does not fit: {}\n", finding.name, printable(reason));
        }
    }
    if let [Finding { figures: Ok(figures), .. }] = findings {
        let mut table = Table::new(["after stages", "density", "parameters"]);
        for (k, (density, params)) in figures.report.densities.iter().zip(&figures.params).enumerate() {
            table.row([k.to_string(), percent(*density), params.to_string()]);
        }
        text += &format!("\n{}", table.render());
        if let Some(depth) = figures.smallest_dense_depth {
            text += &format!("\nsmallest depth that is dense: {depth}\n");
        }
    }
    for plot in plots {
        text += &format!("{} written\n", printable(plot.display()));
    }
    text
}

fn percent(share: f64) -> String {
    match 100.0 * share {
        _ if share == 1.0 => "100 %".into(),
        p if p >= 99.95 => ">99.9 %".into(),
        p if p >= 1.0 => format!("{p:.1} %"),
        p => format!("{p:.3} %"),
    }
}
