//! burn's hook: rotations attached to a model do what layers do.

use super::*;
use crate::support::assert_close;
use burn::module::{Module, Param, ParamGroup};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::Int;
use papilio_burn::{OrthogonalConv2d, OrthogonalEmbedding, OrthogonalLinear, Rotation, Rotations};

#[derive(Module, Debug)]
pub(crate) struct Model {
    pub(crate) table: Embedding,
    pub(crate) hidden: Linear,
    pub(crate) patch: Conv2d,
}

pub(crate) fn model() -> Model {
    Model {
        table: EmbeddingConfig::new(10, 8).init(&device()),
        hidden: LinearConfig::new(16, 6).init(&device()),
        patch: Conv2dConfig::new([4, 3], [2, 2]).init(&device()),
    }
}

/// All rotations of the hook at some place.
pub(crate) fn moved(model: Model) -> Model {
    struct Move(bool);
    impl burn::module::ModuleMapper for Move {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0 |= name == "papilio";
        }
        fn exit_module(&mut self, name: &str, _: &str) {
            self.0 &= name != "papilio";
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !self.0 {
                return param;
            }
            let shift = tensor(D as u64, param.dims(), DType::F32) * 0.4;
            param.map(|old| (old + shift).detach().require_grad())
        }
    }
    model.map(&mut Move(false))
}

#[test]
fn the_hook_does_what_layers_do() {
    for (method, count) in [(BOFT, 2), (OFT, 3), (Method::Oft { block: 4, share: true, terms: Some(5) }, 3)] {
        let plain = model();
        let hook = Rotations::new(&plain, method, &ParamGroup::all()).unwrap();
        assert_eq!(hook.paths().count(), count);
        let model = plain.clone().apply_reparameterization(hook);
        let x = tensor(1, [3, 16], DType::F32).require_grad();
        assert_close(
            "start",
            &numbers(&model.hidden.forward(x.clone())),
            &numbers(&plain.hidden.forward(x.clone())),
            1e-6,
        );
        let model = moved(model);
        let of = |weight: &Param<Tensor<2>>| weight.reparameterization::<Rotation>().unwrap().clone();

        let layer =
            OrthogonalLinear::new(plain.hidden.clone(), method).unwrap().with_rotation(of(&model.hidden.weight));
        let g = tensor(2, [3, 6], DType::F32);
        let (y, want) = (model.hidden.forward(x.clone()), layer.forward(x.clone()));
        assert_close("linear", &numbers(&y), &numbers(&want), 2e-6);
        let (got, want) = (pulled(y, g.clone()), pulled(want, g));
        assert_close("x", &gradient(&got, &x), &gradient(&want, &x), 2e-6);
        let variable = layer.rotation().boft_r.as_ref().map(|r| r.val().flatten::<1>(0, 3));
        assert_eq!(variable.is_some(), method == BOFT);
        match (&layer.rotation().boft_r, &layer.rotation().oft_r) {
            (Some(r), _) => assert_close("R", &gradient(&got, &r.val()), &gradient(&want, &r.val()), 5e-6),
            (_, Some(r)) => assert_close("R", &gradient(&got, &r.val()), &gradient(&want, &r.val()), 5e-6),
            _ => unreachable!(),
        };
        assert!(model.hidden.weight.base().grad(&got).is_none());

        let patches = OrthogonalConv2d::new(plain.patch.clone(), method).unwrap();
        let patches = patches.with_rotation(model.patch.weight.reparameterization::<Rotation>().unwrap().clone());
        let images = tensor(3, [2, 4, 5, 5], DType::F32);
        let (y, want) = (model.patch.forward(images.clone()), patches.forward(images));
        assert_close("conv2d", &numbers(&y), &numbers(&want), 1e-6);

        if method != BOFT {
            let looked =
                OrthogonalEmbedding::new(plain.table.clone(), method).unwrap().with_rotation(of(&model.table.weight));
            let ids = Tensor::<2, Int>::from_data([[0, 3, 9], [3, 1, 2]], &device());
            assert_close("table", &numbers(&model.table.forward(ids.clone())), &numbers(&looked.forward(ids)), 1e-6);
        }
        // Records hold the rotations.
        let loaded =
            plain.clone().apply_reparameterization(Rotations::new(&plain, method, &ParamGroup::all()).unwrap());
        let loaded = loaded.load_record(model.clone().into_record());
        assert_eq!(bits(&loaded.hidden.weight.val()), bits(&model.hidden.weight.val()));
        let merged = model.clone().valid().materialize();
        assert!(merged.hidden.weight.reparameterization::<Rotation>().is_none());
        let want = layer.merge().unwrap();
        assert_close("merged", &numbers(&merged.hidden.weight.val()), &numbers(&want.weight.val()), 1e-6);
    }
}
