//! Where the registers of a block lie in a vector: checked once, when a rotation is drawn. A check for each load and store would be
//! a quarter of all instructions, and blocks of 8 registers took a seventh longer (docs/benchmarks.md).

#![allow(unsafe_code)] // loads and stores at places that have been checked

use alloc::vec::Vec;

use bytemuck::Zeroable;

use super::registers::unrolled;
use crate::scalar::Scalar;
use crate::simd::{Lanes, load, store};

/// Starts of registers of at most `lanes` numbers, all inside vectors of `n`.
#[derive(Debug, Clone)]
pub(super) struct Places {
    // Nothing outside this file changes them: every start + lanes is at most n.
    starts: Vec<u32>,
    n: usize,
    lanes: usize,
}

impl Places {
    pub(super) fn new(n: usize, lanes: usize, count: usize) -> Self {
        Self { starts: Vec::with_capacity(count), n, lanes }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// One more.
    pub(super) fn push(&mut self, start: u32) {
        assert!(start as usize + self.lanes <= self.n, "{start} + {} in a vector of {}", self.lanes, self.n);
        self.starts.push(start);
    }

    /// `count` of them from the given one on.
    #[inline(always)]
    pub(super) fn part(&self, first: usize, count: usize) -> Part<'_> {
        Part { starts: &self.starts[first..][..count], n: self.n, lanes: self.lanes }
    }
}

/// Some neighbours of [`Places`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    starts: &'a [u32],
    n: usize,
    lanes: usize,
}

impl<'a> Part<'a> {
    #[inline(always)]
    pub(super) fn starts(self) -> &'a [u32] {
        self.starts
    }

    /// Group `group` of R.
    #[inline(always)]
    pub(super) fn group<const R: usize>(self, group: usize) -> Group<'a, R> {
        Group { starts: &self.starts.as_chunks().0[group], n: self.n, lanes: self.lanes }
    }
}

/// R of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a, const R: usize> {
    starts: &'a [u32; R],
    n: usize,
    lanes: usize,
}

impl<const R: usize> Group<'_, R> {
    #[inline(always)]
    fn check<T, S: Lanes<T>>(self, row: usize) {
        assert!(row >= self.n && S::LANES <= self.lanes);
    }

    /// The registers of a vector.
    #[inline(always)]
    pub(super) fn load<T: Scalar, S: Lanes<T>>(self, row: &[T]) -> [S::V; R] {
        self.check::<T, S>(row.len());
        let mut x = [S::V::zeroed(); R];
        unrolled!(r < R, {
            let at = self.starts[r] as usize;
            // SAFETY: at + lanes ≤ n, as of all starts, LANES ≤ lanes, and the row has at least n numbers: checked above.
            x[r] = load::<T, S>(unsafe { row.get_unchecked(at..at + S::LANES) });
        });
        x
    }

    /// And back, one after the other.
    #[inline(always)]
    pub(super) fn store<T: Scalar, S: Lanes<T>>(self, row: &mut [T], x: &[S::V; R]) {
        self.check::<T, S>(row.len());
        unrolled!(r < R, {
            let at = self.starts[r] as usize;
            // SAFETY: as in `load`.
            store::<T, S>(unsafe { row.get_unchecked_mut(at..at + S::LANES) }, x[r]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Job, dispatch, lanes};
    use alloc::vec;

    struct Turned<'a>(Part<'a>, &'a mut [f32]);
    impl Job<f32> for Turned<'_> {
        fn run<S: Lanes<f32>>(self, _: S) {
            let group = self.0.group::<2>(0);
            let [a, b] = group.load::<f32, S>(self.1);
            group.store::<f32, S>(self.1, &[b, a]);
        }
    }

    /// As far out as a register may lie, in rows that are too short, and beyond.
    #[test]
    fn nothing_outside_is_touched() {
        for isa in Isa::available() {
            let lanes = lanes::<f32>(isa);
            let n = 3 * lanes + 1;
            let mut places = Places::new(n, lanes, 2);
            places.push(0);
            places.push((n - lanes) as u32);
            let mut row: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let mut turned = row.clone();
            dispatch(isa, Turned(places.part(0, 2), &mut turned));
            for i in 0..lanes {
                row.swap(i, n - lanes + i);
            }
            assert_eq!(turned, row, "{isa:?}");
            let refused = |places: Places, len: usize| {
                std::panic::catch_unwind(move || dispatch(isa, Turned(places.part(0, 2), &mut vec![0.0; len]))).is_err()
            };
            assert!(refused(places.clone(), n - 1), "{isa:?}: a shorter row");
            assert!(!refused(places, n));
            let mut narrow = Places::new(n, lanes - 1, 2);
            narrow.push(0);
            narrow.push((n + 1 - lanes) as u32);
            assert!(refused(narrow, n), "{isa:?}: a wider register");
            let outside = std::panic::catch_unwind(|| Places::new(n, lanes, 1).push((n + 1 - lanes) as u32));
            assert!(outside.is_err());
        }
    }
}
