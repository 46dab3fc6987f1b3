//! The configuration of an adapter: the text of `adapter_config.json`.

use papilio::adapter::{Adapter, PeftConfig};
use serde_json::{Map, Value};

use super::{Files, heard};

/// Reads it and asks for every field as everything.
pub fn config(input: &[u8]) -> bool {
    let files = Files::new();
    let path = files.write("adapter_config.json", input);
    let fields = serde_json::from_slice::<Map<String, Value>>(input).ok();
    let Some(config) = heard(PeftConfig::read(&path)) else {
        assert!(fields.is_none(), "an object was refused");
        return false;
    };
    let fields = fields.expect("an object");
    for (name, value) in &fields {
        assert_eq!(config.flag(name), value.as_bool());
        assert_eq!(config.text(name), value.as_str());
        assert_eq!(config.number(name), value.as_f64().filter(|x| x.is_finite()));
        if let Some(size) = config.size(name) {
            assert_eq!(value.as_f64(), Some(size as f64));
        }
    }
    assert_eq!(config.peft_type.as_deref(), config.text("peft_type"));
    let _ = config.peft_type.as_deref().map(Adapter::knows);
    for module in &config.modules_to_save {
        assert!(config.saves(module) && config.saves(&format!("model.{module}")));
    }
    assert_eq!(PeftConfig::read(&path).expect("the same file"), config);
    true
}
