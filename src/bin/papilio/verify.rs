//! `papilio verify`

use std::path::{Path, PathBuf};

use clap::Args;
use papilio::Parallelism;
use papilio::adapter::Adapter;
use papilio::storage::Matrix;
use papilio::verify::orthogonality;
use serde_json::json;

use crate::Outcome;
use crate::text::{Table, complain, number, print, print_json, printable};

/// Check that a matrix, or every rotation of an adapter, is orthogonal
///
/// A matrix is judged by LAPACK's ratio ‖I − QᵀQ‖₁/(n·eps), eps being the machine epsilon of the type that it is stored
/// in; it must be square. The rotations of an adapter are judged by a certificate, a rigorous bound on ‖RᵀR − I‖₂ that
/// needs no dense matrix; their ratio is that bound over n·2⁻⁵², the largest of all layers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A matrix (.npy or safetensors) or an adapter (directory or safetensors file)
    path: PathBuf,
    /// Largest ratio that passes as orthogonal
    #[arg(long, default_value = "30", value_parser = positive)]
    ratio: f64,
    /// The tensor to check, if the file holds several square ones
    #[arg(long, value_name = "NAME")]
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

JSON:
  {\"ratio\", \"defect\", \"orthogonal\"}
  ratio   ‖I − QᵀQ‖₁ / (n·eps) of a matrix; the largest certificate / (n·eps) of an adapter
  defect  a bound on ‖QᵀQ − I‖₂
  Values beyond the range of doubles are given as the largest double.

Exit codes: 0 orthogonal; 1 not orthogonal; 2 bad usage or input, also for a matrix that is not square or not finite";

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("expected a positive number".into()),
    }
}

/// Ratio and defect, and what to print before the verdict.
struct Finding {
    ratio: f64,
    defect: f64,
    text: String,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let is_adapter = self.tensor.is_none() && Adapter::is_at(&self.path).map_err(|e| e.to_string())?;
        let finding = if is_adapter { adapter(&self.path) } else { matrix(&self.path, self.tensor.as_deref()) };
        let Finding { ratio, defect, text } = finding.map_err(|e| e.to_string())?;
        let (ratio, defect) = (ratio.min(f64::MAX), defect.min(f64::MAX));
        let orthogonal = ratio <= self.ratio;
        if self.json {
            print_json(&json!({"ratio": ratio, "defect": defect, "orthogonal": orthogonal}))?;
        } else {
            let verdict = if orthogonal { "orthogonal" } else { "NOT orthogonal" };
            print(&format!(
                "{text}{verdict}: ratio {} (limit {}), ‖QᵀQ − I‖₂ ≤ {defect:.1e}\n",
                number(ratio),
                self.ratio
            ))?;
        }
        Ok(if orthogonal { Outcome::Done } else { Outcome::NotOrthogonal })
    }
}

fn matrix(path: &Path, tensor: Option<&str>) -> papilio::Result<Finding> {
    let Matrix { name, n, kind, data } = Matrix::read(path, tensor)?;
    let found = orthogonality(n, n, &data, Parallelism::Rayon)?;
    let tensor = name.map_or_else(String::new, |name| format!(" `{}`,", printable(name)));
    let text = format!("{}:{tensor} {n}×{n} matrix of type {kind}\n", printable(path.display()));
    Ok(Finding { ratio: found.ratio * (f64::EPSILON / kind.eps()), defect: found.defect, text })
}

fn adapter(path: &Path) -> papilio::Result<Finding> {
    let adapter = Adapter::open(path)?;
    adapter.warnings().iter().for_each(|warning| complain("warning", warning));
    let mut table = Table::new(["layer", "n", "b", "m", "‖RᵀR − I‖ ≤", "ratio"]);
    let (mut worst_ratio, mut worst_defect) = (0.0f64, 0.0f64);
    for layer in adapter.layers() {
        let defect = adapter.rotation(layer)?.realize()?.certificate()?.defect;
        let n = layer.shape.n();
        let ratio = defect / (n as f64 * f64::EPSILON);
        worst_ratio = if ratio <= worst_ratio { worst_ratio } else { ratio };
        worst_defect = if defect <= worst_defect { worst_defect } else { defect };
        let [n, b, m] = [n, layer.shape.block, layer.shape.stages].map(|x| x.to_string());
        table.row([layer.module.clone(), n, b, m, format!("{defect:.1e}"), number(ratio)]);
    }
    let text = format!("{}: BOFT adapter\n\n{}\n", printable(path.display()), table.render());
    Ok(Finding { ratio: worst_ratio, defect: worst_defect, text })
}
