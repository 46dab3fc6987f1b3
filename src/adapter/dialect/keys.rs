//! Keys of adapter files: which module a tensor belongs to, and what it is there.
//!
//! PEFT: `base_model.model.<module>.<parameter>[.<adapter>][<tail>]`, as `save_pretrained` (without the adapter's name) or
//! `state_dict` (with it) write it; golden data and tests leave the prefix away. Others: `<prefix>_<module with _ for .>.<parameter>`,
//! as kohya's scripts began it.

use std::format;
use std::string::String;

use super::{DIALECTS, Dialect};

/// How a dialect spells its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapter) enum Grammar {
    /// Module paths with dots, adapter names.
    Peft,
    /// Flattened module paths behind one of these fronts. What follows is the path with `_` for `.`.
    Flat(&'static [&'static str]),
}

impl Grammar {
    /// The flattened path of a module without its front.
    pub(in crate::adapter) fn flat_path(self, module: &str) -> Option<&str> {
        let Self::Flat(fronts) = self else { return None };
        let path = fronts.iter().find_map(|front| module.strip_prefix(front))?;
        Some(path).filter(|path| !path.is_empty() && !path.contains('.'))
    }
}

/// A tensor that a layer may have: `<module>.<name><tail>`.
#[derive(Debug, Clone, Copy)]
pub(in crate::adapter) struct Parameter {
    /// What dialects call it.
    pub(in crate::adapter) name: &'static str,
    /// Its spelling, up to the adapter's name.
    pub(in crate::adapter) spelled: &'static str,
    /// What comes after the adapter's name.
    pub(in crate::adapter) tail: &'static str,
    /// Whether it is passed over: it follows from the others.
    pub(in crate::adapter) is_derived: bool,
}

impl Parameter {
    /// One whose spelling is its name.
    pub(in crate::adapter) const fn named(name: &'static str) -> Self {
        Self { name, spelled: name, tail: "", is_derived: false }
    }
}

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Key<'a> {
    /// A parameter of a dialect's layer, with the adapter's name if the key has one (`boft_R.default`).
    Parameter { dialect: &'static str, parameter: &'static str, module: &'a str, adapter: Option<&'a str> },
    /// One that follows from the others.
    Derived { parameter: &'static str },
    /// A tensor of the base model, trained as a whole, with the adapter's name if the key has one.
    Whole { name: String, adapter: Option<&'a str> },
    /// The copy of a trained module from before the training (`original_module`).
    Untrained,
    /// Anything else; the method that it looks like, if it looks like one.
    Unknown { method: Option<&'static str> },
}

/// Parameters of methods that are not orthogonal, to refuse them by name.
const FOREIGN: [(&str, &str); 25] = [
    ("lora_magnitude_vector", "DoRA"),
    ("dora_scale", "DoRA"),
    ("lora_A", "LoRA"),
    ("lora_B", "LoRA"),
    ("lora_embedding_", "LoRA"),
    ("lora_down", "LoRA"),
    ("lora_up", "LoRA"),
    ("lora_mid", "LoRA"),
    ("hada_w", "LoHa"),
    ("lokr_w", "LoKr"),
    ("ia3_l", "(IA)³"),
    ("vera_lambda", "VeRA"),
    ("randlora_", "RandLoRA"),
    ("fourierft_spectrum", "FourierFT"),
    ("poly_lora", "Poly"),
    ("adaption_", "LLaMA-Adapter"),
    ("prompt_embeddings", "prompt tuning"),
    ("shira_weight", "SHiRA"),
    ("c3a_kernel", "C³A"),
    ("bone_block", "Bone"),
    ("miss_block", "MiSS"),
    ("gralora_", "GraLoRA"),
    ("delora_", "DeLoRA"),
    ("waveft_spectrum", "WaveFT"),
    ("osf_", "OSF"),
];

/// Reads a key.
pub(in crate::adapter) fn parse_key(key: &str) -> Key<'_> {
    let stripped = key.strip_prefix("base_model.model.");
    let path = stripped.unwrap_or(key);
    for dialect in DIALECTS {
        for parameter in dialect.parameters {
            let Some((module, adapter)) = split(path, parameter, dialect) else { continue };
            if parameter.is_derived {
                return Key::Derived { parameter: parameter.name };
            }
            return Key::Parameter { dialect: dialect.name, parameter: parameter.name, module, adapter };
        }
    }
    let last = path.rsplit('.').find_map(|part| FOREIGN.iter().find(|(name, _)| part.starts_with(name)));
    if let Some((_, method)) = last {
        return Key::Unknown { method: Some(method) };
    }
    if path.contains(".original_module.") {
        return Key::Untrained;
    }
    if let Some((module, rest)) = path.split_once(".modules_to_save.") {
        // <mod>.modules_to_save.<adapter>.<parameter>
        return match rest.split_once('.') {
            Some((adapter, parameter)) => Key::Whole { name: format!("{module}.{parameter}"), adapter: Some(adapter) },
            None => Key::Unknown { method: None },
        };
    }
    match stripped {
        Some(path) => Key::Whole { name: path.replace(".base_layer.", "."), adapter: None },
        None => Key::Unknown { method: None },
    }
}

/// Module and adapter of a key, if it spells this parameter.
fn split<'a>(path: &'a str, parameter: &Parameter, dialect: &Dialect) -> Option<(&'a str, Option<&'a str>)> {
    let front = path.strip_suffix(parameter.tail)?;
    let module = |front: &'a str| front.strip_suffix(parameter.spelled)?.strip_suffix('.').filter(|m| !m.is_empty());
    let found = match module(front) {
        Some(module) => (module, None),
        None if dialect.grammar == Grammar::Peft => {
            let (front, adapter) = front.rsplit_once('.')?;
            (module(front)?, Some(adapter))
        }
        None => return None,
    };
    // Only flattened names are told apart by their fronts; a path with dots is PEFT's.
    let is_spelled = match dialect.grammar {
        Grammar::Peft => DIALECTS.iter().all(|other| other.grammar.flat_path(found.0).is_none()),
        flat => flat.flat_path(found.0).is_some(),
    };
    is_spelled.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_saved_and_live_models_are_understood() {
        let boft = |parameter, module, adapter| Key::Parameter { dialect: "peft-boft", parameter, module, adapter };
        let oft = |parameter, module, adapter| Key::Parameter { dialect: "peft-oft", parameter, module, adapter };
        let whole = |name: &str| Key::Whole { name: name.into(), adapter: None };
        let trained = |name: &str| Key::Whole { name: name.into(), adapter: Some("default") };
        assert_eq!(parse_key("base_model.model.a.b.boft_R"), boft("boft_R", "a.b", None));
        assert_eq!(parse_key("base_model.model.a.b.boft_R.default"), boft("boft_R", "a.b", Some("default")));
        assert_eq!(parse_key("a.boft_R"), boft("boft_R", "a", None));
        assert_eq!(parse_key("base_model.model.a.b.boft_s.x"), boft("boft_s", "a.b", Some("x")));
        assert_eq!(parse_key("base_model.model.a.boft_P"), Key::Derived { parameter: "boft_P" });
        assert_eq!(parse_key("base_model.model.a.oft_R.weight"), oft("oft_R", "a", None));
        assert_eq!(parse_key("base_model.model.a.oft_R.default.weight"), oft("oft_R", "a", Some("default")));
        assert_eq!(parse_key("base_model.model.a.oft_r"), oft("oft_r", "a", None));
        assert_eq!(parse_key("base_model.model.a.base_layer.bias"), whole("a.bias"));
        assert_eq!(parse_key("base_model.model.head.weight"), whole("head.weight"));
        assert_eq!(parse_key("base_model.model.head.modules_to_save.default.0.weight"), trained("head.0.weight"));
        assert_eq!(parse_key("base_model.model.head.original_module.weight"), Key::Untrained);
        for key in ["", ".", "boft_R", ".boft_R", "x", "head.modules_to_save.x"] {
            assert_eq!(parse_key(key), Key::Unknown { method: None }, "{key}");
        }
        for (key, method) in
            [("a.lora_A.weight", "LoRA"), ("lycoris_a.lokr_w1", "LoKr"), ("a.lora_magnitude_vector", "DoRA")]
        {
            assert_eq!(parse_key(key), Key::Unknown { method: Some(method) }, "{key}");
        }
    }
}
