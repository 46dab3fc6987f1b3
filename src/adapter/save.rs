//! Trained variables as PEFT's files.

use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::json;

use super::draft::Draft;
use super::method::Method;
use crate::error::{Error, Result, check_length};
use crate::storage::FloatType;

/// A trained tensor of a module.
#[derive(Debug, Clone)]
pub struct TrainedTensor {
    /// Path of the module in the base model.
    pub module: String,
    /// [Name](super::Variable::name) of the variable.
    pub name: String,
    /// What it is trained in, and written in.
    pub dtype: FloatType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub numbers: Vec<f64>,
}

impl Method {
    /// Writes a directory with `adapter_model.safetensors` and `adapter_config.json`, which PEFT 0.18 and
    /// [`Adapter::open`](super::Adapter::open) read. The directory appears whole or not at all.
    ///
    /// ```
    /// use papilio::adapter::{Adapter, LayerKind, Method, TrainedTensor};
    /// use papilio::storage::FloatType;
    ///
    /// let method = Method::Oft { block: 4, share: false, terms: None };
    /// let variable = method.on(LayerKind::Linear, &[3, 8])?.rotation().clone();
    /// let (module, name) = ("head".to_string(), variable.name.to_string());
    /// let tensor = TrainedTensor { module, name, dtype: FloatType::F32, shape: variable.shape, numbers: vec![0.5; 12] };
    /// let work = tempfile::tempdir()?;
    /// method.save(&[tensor], &work.path().join("adapter"), false)?;
    /// assert_eq!(Adapter::open(&work.path().join("adapter"))?.layers()[0].module, "head");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Before anything is written: [`Error::Size`] for no tensors, a name or a shape that the method has not, a `boft_R` without
    /// its `boft_s`; [`Error::Length`] for more or fewer numbers than the shape has; [`Error::Domain`] for numbers that are not
    /// finite; [`Error::Unsupported`] for a tensor that is there twice. [`Error::File`] if `out` exists and may not be replaced, or
    /// from the system.
    pub fn save(self, tensors: &[TrainedTensor], out: &Path, force: bool) -> Result<()> {
        if tensors.is_empty() {
            let (what, expected) = ("tensors of an adapter", "at least one".to_string());
            return Err(Error::Size { what, expected, got: "none".to_string() });
        }
        let mut draft = Draft::peft(self.peft_type(), self.fields());
        for tensor in tensors {
            self.check(tensor, tensors)?;
            draft.add(&tensor.module, &tensor.name, tensor.dtype, &tensor.shape, &tensor.numbers)?;
        }
        draft.write(out, force)
    }

    /// Its own fields of an `adapter_config.json`, as a JSON object: for those who write one themselves.
    ///
    /// ```
    /// let fields = papilio::adapter::Method::Boft { factors: 2, block: 4 }.peft_fields();
    /// assert!(fields.contains(r#""boft_n_butterfly_factor":2"#));
    /// ```
    pub fn peft_fields(self) -> String {
        self.fields().to_string()
    }

    fn fields(self) -> serde_json::Value {
        match self {
            Self::Boft { factors, block } => json!({
                "boft_block_size": block, "boft_block_num": 0, "boft_n_butterfly_factor": factors, "boft_dropout": 0.0,
            }),
            Self::Oft { block, share, terms } => json!({
                "r": 0, "oft_block_size": block, "block_share": share, "coft": false, "eps": 6e-5, "module_dropout": 0.0,
                "use_cayley_neumann": terms.is_some(), "num_cayley_neumann_terms": terms.unwrap_or(5),
            }),
        }
    }

    fn check(self, tensor: &TrainedTensor, all: &[TrainedTensor]) -> Result<()> {
        let partner = |name: &str| all.iter().any(|other| other.module == tensor.module && other.name == name);
        let (fits, expected) = match (self, tensor.name.as_str(), &tensor.shape[..]) {
            (Self::Boft { factors, block }, "boft_R", shape) => (
                matches!(*shape, [m, d, b, c] if d > 0 && [m, b, c] == [factors, block, block]) && partner("boft_s"),
                format!("boft_R of shape [{factors}, n/{block}, {block}, {block}], and a boft_s"),
            ),
            (Self::Boft { .. }, "boft_s", shape) => (
                matches!(*shape, [out, 1] | [1, out] if out > 0) && partner("boft_R"),
                "boft_s of shape [out, 1] or [1, out], and a boft_R".to_string(),
            ),
            (Self::Oft { block, share, .. }, "oft_R.weight" | "oft_embedding_R.weight", shape) => {
                let pairs = block.saturating_mul(block.saturating_sub(1)) / 2;
                let rows = if share { "1" } else { "n/block" };
                (
                    matches!(*shape, [rows, count] if rows > 0 && (rows == 1 || !share) && count == pairs && pairs > 0),
                    format!("{} of shape [{rows}, {pairs}]", tensor.name),
                )
            }
            (Self::Boft { .. }, _, _) => (false, "boft_R or boft_s".to_string()),
            (Self::Oft { .. }, _, _) => (false, "oft_R.weight or oft_embedding_R.weight".to_string()),
        };
        if !fits || tensor.module.is_empty() {
            let got = format!("{} of module `{}`, {:?}", tensor.name, tensor.module, tensor.shape);
            return Err(Error::Size { what: "tensor of an adapter", expected, got });
        }
        let count = tensor.shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent));
        check_length("numbers of a tensor", count.unwrap_or(usize::MAX), tensor.numbers.len())?;
        match tensor.numbers.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::Domain {
                what: format!("{}.{}", tensor.module, tensor.name),
                expected: "finite numbers",
                got: format!("{} at position {at}", tensor.numbers[at]),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, LayerKind};
    use std::vec;

    #[test]
    fn what_is_saved_is_read_and_what_does_not_fit_leaves_nothing_behind() {
        let work = tempfile::tempdir().unwrap();
        let out = work.path().join("adapter");
        let method = Method::Boft { factors: 2, block: 4 };
        let boft = method.on(LayerKind::Conv2d, &[3, 2, 2, 4]).unwrap();
        let tensors: Vec<_> = [boft.rotation(), boft.scale().unwrap()]
            .map(|variable| TrainedTensor {
                module: "net.0".to_string(),
                name: variable.name.to_string(),
                dtype: FloatType::F64,
                shape: variable.shape.clone(),
                numbers: (0..variable.shape.iter().product()).map(|i| f64::from((i * i % 7) as u32)).collect(),
            })
            .into();
        let text = |change: &dyn Fn(&mut Vec<TrainedTensor>)| {
            let mut changed = tensors.clone();
            change(&mut changed);
            method.save(&changed, &out, false).unwrap_err().to_string()
        };
        for (got, want) in [
            (text(&Vec::clear), "tensors of an adapter: expected at least one, got none"),
            (
                text(&|t| drop(t.pop())),
                "expected boft_R of shape [2, n/4, 4, 4], and a boft_s, got boft_R of module `net.0`",
            ),
            (text(&|t| drop(t.remove(0))), "and a boft_R, got boft_s"),
            (
                text(&|t| t[1].shape = vec![3]),
                "expected boft_s of shape [out, 1] or [1, out], and a boft_R, got boft_s",
            ),
            (text(&|t| t[0].shape[0] = 3), "[3, 4, 4, 4]"),
            (text(&|t| t[0].shape[1] = usize::MAX), "numbers of a tensor: expected length"),
            (text(&|t| t[0].name = "oft_R.weight".to_string()), "expected boft_R or boft_s, got oft_R.weight"),
            (text(&|t| t[0].module.clear()), "boft_R"),
            (text(&|t| t[1].numbers.truncate(2)), "numbers of a tensor: expected length 3, got 2"),
            (text(&|t| t[0].numbers[5] = f64::NAN), "net.0.boft_R: expected finite numbers, got NaN at position 5"),
            (text(&|t| t.push(t[1].clone())), "boft_s"),
        ] {
            assert!(got.contains(want), "{got}\n  instead of\n{want}");
        }
        let shared = Method::Oft { block: 4, share: true, terms: None };
        let mut rows = tensors[..1].to_vec();
        (rows[0].name, rows[0].shape, rows[0].numbers) = ("oft_R.weight".to_string(), vec![2, 6], vec![0.0; 12]);
        let error = shared.save(&rows, &out, false).unwrap_err().to_string();
        assert!(error.contains("expected oft_R.weight of shape [1, 6], got"), "{error}");
        assert!(std::fs::read_dir(work.path()).unwrap().next().is_none());

        method.save(&tensors, &out, false).unwrap();
        assert!(method.save(&tensors, &out, false).is_err()); // is there
        method.save(&tensors, &out, true).unwrap();
        let adapter = Adapter::open(&out).unwrap();
        assert!(adapter.warnings().is_empty() && adapter.layers().len() == 1);
        let layer = &adapter.layers()[0];
        assert_eq!(adapter.numbers(layer).unwrap()["boft_R"], tensors[0].numbers);
        assert!(method.made(&layer.structure()) && !Method::Boft { factors: 1, block: 4 }.made(&layer.structure()));
        assert!(!Method::Oft { block: 4, share: false, terms: None }.made(&layer.structure()));
    }

    #[test]
    fn a_file_tells_by_which_method_it_was_trained() {
        let work = tempfile::tempdir().unwrap();
        let oft = |block, share, terms| Method::Oft { block, share, terms };
        let methods = [oft(4, false, None), oft(4, false, Some(5)), oft(4, true, Some(6)), oft(8, false, None)];
        for (at, method) in methods.into_iter().enumerate() {
            let variable = method.on(LayerKind::Linear, &[3, 8]).unwrap().rotation().clone();
            let tensor = TrainedTensor {
                module: "net".to_string(),
                name: variable.name.to_string(),
                dtype: FloatType::F64,
                numbers: vec![0.25; variable.shape.iter().product()],
                shape: variable.shape,
            };
            let out = work.path().join(at.to_string());
            method.save(&[tensor], &out, false).unwrap();
            let structure = Adapter::open(&out).unwrap().layers()[0].structure();
            for other in methods {
                assert_eq!(other.made(&structure), other == method, "{other:?} in a file of {method:?}");
            }
        }
        // Of PEFT up to 0.13: the outputs are rotated, though the text is OFT, too.
        let tensor = TrainedTensor {
            module: "net".to_string(),
            name: "oft_r".to_string(),
            dtype: FloatType::F64,
            shape: vec![2, 4, 4],
            numbers: vec![0.25; 32],
        };
        let mut draft = Draft::peft("OFT", json!({"peft_version": "0.13.0", "r": 2}));
        draft.add(&tensor.module, &tensor.name, tensor.dtype, &tensor.shape, &tensor.numbers).unwrap();
        draft.write(&work.path().join("old"), false).unwrap();
        let structure = Adapter::open(&work.path().join("old")).unwrap().layers()[0].structure();
        assert!(structure.method == "OFT" && methods.iter().all(|method| !method.made(&structure)), "{structure:?}");
    }
}
