//! Training keeps rotations rotations.

use super::hook::model;
use super::*;
use burn::module::{Module, ParamGroup};
use burn::nn::LinearConfig;
use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamConfig, GradientsParams};
use papilio_burn::{OrthogonalLinear, Rotation, Rotations};

#[test]
fn two_hundred_steps_stay_orthogonal() {
    for method in [BOFT, OFT] {
        let base = LinearConfig::new(16, 12).init(&device());
        let mut layer = OrthogonalLinear::new(base.clone(), method).unwrap();
        let (x, target) = (tensor(1, [64, 16], DType::F32), tensor(2, [64, 12], DType::F32));
        let loss = |layer: &OrthogonalLinear| {
            MseLoss::new().forward(layer.forward(x.clone()), target.clone(), Reduction::Mean)
        };
        let before = numbers(&loss(&layer))[0];
        let mut optimiser = AdamConfig::new().init();
        let mut worst = 0.0f64;
        for _ in 0..200 {
            let gradients = GradientsParams::from_grads(loss(&layer).backward(), &layer);
            layer = optimiser.step(0.02, layer, gradients);
            worst = worst.max(layer.defect().unwrap());
        }
        let after = numbers(&loss(&layer))[0];
        println!("{method:?}: loss {before} to {after}, defect at most {worst:e}");
        assert!(after < 0.9 * before, "{before} to {after}");
        assert!(worst <= 1e-6, "{worst:e}");
        assert_eq!(bits(&layer.base().weight.val()), bits(&base.weight.val()));
    }
}

#[test]
fn two_hundred_steps_through_the_hook() {
    let plain = model();
    let group = ParamGroup::from_path("hidden.weight");
    let mut model = plain.clone().apply_reparameterization(Rotations::new(&plain, OFT, &group).unwrap());
    let (x, target) = (tensor(1, [64, 16], DType::F32), tensor(2, [64, 6], DType::F32));
    let mut optimiser = AdamConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..200 {
        let loss = MseLoss::new().forward(model.hidden.forward(x.clone()), target.clone(), Reduction::Mean);
        losses.push(numbers(&loss)[0]);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimiser.step(0.02, model, gradients);
    }
    assert!(losses[199] < 0.95 * losses[0], "{} to {}", losses[0], losses[199]);
    let rotation: &Rotation = model.hidden.weight.reparameterization().unwrap();
    assert!(rotation.defect().unwrap() <= 1e-6);
    assert_eq!(bits(&model.hidden.weight.base()), bits(&plain.hidden.weight.val()));
    assert_eq!(bits(&model.patch.weight.val()), bits(&plain.patch.weight.val())); // all of it is frozen
}
