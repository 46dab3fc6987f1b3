//! A saved operator.
//!
//! The parts of an input: the scalar (`f32`, …), the plan's recipe, the tensors (lines, see [`tensors`](super::tensors)), data.

use papilio::archive::scalar_of;
use papilio::verify::certificate;
use papilio::{Orthogonal, Scalar, c32, c64};
use serde_json::{Value, json};

use super::{Files, heard, parts, tensors};

/// Larger operators are within the format's budget of a gigabyte, and would only take time here.
const MOST_COORDINATES: u64 = 1 << 16;
/// Coordinates that no small file may have.
const TOO_MANY: u64 = 1 << 40;

/// Loads it as what it says it is, applies it and saves it again.
pub fn archive(input: &[u8]) -> bool {
    let [dtype, recipe, lines, data] = parts(input);
    let n = serde_json::from_slice::<Value>(recipe).ok().and_then(|recipe| recipe.get("n")?.as_u64()).unwrap_or(0);
    if (MOST_COORDINATES..TOO_MANY).contains(&n) {
        return false;
    }
    let metadata = json!({
        "format": "papilio", "version": "1",
        "dtype": String::from_utf8_lossy(dtype), "plan": String::from_utf8_lossy(recipe),
    });
    let Some(bytes) = tensors::file(lines, Some(metadata), &mut tensors::Data::new(data)) else { return false };
    let files = Files::new();
    files.write("q.safetensors", &bytes);
    match heard(scalar_of(files.path("q.safetensors"))).flatten().as_deref() {
        Some("f64") => load::<f64>(&files),
        Some("c32") => load::<c32>(&files),
        Some("c64") => load::<c64>(&files),
        _ => load::<f32>(&files),
    }
}

fn load<T: Scalar>(files: &Files) -> bool {
    let Some(q) = heard(Orthogonal::<T>::load(files.path("q.safetensors"))) else { return false };
    let out = files.path("again.safetensors");
    if heard(q.save(&out)).is_some() {
        let again = Orthogonal::<T>::load(&out).expect("a file that was saved");
        assert_eq!(again.theta(), q.theta());
        assert_eq!(again.factors().entries(), q.factors().entries());
    }
    assert!(heard(certificate(q.plan(), q.factors())).is_none_or(|c| c.defect >= 0.0));
    assert!(q.n() < MOST_COORDINATES as usize, "an operator of {} coordinates", q.n());
    let y = q.apply(&vec![T::one(); q.n()]).expect("a product with a vector of its size");
    let _ = q.apply_adjoint(&y).expect("a product with a vector of its size");
    files.check_no_temporaries();
    true
}
