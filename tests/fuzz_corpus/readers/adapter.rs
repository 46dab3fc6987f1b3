//! An adapter with its configuration and a base.
//!
//! The parts of an input: hint (such as `peft-0.13`, or nothing), configuration (or nothing), the adapter's tensors, the base's
//! tensors (lines, see [`tensors`](super::tensors)), data.

use std::fs;
use std::path::{Path, PathBuf};

use papilio::adapter::{Adapter, Hint, Layer, Numbers, Sides};
use papilio::storage::Checkpoint;
use papilio::{Parallelism, Workspace};

use super::{Files, heard, parts, tensors};

/// Files of an adapter and its base.
pub(super) struct Pair {
    pub(super) files: Files,
    /// A directory.
    pub(super) adapter: PathBuf,
    /// A file.
    pub(super) base: PathBuf,
    pub(super) hint: Option<Hint>,
}

impl Pair {
    /// From an input, unless its files were large or its hint is none.
    pub(super) fn new(input: &[u8]) -> Option<Self> {
        let [hint, config, adapter, base, data] = parts(input);
        let hint = match hint {
            [] => None,
            text => Some(heard(String::from_utf8_lossy(text).parse())?),
        };
        let data = &mut tensors::Data::new(data);
        let (adapter, base) = (tensors::file(adapter, None, data)?, tensors::file(base, None, data)?);
        let files = Files::new();
        files.write("adapter/adapter_model.safetensors", &adapter);
        if !config.is_empty() {
            files.write("adapter/adapter_config.json", config);
        }
        let base = files.write("base.safetensors", &base);
        Some(Self { adapter: files.path("adapter"), base, hint, files })
    }
}

/// Opens it, walks through its layers, as `papilio inspect` does and training would, and saves it again.
pub fn adapter(input: &[u8]) -> bool {
    let Some(pair) = Pair::new(input) else { return false };
    assert_eq!(heard(Adapter::is_at(&pair.adapter)), Some(true));
    let Some(adapter) = heard(Adapter::open_as(&pair.adapter, pair.hint)) else { return false };
    let base = heard(Checkpoint::open(&pair.base));
    assert!(!adapter.layers().is_empty() && !format!("{adapter:?}").is_empty());
    let _ = (adapter.warnings(), adapter.replacements(), adapter.has_permutations(), adapter.dialect());
    for layer in adapter.layers() {
        let structure = layer.structure();
        assert!(structure.block > 0 && !structure.method.is_empty() && !format!("{layer:?}").is_empty());
        let Some(numbers) = heard(adapter.numbers(layer)) else { continue };
        let _ = layer.core(&numbers).and_then(heard);
        let name = format!("{}.weight", layer.module);
        let weight = base.as_ref().and_then(|base| Some(&base.get(&name)?.1.shape[..]));
        for shape in
            [None, weight, Some(&[8, 8]), Some(&[]), Some(&[6, 4, 2, 2]), Some(&[0, 8]), Some(&[usize::MAX, 2])]
        {
            if let Some(sides) = heard(layer.sides(&numbers, shape)) {
                walk(layer, &numbers, shape, &sides);
            }
        }
    }
    save_again(&pair, &adapter);
    true
}

/// An adapter that is saved is the same one, and saved once more the same file.
fn save_again(pair: &Pair, adapter: &Adapter) {
    let [first, second] = ["first", "second"].map(|name| pair.files.path(name));
    adapter.save(&first, false).expect("an adapter that can be saved");
    let again = Adapter::open_as(&first, pair.hint).expect("an adapter that was saved");
    again.save(&second, false).expect("an adapter that can be saved");
    let bytes = |path: &Path| {
        let file = if path.is_dir() { path.join("adapter_model.safetensors") } else { path.into() };
        fs::read(file).expect("what was saved")
    };
    assert_eq!(bytes(&first), bytes(&second));
    assert_eq!(again.config(), adapter.config());
    assert_eq!(again.layers().len(), adapter.layers().len());
    for (new, old) in again.layers().iter().zip(adapter.layers()) {
        assert_eq!((&new.module, new.structure()), (&old.module, old.structure()));
        assert_eq!(heard(again.numbers(new)), heard(adapter.numbers(old)));
    }
    pair.files.check_no_temporaries();
}

/// What can be done with the rotations of a layer.
fn walk(layer: &Layer, numbers: &Numbers, shape: Option<&[usize]>, sides: &Sides) {
    const MOST_NUMBERS: usize = 1 << 12;
    if let Some(defect) = heard(sides.defect()) {
        assert!(defect >= 0.0, "a bound of {defect}");
    }
    assert_eq!(sides.num_params(), sides.rotations().map(|q| q.theta().len()).sum::<usize>());
    let _ = (heard(sides.interpolate(0.5)), heard(sides.blend(0.5)), heard(sides.truncate(1)), heard(sides.inverse()));
    let shape = shape.unwrap_or(&[8, 8]);
    let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let Some(count) = count.filter(|&count| count <= MOST_NUMBERS) else { return };
    let mut weight: Vec<f64> = (0..count).map(|i| (i as f64).sin()).collect();
    let before = weight.clone();
    let merged = heard(sides.merge(shape, &mut weight, Parallelism::None, &Workspace::new()));
    if merged.is_some() {
        let gradient = sides.vjp(shape, &before, &weight).expect("a gradient of what can be merged");
        let _ = heard(layer.pull(numbers, Some(shape), &gradient));
    }
}
