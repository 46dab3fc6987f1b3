//! `papilio merge`

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use indicatif::HumanBytes;
use papilio::Parallelism;
use papilio::adapter::{MergeOptions, MergeReport, merge};
use papilio::storage::FloatType;

use crate::Outcome;
use crate::progress::shown;
use crate::text::{Table, complain, count, number, print, print_json, printable, seconds};

/// Merge a BOFT adapter into its base model
///
/// Every adapted weight W becomes diag(s)·W·Rᵀ, computed in double precision without forming R and rounded once;
/// trained biases and heads (modules_to_save) replace the old ones; all other tensors are copied byte for byte. The
/// sizes of the rotations come from the tensors, never from the configuration. A table shows for every layer the
/// certified deviation of R from orthogonality and the relative change of the weight.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Base model: a directory (model.safetensors, or shards with their index) or a safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    base: PathBuf,
    /// Adapter: a directory as PEFT saves it, or its safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    adapter: PathBuf,
    /// Output: a directory if the base is a directory, a file if it is a file; appears whole or not at all
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Type of all floating-point tensors of the output [default: each as in the base]
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

const EXAMPLES: &str = "\
Examples:
  papilio merge --base llama --adapter llama-boft --out llama-merged
  papilio merge --base model.safetensors --adapter adapter.safetensors --out merged.safetensors
  papilio merge --base llama --adapter llama-boft --out llama-merged --dtype bf16 --force --json

A directory gives a directory that transformers loads: the same shards and index, config.json, tokenizer and other \
files. Weights in other formats, hidden files and adapter_config.json are not copied.

JSON:
  {\"layers\": [{\"name\", \"n\", \"block\", \"stages\", \"parameters\", \"defect\", \"relative_change\", \"seconds\"}],
   \"output\", \"seconds\", \"peak_bytes\"}
  n                size of the rotated space
  parameters       free parameters of the rotation
  defect           rigorous bound on ‖RᵀR − I‖₂
  relative_change  ‖W' − W‖ / ‖W‖ (Frobenius), W' as written
  peak_bytes       largest resident set of the process (null where the system is not Linux)

Exit codes: 0 done; 2 bad usage or input, or files that cannot be read or written: no output appears, and an old one \
stays (unless the report is all that failed); 130 interrupted (SIGINT, SIGTERM, SIGHUP), likewise";

fn float_type() -> impl TypedValueParser<Value = FloatType> {
    let value = |kind: FloatType| PossibleValue::new(kind.name()).alias(kind.torch_name());
    PossibleValuesParser::new(FloatType::ALL.map(value)).try_map(|name| name.parse::<FloatType>())
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let options = MergeOptions {
            base: self.base,
            adapter: self.adapter,
            out: self.out,
            dtype: self.dtype,
            force: self.force,
            parallelism: Parallelism::Rayon,
        };
        let Some(report) = shown(|tell| merge(&options, tell))? else {
            complain("interrupted", "nothing was written");
            return Ok(Outcome::Interrupted);
        };
        let printed = if self.json { print_json(&report) } else { print(&table(&report)) };
        printed.map_err(|e| format!("{e} (the merged model is written, the report is not)"))?;
        Ok(Outcome::Done)
    }
}

fn table(report: &MergeReport) -> String {
    let mut table = Table::new(["layer", "n", "b", "m", "parameters", "‖RᵀR − I‖ ≤", "‖ΔW‖/‖W‖", "time"]);
    for layer in &report.layers {
        table.row([
            layer.name.clone(),
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
        "{}\n{} merged{replaced}; {}, {}, written to {} in {}{peak}\n",
        table.render(),
        count(report.layers.len(), "layer"),
        count(report.tensors, "tensor"),
        HumanBytes(report.bytes),
        printable(&report.output),
        seconds(report.seconds),
    )
}
