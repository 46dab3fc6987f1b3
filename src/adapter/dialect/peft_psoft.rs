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
    /// Whether Q is Cayley's, which is orthogonal, and no series.
    pub exact: bool,
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

    /// The gradient for R, r×r, from that for W': ∂ℓ/∂R = (α/r)·Bᵀ·(∂ℓ/∂W')·Aᵀ.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn pull(&self, d_merged: &[f64], a: &[f64], b: &[f64]) -> Result<Vec<f64>> {
        let r = self.rank;
        let (out, inner) = (b.len() / r.max(1), a.len() / r.max(1));
        check_length("A", r * inner, a.len())?;
        check_length("B", out * r, b.len())?;
        check_length("gradient of the weight", out * inner, d_merged.len())?;
        let mut d = vec![0.0; r * r];
        for (row, b) in d_merged.chunks_exact(inner.max(1)).zip(b.chunks_exact(r.max(1))) {
            for (k, a) in a.chunks_exact(inner.max(1)).enumerate() {
                let dot: f64 = row.iter().zip(a).map(|(g, a)| g * a).sum();
                b.iter().enumerate().for_each(|(i, b)| d[i * r + k] += self.scale * b * dot);
            }
        }
        Ok(d)
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
    let has_vectors = VECTORS.map(|name| tensors.contains_key(name));
    Ok(Arc::new(Layer { rank, scale: alpha / rank as f64, terms: terms.filter(|_| neumann), has_vectors }))
}

/// a and b.
const VECTORS: [&str; 2] = ["vector_a", "vector_b"];

impl Layer {
    /// (I + S)(I − S)⁻¹ is Cayley's at −S, and the series likewise.
    fn theta(&self, all: &Numbers) -> Result<Vec<f64>> {
        Ok(numbers(all, "psoft_R", pairs(self.rank))?.iter().map(|x| -x).collect())
    }

    fn chart(&self) -> Arc<dyn Parametrization<f64>> {
        match self.terms {
            Some(terms) => Arc::new(CayleyNeumann { order: terms - 1 }),
            None => Arc::new(Cayley),
        }
    }

    /// a or b; ones if there is none.
    fn vector(&self, all: &Numbers, which: usize) -> Result<Vec<f64>> {
        if !self.has_vectors[which] {
            return Ok(vec![1.0; self.rank]);
        }
        numbers(all, VECTORS[which], self.rank).map(<[f64]>::to_vec)
    }
}

impl Form for Layer {
    fn structure(&self) -> Structure {
        Structure {
            method: match self.terms {
                None => "PSOFT".into(),
                Some(terms) => format!("PSOFT, Cayley-Neumann of {terms} terms"),
            },
            side: Side::Input,
            n: None,
            block: self.rank,
            stages: 1,
            parameters: pairs(self.rank) + self.rank * self.has_vectors.iter().filter(|has| **has).count(),
            outputs: None,
            trained: None,
        }
    }

    fn core(&self, all: &Numbers) -> Option<Result<Core>> {
        let core = || {
            let r = self.rank;
            let (theta, mut rotation) = (self.theta(all)?, vec![0.0; r * r]);
            self.chart().forward(r, &theta, &mut rotation);
            let [a, b] = [self.vector(all, 0)?, self.vector(all, 1)?];
            rotation.iter_mut().enumerate().for_each(|(at, x)| *x *= b[at / r] * a[at % r]);
            Ok(Core { scale: self.scale, rank: r, rotation, exact: self.terms.is_none() })
        };
        Some(core())
    }

    /// R_ij = b_i·Q_ij·a_j.
    fn pull_core(&self, all: &Numbers, d: &[f64]) -> Option<Result<Numbers>> {
        let pull = || {
            let r = self.rank;
            check_length("gradient of the rotation", r * r, d.len())?;
            let (theta, mut q) = (self.theta(all)?, vec![0.0; r * r]);
            self.chart().forward(r, &theta, &mut q);
            let [a, b] = [self.vector(all, 0)?, self.vector(all, 1)?];
            let d_q: Vec<f64> = d.iter().enumerate().map(|(at, d)| d * b[at / r] * a[at % r]).collect();
            let mut d_theta = vec![0.0; theta.len()];
            self.chart().vjp(r, &theta, &q, &d_q, &mut d_theta);
            let mut pulled = Numbers::from([("psoft_R", d_theta.iter().map(|x| -x).collect())]);
            let (mut d_a, mut d_b) = (vec![0.0; r], vec![0.0; r]);
            for (at, d) in d.iter().enumerate() {
                let (i, j) = (at / r, at % r);
                d_a[j] += d * b[i] * q[at];
                d_b[i] += d * q[at] * a[j];
            }
            for (has, name, d) in [(self.has_vectors[0], VECTORS[0], d_a), (self.has_vectors[1], VECTORS[1], d_b)] {
                if has {
                    pulled.insert(name, d);
                }
            }
            Ok(pulled)
        };
        Some(pull())
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
