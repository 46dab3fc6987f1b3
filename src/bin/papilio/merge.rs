//! `papilio merge`, `papilio unmerge`

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use indicatif::HumanBytes;
use papilio::Parallelism;
use papilio::adapter::{Hint, MergeOptions, MergeReport, Strength, merge, unmerge};
use papilio::storage::FloatType;

use crate::Outcome;
use crate::progress::shown;
use crate::text::{Table, complain, count, number, print, print_json, printable, seconds};

/// Merge orthogonal adapters into their base model
///
/// Every adapted weight W becomes diag(s)·L·W·Rᵀ, computed in double precision without forming L or R and rounded once,
/// however many adapters there are; trained biases and heads (modules_to_save) replace the old ones; all other tensors are
/// copied byte for byte. Sizes come from the tensors, never from the configuration. A table shows for every layer the
/// certified deviation of its rotations from orthogonality and the relative change of the weight.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Base model: a directory (model.safetensors, or shards with their index) or a safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    base: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Take adapters out of a model that they were merged into
///
/// Undoes `papilio merge` with the same adapters in the same order: W = L⁻¹·diag(1/s)·W'·R⁻ᵀ, by transposes where the
/// rotations are orthogonal and by the inverses of their blocks where they are not. Weights come back up to the rounding of
/// the merged ones; biases and heads that an adapter replaced stay as they are.
#[derive(Debug, Args)]
#[command(after_help = UNMERGE)]
pub(crate) struct UnmergeArguments {
    /// Merged model: a directory (model.safetensors, or shards with their index) or a safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    merged: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Adapter: a directory as PEFT saves it, or a safetensors file; several act in the order given
    #[arg(long = "adapter", value_name = "DIR|FILE", required = true)]
    adapters: Vec<PathBuf>,
    /// What wrote the adapters, where they do not say it: peft-VERSION such as peft-0.13.2, lycoris, kohya, onetrainer
    #[arg(long, value_name = "NAME")]
    dialect: Option<Hint>,
    #[command(flatten)]
    strength: StrengthArguments,
    /// Output: a directory if the model is a directory, a file if it is a file; appears whole or not at all
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Type of all floating-point tensors of the output [default: each as in the model]
    #[arg(long, value_name = "TYPE", value_parser = float_type())]
    dtype: Option<FloatType>,
    /// Replace an existing output (only an empty or a safetensors file; a directory only if it is empty or holds nothing
    /// but a model)
    #[arg(long)]
    force: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// At most one of them.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct StrengthArguments {
    /// Fraction of the adapter: every block along its rotation, so that all between 0 and 1, and beyond, is orthogonal
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// I + T·(B − I) in place of every block B, as LyCORIS has its multiplier: not orthogonal between 0 and 1
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    linear_blend: Option<f64>,
    /// Only the first K factors of every rotation, as in BOFT's weight interpolation
    #[arg(long, value_name = "K")]
    keep_stages: Option<usize>,
}

impl StrengthArguments {
    fn strength(&self) -> Strength {
        match (self.strength, self.linear_blend, self.keep_stages) {
            (Some(t), ..) => Strength::Fraction(t),
            (_, Some(t), _) => Strength::LinearBlend(t),
            (.., Some(k)) => Strength::Stages(k),
            _ => Strength::Whole,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  papilio merge --base llama --adapter llama-boft --out llama-merged
  papilio merge --base model.safetensors --adapter adapter.safetensors --out merged.safetensors
  papilio merge --base llama --adapter llama-boft --out llama-merged --dtype bf16 --force --json
  papilio merge --base llama --adapter style --adapter subject --out both --strength 0.7

A directory gives a directory that transformers loads: the same shards and index, config.json, tokenizer and other \
files. Weights in other formats, hidden files and adapter_config.json are not copied.

JSON:
  {\"layers\": [{\"name\", \"n\", \"block\", \"stages\", \"parameters\", \"defect\", \"relative_change\", \"seconds\", \"method\",
   \"side\"}],
   \"output\", \"seconds\", \"peak_bytes\"}
  n                size of the rotated space
  parameters       free parameters of the rotation
  defect           rigorous bound on ‖QᵀQ − I‖₂ for the rotation on either side
  relative_change  ‖W' − W‖ / ‖W‖ (Frobenius), W' as written
  peak_bytes       largest anonymous memory of the process while it merged, as it was sampled: what it held itself,
                   without the mapped pages of files (null where the system is not Linux)

Exit codes: 0 done; 2 bad usage or input, or files that cannot be read or written: no output appears, and an old one \
stays (unless the report is all that failed); 130 interrupted (SIGINT, SIGTERM, SIGHUP), likewise";

const UNMERGE: &str = "\
Examples:
  papilio unmerge --merged llama-merged --adapter llama-boft --out llama
  papilio unmerge --merged both --adapter style --adapter subject --out llama --strength 0.7

JSON and exit codes are those of papilio merge.";

fn float_type() -> impl TypedValueParser<Value = FloatType> {
    let value = |kind: FloatType| PossibleValue::new(kind.name()).alias(kind.torch_name());
    PossibleValuesParser::new(FloatType::ALL.map(value)).try_map(|name| name.parse::<FloatType>())
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let json = self.common.json;
        let options = self.common.options(self.base);
        printed(shown(|tell| merge(&options, tell))?, "merged", json)
    }
}

impl UnmergeArguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let json = self.common.json;
        let options = self.common.options(self.merged);
        printed(shown(|tell| unmerge(&options, tell))?, "unmerged", json)
    }
}

impl Common {
    fn options(self, base: PathBuf) -> MergeOptions {
        MergeOptions {
            base,
            adapters: self.adapters,
            dialect: self.dialect,
            strength: self.strength.strength(),
            out: self.out,
            dtype: self.dtype,
            force: self.force,
            parallelism: Parallelism::Rayon,
        }
    }
}

fn printed(report: Option<MergeReport>, what: &str, json: bool) -> Result<Outcome, String> {
    let Some(report) = report else {
        complain("interrupted", "nothing was written");
        return Ok(Outcome::Interrupted);
    };
    let printed = if json { print_json(&report) } else { print(&table(&report, what)) };
    printed.map_err(|e| format!("{e} (the {what} model is written, the report is not)"))?;
    Ok(Outcome::Done)
}

fn table(report: &MergeReport, what: &str) -> String {
    let mut table =
        Table::new(["layer", "method", "side", "n", "b", "m", "parameters", "‖QᵀQ − I‖ ≤", "‖ΔW‖/‖W‖", "time"]);
    for layer in &report.layers {
        table.row([
            layer.name.clone(),
            layer.method.clone(),
            layer.side.to_string(),
            layer.n.to_string(),
            layer.block.to_string(),
            layer.stages.to_string(),
            layer.parameters.to_string(),
            format!("{:.1e}", layer.defect),
            number(layer.relative_change),
            seconds(layer.seconds),
        ]);
    }
    let replaced = match report.replaced {
        0 => String::new(),
        n => format!(", {} replaced (biases, heads)", count(n, "tensor")),
    };
    let peak = report.peak_bytes.map_or(String::new(), |peak| format!(", peak memory {}", HumanBytes(peak)));
    format!(
        "{}\n{} {what}{replaced}; {}, {}, written to {} in {}{peak}\n",
        table.render(),
        count(report.layers.len(), "layer"),
        count(report.tensors, "tensor"),
        HumanBytes(report.bytes),
        printable(&report.output),
        seconds(report.seconds),
    )
}
