//! Files are PEFT's.

use super::hook::{model, moved};
use super::layers::{linear, scattered};
use super::*;
use crate::support::assert_close;
use burn::module::{Module, ParamGroup};
use burn::nn::conv::Conv2dConfig;
use papilio::adapter::Adapter;
use papilio_burn::{OrthogonalConv2d, OrthogonalLinear, Rotation, Rotations, load, save};

#[derive(Module, Debug)]
struct Net {
    layers: Vec<OrthogonalLinear>,
    patch: OrthogonalConv2d,
}

fn net(method: Method, dtype: DType) -> Net {
    let patch = OrthogonalConv2d::new(Conv2dConfig::new([4, 3], [2, 2]).init(&device()), method).unwrap();
    let rotation = scattered(patch.rotation().clone());
    Net { layers: vec![linear(12, 16, method, true, dtype)], patch: patch.with_rotation(rotation) }
}

const SERIES: Method = Method::Oft { block: 4, share: true, terms: Some(5) };

#[test]
fn saved_adapters_mean_the_same_to_papilio() {
    let work = tempfile::tempdir().unwrap();
    for method in [BOFT, OFT, SERIES] {
        let net = net(method, DType::F32);
        let out = work.path().join(format!("{method:?}"));
        save(&net, method, &out, false).unwrap();
        let adapter = Adapter::open(&out).unwrap();
        assert!(adapter.warnings().is_empty(), "{:?}", adapter.warnings());
        let [layer, patch] = adapter.layers() else { panic!("{:?}", adapter.layers()) };
        assert_eq!((layer.module.as_str(), patch.module.as_str()), ("layers.0", "patch"));
        same_sides(&adapter.sides(layer, Some(&[12, 16])).unwrap(), &net.layers[0].sides().unwrap());
        same_sides(&adapter.sides(patch, Some(&[3, 4, 2, 2])).unwrap(), &net.patch.sides().unwrap());

        // Read into a model that starts elsewhere.
        let fresh = Net {
            layers: vec![OrthogonalLinear::new(net.layers[0].base().clone(), method).unwrap()],
            patch: OrthogonalConv2d::new(net.patch.base().clone(), method).unwrap(),
        };
        let x = tensor(1, [3, 16], DType::F32);
        assert_ne!(bits(&fresh.layers[0].forward(x.clone())), bits(&net.layers[0].forward(x.clone())));
        let loaded = load(fresh, method, &out).unwrap();
        assert_eq!(bits(&loaded.layers[0].forward(x.clone())), bits(&net.layers[0].forward(x.clone())));
        let all = loaded.layers[0].forward(x).sum().backward(); // and goes on training
        let rotation = loaded.layers[0].rotation();
        assert!(rotation.boft_r.as_ref().is_none_or(|r| r.val().grad(&all).is_some()));
        assert!(rotation.oft_r.as_ref().is_none_or(|r| r.val().grad(&all).is_some()));
        let images = tensor(2, [1, 4, 3, 3], DType::F32);
        assert_eq!(bits(&loaded.patch.forward(images.clone())), bits(&net.patch.forward(images)));
    }
}

#[test]
fn attached_rotations_are_saved_by_their_module() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("adapter");
    let plain = model();
    let attach = || plain.clone().apply_reparameterization(Rotations::new(&plain, OFT, &ParamGroup::all()).unwrap());
    let trained = moved(attach());
    save(&trained, OFT, &out, false).unwrap();
    let adapter = Adapter::open(&out).unwrap();
    let modules: Vec<_> = adapter.layers().iter().map(|layer| layer.module.as_str()).collect();
    assert_eq!(modules, ["hidden", "patch", "table"]);
    let rotation: &Rotation = trained.table.weight.reparameterization().unwrap();
    same_sides(&adapter.sides(&adapter.layers()[2], None).unwrap(), &rotation.sides().unwrap());
    let loaded = load(attach(), OFT, &out).unwrap();
    assert_eq!(bits(&loaded.table.weight.val()), bits(&trained.table.weight.val()));
    assert_eq!(bits(&loaded.patch.weight.val()), bits(&trained.patch.weight.val()));
}

/// What `papilio merge` makes of a saved adapter is what the layer merges into.
#[test]
fn papilio_merges_what_was_saved() {
    use crate::support::{Tensor as Golden, tensors, write};
    let work = tempfile::tempdir().unwrap();
    let net = net(BOFT, DType::F32);
    save(&net, BOFT, &work.path().join("adapter"), false).unwrap();
    let base = net.layers[0].base().weight.val().transpose();
    let stored = |shape: Vec<usize>, data: Vec<f64>| Golden { shape, dtype: papilio::storage::Dtype::F32, data };
    let weight = stored(base.dims().to_vec(), numbers(&base));
    let filters = stored(vec![3, 4, 2, 2], numbers(&net.patch.base().weight.val()));
    std::fs::create_dir(work.path().join("base")).unwrap();
    let file = work.path().join("base/model.safetensors");
    write(&file, &[("layers.0.weight", &weight), ("patch.weight", &filters)]);
    let at = |name: &str| work.path().join(name);
    let options = papilio::adapter::MergeOptions::new(at("base"), at("adapter"), at("merged"));
    papilio::adapter::merge(&options, |_| std::ops::ControlFlow::Continue(())).unwrap();
    let merged = tensors(&work.path().join("merged/model.safetensors"));
    let want = net.layers[0].merge().unwrap().weight.val().transpose();
    assert_close("linear", &merged["layers.0.weight"].data, &numbers(&want), 0.0);
    assert_close("conv", &merged["patch.weight"].data, &numbers(&net.patch.merge().unwrap().weight.val()), 0.0);
}

#[test]
fn files_that_do_not_fit_are_errors() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("adapter");
    let net = net(OFT, DType::F32);
    let text = |result: papilio::Result<()>| result.unwrap_err().to_string();
    save(&net, OFT, &out, false).unwrap();
    let small = OrthogonalLinear::new(net.layers[0].base().clone(), OFT).unwrap();
    let only = |method, layers: Vec<OrthogonalLinear>| {
        let patch = net.patch.clone();
        load(Net { layers, patch }, method, &out).map(drop)
    };
    let nan = {
        let mut rotation = net.layers[0].rotation().clone();
        rotation.oft_r = rotation.oft_r.map(|p| p.map(|r| r * f64::NAN));
        Net { layers: vec![small.clone().with_rotation(rotation)], patch: net.patch.clone() }
    };
    let other = work.path().join("other");
    for (got, want) in [
        (text(save(&net, OFT, &out, false)), "adapter"), // is there already
        (text(save(&net, BOFT, &other, false)), "expected boft_R or boft_s, got oft_R.weight of module `layers.0`"),
        (text(save(&net, Method::Oft { block: 8, share: false, terms: None }, &other, false)), "shape [n/block, 28]"),
        (text(save(&small, OFT, &other, false)), "module ``"), // nothing above it that names it
        (
            text(save(net.layers[0].base(), OFT, &other, false)),
            "tensors of an adapter: expected at least one, got none",
        ),
        (text(save(&nan, OFT, &other, false)), "layers.0.oft_R.weight: expected finite numbers, got NaN"),
        (text(load(net.clone(), SERIES, &out).map(drop)), "expected Oft { block: 4, share: true, terms: Some(5) }"),
        (text(only(OFT, vec![])), "module `layers.0`: expected a rotation in the model, got none"),
        (
            text(only(OFT, vec![small.clone(), small.clone()])),
            "module `layers.1`: expected a oft_R.weight, got no such module",
        ),
        (
            text(only(OFT, vec![linear(12, 8, OFT, true, DType::F32)])),
            "expected oft_R.weight of shape [2, 6], got [4, 6]",
        ),
        (text(load(net.clone(), OFT, &other).map(drop)), "other"),
    ] {
        assert!(got.contains(want), "{got}\n  instead of\n{want}");
    }
    assert!(!other.exists());
}
