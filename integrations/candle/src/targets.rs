//! Which modules are adapted, by PEFT's rules.

use regex::Regex;

use crate::error::{Result, input};

/// PEFT's `target_modules`.
#[derive(Debug, Clone)]
pub enum Targets {
    /// Names: a module is meant that has one of them, or whose path ends in a dot and one of them.
    Names(Vec<String>),
    /// A pattern that the whole path must match.
    Pattern(Box<Regex>, String),
    /// `all-linear`: every linear layer that the model does not train as a whole.
    AllLinear,
}

impl Targets {
    /// From a command line: `all-linear`, names with commas between, or one pattern, which is known by a character that names do
    /// not have.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for a pattern that is none, and for no name at all.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "all-linear" {
            return Ok(Self::AllLinear);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ',' | '-' | ' ');
        if text.chars().all(is_plain) {
            let names: Vec<String> = text.split(',').map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect();
            if names.is_empty() {
                return input("targets", "names of modules, or a pattern", "none");
            }
            return Ok(Self::Names(names));
        }
        match Regex::new(&format!("^(?:{text})$")) {
            Ok(pattern) => Ok(Self::Pattern(Box::new(pattern), text.to_string())),
            Err(e) => input("targets", "a regular expression", e),
        }
    }

    /// Whether the module at `path` is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| ends(path, name)),
            Self::Pattern(pattern, _) => pattern.is_match(path),
            Self::AllLinear => true,
        }
    }

    /// Names that none of these modules has.
    pub(crate) fn unmatched<'a>(&'a self, paths: &[&str]) -> Vec<&'a str> {
        match self {
            Self::Names(names) => {
                names.iter().filter(|name| !paths.iter().any(|path| ends(path, name))).map(String::as_str).collect()
            }
            Self::Pattern(_, text) if paths.is_empty() => vec![text],
            Self::AllLinear if paths.is_empty() => vec!["all-linear"],
            _ => Vec::new(),
        }
    }

    /// As `adapter_config.json` has it. PEFT writes names out for `all-linear`, and so do we: `modules` are those adapted.
    pub(crate) fn json(&self, modules: &[&str]) -> serde_json::Value {
        match self {
            Self::Names(names) => names.clone().into(),
            Self::Pattern(_, text) => text.clone().into(),
            Self::AllLinear => modules.iter().map(|m| m.to_string()).collect::<Vec<_>>().into(),
        }
    }
}

/// Whether a path is `name` or ends in a dot and it.
pub(crate) fn ends(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Whether a module is `name`, by the same rule, or lies inside of it.
pub(crate) fn lies_in(path: &str, name: &str) -> bool {
    let fronts = path.match_indices('.').map(|(dot, _)| &path[..dot]);
    fronts.chain([path]).any(|front| ends(front, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_components_and_patterns_whole_paths() {
        let paths =
            ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense", "bert.pooler.dense"];
        let found = |text: &str| paths.map(|path| Targets::parse(text).unwrap().matches(path));
        assert_eq!(found("query"), [true, false, false]);
        assert_eq!(found("uery"), [false; 3]);
        assert_eq!(found("dense"), [false, true, true]);
        assert_eq!(found("output.dense, query"), [true, true, false]);
        assert_eq!(found(r".*layer\.\d+\.output\.dense"), [false, true, false]);
        assert_eq!(found(r"layer\.\d+\.output\.dense"), [false; 3]);
        assert_eq!(found("a|.*query"), [true, false, false]);
        assert_eq!(found("all-linear"), [true; 3]);
        assert_eq!(Targets::parse("query,nothing").unwrap().unmatched(&paths), ["nothing"]);
        assert!(Targets::parse("(").is_err() && Targets::parse(" , ").is_err());
    }

    #[test]
    fn modules_trained_as_a_whole_include_what_is_inside() {
        for (path, name, expected) in [
            ("classifier", "classifier", true),
            ("bert.pooler.dense", "pooler", true),
            ("bert.pooler.dense", "bert.pooler", true),
            ("bert.pooler.dense", "dense", true),
            ("bert.pooler.dense", "pool", false),
            ("bert.pooler.dense", "ert", false),
        ] {
            assert_eq!(lies_in(path, name), expected, "{path}, {name}");
        }
    }
}
