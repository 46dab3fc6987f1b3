//! Two models of which one explains the other.
//!
//! The parts of an input: factors and block size with or without `scale` (`2 4 scale`), tensors of the base, of the tuned model
//! (lines, see [`tensors`](super::tensors)), data.

use papilio::adapter::{Adapter, ExtractOptions, extract as extract_from};

use super::{Files, go_on, heard, parts, tensors};

/// Extracts an adapter and opens it.
pub fn extract(input: &[u8]) -> bool {
    let [how, base, tuned, data] = parts(input);
    let how = String::from_utf8_lossy(how).into_owned();
    let mut sizes = how.split(' ').map(|word| word.parse().unwrap_or(0));
    let (stages, block) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
    let data = &mut tensors::Data::new(data);
    let (Some(base), Some(tuned)) = (tensors::file(base, None, data), tensors::file(tuned, None, data)) else {
        return false;
    };
    let files = Files::new();
    let (base, tuned) = (files.write("base.safetensors", &base), files.write("tuned.safetensors", &tuned));
    let out = files.path("adapter");
    let options = ExtractOptions {
        scale: how.ends_with("scale"),
        sweeps: 2,
        ..ExtractOptions::new(base, tuned, &out, (stages, block))
    };
    let report = heard(extract_from(&options, go_on));
    if let Some(report) = &report {
        assert!(report.layers.iter().all(|l| l.change.is_finite() && l.residual.is_finite()), "{report:?}");
        let adapter = Adapter::open(&out).expect("an adapter that was written");
        for layer in adapter.layers() {
            let _ = adapter.sides(layer, None).expect("rotations that were written");
        }
    }
    files.check_no_temporaries();
    report.is_some()
}
