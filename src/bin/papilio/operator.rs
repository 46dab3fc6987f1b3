//! Operators in files (`docs/format.md`), whatever their scalar.

use std::path::Path;

use papilio::archive::scalar_of;
use papilio::{Orthogonal, Result, Scalar, Sharing, Source, StageLayout, c32, c64, verify};
use serde_json::{Value, json};

use crate::text::{Table, number};

/// What is shown of an operator.
pub(crate) struct Operator {
    /// Name of its scalar.
    pub(crate) dtype: String,
    pub(crate) n: usize,
    pub(crate) parameters: usize,
    pub(crate) stages: Vec<Stage>,
    /// Rigorous bound on ‖QᴴQ − I‖₂, and that over n·eps of the scalar.
    pub(crate) defect: f64,
    pub(crate) ratio: f64,
}

/// One of its stages.
pub(crate) struct Stage {
    wiring: &'static str,
    block: usize,
    blocks: usize,
    source: String,
    sharing: &'static str,
    parameters: usize,
    adjoint: bool,
}

/// The operator in a file, if it is one.
pub(crate) fn read(path: &Path) -> Result<Option<Operator>> {
    let Some(dtype) = scalar_of(path)? else { return Ok(None) };
    let look: fn(&Path, String) -> Result<Operator> = match dtype.as_str() {
        "f32" => look::<f32>,
        "c32" => look::<c32>,
        "c64" => look::<c64>,
        _ => look::<f64>, // or none at all, which is then an error that says so
    };
    look(path, dtype).map(Some)
}

fn look<T: Scalar>(path: &Path, dtype: String) -> Result<Operator> {
    let q = Orthogonal::<T>::load(path)?;
    let defect = verify::certificate(q.plan(), q.factors())?.defect;
    let eps = if matches!(dtype.as_str(), "f32" | "c32") { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let stages = q.plan().stages().iter().map(|stage| {
        let (source, sharing) = match stage.source() {
            Source::Chart { chart, sharing } => (chart.id(), Some(sharing)),
            Source::Fixed(_) => ("fixed".into(), None),
            Source::Reflectors { count, orthonormal, sharing } => {
                (format!("{count}{} reflectors", if *orthonormal { " orthonormal" } else { "" }), Some(sharing))
            }
            _ => ("unknown".into(), None),
        };
        Stage {
            wiring: if matches!(stage.layout(), StageLayout::Strided { .. }) { "strided" } else { "table" },
            block: stage.layout().block_size(),
            blocks: stage.layout().num_blocks(),
            source,
            sharing: match sharing {
                None => "",
                Some(Sharing::PerBlock) => "per block",
                Some(Sharing::All) => "all",
                Some(Sharing::Groups(_)) => "groups",
            },
            parameters: stage.theta().len(),
            adjoint: stage.is_adjoint(),
        }
    });
    Ok(Operator {
        dtype,
        n: q.n(),
        parameters: q.theta().len(),
        stages: stages.collect(),
        defect,
        ratio: defect / (q.n().max(1) as f64 * eps),
    })
}

impl Operator {
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(["stage", "wiring", "b", "blocks", "source", "shared", "adjoint", "parameters"]);
        for (k, stage) in self.stages.iter().enumerate() {
            let [k, b, blocks, parameters] = [k, stage.block, stage.blocks, stage.parameters].map(|x| x.to_string());
            let adjoint = if stage.adjoint { "yes" } else { "" };
            let (wiring, shared) = (stage.wiring.into(), stage.sharing.into());
            table.row([k, wiring, b, blocks, stage.source.clone(), shared, adjoint.into(), parameters]);
        }
        format!(
            "operator of type {}, n = {}, {} parameters, ‖QᴴQ − I‖₂ ≤ {:.1e}, ratio {}\n\n{}",
            self.dtype,
            self.n,
            self.parameters,
            self.defect,
            number(self.ratio),
            table.render()
        )
    }

    pub(crate) fn json(&self, path: &Path) -> Value {
        let stage = |stage: &Stage| {
            json!({
                "wiring": stage.wiring, "block": stage.block, "blocks": stage.blocks, "source": stage.source,
                "sharing": stage.sharing, "adjoint": stage.adjoint, "parameters": stage.parameters,
            })
        };
        json!({
            "kind": "operator", "path": path.to_string_lossy(), "dtype": self.dtype, "n": self.n,
            "parameters": self.parameters, "defect": self.defect.min(f64::MAX), "ratio": self.ratio.min(f64::MAX),
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
        })
    }
}
