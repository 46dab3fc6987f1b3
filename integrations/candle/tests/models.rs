//! Networks and their parts against candle's own, which were made for inference, and gradients against differences.

mod support;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder};
use candle_transformers::models::{bert, llama, vit};
use papilio::interop::candle::Method as Orthogonal;
use papilio_finetune::{Config, Init, Method, Model, Tuning, Weights, ops};
use support::{adapter, config, difference, id_tensor};

/// Random weights, not near zero, with biases and scales that are none of nothing and one.
fn random(config: &Config, dtype: DType) -> Model {
    let plain = Model::new(config, &Weights::random(7, 0.3, DType::F64), &Tuning::Frozen).unwrap();
    let shaken = plain.merged().unwrap().into_iter().map(|(name, tensor)| {
        let more = Weights::random(8, 0.1, DType::F64).get(&name, tensor.dims(), Init::Normal(0.1)).unwrap();
        (name, (tensor + more).unwrap())
    });
    Model::new(config, &Weights::in_memory(shaken.collect(), dtype), &Tuning::Frozen).unwrap()
}

/// The same weights for candle's own model, whose normalisations know no double precision.
fn builder(model: &Model) -> VarBuilder<'static> {
    VarBuilder::from_tensors(HashMap::from_iter(model.merged().unwrap()), DType::F32, &Device::Cpu)
}

/// How much candle's single precision may differ.
const TOLERANCE: f64 = 5e-6;

#[test]
fn bert_is_candles() {
    for dtype in [DType::F32, DType::F64] {
        let Config::Bert(sizes, labels) = config(&support::bert()) else { unreachable!() };
        let model = random(&Config::Bert(sizes.clone(), labels), dtype);
        let (ids, ones) = (id_tensor(3, 11, 1), Tensor::ones((3, 11), DType::U32, &Device::Cpu).unwrap());
        let mask =
            Tensor::from_vec((0..33u32).map(|i| u32::from(i % 11 < 11 - i / 11 * 4)).collect(), (3, 11), &Device::Cpu);
        let theirs = bert::BertModel::load(builder(&model).pp("bert"), &sizes).unwrap();
        for mask in [ones, mask.unwrap()] {
            let expected = theirs.forward(&ids, &ids.zeros_like().unwrap(), Some(&mask)).unwrap();
            let got = model.bert().unwrap().hidden(&ids, &mask).unwrap();
            let error = difference(&got, &expected);
            assert!(error < TOLERANCE, "{dtype:?}: {error:e}");
        }
    }
}

#[test]
fn llama_is_candles_after_every_prefix() {
    let scaling = serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16});
    let cases = [(2, false, None), (4, true, None), (1, false, Some(scaling))];
    for ((heads, tied, scaling), dtype) in
        cases.into_iter().flat_map(|case| [(case.clone(), DType::F32), (case, DType::F64)])
    {
        let mut fields = support::llama();
        fields["num_key_value_heads"] = heads.into();
        fields["tie_word_embeddings"] = tied.into();
        fields["rope_scaling"] = scaling.unwrap_or_default();
        let model = random(&config(&fields), dtype);
        let Config::Llama(sizes) = model.config().clone() else { unreachable!() };
        let sizes = sizes.into_config(false);
        let theirs = llama::Llama::load(builder(&model), &sizes).unwrap();
        let ids = id_tensor(2, 13, 2);
        let got = model.llama().unwrap().logits(&ids).unwrap();
        for length in 1..=13 {
            let mut cache = llama::Cache::new(false, DType::F32, &sizes, &Device::Cpu).unwrap();
            let prefix = ids.narrow(1, 0, length).unwrap().contiguous().unwrap();
            let expected = theirs.forward(&prefix, 0, &mut cache).unwrap();
            let error = difference(&got.narrow(1, length - 1, 1).unwrap().squeeze(1).unwrap(), &expected);
            assert!(error < TOLERANCE, "{heads} heads, {length} tokens: {error:e}");
        }
    }
}

#[test]
fn vit_is_candles() {
    for dtype in [DType::F32, DType::F64] {
        for bias in [true, false] {
            let mut fields = support::vit();
            fields["qkv_bias"] = bias.into();
            let model = random(&config(&fields), dtype);
            let Config::Vit(sizes, labels) = model.config() else { unreachable!() };
            let images = Tensor::randn(0.0, 1.0, (3, 1, 8, 8), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let theirs = vit::Model::new(sizes, *labels, builder(&model)).unwrap();
            let expected = theirs.forward(&images.to_dtype(DType::F32).unwrap()).unwrap();
            let error = difference(&model.vit().unwrap().logits(&images).unwrap(), &expected);
            assert!(error < TOLERANCE, "{dtype:?}: {error:e}");
        }
    }
}

#[test]
fn parts_are_candles() {
    let x = Tensor::randn(0.0f64, 2.0, (3, 5, 8), &Device::Cpu).unwrap();
    let (weight, bias) =
        (Tensor::randn(1.0, 0.2, 8, &Device::Cpu).unwrap(), Tensor::randn(0.0, 1.0, 8, &Device::Cpu).unwrap());
    let close = |what: &str, a: Tensor, b: Tensor| {
        let error = difference(&a, &b);
        assert!(error < 4e-15, "{what}: {error:e}");
    };
    // The fused ones know no double precision, but those for strided inputs do.
    let strided = x.transpose(0, 1).unwrap();
    let norm = candle_nn::LayerNorm::new(weight.clone(), bias.clone(), 1e-5);
    let expected = norm.forward(&strided).unwrap().transpose(0, 1).unwrap();
    close("layer_norm", ops::layer_norm(&x, &weight, &bias, 1e-5).unwrap(), expected);
    let norm = candle_nn::LayerNorm::rms_norm(weight.clone(), 1e-5);
    close("rms_norm", ops::rms_norm(&x, &weight, 1e-5).unwrap(), norm.forward(&x).unwrap());
    close("softmax", ops::softmax(&x).unwrap(), candle_nn::ops::softmax_last_dim(&x).unwrap());
    close("gelu", ops::gelu(&x).unwrap(), x.gelu_erf().unwrap());
    close("gelu_tanh", ops::gelu_tanh(&x).unwrap(), x.gelu().unwrap());
    let q = Tensor::randn(0.0f64, 1.0, (2, 3, 5, 8), &Device::Cpu).unwrap();
    let angles = Tensor::randn(0.0f64, 2.0, (5, 4), &Device::Cpu).unwrap();
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    close("rotary", ops::rotary(&q, &cos, &sin).unwrap(), candle_nn::rotary_emb::rope(&q, &cos, &sin).unwrap());
    let logits = Tensor::randn(0.0f64, 3.0, (7, 4), &Device::Cpu).unwrap();
    let targets = Tensor::new(&[0u32, 3, 1, 1, 2, 0, 3], &Device::Cpu).unwrap();
    close(
        "cross_entropy",
        ops::cross_entropy(&logits, &targets).unwrap(),
        candle_nn::loss::cross_entropy(&logits, &targets).unwrap(),
    );
}

/// ⟨gradient, direction⟩ against a central difference of fourth order.
fn check_gradient(what: &str, variable: &Var, loss: &dyn Fn() -> Tensor) {
    let start = variable.as_tensor().copy().unwrap();
    let direction = Tensor::randn(0.0f64, 1.0, variable.shape(), &Device::Cpu).unwrap();
    let length = direction.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    let direction = (direction / length).unwrap();
    let gradients = loss().backward().unwrap();
    let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{what}: no gradient"));
    let got = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    let at = |h: f64| {
        variable.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
        loss().to_scalar::<f64>().unwrap()
    };
    let h = 2e-4;
    let expected = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
    variable.set(&start).unwrap();
    let scale = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    assert!(scale > 0.0 && (got - expected).abs() < 2e-9 * scale, "{what}: {got} against {expected}, norm {scale}");
}

#[test]
fn gradients_of_parts_are_those_of_differences() {
    let x = Var::randn(0.0f64, 1.0, (2, 3, 5, 8), &Device::Cpu).unwrap();
    let weight = Var::randn(1.0f64, 0.2, 8, &Device::Cpu).unwrap();
    let bias = Var::randn(0.0f64, 1.0, 8, &Device::Cpu).unwrap();
    let mixed = Tensor::randn(0.0f64, 1.0, (2, 3, 5, 8), &Device::Cpu).unwrap();
    let sum = |y: candle_core::Result<Tensor>| (y.unwrap() * &mixed).unwrap().sum_all().unwrap();
    let angles = Tensor::randn(0.0f64, 2.0, (5, 4), &Device::Cpu).unwrap();
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    for (what, variable) in [("x", &x), ("weight", &weight), ("bias", &bias)] {
        check_gradient(&format!("layer_norm, {what}"), variable, &|| sum(ops::layer_norm(&x, &weight, &bias, 1e-5)));
    }
    check_gradient("rms_norm", &x, &|| sum(ops::rms_norm(&x, &weight, 1e-5)));
    check_gradient("softmax", &x, &|| sum(ops::softmax(&x)));
    check_gradient("gelu", &x, &|| sum(ops::gelu(&x)));
    check_gradient("gelu_tanh", &x, &|| sum(ops::gelu_tanh(&x)));
    check_gradient("rotary", &x, &|| sum(ops::rotary(&x, &cos, &sin)));
    check_gradient("attention", &x, &|| {
        sum(ops::attention(&x, &(x.as_tensor() * 0.5).unwrap(), &x.sqr().unwrap(), None))
    });
    let targets = Tensor::new(&[0u32, 3, 1, 1, 2, 0], &Device::Cpu).unwrap();
    check_gradient("cross_entropy", &x, &|| ops::cross_entropy(&x.reshape((6, 40)).unwrap(), &targets).unwrap());
}

/// Every variable of every model, with everything trained and with each kind of adapter.
#[test]
fn gradients_of_models_are_those_of_differences() {
    let boft = Method::Orthogonal(Orthogonal::Boft { factors: 2, block: 4 });
    let oft = Method::Orthogonal(Orthogonal::Oft { block: 8, share: false, terms: None });
    let lora = Method::Lora { rank: 2, alpha: 4.0 };
    let ids = id_tensor(2, 5, 3);
    let mask = Tensor::new(&[[1u32, 1, 1, 1, 1], [1, 1, 1, 0, 0]], &Device::Cpu).unwrap();
    let images = Tensor::randn(0.0f64, 1.0, (2, 1, 8, 8), &Device::Cpu).unwrap();
    for fields in [support::bert(), support::llama(), support::vit()] {
        let plain = random(&config(&fields), DType::F64);
        let weights = Weights::in_memory(plain.merged().unwrap(), DType::F64);
        let head = if matches!(plain.config(), Config::Llama(_)) { "lm_head" } else { "classifier" };
        for tuning in [
            Tuning::Everything,
            adapter(boft.clone(), "all-linear", &[head]),
            adapter(oft.clone(), "all-linear", &[]),
            adapter(lora.clone(), "all-linear", &[]),
        ] {
            let model = Model::new(plain.config(), &weights, &tuning).unwrap();
            let loss = || {
                let logits = match plain.config() {
                    Config::Bert(..) => model.bert().unwrap().logits(&ids, &mask),
                    Config::Llama(_) => model.llama().unwrap().logits(&ids),
                    Config::Vit(..) => model.vit().unwrap().logits(&images),
                };
                logits.unwrap().sqr().unwrap().mean_all().unwrap()
            };
            let variables = model.variables().all();
            assert!(!variables.is_empty());
            for (name, variable) in
                variables.iter().filter(|(name, _)| name.contains("oft_R") || name.contains("lora_B"))
            {
                let moved = Tensor::randn(0.0f64, 0.1, variable.shape(), &Device::Cpu).unwrap();
                assert!(variable.set(&moved).is_ok(), "{name}");
            }
            for (name, variable) in &variables {
                // Attention does not see a constant that is added to all keys, nor unused types and positions.
                if !name.ends_with("key.bias") {
                    check_gradient(&format!("{}, {name}", plain.config().kind()), variable, &loss);
                }
            }
        }
    }
}

#[test]
fn layers_of_every_kind_start_as_the_frozen_one() {
    let ids = id_tensor(2, 5, 3);
    let model = random(&config(&support::llama()), DType::F64);
    let weights = Weights::in_memory(model.merged().unwrap(), DType::F64);
    let expected = model.llama().unwrap().logits(&ids).unwrap();
    for (method, targets) in [
        (Method::Orthogonal(Orthogonal::Boft { factors: 2, block: 4 }), "q_proj,down_proj"),
        (Method::Orthogonal(Orthogonal::Oft { block: 8, share: true, terms: Some(5) }), "q_proj,embed_tokens"),
        (Method::Lora { rank: 3, alpha: 3.0 }, "all-linear"),
    ] {
        let adapted = Model::new(model.config(), &weights, &adapter(method.clone(), targets, &[])).unwrap();
        let error = difference(&adapted.llama().unwrap().logits(&ids).unwrap(), &expected);
        assert!(error < 4e-15, "{method:?}: {error:e}");
    }
}

#[test]
fn linear_of_a_frozen_layer_is_candles() {
    // Through a model of one kind: the frozen product against candle's with a gradient for the input alone.
    let x = Var::randn(0.0f64, 1.0, (2, 5, 32), &Device::Cpu).unwrap();
    let weight = Tensor::randn(0.0f64, 1.0, (7, 32), &Device::Cpu).unwrap();
    let layer = candle_nn::Linear::new(weight.clone(), None);
    let expected = layer.forward(&x).unwrap();
    let gradient = expected.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let got = papilio_finetune::Linear::frozen(&weight, None).unwrap();
    for input in [x.as_tensor().clone(), x.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap()] {
        let y = got.forward(&input).unwrap();
        assert!(difference(&y, &expected) < 4e-15);
        let own = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(difference(own.get(&x).unwrap(), gradient.get(&x).unwrap()) < 4e-15);
    }
    assert!(got.forward(&Tensor::zeros((2, 31), DType::F64, &Device::Cpu).unwrap()).is_err());
    assert_eq!(got.forward(&Tensor::zeros((0, 32), DType::F64, &Device::Cpu).unwrap()).unwrap().dims(), [0, 7]);
}
