//! `papilio extract`

use std::path::PathBuf;

use clap::Args;
use papilio::adapter::{ExtractOptions, ExtractReport, extract};
use serde_json::json;

use crate::Outcome;
use crate::progress::shown;
use crate::text::{Table, complain, count, number, print, print_json, printable};

/// Find the rotations that explain best what fine-tuning changed, and save them as an adapter
///
/// For every weight W that became W', the R of the wiring with the smallest ‖W' − W·Rᵀ‖ (orthogonal Procrustes): in closed form for
/// one factor (OFT), by alternating sweeps from the identity for BOFT. The table shows what is left, relative to the change: 1
/// means that no rotation of this kind explains anything. With --scale rotation and factors take turns, which is better than one after
/// the other. Embeddings become OFT's; BOFT has none. The adapter is one that PEFT loads, and `papilio merge` merges.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Model before fine-tuning: a directory or a safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    base: PathBuf,
    /// Model after fine-tuning, with the same tensors
    #[arg(long, value_name = "DIR|FILE")]
    tuned: PathBuf,
    /// Adapter to write: a directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Block size b
    #[arg(long, value_name = "B", default_value_t = 32)]
    block: usize,
    /// Factors m of BOFT; 1 is block-diagonal, which is OFT
    #[arg(long, value_name = "M", default_value_t = 1)]
    stages: usize,
    /// Give every output a factor, too (BOFT's boft_s)
    #[arg(long)]
    scale: bool,
    /// Only layers whose path contains this; may be repeated
    #[arg(long = "layer", value_name = "TEXT")]
    layers: Vec<String>,
    /// Weights whose path contains this are embeddings, and no others are; may be repeated. By default those with the names
    /// that embeddings usually have
    #[arg(long = "embedding", value_name = "TEXT")]
    embeddings: Vec<String>,
    /// Sweeps of BOFT for one weight, at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    sweeps: usize,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio extract --base llama --tuned llama-chat --out llama-chat-oft
  papilio extract --base llama --tuned llama-chat --out llama-chat-boft --block 8 --stages 4 --layer q_proj --layer v_proj

JSON:
  {\"out\", \"layers\": [{\"name\", \"n\", \"change\", \"residual\", \"sweeps\", \"embedding\"}], \"unexplained\": [\"name\"]}
  change       ‖W' − W‖ / ‖W‖ (Frobenius)
  residual     ‖W' − diag(s)·W·Rᵀ‖ / ‖W' − W‖
  sweeps       solutions in closed form for one factor
  embedding    whether it is taken for one (--embedding)
  unexplained  tensors that changed but are no matrices, were not asked for, do not fit the blocks, or are embeddings of BOFT

Exit codes: 0 done; 2 bad usage or input, or files that cannot be read or written: no output appears; 130 interrupted";

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let options = ExtractOptions {
            scale: self.scale,
            layers: self.layers,
            embeddings: (!self.embeddings.is_empty()).then_some(self.embeddings),
            sweeps: self.sweeps,
            force: self.force,
            ..ExtractOptions::new(self.base, self.tuned, self.out, (self.stages, self.block))
        };
        let Some(report) = shown(|tell| extract(&options, tell))? else {
            complain("interrupted", "nothing was written");
            return Ok(Outcome::Interrupted);
        };
        if self.json {
            let (layers, unexplained) = (&report.layers, &report.unexplained);
            let out = options.out.to_string_lossy();
            print_json(&json!({"out": out, "layers": layers, "unexplained": unexplained}))?;
        } else {
            print(&table(&report, &printable(options.out.display())))?;
        }
        Ok(Outcome::Done)
    }
}

fn table(report: &ExtractReport, out: &str) -> String {
    let mut table = Table::new(["layer", "n", "‖ΔW‖/‖W‖", "left of it", "sweeps"]);
    for layer in &report.layers {
        let (change, residual) = (number(layer.change), number(layer.residual));
        table.row([layer.name.clone(), layer.n.to_string(), change, residual, layer.sweeps.to_string()]);
    }
    let rest = match report.unexplained.len() {
        0 => String::new(),
        n => format!("; {} changed and not explained: {}", count(n, "tensor"), report.unexplained.join(", ")),
    };
    format!("{}\n{} written to {out}{rest}\n", table.render(), count(report.layers.len(), "layer"))
}
