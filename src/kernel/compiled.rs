//! Kernels compiled once, in this crate. As generic functions they would be compiled again in every crate that uses them.

use core::any::Any;

use super::ahead::Ahead;
use super::along::{self, PairsOf};
use super::backward::{Outer, Pairs};
use super::drive::{Forward, OneVector};
use super::pack::{Narrow, PackRows, UnpackRows, Widen};
use super::routed::Routed;
use super::{large, reflect, tangent};
use crate::batch::{Batch, BatchMut};
use crate::scalar::{Element, Scalar, c32, c64};
use crate::simd::{Isa, dispatch};

/// What a kernel does to scalars.
pub(super) enum OnScalars<'a, T> {
    AlongBackward(along::Backward<'a, T>),
    BlocksApply(along::BlocksApply<'a, 'a, T>),
    BlocksBackward(along::BlocksBackward<'a, T>),
    Forward(Forward<'a, T>),
    Large(large::Forward<'a, T>),
    LargeBackward(large::Backward<'a, T>),
    LargeRead(large::Read<'a, T>),
    LargeWrite(large::Write<'a, T>),
    OneVector(OneVector<'a, T>),
    Routed(Routed<'a, T>),
    Outer(Outer<'a, T>),
    Pairs(Pairs<'a, T>),
    Add(tangent::Add<'a, T>),
    Reflect(reflect::Apply<'a, T>),
    ReflectVjp(reflect::Vjp<'a, T>),
    ReflectJvp(reflect::Jvp<'a, T>),
}

/// What a kernel does to rows of elements.
pub(super) enum OnRows<'a, E: Element> {
    Pack(PackRows<'a, E>),
    Unpack(UnpackRows<'a, E>),
    Widen(Widen<'a, E>),
    Narrow(Narrow<'a, E>),
}

/// Runs a job of one of the four scalar types.
pub(super) fn on_scalars<T: Scalar>(isa: Isa, job: OnScalars<'_, T>) {
    if let Some(OfScalars(run)) = of([&F32_SCALARS, &F64_SCALARS, &C32_SCALARS, &C64_SCALARS]) {
        run(isa, job);
    }
}

/// [`along::run`] for one of the four scalar types.
pub(super) fn run_along<T: Scalar>(
    isa: Isa,
    pairs: &PairsOf<'_, T>,
    x: Option<&Batch<'_, T>>,
    y: &mut BatchMut<'_, T>,
    scratch: &mut [T],
    ahead: &mut Ahead,
) {
    if let Some(OfAlong(run)) = of([&F32_ALONG, &F64_ALONG, &C32_ALONG, &C64_ALONG]) {
        run(isa, pairs, x, y, scratch, ahead);
    }
}

/// Runs a job on rows of one of the four scalar types, or of other elements, for which it is compiled where it is used.
pub(super) fn on_rows<E: Element>(isa: Isa, job: OnRows<'_, E>) {
    if const { size_of::<E>() < size_of::<E::Scalar>() } {
        return run_on_rows(isa, job);
    }
    if let Some(OfRows(run)) = of([&F32_ROWS, &F64_ROWS, &C32_ROWS, &C64_ROWS]) {
        run(isa, job);
    }
}

/// The one of these that is a `K`.
#[inline(always)]
fn of<K: 'static>(all: [&'static dyn Any; 4]) -> Option<&'static K> {
    all.into_iter().find_map(|kernels| kernels.downcast_ref())
}

struct OfScalars<T: 'static>(for<'a> fn(Isa, OnScalars<'a, T>));
#[allow(clippy::type_complexity)] // a function
struct OfAlong<T: 'static>(fn(Isa, &PairsOf<'_, T>, Option<&Batch<'_, T>>, &mut BatchMut<'_, T>, &mut [T], &mut Ahead));
struct OfRows<E: Element>(for<'a> fn(Isa, OnRows<'a, E>));

// Statics, unlike constants, belong to this crate alone.
static F32_SCALARS: OfScalars<f32> = OfScalars(run_on_scalars);
static F64_SCALARS: OfScalars<f64> = OfScalars(run_on_scalars);
static C32_SCALARS: OfScalars<c32> = OfScalars(run_on_scalars);
static C64_SCALARS: OfScalars<c64> = OfScalars(run_on_scalars);
static F32_ALONG: OfAlong<f32> = OfAlong(along::run);
static F64_ALONG: OfAlong<f64> = OfAlong(along::run);
static C32_ALONG: OfAlong<c32> = OfAlong(along::run);
static C64_ALONG: OfAlong<c64> = OfAlong(along::run);
static F32_ROWS: OfRows<f32> = OfRows(run_on_rows);
static F64_ROWS: OfRows<f64> = OfRows(run_on_rows);
static C32_ROWS: OfRows<c32> = OfRows(run_on_rows);
static C64_ROWS: OfRows<c64> = OfRows(run_on_rows);

fn run_on_scalars<T: Scalar>(isa: Isa, job: OnScalars<'_, T>) {
    match job {
        OnScalars::AlongBackward(job) => dispatch(isa, job),
        OnScalars::BlocksApply(job) => job.run(isa),
        OnScalars::BlocksBackward(job) => job.run(isa),
        OnScalars::Forward(job) => dispatch(isa, job),
        OnScalars::Large(job) => dispatch(isa, job),
        OnScalars::LargeBackward(job) => dispatch(isa, job),
        OnScalars::LargeRead(job) => dispatch(isa, job),
        OnScalars::LargeWrite(job) => dispatch(isa, job),
        OnScalars::OneVector(job) => dispatch(isa, job),
        OnScalars::Routed(job) => dispatch(isa, job),
        OnScalars::Outer(job) => dispatch(isa, job),
        OnScalars::Pairs(job) => dispatch(isa, job),
        OnScalars::Add(job) => dispatch(isa, job),
        OnScalars::Reflect(job) => dispatch(isa, job),
        OnScalars::ReflectVjp(job) => dispatch(isa, job),
        OnScalars::ReflectJvp(job) => dispatch(isa, job),
    }
}

fn run_on_rows<E: Element>(isa: Isa, job: OnRows<'_, E>) {
    match job {
        OnRows::Pack(job) => dispatch(isa, job),
        OnRows::Unpack(job) => dispatch(isa, job),
        OnRows::Widen(job) => dispatch(isa, job),
        OnRows::Narrow(job) => dispatch(isa, job),
    }
}
