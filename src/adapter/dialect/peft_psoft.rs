//! PSOFT adapters as HuggingFace PEFT stores them: a rotation inside the leading singular subspace of the weight.
//!
//! > W' = W + (α/r)·B·(R − I)·A,  R = diag(b)·Q·diag(a),
//!
//! Q = (I + S)(I − S)⁻¹ or its series (`use_cayley_neumann`), S r×r with `psoft_R.weight` as its upper triangle, a and b
//! `psoft_R.vector_a` and `.vector_b`. A = V_rᵀ and B = U_r·Σ_r·r/α come from a singular value decomposition of W, which no file holds,
//! and each pair of singular vectors may have either sign. Another sign is another W': R as it was trained belongs to
//! the signs that torch found. So an adapter is read here, and merged by whoever has its A and B; a base alone is refused.

use std::format;
use std::string::ToString;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::keys::{Grammar, Parameter};
use super::skew::pairs;
use super::{Context, Dialect, Form, Misfit, Numbers, Side, Structure, Tensors, need, numbers};
use crate::adapter::sides::{Sides, SidesGradient};
use crate::error::{Error, Result, check_length};
use crate::parametrization::{Cayley, CayleyNeumann, Parametrization};
use crate::storage::{field_error, tensor_error};

pub(super) const DIALECT: Dialect = Dialect {
    name: "peft-psoft",
    methods: &["PSOFT"],
    grammar: Grammar::Peft,
    parameters: &[
        Parameter { name: "psoft_R", spelled: "psoft_R", tail: ".weight", is_derived: false },
        Parameter { name: "vector_a", spelled: "psoft_R", tail: ".vector_a", is_derived: false },
        Parameter { name: "vector_b", spelled: "psoft_R", tail: ".vector_b", is_derived: false },
    ],
    form,
};

/// α/r and R, r×r.
#[derive(Debug, Clone, PartialEq)]
pub struct Core {
    /// α/r.
    pub scale: f64,
    /// r
    pub rank: usize,
    /// R, row-major.
    pub rotation: Vec<f64>,
}

impl Core {
    /// W becomes W + (α/r)·B·(R − I)·A for W `[out, in]`, A `[r, in]`, B `[out, r]`, all row-major.
    ///
    /// # Errors
    /// [`Error::Length`] if the numbers do not make such matrices.
    pub fn merge(&self, weight: &mut [f64], a: &[f64], b: &[f64]) -> Result<()> {
        let r = self.rank;
        let (out, inner) = (b.len() / r.max(1), a.len() / r.max(1));
        check_length("A", r * inner, a.len())?;
        check_length("B", out * r, b.len())?;
        check_length("weight", out * inner, weight.len())?;
        // (R − I)·A first: r×in.
        let mut turned = vec![0.0; a.len()];
        for (i, row) in turned.chunks_exact_mut(inner.max(1)).enumerate() {
            for (k, a) in a.chunks_exact(inner.max(1)).enumerate() {
                let x = self.rotation[i * r + k] - f64::from(u8::from(i == k));
                row.iter_mut().zip(a).for_each(|(t, a)| *t += x * a);
            }
        }
        for (row, b) in weight.chunks_exact_mut(inner.max(1)).zip(b.chunks_exact(r.max(1))) {
            for (b, turned) in b.iter().zip(turned.chunks_exact(inner.max(1))) {
                row.iter_mut().zip(turned).for_each(|(w, t)| *w += self.scale * b * t);
            }
        }
        Ok(())
    }
}

/// A layer.
#[derive(Debug)]
struct Layer {
    rank: usize,
    scale: f64,
    terms: Option<u32>,
    has_vectors: [bool; 2],
}

fn form(tensors: &Tensors, cx: &Context<'_>) -> Result<Arc<dyn Form>> {
    let tensor = need(tensors, "psoft_R", cx)?;
    let config = cx.need_config(tensor, "psoft_alpha and use_cayley_neumann tell what it means")?;
    let fail = |field: &str, expected: &str| {
        let path = cx.path.with_file_name("adapter_config.json");
        field_error(&path, field, expected, "something else, or nothing")
    };
    let rank = config.size("r").filter(|r| (1..=1 << 16).contains(r)).ok_or_else(|| fail("r", "a rank"))?;
    let alpha = config.number("psoft_alpha").ok_or_else(|| fail("psoft_alpha", "a number"))?;
    let neumann = config.flag("use_cayley_neumann").ok_or_else(|| fail("use_cayley_neumann", "true or false"))?;
    let field = "num_cayley_neumann_terms";
    let terms = config.size(field).filter(|terms| (3..=64).contains(terms)).map(|terms| terms.max(4) as u32);
    if neumann && terms.is_none() {
        return Err(fail(field, "a number of terms from 3 to 64"));
    }
    for (name, count) in [("psoft_R", pairs(rank)), ("vector_a", rank), ("vector_b", rank)] {
        if let Some(tensor) = tensors.get(name)
            && tensor.len() != count
        {
            let expected = format!("{count} numbers for r = {rank}");
            return Err(tensor_error(cx.path, &tensor.name, expected, format!("shape {:?}", tensor.shape)));
        }
    }
    let has_vectors = ["vector_a", "vector_b"].map(|name| tensors.contains_key(name));
    Ok(Arc::new(Layer { rank, scale: alpha / rank as f64, terms: terms.filter(|_| neumann), has_vectors }))
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        Structure {
            method: "PSOFT".into(),
            side: Side::Input,
            n: None,
            block: self.rank,
            stages: 1,
            parameters: pairs(self.rank) + self.rank * self.has_vectors.iter().filter(|has| **has).count(),
            outputs: None,
        }
    }

    fn core(&self, all: &Numbers) -> Option<Result<Core>> {
        let core = || {
            let r = self.rank;
            // (I + S)(I − S)⁻¹ is Cayley's at −S, and the series likewise.
            let theta: Vec<f64> = numbers(all, "psoft_R", pairs(r))?.iter().map(|x| -x).collect();
            let mut rotation = vec![0.0; r * r];
            match self.terms {
                Some(terms) => CayleyNeumann { order: terms - 1 }.forward(r, &theta, &mut rotation),
                None => Cayley.forward(r, &theta, &mut rotation),
            }
            for (has, name, is_row) in
                [(self.has_vectors[0], "vector_a", false), (self.has_vectors[1], "vector_b", true)]
            {
                if has {
                    let vector = numbers(all, name, r)?;
                    let factor = |at: usize| vector[if is_row { at / r } else { at % r }];
                    rotation.iter_mut().enumerate().for_each(|(at, x)| *x *= factor(at));
                }
            }
            Ok(Core { scale: self.scale, rank: r, rotation })
        };
        Some(core())
    }

    fn sides(&self, _all: &Numbers, _weight: Option<&[usize]>) -> Result<Sides> {
        Err(Error::Unsupported {
            what: "PSOFT",
            expected: "the singular vectors that it was trained with, whose signs no file holds",
            got: "its own numbers".to_string(),
        })
    }

    fn pull(&self, all: &Numbers, weight: Option<&[usize]>, _gradient: &SidesGradient) -> Result<Numbers> {
        self.sides(all, weight).map(|_| Numbers::new())
    }

    fn check_weight(&self, _shape: &[usize]) -> core::result::Result<(), Misfit> {
        let got = "one of PSOFT, which needs the singular vectors that it was trained with: their signs are in no file, \
                   and other signs give another weight";
        let expected = Some("an adapter that a base alone suffices for".to_string());
        Err(Misfit { parameter: "psoft_R", expected, got: got.to_string() })
    }
}
