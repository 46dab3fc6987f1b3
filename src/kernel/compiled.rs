//! Kernels compiled once, in this crate. As generic functions they would be compiled again in every crate that uses them.

use core::any::Any;

use super::along::{self, Along};
use crate::scalar::{Scalar, c32, c64};
use crate::simd::Isa;

/// The kernels of one scalar type.
pub(super) struct Compiled<T: 'static> {
    pub(super) along: for<'a> fn(Isa, Along<'a, T>),
    pub(super) along_backward: for<'a> fn(Isa, along::Backward<'a, T>),
}

impl<T: Scalar> Compiled<T> {
    const NEW: Self = Self { along: |isa, along| along.run(isa), along_backward: |isa, backward| backward.run(isa) };
}

static F32: Compiled<f32> = Compiled::NEW;
static F64: Compiled<f64> = Compiled::NEW;
static C32: Compiled<c32> = Compiled::NEW;
static C64: Compiled<c64> = Compiled::NEW;

/// Those of `T`, which is one of the four scalar types.
pub(super) fn compiled<T: Scalar>() -> Option<&'static Compiled<T>> {
    let all: [&'static dyn Any; 4] = [&F32, &F64, &C32, &C64];
    all.into_iter().find_map(|kernels| kernels.downcast_ref())
}
