//! Windows: coordinates that some stages keep among themselves, so that a window goes through those stages by itself.
//!
//! Group g of a strided stage is the coordinates g·s … (g + 1)·s, where s = radix·distance. Let d divide all distances, and s
//! be the largest span, divided by all others. Then no stage mixes the runs of u coordinates at h·s + q·u + t·d, t < s/d, with any
//! others (u is the unit of the stages): that is window (h, q). Its rows, put together, are blocks of the same layout with all
//! distances divided by d/u, and its block j is block h·(blocks in s) + q + j·d/u of the stage. With d = u windows are neighbouring
//! coordinates. Coordinates that no stage covers are windows without stages.

use alloc::vec::Vec;

use super::Step;
use crate::layout::StageLayout;
use crate::scalar::Scalar;

/// All windows of a vector for some stages.
#[derive(Debug)]
pub(super) struct Windows {
    n: usize,
    unit: usize,
    distance: usize,
    /// Coordinates in a window.
    len: usize,
    /// Coordinates that the stages act on.
    covered: usize,
    /// The stages in a window; empty if they do not come apart.
    layouts: Vec<StageLayout>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Its first coordinate.
    pub(super) start: usize,
    pub(super) len: usize,
    /// The span that it belongs to, and the run in it that it starts with.
    h: usize,
    q: usize,
    /// Whether the stages act on it.
    pub(super) covered: bool,
}

impl Windows {
    /// One window that is everything.
    pub(super) fn whole(n: usize) -> Self {
        Self { n, unit: n, distance: n, len: n, covered: n, layouts: Vec::new() }
    }

    /// Windows of neighbouring coordinates, as many spans together as make about `wanted` coordinates.
    pub(super) fn neighbours<T: Scalar>(steps: &[Step<'_, T>], n: usize, wanted: usize) -> Self {
        let apart = |spans: &Spans| {
            let parts = spans.covered / spans.largest;
            let most = (wanted / spans.largest).min(parts);
            let len = spans.largest * (1..=most).rev().find(|count| parts.is_multiple_of(*count)).unwrap_or(1);
            // Squares of numbers are transposed on the way in: others would be cut.
            (len < spans.covered && len.is_multiple_of(T::WIDTH)).then(|| {
                let layouts = steps.iter().map(|step| within(step.layout, 1, len)).collect();
                Self { n, unit: len, distance: len, len, covered: spans.covered, layouts }
            })
        };
        Spans::of(steps).as_ref().and_then(apart).unwrap_or(Self::whole(n))
    }

    /// Windows of runs at a distance, for as many of the first `steps` as have windows of at most `most` coordinates; and how
    /// many that are. A single stage stays whole: it would gain nothing.
    pub(super) fn apart<T: Scalar>(steps: &[Step<'_, T>], n: usize, most: usize) -> (usize, Self) {
        let mut found = (1, Self::whole(n));
        for count in 2..=steps.len() {
            let Some(spans) = Spans::of(&steps[..count]) else { break };
            let (Some(unit), distance) = (spans.unit, spans.smallest) else { break };
            let len = spans.largest / distance * unit;
            if len > most {
                break;
            }
            let layouts = steps[..count].iter().map(|step| within(step.layout, distance / unit, len)).collect();
            found = (count, Self { n, unit, distance, len, covered: spans.covered, layouts });
        }
        found
    }

    /// Coordinates in a window, at most.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_whole(&self) -> bool {
        self.layouts.is_empty()
    }

    /// The windows in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Window> {
        let Self { n, unit, distance, len, covered, .. } = *self;
        let (per_span, span) = (distance / unit.max(1), len / unit.max(1) * distance);
        let stages = (0..covered / span.max(1)).flat_map(move |h| {
            (0..per_span).map(move |q| Window { start: h * span + q * unit, len, h, q, covered: true })
        });
        let rest = (covered..n).step_by(len.max(1)).map(move |start| Window {
            start,
            len: len.min(n - start),
            h: 0,
            q: 0,
            covered: false,
        });
        stages.chain(rest)
    }

    /// The stages in a window.
    pub(super) fn steps<'a, T: Scalar>(&'a self, steps: &[Step<'a, T>], window: Window) -> Vec<Step<'a, T>> {
        if self.is_whole() {
            return steps.to_vec();
        }
        let stride = self.distance / self.unit;
        let within = |(step, layout): (&Step<'a, T>, &'a StageLayout)| {
            let first = window.h * layout.num_blocks() * stride + window.q;
            Step { layout, first: step.first + first * step.stride, stride: step.stride * stride, ..*step }
        };
        let stages = if window.covered { steps } else { &[] };
        stages.iter().zip(&self.layouts).map(within).collect()
    }

    /// rows ← the window's rows of the tile, `width` numbers each.
    pub(super) fn gather<T: Copy>(&self, window: Window, tile: &[T], rows: &mut [T], width: usize) {
        let (starts, len) = self.runs(window);
        for (start, rows) in starts.zip(rows.chunks_exact_mut((len * width).max(1))) {
            rows.copy_from_slice(&tile[start * width..(start + len) * width]);
        }
    }

    /// The window's rows of the tile ← rows.
    pub(super) fn scatter<T: Copy>(&self, window: Window, rows: &[T], tile: &mut [T], width: usize) {
        let (starts, len) = self.runs(window);
        for (start, rows) in starts.zip(rows.chunks_exact((len * width).max(1))) {
            tile[start * width..(start + len) * width].copy_from_slice(rows);
        }
    }

    /// The window's runs of neighbouring coordinates: where they start, and how long they are.
    fn runs(&self, window: Window) -> (impl Iterator<Item = usize> + use<>, usize) {
        let unit = if window.covered { self.unit } else { window.len };
        let distance = self.distance;
        ((0..window.len / unit.max(1)).map(move |t| window.start + t * distance), unit)
    }
}

/// What some strided stages have in common.
struct Spans {
    /// The unit of all of them, if it is one.
    unit: Option<usize>,
    /// The smallest distance, which divides the others.
    smallest: usize,
    /// The largest span, which the others divide.
    largest: usize,
    covered: usize,
}

impl Spans {
    fn of<T: Scalar>(steps: &[Step<'_, T>]) -> Option<Self> {
        let mut all: Option<Self> = None;
        for step in steps {
            let (unit, radix, distance, groups) = strided(step.layout)?;
            let own = Self {
                unit: Some(unit),
                smallest: distance,
                largest: radix * distance,
                covered: radix * distance * groups,
            };
            let so_far = all.take().unwrap_or(Self { ..own });
            let (low, high) = (own.smallest.min(so_far.smallest), own.largest.max(so_far.largest));
            let regular = [own.smallest, so_far.smallest].iter().all(|d| d.is_multiple_of(low))
                && [own.largest, so_far.largest].iter().all(|s| high.is_multiple_of(*s));
            if step.reflectors.is_some() || !regular || own.covered != so_far.covered {
                return None;
            }
            all =
                Some(Self { unit: own.unit.filter(|_| own.unit == so_far.unit), smallest: low, largest: high, ..own });
        }
        all.filter(|spans| spans.covered > 0)
    }
}

/// Unit, radix, distance and groups. Blocks of neighbouring coordinates are runs of single coordinates.
fn strided(layout: &StageLayout) -> Option<(usize, usize, usize, usize)> {
    match *layout {
        StageLayout::Strided { unit, radix: 1, distance, groups } => Some((1, unit, 1, groups * (distance / unit))),
        StageLayout::Strided { unit, radix, distance, groups } => Some((unit, radix, distance, groups)),
        StageLayout::Table { .. } => None,
    }
}

/// A strided layout on a window of `len` coordinates, with its distances divided by `by`.
fn within(layout: &StageLayout, by: usize, len: usize) -> StageLayout {
    strided(layout).map_or(layout.clone(), |(unit, radix, distance, _)| {
        let distance = distance / by;
        StageLayout::Strided { unit, radix, distance, groups: len / (radix * distance) }
    })
}
