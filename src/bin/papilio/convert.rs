//! `papilio convert`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use papilio::adapter::{ConvertOptions, ConvertTo, ConvertedLayer, Hint, convert};
use serde_json::json;

use crate::Outcome;
use crate::progress::shown;
use crate::text::{Table, complain, count, number, print, print_json, printable};

/// Convert an adapter to another dialect, exactly, or to LoRA, with the error of every layer
///
/// Exact conversions: between PEFT's BOFT with one factor and its OFT (`use_cayley_neumann` off), from OFT of PEFT 0.14 and 0.15
/// to BOFT, and between LyCORIS's diag-oft, kohya's OFT and the OFT of PEFT up to 0.13. Rotations of inputs never become
/// rotations of outputs, nor truncated series exact ones: that is refused. LoRA is the nearest sum of the given rank to
/// what the adapter changes; rotations are not of low rank, and the table shows what is lost.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Adapter: a directory as PEFT saves it, or a safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    adapter: PathBuf,
    /// What wrote the adapter, where it does not say it: peft-VERSION such as peft-0.13.2, lycoris, kohya, onetrainer
    #[arg(long, value_name = "NAME")]
    dialect: Option<Hint>,
    /// What it becomes
    #[arg(long, value_enum)]
    to: Dialect,
    /// Rank of LoRA
    #[arg(long, value_name = "R", default_value_t = 16)]
    rank: usize,
    /// Base model: for LoRA, for sizes that only weights have, and for names that have to be unflattened
    #[arg(long, value_name = "DIR|FILE")]
    base: Option<PathBuf>,
    /// Output: a directory for PEFT's dialects, a safetensors file for the others
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dialect {
    PeftBoft,
    PeftOft,
    LycorisDiagOft,
    KohyaOft,
    Lora,
}

const EXAMPLES: &str = "\
Examples:
  papilio convert --adapter llama-oft --to peft-boft --base llama --out llama-boft
  papilio convert --adapter style.safetensors --to kohya-oft --out style-kohya.safetensors
  papilio convert --adapter llama-boft --to lora --rank 32 --base llama --out llama-lora

JSON:
  {\"to\", \"out\", \"layers\": [{\"name\", \"error\", \"numbers\"}]}
  error    ‖ΔW − B·A‖ / ‖ΔW‖ (Frobenius) for LoRA; of exact conversions how much numbers are rounded, relative to
           their norm: half precision becomes single where it would round
  numbers  numbers stored

Exit codes: 0 done; 2 bad usage or input, no exact conversion, or files that cannot be read or written: no output appears; \
130 interrupted";

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let to = match self.to {
            Dialect::PeftBoft => ConvertTo::PeftBoft,
            Dialect::PeftOft => ConvertTo::PeftOft,
            Dialect::LycorisDiagOft => ConvertTo::LycorisDiagOft,
            Dialect::KohyaOft => ConvertTo::Kohya,
            Dialect::Lora => ConvertTo::Lora(self.rank),
        };
        let options = ConvertOptions {
            adapter: self.adapter,
            dialect: self.dialect,
            to,
            base: self.base,
            out: self.out,
            force: self.force,
        };
        let Some(layers) = shown(|tell| convert(&options, tell))? else {
            complain("interrupted", "nothing was written");
            return Ok(Outcome::Interrupted);
        };
        if self.json {
            print_json(&json!({"to": to.name(), "out": options.out.to_string_lossy(), "layers": layers}))?;
        } else {
            print(&table(&layers, &printable(options.out.display())))?;
        }
        Ok(Outcome::Done)
    }
}

fn table(layers: &[ConvertedLayer], out: &str) -> String {
    let mut table = Table::new(["layer", "numbers", "error"]);
    for layer in layers {
        table.row([layer.name.clone(), layer.numbers.to_string(), number(layer.error)]);
    }
    format!("{}\n{} written to {out}\n", table.render(), count(layers.len(), "layer"))
}
