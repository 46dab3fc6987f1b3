//! `papilio inspect`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::HumanBytes;
use papilio::adapter::{Adapter, Hint, PeftConfig};
use papilio::storage::{Checkpoint, Container, NpyArray, is_npy};
use serde_json::{Value, json};

use crate::text::{Table, complain, count, print, print_json, printable, shape};
use crate::{Outcome, operator};

/// Say what a file or directory holds: an adapter, a model, an operator that papilio saved, or a .npy array
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Adapter or model (directory or safetensors file), operator (safetensors file), or .npy file
    path: PathBuf,
    /// What wrote an adapter, where it does not say it: peft-VERSION such as peft-0.13.2, lycoris, kohya, onetrainer
    #[arg(long, value_name = "NAME")]
    dialect: Option<Hint>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  papilio inspect llama-boft
  papilio inspect model.safetensors --json

JSON of an adapter:
  {\"kind\", \"dialect\", \"path\", \"layers\": [{\"name\", \"n\", \"block\", \"stages\", \"parameters\", \"outputs\", \"method\",
   \"side\"}], \"replaced\": [{\"name\", \"dtype\", \"shape\"}], \"permutations\", \"warnings\"}
  kind             the end of the dialect: boft for peft-boft, lycoris, oft, hra, …
  n                null where all blocks are one, so that only the weight tells
  outputs          factors of the outputs; null if there are none
  permutations     whether it holds boft_P, as PEFT up to 0.12 wrote it
of an adapter directory of another method, which papilio cannot merge:
  {\"kind\": \"adapter\", \"path\", \"peft_type\", \"tensors\": [{\"name\", \"dtype\", \"shape\"}]}
of a model:
  {\"kind\": \"model\", \"path\", \"files\", \"tensors\": [{\"name\", \"dtype\", \"shape\", \"file\"}],
   \"metadata\", \"elements\", \"bytes\"}
of an operator, as Orthogonal::save writes it:
  {\"kind\": \"operator\", \"path\", \"dtype\", \"n\", \"parameters\", \"defect\", \"ratio\", \"stages\": [{\"wiring\", \"block\",
   \"blocks\", \"source\", \"sharing\", \"adjoint\", \"parameters\"}]}
  defect, ratio    a rigorous bound on ‖QᴴQ − I‖₂, and that over n·eps
of a .npy file:
  {\"kind\": \"npy\", \"path\", \"dtype\", \"shape\"}

Exit codes: 0 done; 2 bad usage or input";

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, String> {
        let path = &self.path;
        let (value, text) = if is_npy(path) {
            npy(path)?
        } else if let Some(operator) = operator::read(path).map_err(|e| e.to_string())? {
            (operator.json(path), format!("{}: {}", printable(path.display()), operator.text()))
        } else if let Some(method) = foreign_method(path)? {
            foreign(path, &method)?
        } else if Adapter::is_at(path).map_err(|e| e.to_string())? {
            adapter(path, self.dialect)?
        } else {
            model(path)?
        };
        if self.json {
            print_json(&value)?
        } else {
            print(&text)?
        }
        Ok(Outcome::Done)
    }
}

fn npy(path: &Path) -> Result<(Value, String), String> {
    let array = NpyArray::read(path).map_err(|e| e.to_string())?;
    let dtype = if array.is_complex { format!("c{}", 8 * array.kind.size()) } else { array.kind.to_string() };
    let value = json!({"kind": "npy", "path": path.to_string_lossy(), "dtype": dtype, "shape": array.shape});
    Ok((value, format!("{}: a {} array of type {dtype}\n", printable(path.display()), shape(&array.shape))))
}

/// The method of an adapter directory, if its configuration names one that is no rotation.
fn foreign_method(path: &Path) -> Result<Option<String>, String> {
    let config = path.join("adapter_config.json");
    if !path.is_dir() || !config.exists() || !Adapter::is_at(path).map_err(|e| e.to_string())? {
        return Ok(None);
    }
    let method = PeftConfig::read(&config).map_err(|e| e.to_string())?.peft_type;
    Ok(method.filter(|method| !Adapter::knows(method)))
}

fn foreign(path: &Path, method: &str) -> Result<(Value, String), String> {
    let weights = path.join("adapter_model.safetensors");
    let file = if weights.exists() { Some(Container::open(&weights).map_err(|e| e.to_string())?) } else { None };
    let (mut tensors, mut table) = (Vec::new(), Table::new(["tensor", "type", "shape"]));
    for tensor in file.iter().flat_map(Container::tensors) {
        tensors.push(json!({"name": tensor.name, "dtype": tensor.dtype.to_string(), "shape": tensor.shape}));
        table.row([tensor.name.clone(), tensor.dtype.to_string(), shape(&tensor.shape)]);
    }
    let text = format!(
        "{}: {} adapter (not a rotation that papilio knows), {} in adapter_model.safetensors\n\n{}",
        printable(path.display()),
        printable(method),
        count(tensors.len(), "tensor"),
        table.render(),
    );
    let value = json!({"kind": "adapter", "path": path.to_string_lossy(), "peft_type": method, "tensors": tensors});
    Ok((value, text))
}

fn adapter(path: &Path, dialect: Option<Hint>) -> Result<(Value, String), String> {
    let adapter = Adapter::open_as(path, dialect).map_err(|e| e.to_string())?;
    adapter.warnings().iter().for_each(|warning| complain("warning", warning));
    let mut table = Table::new(["layer", "method", "side", "n", "b", "m", "parameters", "outputs"]);
    let mut layers = Vec::new();
    for layer in adapter.layers() {
        let found = layer.structure();
        layers.push(json!({
            "name": layer.module, "n": found.n, "block": found.block, "stages": found.stages,
            "parameters": found.parameters, "outputs": found.outputs, "method": found.method, "side": found.side.name(),
        }));
        let or_none = |size: Option<usize>, none: &str| size.map_or(none.to_string(), |n| n.to_string());
        let (n, outputs) = (or_none(found.n, "the weight's"), or_none(found.outputs, ""));
        let [b, m, parameters] = [found.block, found.stages, found.parameters].map(|x| x.to_string());
        table.row([layer.module.clone(), found.method, found.side.name().into(), n, b, m, parameters, outputs]);
    }
    let replaced: Vec<Value> = adapter
        .replacements()
        .iter()
        .map(|r| json!({"name": r.name, "dtype": r.tensor.dtype.to_string(), "shape": r.tensor.shape}))
        .collect();
    let mut text = format!(
        "{}: {} adapter, {}{}\n\n{}",
        printable(path.display()),
        adapter.dialect(),
        count(adapter.layers().len(), "layer"),
        match adapter.config().and_then(|c| c.peft_version.as_ref()) {
            Some(version) => format!(", written by PEFT {}", printable(version)),
            None if adapter.has_permutations() => ", with boft_P: written by PEFT 0.12 or before".into(),
            None => String::new(),
        },
        table.render(),
    );
    if !replaced.is_empty() {
        let mut table = Table::new(["trained as a whole", "type", "shape"]);
        for r in adapter.replacements() {
            table.row([r.name.clone(), r.tensor.dtype.to_string(), shape(&r.tensor.shape)]);
        }
        text.push('\n');
        text += &table.render();
    }
    let kind = adapter.dialect().rsplit('-').next();
    let value = json!({
        "kind": kind, "dialect": adapter.dialect(), "path": path.to_string_lossy(), "layers": layers, "replaced": replaced,
        "permutations": adapter.has_permutations(), "warnings": adapter.warnings(),
    });
    Ok((value, text))
}

fn model(path: &Path) -> Result<(Value, String), String> {
    let model = Checkpoint::open(path).map_err(|e| e.to_string())?;
    let (mut tensors, mut elements, mut bytes) = (Vec::new(), 0u64, 0u64);
    let mut table = Table::new(["tensor", "type", "shape"]);
    let mut metadata = BTreeMap::new();
    for shard in model.shards() {
        let file = shard.path().file_name().unwrap_or_default().to_string_lossy();
        metadata.extend(shard.metadata().into_iter().flatten());
        for tensor in shard.tensors() {
            tensors.push(json!({
                "name": tensor.name, "dtype": tensor.dtype.to_string(), "shape": tensor.shape, "file": file,
            }));
            table.row([tensor.name.clone(), tensor.dtype.to_string(), shape(&tensor.shape)]);
            elements = elements.saturating_add(tensor.len() as u64);
            bytes = bytes.saturating_add(tensor.num_bytes());
        }
    }
    let files = model.shards().len();
    let text = format!(
        "{}: {} in {}, {elements} elements, {}\n\n{}",
        printable(path.display()),
        count(tensors.len(), "tensor"),
        count(files, "file"),
        HumanBytes(bytes),
        table.render(),
    );
    let value = json!({
        "kind": "model", "path": path.to_string_lossy(), "files": files, "tensors": tensors, "metadata": metadata,
        "elements": elements, "bytes": bytes,
    });
    Ok((value, text))
}
