//! Merging an adapter into a base and out of it again. Inputs are those of [`adapter`](super::adapter()).

use std::fs;

use papilio::Parallelism;
use papilio::adapter::{MergeOptions, PreservedOptions, Strength, merge as merge_into, preserved, unmerge};
use papilio::storage::Checkpoint;

use super::adapter::Pair;
use super::{go_on, heard};

/// By every strength.
pub fn merge(input: &[u8]) -> bool {
    let Some(pair) = Pair::new(input) else { return false };
    let (out, before) = (pair.files.path("out.safetensors"), fs::read(&pair.base).expect("the base"));
    let mut merged = false;
    for strength in [Strength::Whole, Strength::Fraction(0.5), Strength::LinearBlend(2.0), Strength::Stages(1)] {
        let options = MergeOptions {
            dialect: pair.hint,
            strength,
            force: true,
            parallelism: Parallelism::None,
            ..MergeOptions::new(&pair.base, &pair.adapter, &out)
        };
        if let Some(report) = heard(merge_into(&options, go_on)) {
            assert!(report.layers.iter().all(|l| l.defect >= 0.0 && l.relative_change.is_finite()), "{report:?}");
            let [base, model] = [&pair.base, &out].map(|path| Checkpoint::open(path).expect("a model"));
            assert!(base.tensors().all(|t| model.get(&t.name).is_some_and(|(_, new)| new.shape == t.shape)));
            merged = true;
        }
        let _ = heard(unmerge(&options, go_on));
    }
    let options = PreservedOptions { dialect: pair.hint, ..PreservedOptions::new(&pair.base, &pair.adapter) };
    if let Some(report) = heard(preserved(&options, go_on)) {
        assert!(report.layers.iter().all(|layer| layer.ratio >= 0.0), "{report:?}");
    }
    assert_eq!(fs::read(&pair.base).expect("the base"), before);
    pair.files.check_no_temporaries();
    merged
}
