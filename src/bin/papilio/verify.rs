//! `papilio verify`

use std::path::{Path, PathBuf};

use clap::Args;
use papilio::adapter::{Adapter, Hint, PRESERVED_LIMIT, PreservedOptions, RotationReport, rotation_warnings};
use papilio::storage::Matrix;
use papilio::verify::orthogonality;
use papilio::{Parallelism, c64};
use serde_json::json;

use crate::progress::portions;
use crate::text::{Table, complain, number, print, print_json, printable};
use crate::{Outcome, operator, preserved};

/// Check that a matrix, a saved operator, or every rotation of an adapter is orthogonal; show what an adapter preserves
///
/// A matrix is judged by LAPACK's ratio ‖I − QᵀQ‖₁/(n·eps), eps being the machine epsilon of the type that it is stored
/// in; it must be square. The rotations of an adapter, and operators that Orthogonal::save wrote, are judged by a certificate, a rigorous bound on ‖RᵀR − I‖₂ that
/// needs no dense matrix; their ratio is that bound over n·eps, with 2⁻⁵² for adapters, the largest of all layers.
///
/// With --base and --adapter, every adapted weight W is compared with W' = diag(s)·W·Rᵀ as merge would write it. Rows are
/// neurons. A rotation keeps the angles between them, their lengths, their hyperspherical energy (the mean of
/// 1/‖ŵ_i − ŵ_j‖ over pairs) and the singular values; the table shows how far. The scale s changes lengths, so what is
/// judged is the step from diag(s)·W to W'. The ratio is the largest change over what rounding to the weight's type may do:
/// eps for cosines, ½·eps for relative lengths, eps·Σ1/d² for the sum of 1/d, ½·eps·‖W‖_F for singular values, with eps of
/// the weight's type plus 8·2⁻⁵².
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A matrix (.npy or safetensors), an operator (safetensors), or an adapter (directory or safetensors file)
    #[arg(required_unless_present = "base", conflicts_with_all = ["base", "adapter"])]
    path: Option<PathBuf>,
    /// Base model: show what the adapter preserves of it
    #[arg(long, value_name = "DIR|FILE", requires = "adapter")]
    base: Option<PathBuf>,
    /// The adapter that goes with --base
    #[arg(long, value_name = "DIR|FILE", requires = "base")]
    adapter: Option<PathBuf>,
    /// What wrote the adapter, where it does not say it: peft-VERSION such as peft-0.13.2, lycoris, kohya, onetrainer
    #[arg(long, value_name = "NAME")]
    dialect: Option<Hint>,
    /// With --base: only layers whose path contains this (may be repeated)
    #[arg(long, value_name = "TEXT", conflicts_with = "path")]
    layer: Vec<String>,
    /// With --base: compare the pairs of up to so many neurons, a seeded sample of more
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = several, conflicts_with = "path")]
    neurons: usize,
    /// With --base: seed of that sample
    #[arg(long, default_value_t = 0, conflicts_with = "path")]
    seed: u64,
    /// With --base: all singular values of weights whose smaller side is at most this; the largest alone of others
    #[arg(long, value_name = "SIZE", default_value_t = 1024, conflicts_with = "path")]
    singular_values: usize,
    /// Largest ratio that passes as orthogonal, or preserved [default: 30; with --base 2]
    #[arg(long, value_parser = positive)]
    ratio: Option<f64>,
    /// The tensor to check, if the file holds several square ones
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    tensor: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio verify rotation.npy
  papilio verify model.safetensors --tensor rotation --ratio 10
  papilio verify llama-boft --json
  papilio verify --base llama --adapter llama-boft --layer q_proj

JSON:
  {\"ratio\", \"defect\", \"orthogonal\"}
  ratio   ‖I − QᵀQ‖₁ / (n·eps) of a matrix; the largest certificate / (n·eps) of an adapter or operator
  defect  a bound on ‖QᵀQ − I‖₂
of an adapter also
  \"layers\": [{\"name\", \"method\", \"n\", \"block\", \"stages\", \"defect\", \"ratio\", \"exact\", \"distance\", \"moves\",
   \"sampled\", \"change\", \"lost_in_bf16\"}]
  exact         orthogonal by construction: false for truncated series, blocks stored as they are, and RoAd's, which scale
  distance      rigorous bound on ‖R − I‖₂; of PSOFT ‖R − I‖_F of its core
  moves         ‖R − I‖_F/√n (rms); sampled: estimated from some of the columns
  change        ‖W' − W‖_F/‖W‖_F to expect of a weight without preferred directions, its scale included; null where only
                the weight tells
  lost_in_bf16  the part of it that rounding to bf16 loses, about; --base tells for the weights at hand
  Values beyond the range of doubles are given as the largest double.
JSON with --base:
  {\"layers\": [{\"name\", \"rows\", \"n\", \"dtype\", \"scale\", \"change\", \"lost\", \"neurons\", \"sampled\", \"pairs\", \"cosine_max\", \"cosine_rms\",
    \"norm_max\", \"energy\", \"spectral_norm\", \"all_singular_values\", \"singular_max\", \"defect\", \"ratio\", \"seconds\"}],
   \"ratio\", \"preserved\"}
  scale                [smallest, largest] of s, or null if all are 1
  change               ‖W' − W‖_F/‖W‖_F, with W' as merged
  lost                 the part of it that rounding W' to the weight's type loses, ‖fl(W') − W'‖_F/‖W' − W‖_F
  neurons, pairs       that were compared; sampled: not all of them
  cosine_max, _rms     change of the cosines of pairs
  norm_max             largest relative change of a length by the rotation
  energy               [before, after], the mean of 1/‖ŵ_i − ŵ_j‖ over the pairs
  spectral_norm        [‖W‖₂, ‖W'‖₂]; lower bounds unless all_singular_values
  singular_max         largest change of a singular value by the rotation, over the largest one
  defect               rigorous bound on ‖RᵀR − I‖₂

With --base the largest adapted weight is held twice in double precision, and time goes with k²·n for k neurons and with the
third power of --singular-values.

Exit codes: 0 orthogonal, preserved; 1 not; 2 bad usage or input, also for a matrix that is not square or not finite; 130 \
interrupted";

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("expected a positive number".into()),
    }
}

fn several(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if count >= 2 => Ok(count),
        _ => Err("expected a number of at least 2, as pairs are compared".into()),
    }
}

/// Ratio and defect, and what to print before the verdict.
struct Finding {
    ratio: f64,
    defect: f64,
    text: String,
    /// Of an adapter.
    layers: Vec<RotationReport>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        if let (Some(base), Some(adapter)) = (&self.base, &self.adapter) {
            let mut options = PreservedOptions::new(base, adapter);
            options.dialect = self.dialect;
            (options.layers, options.singular_values) = (self.layer, self.singular_values);
            (options.neurons, options.seed) = (self.neurons, self.seed);
            return preserved::run(&options, self.ratio.unwrap_or(PRESERVED_LIMIT), self.json);
        }
        let path = self.path.unwrap_or_default();
        if self.tensor.is_none()
            && let Some(operator) = operator::read(&path).map_err(|e| e.to_string())?
        {
            let text = format!("{}: {}\n", printable(path.display()), operator.text());
            let found = Finding { ratio: operator.ratio, defect: operator.defect, text, layers: Vec::new() };
            return found.judge(self.ratio, self.json);
        }
        let is_adapter = self.tensor.is_none() && Adapter::is_at(&path).map_err(|e| e.to_string())?;
        let finding = if is_adapter { adapter(&path, self.dialect) } else { matrix(&path, self.tensor.as_deref()) };
        finding.map_err(|e| e.to_string())?.judge(self.ratio, self.json)
    }
}

impl Finding {
    fn judge(self, limit: Option<f64>, json: bool) -> Result<Outcome, String> {
        let (ratio, defect, text) = (self.ratio.min(f64::MAX), self.defect.min(f64::MAX), self.text);
        let limit = limit.unwrap_or(30.0);
        let orthogonal = ratio <= limit;
        if json {
            let mut found = json!({"ratio": ratio, "defect": defect, "orthogonal": orthogonal});
            if !self.layers.is_empty() {
                found["layers"] = json!(self.layers);
            }
            print_json(&found)?;
        } else {
            let verdict = if orthogonal { "orthogonal" } else { "NOT orthogonal" };
            print(&format!("{text}{verdict}: ratio {} (limit {limit}), ‖QᵀQ − I‖₂ ≤ {defect:.1e}\n", number(ratio),))?;
        }
        Ok(if orthogonal { Outcome::Done } else { Outcome::NotOrthogonal })
    }
}

fn matrix(path: &Path, tensor: Option<&str>) -> papilio::Result<Finding> {
    let Matrix { name, n, kind, is_complex, data } = Matrix::read(path, tensor)?;
    let found = if is_complex {
        let entries: Vec<c64> = data.as_chunks::<2>().0.iter().map(|&[re, im]| c64 { re, im }).collect();
        orthogonality(n, n, &entries, Parallelism::Rayon)?
    } else {
        orthogonality(n, n, &data, Parallelism::Rayon)?
    };
    let tensor = name.map_or_else(String::new, |name| format!(" `{}`,", printable(name)));
    let field = if is_complex { "complex " } else { "" };
    let text = format!("{}:{tensor} {n}×{n} {field}matrix of type {kind}\n", printable(path.display()));
    Ok(Finding { ratio: found.ratio * (f64::EPSILON / kind.eps()), defect: found.defect, text, layers: Vec::new() })
}

fn adapter(path: &Path, dialect: Option<Hint>) -> papilio::Result<Finding> {
    let adapter = Adapter::open_as(path, dialect)?;
    adapter.warnings().iter().for_each(|warning| complain("warning", warning));
    let header = ["layer", "method", "n", "b", "m", "‖RᵀR − I‖ ≤", "ratio", "‖R − I‖ ≤", "rms", "change", "bf16 loses"];
    let mut table = Table::new(header);
    let bar = portions(adapter.layers().len());
    let mut layers = Vec::new();
    for layer in adapter.layers() {
        bar.set_message(printable(&layer.module));
        let found = adapter.rotation(layer)?;
        let [n, b, m] = [found.n, found.block, found.stages].map(|x| x.to_string());
        let (change, lost) = (found.change, found.lost_in_bf16.map(|lost| 100.0 * lost));
        table.row([
            found.name.clone(),
            found.method.clone(),
            n,
            b,
            m,
            format!("{:.1e}{}", found.defect, if found.shows() { " !" } else { "" }),
            number(found.ratio),
            number(found.distance),
            number(found.moves),
            change.map_or("".into(), number),
            lost.map_or("".into(), |lost| format!("{lost:.1} %")),
        ]);
        layers.push(found);
        bar.inc(1);
    }
    bar.finish_and_clear();
    rotation_warnings(&layers).iter().for_each(|warning| complain("warning", warning));
    let worst = |of: fn(&RotationReport) -> f64| layers.iter().map(of).fold(0.0, f64::max);
    let text = format!("{}: {} adapter\n\n{}\n", printable(path.display()), adapter.dialect(), table.render());
    Ok(Finding { ratio: worst(|l| l.ratio), defect: worst(|l| l.defect), text, layers })
}
