//! Layers: PEFT's golden tensors and gradients, records, errors.

use std::collections::HashMap;

use super::hook::model;
use super::*;
use crate::support::{assert_close, tensors, tolerance};
use burn::module::{Module, Param, ParamGroup};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::Int;
use papilio::storage::Dtype;
use papilio_burn::{
    OrthogonalConv2d, OrthogonalConv2dConfig, OrthogonalEmbedding, OrthogonalLinear, OrthogonalLinearConfig, Rotation,
    Rotations,
};

/// A frozen layer, and its rotation at some place.
pub(crate) fn linear(outputs: usize, n: usize, method: Method, bias: bool, dtype: DType) -> OrthogonalLinear {
    let weight = Param::from_tensor(tensor(7, [n, outputs], dtype));
    let bias = bias.then(|| Param::from_tensor(tensor(8, [outputs], dtype)));
    let layer = OrthogonalLinear::new(Linear { weight, bias }, method).unwrap();
    let rotation = scattered(layer.rotation().clone());
    layer.with_rotation(rotation)
}

/// Moved from where it starts.
pub(crate) fn scattered(mut rotation: Rotation) -> Rotation {
    fn moved<const D: usize>(seed: u64, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let shift = tensor(seed, old.dims(), old.dtype()).mul_scalar(0.4);
            (old + shift).detach().require_grad()
        })
    }
    rotation.boft_r = rotation.boft_r.map(|p| moved(11, p));
    rotation.boft_s = rotation.boft_s.map(|p| moved(12, p));
    rotation.oft_r = rotation.oft_r.map(|p| moved(13, p));
    rotation.oft_embedding_r = rotation.oft_embedding_r.map(|p| moved(14, p));
    rotation
}

type Case = HashMap<String, support::Tensor>;

fn golden(prefix: &str) -> Vec<(String, Case)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/golden");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|file| (file.file_stem().unwrap().to_string_lossy().into_owned(), file));
    let mut cases: Vec<_> =
        named.filter(|(name, _)| name.starts_with(prefix)).map(|(name, file)| (name, tensors(&file))).collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

fn from_golden<const D: usize>(t: &support::Tensor) -> Tensor<D> {
    let dtype = match t.dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::BF16 => DType::BF16,
        other => panic!("{other:?}"),
    };
    given(t.data.clone(), t.shape.clone().try_into().unwrap(), dtype)
}

/// The method and the convolution that the name of a golden case tells.
fn told(name: &str, case: &Case) -> (Method, Option<(usize, usize)>) {
    let number = |mark: char, part: &str| part.strip_prefix(mark).and_then(|n| n.parse::<usize>().ok());
    let convolution = name.split('_').find_map(|part| {
        let (_, rest) = part.strip_prefix('k')?.split_once('s')?;
        let (stride, padding) = rest.split_once('p')?;
        Some((stride.parse().ok()?, padding.parse().ok()?))
    });
    if let Some(r) = case.get("boft_R") {
        return (Method::Boft { factors: r.shape[0], block: r.shape[2] }, convolution);
    }
    let n: usize = case["weight"].shape[1..].iter().product();
    let block = name.split('_').find_map(|part| number('b', part)).unwrap();
    let share = case.get("oft_R").is_some_and(|r| r.shape[0] * block < n);
    let terms = name.split('_').find_map(|part| part.strip_prefix("cn")?.parse().ok());
    let terms = terms.or(case.contains_key("ids").then_some(5)); // what the one embedding was made with
    (Method::Oft { block, share, terms }, convolution)
}

/// The variables of a golden case.
fn at(mut rotation: Rotation, case: &Case) -> Rotation {
    fn put<const D: usize>(param: Option<Param<Tensor<D>>>, case: &Case, key: &str) -> Option<Param<Tensor<D>>> {
        param.map(|_| Param::from_tensor(from_golden(&case[key])))
    }
    rotation.boft_r = put(rotation.boft_r, case, "boft_R");
    rotation.boft_s = put(rotation.boft_s, case, "boft_s");
    rotation.oft_r = put(rotation.oft_r, case, "oft_R");
    rotation.oft_embedding_r = put(rotation.oft_embedding_r, case, "oft_embedding_R");
    rotation
}

/// Gradients of the variables against those of a case.
fn compare(name: &str, all: &burn::tensor::Gradients, rotation: &Rotation, case: &Case, bound: f64) {
    fn one<const D: usize>(all: &burn::tensor::Gradients, param: &Option<Param<Tensor<D>>>) -> Option<Vec<f64>> {
        param.as_ref().map(|param| gradient(all, &param.val()))
    }
    for (key, got) in [
        ("boft_R", one(all, &rotation.boft_r)),
        ("boft_s", one(all, &rotation.boft_s)),
        ("oft_R", one(all, &rotation.oft_r)),
        ("oft_embedding_R", one(all, &rotation.oft_embedding_r)),
    ] {
        let Some(got) = got else { continue };
        assert_close(&format!("{name}: grad_{key}"), &got, &case[&format!("grad_{key}")].data, bound);
    }
}

#[test]
fn pefts_golden_gradients() {
    let mut seen = HashMap::<&str, usize>::new();
    for (name, case) in golden("boft_").into_iter().chain(golden("oft_")) {
        if ["stacked", "dropout", "coft", "_cn1_"].iter().any(|part| name.contains(part)) {
            continue;
        }
        let bound = tolerance(name.trim_end_matches("_byr").trim_end_matches("_adjusted"));
        let (method, convolution) = told(&name, &case);
        let check = |what: &str, got: &[f64], key: &str| {
            assert_close(&format!("{name}: {what}"), got, &case[key].data, bound);
        };
        let y_key = if case.contains_key("y") { "y" } else { "y_merged" };
        let has_gradients = case.contains_key("cotangent"); // where PEFT's own forward pass does what it merges
        let bias = || case.get("bias").map(|bias| Param::from_tensor(from_golden::<1>(bias)));
        if let Some(ids) = case.get("ids") {
            *seen.entry("embedding").or_default() += 1;
            let weight = Param::from_tensor(from_golden(&case["weight"]));
            let layer = OrthogonalEmbedding::new(Embedding { weight }, method).unwrap();
            let rotation = at(layer.rotation().clone(), &case);
            let layer = layer.with_rotation(rotation);
            let count = ids.data.len();
            let ids: Vec<i64> = ids.data.iter().map(|id| *id as i64).collect();
            let ids = Tensor::<2, Int>::from_data(burn::tensor::TensorData::new(ids, [1, count]), &device());
            let merged = layer.merge().unwrap();
            check("merged", &numbers(&merged.weight.val()), "merged_weight");
            check("y merged", &numbers(&merged.forward(ids.clone())), y_key);
            let y = layer.forward(ids);
            check("y", &numbers(&y), y_key);
            let g = given(case["cotangent"].data.clone(), y.dims(), y.dtype());
            compare(&name, &pulled(y, g), layer.rotation(), &case, bound);
        } else if let Some((stride, padding)) = convolution {
            *seen.entry("conv2d").or_default() += 1;
            let weight = from_golden::<4>(&case["weight"]);
            let [out, c, h, w] = weight.dims();
            let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
            let config = Conv2dConfig::new([c, out], [h, w]).with_stride([stride; 2]).with_padding(padding);
            let base = Conv2d { weight: Param::from_tensor(weight), bias: bias(), ..config.init(&device()) };
            let layer = OrthogonalConv2d::new(base, method).unwrap();
            let rotation = at(layer.rotation().clone(), &case);
            let layer = layer.with_rotation(rotation);
            let x = from_golden::<4>(&case["x"]).require_grad();
            let merged = layer.merge().unwrap();
            check("merged", &numbers(&merged.weight.val()), "merged_weight");
            check("y merged", &numbers(&merged.forward(x.clone())), y_key);
            let y = layer.forward(x.clone());
            check("y", &numbers(&y), y_key);
            if has_gradients {
                let all = pulled(y, from_golden(&case["cotangent"]));
                check("grad_x", &gradient(&all, &x), "grad_x");
                compare(&name, &all, layer.rotation(), &case, bound);
            }
        } else {
            *seen.entry("linear").or_default() += 1;
            let weight = Param::from_tensor(from_golden::<2>(&case["weight"]).transpose());
            let layer = OrthogonalLinear::new(Linear { weight, bias: bias() }, method).unwrap();
            let rotation = at(layer.rotation().clone(), &case);
            let layer = layer.with_rotation(rotation);
            let shape = &case["x"].shape;
            let (n, outputs) = (shape[shape.len() - 1], case["weight"].shape[0]);
            let x = case["x"].data.len() / n;
            let x = given(case["x"].data.clone(), [x, n], layer.base().weight.val().dtype()).require_grad();
            let merged = layer.merge().unwrap();
            check("merged", &numbers(&merged.weight.val().transpose()), "merged_weight");
            check("y merged", &numbers(&merged.forward(x.clone())), y_key);
            let y = layer.forward(x.clone());
            check("y", &numbers(&y), y_key);
            if has_gradients {
                let g = given(case["cotangent"].data.clone(), [x.dims()[0], outputs], x.dtype());
                let all = pulled(y, g);
                check("grad_x", &gradient(&all, &x), "grad_x");
                compare(&name, &all, layer.rotation(), &case, bound);
            }
        }
    }
    println!("{seen:?}");
    assert!(seen["linear"] >= 28 && seen["conv2d"] >= 8 && seen["embedding"] >= 1, "{seen:?}");
}

#[test]
fn finite_differences_through_a_layer() {
    let layer = linear(5, 16, BOFT, true, DType::F64);
    let (x, g) = (tensor(3, [3, 16], DType::F64).require_grad(), tensor(4, [3, 5], DType::F64));
    let all = pulled(layer.forward(x.clone()), g.clone());
    let (r, s) = (layer.rotation().boft_r.as_ref().unwrap().val(), layer.rotation().boft_s.as_ref().unwrap().val());
    let ways = (tensor(20, x.dims(), DType::F64), tensor(21, r.dims(), DType::F64), tensor(22, s.dims(), DType::F64));
    let at = |t: f64| {
        let mut rotation = layer.rotation().clone();
        rotation.boft_r = rotation.boft_r.map(|p| p.map(|r| r + ways.1.clone() * t));
        rotation.boft_s = rotation.boft_s.map(|p| p.map(|s| s + ways.2.clone() * t));
        let y = layer.clone().with_rotation(rotation).forward(x.clone() + ways.0.clone() * t);
        numbers(&(y * g.clone())).iter().sum::<f64>()
    };
    let h = 2e-3;
    let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
    let dot = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
    let want = dot(gradient(&all, &x), numbers(&ways.0))
        + dot(gradient(&all, &r), numbers(&ways.1))
        + dot(gradient(&all, &s), numbers(&ways.2));
    assert!((slope - want).abs() < 1e-9 * want.abs().max(1.0), "{slope} instead of {want}");
}

#[test]
fn layers_take_any_shape() {
    for method in [BOFT, OFT] {
        let layer = linear(3, 16, method, true, DType::F32);
        let x = tensor(1, [2, 1, 5, 16], DType::F32);
        let want = numbers(&layer.forward(x.clone().reshape([10, 16])));
        assert_eq!(layer.forward(x.clone()).dims(), [2, 1, 5, 3]);
        assert_close("rank 4", &numbers(&layer.forward(x.clone())), &want, 1e-6);
        let one = layer.forward(x.clone().reshape([10, 16]).narrow(0, 9, 1).reshape([16]));
        assert_close("rank 1", &numbers(&one), &want[27..], 1e-6);
        let turned = x.reshape([10, 16]).transpose().transpose();
        assert_close("strided", &numbers(&layer.forward(turned)), &want, 1e-6);
        assert_eq!(layer.forward(tensor(1, [0, 16], DType::F32)).dims(), [0, 3]);
    }
}

#[test]
fn variables_that_do_not_fit_are_errors() {
    let layer = linear(3, 16, BOFT, false, DType::F32);
    let x = tensor(1, [2, 16], DType::F32);
    let with = |change: &dyn Fn(&mut Rotation)| {
        let mut rotation = layer.rotation().clone();
        change(&mut rotation);
        let layer = layer.clone().with_rotation(rotation);
        (layer.try_forward(x.clone()).unwrap_err().to_string(), layer.merge().unwrap_err().to_string())
    };
    let (forward, merge) = with(&|rotation| rotation.boft_r = None);
    assert!(forward == merge && forward.contains("variables of a rotation"), "{forward}, {merge}");
    let (forward, merge) = with(&|rotation| rotation.boft_s = Some(Param::from_tensor(tensor(1, [4, 1], DType::F32))));
    assert_eq!(forward, "scale: expected length 3, got 4");
    assert!(merge.starts_with("scale: expected 3"), "{merge}");
    let (forward, _) =
        with(&|rotation| rotation.boft_r = Some(Param::from_tensor(tensor(1, [1, 4, 4, 4], DType::F32))));
    assert_eq!(forward, "theta: expected length 128, got 64");
    let (forward, _) = with(&|rotation| {
        rotation.boft_r = rotation.boft_r.take().map(|r| r.map(|r| r * f64::INFINITY));
    });
    assert!(forward.starts_with("theta: expected finite numbers"), "{forward}");
}

#[test]
fn the_base_is_frozen() {
    let layer = linear(5, 16, BOFT, true, DType::F32);
    let all = layer.forward(tensor(1, [3, 16], DType::F32)).sum().backward();
    assert!(layer.base().weight.val().grad(&all).is_none());
    assert!(layer.base().bias.as_ref().unwrap().val().grad(&all).is_none());
    assert!(layer.rotation().boft_r.as_ref().unwrap().val().grad(&all).is_some());
    assert_eq!(layer.num_params(), 5 * 16 + 5 + 2 * 4 * 16 + 5);
}

#[test]
fn half_precision_layers_train_in_single() {
    let layer = linear(5, 16, BOFT, true, DType::BF16);
    let x = tensor(1, [3, 16], DType::BF16);
    let y = layer.forward(x.clone());
    assert_eq!(y.dtype(), DType::BF16);
    let all = y.clone().sum().backward();
    let r = layer.rotation().boft_r.as_ref().unwrap().val();
    assert_eq!(r.grad(&all).unwrap().dtype(), DType::F32);
    assert_close("bf16", &numbers(&layer.merge().unwrap().forward(x)), &numbers(&y), 3e-2);
}

#[test]
fn configurations_and_records() {
    let config = OrthogonalLinearConfig::new(LinearConfig::new(16, 5), BOFT);
    let layer = config.init(&device()).unwrap();
    let layer = OrthogonalLinear::clone(&layer).with_rotation(scattered(layer.rotation().clone()));
    let text = config.to_string();
    let again = <OrthogonalLinearConfig as burn::config::Config>::load_binary(text.as_bytes()).unwrap();
    assert_eq!(again.method, BOFT);
    let other = again.init(&device()).unwrap().load_record(layer.clone().into_record());
    let x = tensor(1, [2, 16], DType::F32);
    assert_eq!(bits(&layer.forward(x.clone())), bits(&other.forward(x)));
    assert!(format!("{layer}").contains("boft_r"), "{layer}");
}

#[test]
fn errors_of_layers_say_what_was_expected() {
    let layer = |method, n| {
        let base = LinearConfig::new(n, 4).init(&device());
        OrthogonalLinear::new(base, method).map(drop).unwrap_err().to_string()
    };
    let table = EmbeddingConfig::new(3, 8).init(&device());
    let fit = linear(4, 16, BOFT, false, DType::F32);
    let none = ParamGroup::from_path("nothing");
    let conv = Conv2dConfig::new([4, 3], [3, 3]);
    for (got, want) in [
        (layer(Method::Boft { factors: 2, block: 3 }, 8), "expected a divisor of 8"),
        (layer(Method::Boft { factors: 0, block: 4 }, 8), "shape of boft_R"),
        (layer(Method::Boft { factors: 4, block: 4 }, 8), "got n = 8"),
        (layer(Method::Oft { block: 0, share: false, terms: None }, 8), "expected a divisor of 8"),
        (layer(Method::Oft { block: 4, share: false, terms: Some(1) }, 8), "at least 2 terms, got 1"),
        (
            OrthogonalEmbedding::new(table, BOFT).unwrap_err().to_string(),
            "method for an embedding: expected OFT, got BOFT",
        ),
        (
            fit.try_forward(tensor(1, [3, 8], DType::F32)).unwrap_err().to_string(),
            "last dimension of x: expected length 16, got 8",
        ),
        (fit.try_forward(tensor(1, [2, 16], DType::F64)).unwrap_err().to_string(), "for a plan of f32, got F64"),
        (Rotations::new(&model(), BOFT, &none).unwrap_err().to_string(), "layers to adapt"),
        (
            Rotations::new(&model(), Method::Boft { factors: 1, block: 5 }, &ParamGroup::all())
                .unwrap_err()
                .to_string(),
            "block of an adapter",
        ),
        (OrthogonalConv2dConfig::new(conv, BOFT).init(&device()).unwrap_err().to_string(), "got n = 36"),
    ] {
        assert!(got.contains(want), "{got}\n  instead of\n{want}");
    }
}

#[test]
#[should_panic(expected = "last dimension of x: expected length 16, got 8")]
fn forward_panics_as_burns_layers_do() {
    linear(4, 16, BOFT, false, DType::F32).forward(tensor(1, [3, 8], DType::F32));
}
