//! The arithmetic of strided views: extents, bounds and repetition, without touching memory.

use alloc::format;

use crate::error::{Error, Result};

/// Where the elements of a batch lie. A stride that no element needs (one vector, one coordinate, none at all) is 0, so
/// equal views have equal shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) n: usize,
    pub(super) batch_stride: isize,
    pub(super) element_stride: isize,
}

impl Shape {
    #[inline]
    pub(super) fn new(batch: usize, n: usize, batch_stride: isize, element_stride: isize) -> Self {
        let empty = batch == 0 || n == 0;
        Shape {
            batch,
            n,
            batch_stride: if empty || batch == 1 { 0 } else { batch_stride },
            element_stride: if empty || n == 1 { 0 } else { element_stride },
        }
    }

    /// How many vectors of length `n` a matrix of `len` elements holds, if it is whole ones. (A `Result` of a whole shape would go
    /// through memory, which small vectors wait for.)
    #[inline]
    pub(super) fn vectors(what: &'static str, len: usize, n: usize) -> Result<usize> {
        if n == 0 || !len.is_multiple_of(n) {
            return Err(Self::ragged(what, len, n));
        }
        Ok(len / n)
    }

    #[cold]
    fn ragged(what: &'static str, len: usize, n: usize) -> Error {
        let expected = format!("a length that is a multiple of n = {n}, n > 0");
        Error::Size { what, expected, got: format!("{len}") }
    }

    /// Any strides from 0 up; [`check`](Self::check) them against the memory.
    pub(super) fn strided(
        what: &'static str,
        batch: usize,
        n: usize,
        batch_stride: usize,
        element_stride: usize,
    ) -> Result<Self> {
        match (isize::try_from(batch_stride), isize::try_from(element_stride)) {
            (Ok(batch_stride), Ok(element_stride)) => Ok(Shape::new(batch, n, batch_stride, element_stride)),
            _ => Err(Error::Size {
                what,
                expected: format!("strides up to {}", isize::MAX),
                got: format!("{batch_stride} and {element_stride}"),
            }),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.batch == 0 || self.n == 0
    }

    /// The same for another number of vectors.
    #[inline]
    pub(super) fn with_batch(self, batch: usize) -> Self {
        Shape::new(batch, self.n, self.batch_stride, self.element_stride)
    }

    /// Whether the elements of a vector are neighbours.
    #[inline(always)]
    pub(super) fn has_rows(&self) -> bool {
        self.element_stride == 1 || self.n <= 1 || self.batch == 0
    }

    /// Whether the vectors' elements of one coordinate are neighbours.
    #[inline(always)]
    pub(super) fn has_columns(&self) -> bool {
        self.batch_stride == 1 || self.batch <= 1 || self.n == 0
    }

    #[inline(always)]
    pub(super) fn offset(&self, v: usize, i: usize) -> isize {
        v as isize * self.batch_stride + i as isize * self.element_stride
    }

    /// Smallest and largest offset, or `None` beyond `isize`. For a shape that is not empty.
    #[inline]
    pub(super) fn extent(&self) -> Option<(isize, isize)> {
        let reach = |len: usize, stride: isize| isize::try_from(len - 1).ok()?.checked_mul(stride);
        let (a, b) = (reach(self.batch, self.batch_stride)?, reach(self.n, self.element_stride)?);
        Some((a.min(0).checked_add(b.min(0))?, a.max(0).checked_add(b.max(0))?))
    }

    /// Whether two index pairs name the same element: v·B + i·S = 0 for some (v, i) ≠ 0 with |v| < batch, |i| < n.
    /// The smallest solution is v = S/g, i = −B/g with g = gcd(B, S).
    fn repeats_itself(&self) -> bool {
        let (b, s) = (self.batch_stride.unsigned_abs(), self.element_stride.unsigned_abs());
        if self.is_empty() || (self.batch == 1 && self.n == 1) {
            return false;
        }
        match (b, s) {
            (0, 0) => true,
            (0, _) => self.batch > 1,
            (_, 0) => self.n > 1,
            _ => {
                let g = gcd(b, s);
                s / g < self.batch && b / g < self.n
            }
        }
    }

    /// Checks that all elements lie in a slice of `len` elements, the first at its start.
    pub(super) fn check(&self, what: &'static str, len: usize) -> Result<()> {
        let size = |got| Error::Size { what, expected: format!("strides within a slice of {len} elements"), got };
        if self.is_empty() {
            return Ok(());
        }
        match self.extent() {
            Some((0, last)) if (last as usize) < len => Ok(()),
            _ => Err(size(format!("{self:?}"))),
        }
    }

    pub(super) fn check_unique(&self, what: &'static str) -> Result<()> {
        if self.repeats_itself() {
            return Err(Error::Overlap {
                what,
                expected: "strides that name every element once",
                got: format!("{self:?}"),
            });
        }
        Ok(())
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn brute_force_repeats(s: Shape) -> bool {
        let mut seen: Vec<isize> = (0..s.batch).flat_map(|v| (0..s.n).map(move |i| s.offset(v, i))).collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        seen.len() < all
    }

    #[test]
    fn repetition_is_found_exactly() {
        for batch in 0..5 {
            for n in 0..5 {
                for batch_stride in -6..7 {
                    for element_stride in -6..7 {
                        let s = Shape::new(batch, n, batch_stride, element_stride);
                        assert_eq!(s.repeats_itself(), brute_force_repeats(s), "{s:?}");
                    }
                }
            }
        }
    }
}
