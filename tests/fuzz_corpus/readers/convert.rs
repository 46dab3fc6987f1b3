//! Converting an adapter to every dialect that is written. Inputs are those of [`adapter`](super::adapter()).

use papilio::adapter::{Adapter, ConvertOptions, ConvertTo, convert as convert_to};

use super::adapter::Pair;
use super::{go_on, heard};

/// To all of them, with the base and without.
pub fn convert(input: &[u8]) -> bool {
    let Some(pair) = Pair::new(input) else { return false };
    let targets =
        [ConvertTo::PeftBoft, ConvertTo::PeftOft, ConvertTo::LycorisDiagOft, ConvertTo::Kohya, ConvertTo::Lora(2)];
    let mut converted = false;
    for to in targets {
        for base in [Some(pair.base.clone()), None] {
            let out = pair.files.path(to.name());
            let options =
                ConvertOptions { adapter: pair.adapter.clone(), dialect: pair.hint, to, base, out, force: true };
            let Some(layers) = heard(convert_to(&options, go_on)) else { continue };
            assert!(layers.iter().all(|layer| layer.error.is_finite()), "{layers:?}");
            if !matches!(to, ConvertTo::Lora(_)) {
                let again = Adapter::open(&options.out).expect("an adapter that was written");
                assert_eq!(again.layers().len(), layers.len());
                for layer in again.layers() {
                    let _ = again.sides(layer, None).expect("rotations that were written");
                }
            }
            converted = true;
        }
    }
    pair.files.check_no_temporaries();
    converted
}
