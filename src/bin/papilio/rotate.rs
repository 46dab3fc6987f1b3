//! `papilio rotate`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use papilio::random::{DEFAULT_ROUNDS, HadamardCube, Input, KacWalk, Quality, RandomRotation, Reference, quality};
use papilio::{Error, Isa};
use serde_json::{Value, json};

use crate::Outcome;
use crate::bench::{number, seconds};
use crate::signals::Interruption;
use crate::text::{Table, print, print_json};
use crate::topology::files;

mod plot;
mod speed;

/// Measure random rotations: how Gaussian they make hard inputs look, and how fast they are
///
/// Quality: what a uniformly random (Haar) matrix would give, and what papilio's rotation, HD³ (which pads to a power of two) and
/// FHT–Kac (RaBitQ's) give for one-hot vectors, eight equal neighbours, and a decaying spectrum. Speed: beside a copy, additions at
/// their peak, and the dense product.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Lengths of the vectors
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "128,384,768,960,1000,1024,1536,3072", value_parser = number())]
    n: Vec<usize>,
    /// Measure quality [default: unless --bench is given]
    #[arg(long)]
    quality: bool,
    /// Measure speed, for these numbers of vectors
    #[arg(long, value_name = "BATCH", value_delimiter = ',', num_args = 0..=1, require_equals = false, default_missing_value = "1,16,512", value_parser = number())]
    bench: Vec<usize>,
    /// Rounds of papilio's rotation
    #[arg(long, value_name = "R", default_value_t = DEFAULT_ROUNDS, value_parser = rounds)]
    rounds: usize,
    /// Rotations to average over
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = seeds)]
    seeds: usize,
    /// Time for each case of speed
    #[arg(long, value_name = "SECONDS", default_value = "0.3", value_parser = seconds)]
    seconds: Duration,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Picture of the quality: distance of the kurtosis from Haar's against n
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace a picture that exists
    #[arg(long, requires = "plot")]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio rotate --n 1000 --quality
  papilio rotate --n 128,1024 --bench 1,512
  papilio rotate --quality --bench 16 --seeds 256 --plot quality.svg --json

Columns of quality: kurtosis (3n/(n + 2) for Haar) and its standard error over seeds; its largest; mean cosine of a result and its \
signs, the 5% quantile; worst correlation of squares of coordinates 1, 2, 4, … apart, relative; whether kurtosis, cosine \
and quantile are within 3 standard errors or 0.02 of Haar's.
Columns of speed: ns for a vector, there and back; times the additions at their measured peak; times a copy (below 1 MiB the faster of \
memcpy and a loop); times the larger of both; how many times slower the dense product is.

JSON:
  {\"quality\": [{\"n\", \"haar\": {\"kurtosis\", \"cosine\", \"quantile\"}, \"constructions\": [{\"name\", \"inputs\": [{\"input\",
   \"kurtosis\", \"kurtosis_error\", \"worst_kurtosis\", \"cosine\", \"cosine_error\", \"quantile\", \"quantile_error\",
   \"correlation\", \"like_haar\"}]}]}],
   \"speed\": [{\"n\", \"batch\", \"apply\", \"inverse\", \"copy\", \"additions\", \"dense\"}], \"plot\"}
  speed    seconds for a batch

Exit codes: 0 done; 2 bad usage, or a picture that cannot be written; 130 interrupted (SIGINT, SIGTERM, SIGHUP)";

fn rounds(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|r| (1..=16).contains(r)).ok_or_else(|| "expected a number from 1 to 16".into())
}

fn seeds(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|r| (2..=1 << 20).contains(r)).ok_or_else(|| "expected a number from 2 to 1048576".into())
}

/// Constructions that are compared.
const CONSTRUCTIONS: [&str; 3] = ["papilio", "HD³, padded", "FHT–Kac"];

/// What came out for one n.
pub(crate) struct Finding {
    pub(crate) n: usize,
    pub(crate) haar: Reference,
    /// Of each construction, with what it is compared with (padding changes n).
    pub(crate) constructions: Vec<(&'static str, Reference, Vec<Quality>)>,
}

/// Directions in the sample for the quantile.
const SAMPLE: usize = 4000;
/// Largest vectors whose quality is measured.
const MOST: usize = 1 << 20;

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let with_quality = self.quality || self.bench.is_empty();
        if let Some(target) = &self.plot {
            if !with_quality {
                return Err("--plot: expected --quality, which it shows, got --bench alone".into());
            }
            let (directory, name) = files::split(target)?;
            files::check(directory, &[name], self.force)?;
        }
        if let Some(n) = self.n.iter().find(|n| with_quality && **n > MOST) {
            return Err(format!("--n: expected at most {MOST} where quality is measured, got {n}"));
        }
        let interruption = Interruption::listen();
        let (mut findings, mut speeds) = (Vec::new(), Vec::new());
        if with_quality {
            let bar = ProgressBar::new((self.n.len() * CONSTRUCTIONS.len() * Input::ALL.len()) as u64); // on a terminal only
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}") {
                bar.set_style(style);
            }
            for &n in &self.n {
                bar.set_message(format!("n = {n}"));
                match self.measure(n, &bar, &interruption).map_err(|e| e.to_string())? {
                    Some(finding) => findings.push(finding),
                    None => return Ok(Outcome::Interrupted),
                }
            }
            bar.finish_and_clear();
        }
        for &n in &self.n {
            for &batch in &self.bench {
                match speed::measure(n, batch, self.rounds, self.seconds, &|| interruption.came())? {
                    Some(speed) => speeds.push(speed),
                    None => return Ok(Outcome::Interrupted),
                }
            }
        }
        if let Some(target) = &self.plot {
            let (directory, name) = files::split(target)?;
            files::write(directory, &[(name, plot::kurtosis(&findings)?)], self.force)?;
        }
        if self.json {
            let quality: Vec<Value> = findings.iter().map(finding_json).collect();
            let speed: Vec<Value> = speeds.iter().map(speed::Speed::json).collect();
            print_json(&json!({"quality": quality, "speed": speed, "plot": self.plot}))?;
            return Ok(Outcome::Done);
        }
        if with_quality {
            print(&quality_table(&findings, self.seeds))?;
        }
        if !speeds.is_empty() {
            print(&speed::table(&speeds, Isa::detect()))?;
        }
        Ok(Outcome::Done)
    }

    /// `None` if a signal came.
    fn measure(&self, n: usize, bar: &ProgressBar, interruption: &Interruption) -> Result<Option<Finding>, Error> {
        let haar = Reference::new(n, SAMPLE)?;
        let vectors = n.div_ceil(self.seeds).clamp(8, 256);
        let mut constructions = Vec::new();
        for name in CONSTRUCTIONS {
            let length = if name == CONSTRUCTIONS[1] { n.next_power_of_two() } else { n };
            let reference = if length == n { haar } else { Reference::new(length, SAMPLE)? };
            let mut qualities = Vec::new();
            for input in Input::ALL {
                let mut drawn: Option<(usize, Drawn)> = None;
                let found = quality(n, input, self.seeds, vectors, |seed, x| {
                    if interruption.came() {
                        let (expected, got) = ("to go on", format!("seed {seed}"));
                        return Err(Error::Interrupted { what: "quality of random rotations", expected, got });
                    }
                    if drawn.as_ref().is_none_or(|(of, _)| *of != seed) {
                        drawn = Some((seed, Drawn::new(name, n, seed as u64, self.rounds)?));
                    }
                    drawn.as_ref().map_or(Ok(Vec::new()), |(_, drawn)| drawn.apply(x))
                });
                match found {
                    Err(Error::Interrupted { .. }) => return Ok(None),
                    other => qualities.push(other?),
                }
                bar.inc(1);
            }
            constructions.push((name, reference, qualities));
        }
        Ok(Some(Finding { n, haar, constructions }))
    }
}

enum Drawn {
    Ours(RandomRotation<f32>),
    Cube(HadamardCube<f32>),
    Kac(KacWalk<f32>),
}

impl Drawn {
    fn new(name: &str, n: usize, seed: u64, rounds: usize) -> Result<Self, Error> {
        Ok(match CONSTRUCTIONS.iter().position(|c| *c == name) {
            Some(1) => Drawn::Cube(HadamardCube::new(n, seed)?),
            Some(2) => Drawn::Kac(KacWalk::new(n, seed)?),
            _ => Drawn::Ours(RandomRotation::with_rounds(n, seed, rounds)?),
        })
    }

    fn apply(&self, x: &[f32]) -> Result<Vec<f32>, Error> {
        let mut y = x.to_vec();
        match self {
            Drawn::Ours(rotation) => rotation.apply(&mut y)?,
            Drawn::Kac(walk) => walk.apply(&mut y)?,
            Drawn::Cube(cube) => {
                y.resize(cube.padded(), 0.0);
                cube.apply(x, &mut y)?;
            }
        }
        Ok(y)
    }
}

fn quality_table(findings: &[Finding], seeds: usize) -> String {
    let header = ["", "kurtosis", "±", "largest", "cosine", "5% quantile", "correlation", "like Haar"];
    let mut text = String::new();
    for Finding { n, haar, constructions } in findings {
        let mut table = Table::new(header);
        let none = String::new;
        let exact = [format!("{:.4}", haar.kurtosis), none(), none(), format!("{:.4}", haar.cosine)];
        let [kurtosis, error, largest, cosine] = exact;
        let quantile = format!("{:.4}", haar.quantile);
        table.row(["Haar".into(), kurtosis, error, largest, cosine, quantile, none(), none()]);
        for (name, reference, qualities) in constructions {
            for q in qualities {
                table.row([
                    format!("{name}: {}", q.input.name()),
                    format!("{:.4}", q.kurtosis),
                    format!("{:.4}", q.kurtosis_error),
                    format!("{:.1}", q.worst_kurtosis),
                    format!("{:.4}", q.cosine),
                    format!("{:.4}", q.quantile),
                    format!("{:+.4}", q.correlation),
                    if q.is_like_haar(reference) { "yes" } else { "no" }.into(),
                ]);
            }
        }
        text += &format!("n = {n}, {seeds} rotations\n{}\n", table.render());
    }
    text
}

fn finding_json(finding: &Finding) -> Value {
    let constructions: Vec<Value> = finding
        .constructions
        .iter()
        .map(|(name, reference, qualities)| {
            let inputs: Vec<Value> = qualities
                .iter()
                .map(|q| {
                    json!({
                        "input": q.input.name(), "kurtosis": q.kurtosis, "kurtosis_error": q.kurtosis_error,
                        "worst_kurtosis": q.worst_kurtosis, "cosine": q.cosine, "cosine_error": q.cosine_error,
                        "quantile": q.quantile, "quantile_error": q.quantile_error, "correlation": q.correlation,
                        "like_haar": q.is_like_haar(reference),
                    })
                })
                .collect();
            json!({"name": name, "inputs": inputs})
        })
        .collect();
    let haar = &finding.haar;
    let haar = json!({"kurtosis": haar.kurtosis, "cosine": haar.cosine, "quantile": haar.quantile});
    json!({"n": finding.n, "haar": haar, "constructions": constructions})
}
