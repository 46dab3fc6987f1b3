//! A training that goes on from a file.
//!
//! The parts of an input: metadata (lines such as `counter.a=7`), tensors (lines, see [`tensors`](super::tensors)), data.

use papilio::adapter::train::{Adam, Linear, State, Weight};
use papilio::generator::Generator;
use serde_json::{Map, Value};

use super::{Files, heard, parts, tensors};

/// Loads it, brings everything back to where it was and saves it again.
pub fn state(input: &[u8]) -> bool {
    let [metadata, lines, data] = parts(input);
    let metadata = String::from_utf8_lossy(metadata).into_owned();
    let mut texts: Map<String, Value> = metadata
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    texts.entry("format").or_insert_with(|| "papilio training state".into());
    texts.entry("version").or_insert_with(|| "1".into());
    let Some(bytes) = tensors::file(lines, Some(texts.into()), &mut tensors::Data::new(data)) else { return false };
    let files = Files::new();
    let path = files.write("state.safetensors", &bytes);
    let Some(state) = heard(State::load(&path)) else { return false };

    let weight = Weight::new(vec![0.5; 24], 3, 8).expect("a weight");
    let mut layer = Linear::<f64>::boft(weight, 2, 2).expect("a layer");
    let (mut adam, mut generator) = (Adam::new(2, 0.1).expect("an optimiser"), Generator::new(1));
    let (mut numbers, mut counter) = (Vec::new(), 0u64);
    let _ = (heard(state.restore("layer", &mut layer)), heard(state.restore("generator", &mut generator)));
    let _ = (heard(state.restore("numbers", &mut numbers)), heard(state.restore("counter", &mut counter)));
    if heard(state.restore("adam", &mut adam)).is_some() {
        let _ = heard(adam.step(&mut [1.0, 2.0], &[0.5, -0.5]));
    }
    let out = files.path("again.safetensors");
    state.save(&out).expect("a state that can be saved");
    assert_eq!(State::load(&out).expect("a state that was saved"), state);
    files.check_no_temporaries();
    true
}
