//! Blocks of charts by tensor operations.
//!
//! **Cayley.** Q = 2(I + A)⁻¹ − I is found outside of the graph, from constants: Gauss–Jordan elimination needs no pivots, for with
//! A skew the symmetric part of every Schur complement of I + A is I + CᵀHC with H positive definite, so each pivot is at least 1.
//! Its digits are lost like ‖A‖²; Newton's iteration X ← X(2I − MX) mends that, and Q ← ½Q(3I − QᵀQ) makes Q orthogonal to
//! rounding. Its derivative is known in closed form, dQ = −½(I + Q)·dA·(I + Q), and put into the graph as the derivative of
//! Q − ½(I + Q)(A − A₀)(I + Q) at A = A₀, where the second term is zero. So two products are kept for backward, not b steps.
//!
//! *Domain.* Newton's iteration needs u·‖A‖² well below 1: up to ‖A‖ ≈ 1000 in `F32` and 1e7 in `F64`.

use std::string::String;

use candle_core::{DType, Device, Error as CandleError, Result, Tensor};

use super::index;
use crate::dense::skew_index;
use crate::error::Error;
use crate::interop::candle::rotate::Stored;

/// Newton steps after elimination.
const MENDED: usize = 3;

pub(super) fn unsupported(got: String) -> CandleError {
    CandleError::wrap(Error::Unsupported {
        what: "blocks by tensor operations",
        expected: "Cayley, its series, Givens or fixed blocks",
        got,
    })
}

/// A chart that has a form in tensor operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Cayley,
    Neumann(u32),
    Series(u32),
    Givens,
}

impl Form {
    fn of(id: &str) -> Result<Self> {
        let order = |prefix| id.strip_prefix(prefix).and_then(|order: &str| order.parse().ok());
        match id {
            "Cayley" => Ok(Self::Cayley),
            "Givens" => Ok(Self::Givens),
            _ => order("Cayley-Neumann order ")
                .map(Self::Neumann)
                .or_else(|| order("Cayley series order ").map(Self::Series))
                .ok_or_else(|| unsupported(std::format!("the chart {id}"))),
        }
    }
}

/// Blocks of one chart and size whose parameters follow each other.
#[derive(Debug)]
pub(super) struct Family {
    id: String,
    form: Form,
    b: usize,
    /// Its parameters begin here.
    start: usize,
    groups: usize,
    /// Where each entry of A is in [θ, −θ, 0].
    skew: Tensor,
    /// `[1, b, b]`
    one: Tensor,
}

impl Family {
    pub(super) fn new(
        id: String,
        b: usize,
        start: usize,
        groups: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let form = Form::of(&id)?;
        let skew = index(skew_index(b), device)?;
        let one = Tensor::eye(b, dtype, device)?.unsqueeze(0)?;
        Ok(Self { id, form, b, start, groups, skew, one })
    }

    fn params(&self) -> usize {
        if self.form == Form::Givens { 1 } else { self.b * (self.b - 1) / 2 }
    }

    /// Whether blocks with parameters from `start` on are its next ones.
    pub(super) fn goes_on(&self, id: &str, b: usize, start: usize) -> bool {
        self.id == id && self.b == b && self.start + self.groups * self.params() == start
    }

    /// Takes more blocks; the first of them.
    pub(super) fn add(&mut self, groups: usize) -> usize {
        self.groups += groups;
        self.groups - groups
    }

    /// `[groups, b, b]` from all numbers that are stored; `[1, b, b]` where blocks have no parameters.
    pub(super) fn blocks(&self, numbers: &Tensor, how: Stored) -> Result<Tensor> {
        let (b, params) = (self.b, self.params());
        if params == 0 {
            return self.of_skew(&self.one.zeros_like()?);
        }
        if let Stored::Squares(_) = how {
            let squares = numbers.reshape((self.groups, b, b))?; // of BOFT, whose stages are one family
            return self.of_skew(&((&squares - squares.t()?)? * 0.5)?);
        }
        let theta = numbers.narrow(0, self.start, self.groups * params)?.reshape((self.groups, params))?;
        if self.form == Form::Givens {
            let (c, s) = (theta.cos()?, theta.sin()?);
            return Tensor::cat(&[&c, &s.neg()?, &s, &c], 1)?.reshape((self.groups, 2, 2));
        }
        // Every entry of A is ±θ or 0: looked up, so that no product rounds it.
        let zero = Tensor::zeros((self.groups, 1), theta.dtype(), theta.device())?;
        let all = Tensor::cat(&[&theta, &theta.neg()?, &zero], 1)?;
        self.of_skew(&all.index_select(&self.skew, 1)?.reshape((self.groups, b, b))?)
    }

    /// Blocks of skew matrices A.
    fn of_skew(&self, a: &Tensor) -> Result<Tensor> {
        let one = &self.one;
        match self.form {
            Form::Cayley => cayley(a, one),
            Form::Neumann(order) => {
                // (I − A)(I − A(I − A(…)))
                let mut sum = one.broadcast_as(a.shape())?.contiguous()?;
                for _ in 1..order {
                    sum = a.matmul(&sum)?.neg()?.broadcast_add(one)?;
                }
                a.neg()?.broadcast_add(one)?.matmul(&sum)
            }
            Form::Series(order) => {
                // I − 2A(I − A(I − …))
                let mut sum = one.broadcast_as(a.shape())?.contiguous()?;
                for _ in 1..order {
                    sum = a.matmul(&sum)?.neg()?.broadcast_add(one)?;
                }
                if order == 0 { Ok(sum) } else { (a.matmul(&sum)? * -2.0)?.broadcast_add(one) }
            }
            Form::Givens => Err(unsupported("Givens of a skew matrix".into())),
        }
    }
}

/// (I − A)(I + A)⁻¹.
fn cayley(a: &Tensor, one: &Tensor) -> Result<Tensor> {
    let constant = a.detach();
    let m = constant.broadcast_add(one)?;
    let mut x = eliminated(&m, one)?;
    for _ in 0..MENDED {
        let rest = m.matmul(&x)?.neg()?.broadcast_add(&(one * 2.0)?)?;
        x = x.matmul(&rest)?;
    }
    let q = (x * 2.0)?.broadcast_sub(one)?;
    let gram = q.t()?.contiguous()?.matmul(&q)?;
    let q = (q.matmul(&gram.neg()?.broadcast_add(&(one * 3.0)?)?)? * 0.5)?;
    if !a.track_op() {
        return Ok(q);
    }
    let p = q.broadcast_add(one)?;
    let change = p.matmul(&(a - constant)?)?.matmul(&p)?;
    &q - (change * 0.5)?
}

/// M⁻¹ by Gauss–Jordan elimination without pivots.
fn eliminated(m: &Tensor, one: &Tensor) -> Result<Tensor> {
    let (_, b, _) = m.dims3()?;
    let mut both = Tensor::cat(&[m, &one.broadcast_as(m.shape())?.contiguous()?], 2)?;
    for k in 0..b {
        let row = both.narrow(1, k, 1)?;
        let row = row.broadcast_div(&row.narrow(2, k, 1)?)?;
        // Row k becomes `row`, in the others column k becomes zero.
        let column = both.narrow(2, k, 1)?.broadcast_sub(&one.narrow(2, k, 1)?)?;
        both = (both - column.broadcast_mul(&row)?)?;
    }
    both.narrow(2, b, b)?.contiguous()
}
