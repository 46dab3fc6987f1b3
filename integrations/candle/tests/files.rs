//! Files: models from disk, adapters for PEFT, and what `papilio merge` makes of them.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Tensor};
use papilio::adapter::{Adapter as Stored, MergeOptions, merge};
use papilio::interop::candle::Method as Orthogonal;
use papilio_finetune::tasks::{Blocks, Classification, Images, Labelled, Language, Tokens, byte_tokenizer};
use papilio_finetune::train::{Optimiser, Task};
use papilio_finetune::{Config, Method, Model, Tuning, Weights, save_directory};
use serde_json::Value;
use support::{adapter, config, difference, id_tensor};

fn save_base(directory: &Path, fields: &Value, dtype: DType) {
    let model = Model::new(&config(fields), &Weights::random(5, 0.3, dtype), &Tuning::Frozen).unwrap();
    let texts = [("config.json", fields.to_string())];
    save_directory(directory, "model.safetensors", &model.merged().unwrap(), &texts, false).unwrap();
}

fn train(model: &Model) {
    let mut optimiser = Optimiser::adam(model.variables(), 0.02, 0.0).unwrap();
    let mut steps = |task: &dyn Task| {
        for i in 0..12 {
            optimiser.step(&task.loss(&[i, i + 7, i + 9]).unwrap()).unwrap();
        }
    };
    let (sentences, blocks) = (support::sentences(30), support::blocks(30, 8));
    match model.config() {
        Config::Bert(..) => steps(&Classification::new(model, &sentences, &sentences).unwrap()),
        Config::Llama(_) => steps(&Language::new(model, &blocks, &blocks).unwrap()),
        Config::Vit(..) => {
            let pictures = support::pictures(30, DType::F32);
            steps(&Images::new(model, &pictures, &pictures).unwrap());
        }
    }
}

fn logits(model: &Model) -> Tensor {
    let ids = id_tensor(3, 9, 8);
    match model.config() {
        Config::Bert(..) => model.bert().unwrap().logits(&ids, &ids.ones_like().unwrap()).unwrap(),
        Config::Llama(_) => model.llama().unwrap().logits(&ids).unwrap(),
        Config::Vit(..) => {
            let pixels = Weights::random(1, 1.0, DType::F32);
            let images = pixels.get("images", &[3, 1, 8, 8], papilio_finetune::Init::Normal(1.0)).unwrap();
            model.vit().unwrap().logits(&images).unwrap()
        }
    }
}

#[test]
fn papilio_merges_what_was_trained() {
    let boft = Method::Orthogonal(Orthogonal::Boft { factors: 3, block: 4 });
    let oft = |share, terms| Method::Orthogonal(Orthogonal::Oft { block: 8, share, terms });
    for (fields, method, targets, whole) in [
        (support::bert(), boft.clone(), "query,value,output.dense", &["classifier"][..]),
        (support::bert(), oft(false, None), "dense,word_embeddings", &["classifier"]),
        (support::llama(), boft.clone(), "all-linear", &[]),
        (support::llama(), oft(true, Some(5)), r".*\.(q|down)_proj", &["lm_head"]),
        (support::vit(), boft, "query,key,value", &["classifier"]),
        (support::vit(), oft(false, None), "attention.output.dense,query", &[]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        save_base(&at("base"), &fields, DType::F32);
        let config = Config::read(&at("base"), Some(3)).unwrap();
        let base = Weights::open(&at("base"), DType::F32).unwrap();
        let model = Model::new(&config, &base, &adapter(method.clone(), targets, whole)).unwrap();
        let before = logits(&model);
        train(&model);
        let trained = logits(&model);
        let moved = difference(&trained, &before);
        assert!(moved > 0.01, "{method:?}: {moved}");
        model.save_adapter(&at("adapter"), Some("base"), false).unwrap();
        assert!(model.save_adapter(&at("adapter"), None, false).is_err(), "replaced");

        // papilio reads everything, and agrees on which modules there are.
        let stored = Stored::open(&at("adapter")).unwrap();
        let modules: Vec<&str> = stored.layers().iter().map(|layer| layer.module.as_str()).collect();
        assert_eq!(modules, model.adapted().collect::<Vec<_>>());
        assert!(stored.warnings().is_empty(), "{:?}", stored.warnings());
        assert_eq!(stored.replacements().is_empty(), whole.is_empty());

        let options = MergeOptions::new(at("base"), at("adapter"), at("merged"));
        let report = merge(&options, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.layers.len(), modules.len());
        let weights = Weights::open(&at("merged"), DType::F32).unwrap();
        let merged = Model::new(&config, &weights, &Tuning::Frozen).unwrap();
        let error = difference(&logits(&merged), &trained);
        assert!(error < 5e-6, "{method:?} on {targets}: {error:e}");
        // The same weights as those merged here, to a rounding.
        for (name, own) in model.merged().unwrap() {
            let theirs = weights.get(&name, own.dims(), papilio_finetune::Init::Constant(0.0)).unwrap();
            assert!(difference(&theirs, &own) <= 2e-7, "{name}");
        }
    }
}

#[test]
fn lora_is_stored_as_peft_has_it_and_merges_here() {
    let directory = tempfile::tempdir().unwrap();
    save_base(&directory.path().join("base"), &support::bert(), DType::F32);
    let base = Weights::open(&directory.path().join("base"), DType::F32).unwrap();
    let tuning = adapter(Method::Lora { rank: 3, alpha: 6.0 }, "query", &["classifier"]);
    let model = Model::new(&config(&support::bert()), &base, &tuning).unwrap();
    train(&model);
    let adapter = directory.path().join("adapter");
    model.save_adapter(&adapter, None, false).unwrap();
    let file = papilio::storage::Container::open(&adapter.join("adapter_model.safetensors")).unwrap();
    let front = "base_model.model.bert.encoder.layer.1.attention.self.query";
    assert_eq!(file.get(&format!("{front}.lora_A.weight")).unwrap().shape, [3, 32]);
    assert_eq!(file.get(&format!("{front}.lora_B.weight")).unwrap().shape, [32, 3]);
    assert_eq!(file.get("base_model.model.classifier.weight").unwrap().shape, [3, 32]);
    let merged = Weights::in_memory(model.merged().unwrap(), DType::F32);
    let merged = Model::new(model.config(), &merged, &Tuning::Frozen).unwrap();
    assert!(difference(&logits(&merged), &logits(&model)) < 5e-6);
}

#[test]
fn models_without_a_head_are_read_and_get_one() {
    // As sentence encoders are saved: no `bert.` in front, no classifier.
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base");
    let model = Model::new(&config(&support::bert()), &Weights::random(5, 0.3, DType::F32), &Tuning::Frozen).unwrap();
    let bare = model
        .merged()
        .unwrap()
        .into_iter()
        .filter_map(|(name, tensor)| name.strip_prefix("bert.").map(|short| (short.to_string(), tensor)));
    save_directory(&base, "model.safetensors", &bare.collect(), &[("config.json", support::bert().to_string())], false)
        .unwrap();
    let weights = Weights::open(&base, DType::F32).unwrap();
    let config = Config::read(&base, Some(5)).unwrap();
    let error = Model::new(&config, &weights, &Tuning::Frozen).unwrap_err().to_string();
    assert!(error.contains("`classifier.weight`"), "{error}");
    let method = Method::Orthogonal(Orthogonal::Boft { factors: 2, block: 4 });
    let adapted = Model::new(&config, &weights, &adapter(method, "query", &["classifier"])).unwrap();
    assert_eq!(logits(&adapted).dims(), [3, 5]);
    assert!(adapted.variables().all().contains_key("base_model.model.classifier.weight"));
    // A whole module with what is inside, by PEFT's names.
    let both = Model::new(
        &config,
        &weights,
        &adapter(Method::Lora { rank: 1, alpha: 1.0 }, "query", &["classifier", "pooler"]),
    );
    assert!(both.unwrap().variables().all().contains_key("base_model.model.bert.pooler.dense.weight"));
    let ids = id_tensor(2, 7, 1);
    let hidden = |model: &Model| model.bert().unwrap().hidden(&ids, &ids.ones_like().unwrap()).unwrap();
    assert!(difference(&hidden(&adapted), &hidden(&model)) < 2e-6);
}

#[test]
fn merged_models_are_read_again_as_what_they_are() {
    let boft = Method::Orthogonal(Orthogonal::Boft { factors: 3, block: 4 });
    let oft = Method::Orthogonal(Orthogonal::Oft { block: 8, share: false, terms: None });
    let names = ["no", "yes", "perhaps"].map(String::from);
    for (mut fields, method, targets, whole, labels) in [
        (support::bert(), boft, "query,value", &["classifier"][..], Some(&names[..])),
        (support::vit(), Method::Lora { rank: 2, alpha: 4.0 }, "query", &["classifier"], None),
        (support::llama(), oft, "embed_tokens,q_proj", &[], None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // Of a model with other labels, in half precision and without a head.
        fields["architectures"] = serde_json::json!(["SomeModel"]);
        fields["torch_dtype"] = "float16".into();
        fields["num_labels"] = 2.into();
        save_base(&at("base"), &fields, DType::F32);
        fs::write(at("base").join("tokenizer.json"), byte_tokenizer(true).unwrap()).unwrap();
        let base = Weights::open(&at("base"), DType::F32).unwrap();
        let config = Config::read(&at("base"), Some(3)).unwrap();
        let model = Model::new(&config, &base, &adapter(method, targets, whole)).unwrap();
        train(&model);
        model.save_merged(&at("merged"), &at("base"), labels, false).unwrap();
        assert!(model.save_merged(&at("merged"), &at("base"), labels, false).is_err(), "replaced");
        assert!(model.save_merged(&at("other"), &at("base"), Some(&names[..1]), false).is_err());
        for place in [at("base"), at("merged").join("../base"), directory.path().into()] {
            let error = model.save_merged(&place, &at("base"), labels, true).unwrap_err().to_string();
            assert!(error.contains("another place"), "{error}");
        }
        model.save_merged(&at("merged"), &at("base"), labels, true).unwrap();

        let config = Config::read(&at("merged"), None).unwrap();
        let merged = Model::new(&config, &Weights::open(&at("merged"), DType::F32).unwrap(), &Tuning::Frozen).unwrap();
        let error = difference(&logits(&merged), &logits(&model));
        assert!(error < 5e-6, "{targets}: {error:e}");
        assert!(Tokens::read(&at("merged")).is_ok());
        let text = fs::read_to_string(at("merged").join("config.json")).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written["torch_dtype"], "float32");
        let class = written["architectures"][0].as_str().unwrap();
        match config {
            Config::Llama(_) => assert!(class == "LlamaForCausalLM" && written.get("id2label").is_none()),
            _ => {
                let first = labels.map_or("LABEL_0", |names| &names[0]);
                assert!(class.ends_with("Classification") && written.get("num_labels").is_none(), "{text}");
                assert_eq!(
                    (written["id2label"]["0"].as_str(), written["label2id"][first].as_u64()),
                    (Some(first), Some(0))
                );
            }
        }
    }
}

#[test]
fn a_tied_embedding_is_not_rotated() {
    let mut fields = support::llama();
    fields["tie_word_embeddings"] = true.into();
    let oft = Method::Orthogonal(Orthogonal::Oft { block: 8, share: false, terms: None });
    let new = |targets| {
        let tuning = adapter(oft.clone(), targets, &[]);
        Model::new(&config(&fields), &Weights::random(5, 0.3, DType::F32), &tuning)
    };
    let error = new("embed_tokens,q_proj").unwrap_err().to_string();
    assert!(error.contains("embed_tokens") && error.contains("tie_word_embeddings"), "{error}");
    assert!(new("q_proj").is_ok());
}

#[test]
fn old_names_of_normalisations_are_read() {
    let fields = support::bert();
    let model = Model::new(&config(&fields), &Weights::random(5, 0.3, DType::F32), &Tuning::Frozen).unwrap();
    let shaken = model.merged().unwrap().into_iter().map(|(name, tensor)| {
        let more = Weights::random(8, 0.1, DType::F32);
        let more = more.get(&name, tensor.dims(), papilio_finetune::Init::Normal(0.1)).unwrap();
        (name, (tensor + more).unwrap())
    });
    let tensors: std::collections::BTreeMap<String, Tensor> = shaken.collect();
    let read = |tensors| Model::new(&config(&fields), &Weights::in_memory(tensors, DType::F32), &Tuning::Frozen);
    let expected = logits(&read(tensors.clone()).unwrap());
    let old =
        |name: &str| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    for front in ["bert.", ""] {
        let renamed = tensors.iter().map(|(name, tensor)| {
            let name = old(name);
            (name.strip_prefix("bert.").map_or(name.clone(), |short| format!("{front}{short}")), tensor.clone())
        });
        let renamed: std::collections::BTreeMap<String, Tensor> = renamed.collect();
        assert!(renamed.contains_key(&format!("{front}encoder.layer.1.output.LayerNorm.gamma")));
        assert_eq!(difference(&logits(&read(renamed).unwrap()), &expected), 0.0);
    }
}

#[test]
fn sizes_beyond_belief_and_none_are_refused_by_name() {
    let random = || Weights::random(5, 0.3, DType::F32);
    for (fields, names) in [
        (
            support::bert(),
            "hidden_size intermediate_size num_attention_heads vocab_size max_position_embeddings type_vocab_size",
        ),
        (
            support::llama(),
            "hidden_size intermediate_size num_attention_heads num_key_value_heads vocab_size max_position_embeddings",
        ),
        (support::vit(), "hidden_size intermediate_size num_attention_heads image_size patch_size num_channels"),
    ] {
        for name in names.split(' ') {
            let mut changed = fields.clone();
            changed[name] = 0.into();
            // Refused when read (a head of no size) or when built, before anything is computed.
            let read = Config::from_json(changed.as_object().unwrap().clone(), Some(3), "config");
            let error =
                read.and_then(|config| Model::new(&config, &random(), &Tuning::Frozen)).unwrap_err().to_string();
            assert!(error.contains(name) || error.contains("head_dim"), "{name}: {error}");
        }
    }
    for labels in [0, 1 << 25, usize::MAX] {
        let fields = support::bert().as_object().unwrap().clone();
        let config = Config::from_json(fields, Some(labels), "config").unwrap();
        let error = Model::new(&config, &random(), &Tuning::Frozen).unwrap_err().to_string();
        assert!(error.contains("num_labels"), "{error}");
    }
    // Each size can be believed, the tensor cannot.
    let mut fields = support::vit();
    (fields["image_size"], fields["patch_size"]) = ((1 << 24).into(), 1.into());
    let error = Model::new(&config(&fields), &random(), &Tuning::Frozen).unwrap_err().to_string();
    assert!(error.contains("position_embeddings"), "{error}");
}

#[test]
fn damaged_models_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base");
    save_base(&base, &support::llama(), DType::F32);
    let open = || {
        let config = Config::read(&base, None)?;
        Model::new(&config, &Weights::open(&base, DType::F32)?, &Tuning::Frozen)
    };
    assert!(open().is_ok());
    let text = |expected: &str| {
        let error = open().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let mut wider = support::llama();
    wider["intermediate_size"] = 96.into();
    fs::write(base.join("config.json"), wider.to_string()).unwrap();
    text("model.layers.0.mlp.gate_proj.weight");
    let mut headless = support::llama();
    headless["num_attention_heads"] = 5.into();
    fs::write(base.join("config.json"), headless.to_string()).unwrap();
    text("num_attention_heads");
    for broken in ["", "[]", "{\"model_type\": 3}", "{\"model_type\": \"llama\"}"] {
        fs::write(base.join("config.json"), broken).unwrap();
        text("config.json");
    }
    fs::write(base.join("config.json"), support::llama().to_string()).unwrap();
    let bytes = fs::read(base.join("model.safetensors")).unwrap();
    fs::write(base.join("model.safetensors"), &bytes[..bytes.len() - 9]).unwrap();
    text("model.safetensors");
    let mut nan = bytes.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(base.join("model.safetensors"), nan).unwrap();
    text("finite");
}

#[test]
fn texts_become_tokens_and_classes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("tokenizer.json"), byte_tokenizer(true).unwrap()).unwrap();
    let tokens = Tokens::read(directory.path()).unwrap();
    let ids = tokens.sentence("ab, é", 64).unwrap();
    assert_eq!((ids.len(), ids[0], ids[7]), (8, 1, 2)); // a b , space and the two bytes of é, wrapped
    assert_eq!(ids[1] + 1, ids[2]);
    assert_eq!(tokens.sentence("ab, é", 5).unwrap(), [ids[0], ids[1], ids[2], ids[3], ids[7]]);
    assert_eq!(tokens.sentence("", 5).unwrap(), [1, 2]);

    let csv = "id,label,text\n1,good,\"a, b\"\n2,bad,c\n3,good,d\n";
    fs::write(at("data.csv"), csv).unwrap();
    let labelled = Labelled::read(&at("data.csv")).unwrap();
    assert_eq!(labelled.labels, ["bad", "good"]);
    assert_eq!(labelled.rows, [("a, b".to_string(), 1), ("c".to_string(), 0), ("d".to_string(), 1)]);
    fs::write(at("data.csv"), "sentence,class\nx,1\ny,0\n").unwrap();
    assert_eq!(Labelled::read(&at("data.csv")).unwrap().rows, [("x".to_string(), 1), ("y".to_string(), 0)]);
    for (bad, why) in [
        ("text\nx\n", "columns"),
        ("text,class\nx,1\ny,0\n", "columns"),
        ("id,sentence,label\n1,x,1\n2,y,0\n", "columns"),
        ("text,label\nx,1\ny,1\n", "two different labels"),
        ("text,label\nx,1\n,2\n", "row 2"),
        ("text,label\nx,1\ny\n", "CSV"),
        ("", "columns"),
    ] {
        fs::write(at("data.csv"), bad).unwrap();
        let error = Labelled::read(&at("data.csv")).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("data.csv"), "{error}");
    }
    assert!(Labelled::read(&at("nothing.csv")).is_err() && Tokens::read(&at("nowhere")).is_err());

    let rows = (0..10).map(|i| (format!("{i}"), format!("{}", i % 2))).collect();
    let (train, held_out) = Labelled::new(rows).split(0.3, 1);
    assert_eq!((train.rows.len(), held_out.rows.len()), (7, 3));
    assert!(Blocks::new(vec![1, 2, 3], 1).is_err());
    let (train, held_out) = Blocks::new((0..23).collect(), 5).unwrap().split(0.25);
    assert_eq!((train.len(), held_out.len()), (3, 1));
    assert_eq!(held_out.blocks().next().unwrap(), [15, 16, 17, 18, 19]);
}

/// Two of candle in one program would be two kinds of tensors.
#[test]
fn candles_version_is_papilios() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let versions = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("candle-"));
        lines.map(|line| line.split('"').nth(1).unwrap().to_string()).collect()
    };
    let (own, papilios) = (versions("Cargo.toml"), versions("../../Cargo.toml"));
    assert!(own.len() == 3 && papilios.len() == 2, "{own:?}, {papilios:?}");
    assert!(own.iter().chain(&papilios).all(|version| *version == own[0]), "{own:?}, {papilios:?}");
}
