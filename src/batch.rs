//! Batches of vectors in the caller's memory: rows, columns, any strides. Bounds and overlap are checked once, here.
//!
//! Element i of vector v lies at v·batch_stride + i·element_stride from the first. A [`Batch`] may repeat memory
//! (stride 0 broadcasts a vector); a [`BatchMut`] may not name any element twice.

#![allow(unsafe_code)] // raw strided views, so that interleaved columns can be written from several threads

use core::fmt;
use core::marker::PhantomData;

use alloc::format;

use crate::error::{Error, Result};

mod shape;

use shape::Shape;

/// A read-only batch of vectors of length `n`.
///
/// ```
/// use papilio::Batch;
/// let data = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
/// assert_eq!(Batch::rows(&data, 3)?.get(1, 0), Some(3.0)); // [0 1 2], [3 4 5]
/// assert_eq!(Batch::columns(&data, 3)?.get(1, 0), Some(1.0)); // [0 2 4], [1 3 5]
/// # Ok::<(), papilio::Error>(())
/// ```
pub struct Batch<'a, E> {
    first: *const E,
    shape: Shape,
    life: PhantomData<&'a [E]>,
}

/// A batch of vectors of length `n` to be written.
pub struct BatchMut<'a, E> {
    first: *mut E,
    shape: Shape,
    life: PhantomData<&'a mut [E]>,
}

// SAFETY: a Batch gives only shared access to elements, as `&[E]` does.
unsafe impl<E: Sync> Send for Batch<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Batch<'_, E> {}
// SAFETY: a BatchMut is the only access to its elements, as `&mut [E]` is.
unsafe impl<E: Send> Send for BatchMut<'_, E> {}
// SAFETY: a shared BatchMut only reads.
unsafe impl<E: Sync> Sync for BatchMut<'_, E> {}

impl<E> Clone for Batch<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Batch<'_, E> {}

impl<E> fmt::Debug for Batch<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batch").field(&self.shape).finish()
    }
}
impl<E> fmt::Debug for BatchMut<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BatchMut").field(&self.shape).finish()
    }
}

impl<'a, E: Copy> Batch<'a, E> {
    /// Rows of a row-major `[batch, n]` matrix.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of `n` > 0.
    #[inline]
    pub fn rows(data: &'a [E], n: usize) -> Result<Self> {
        let batch = Shape::vectors("batch of rows", data.len(), n)?;
        Ok(Self::new(data, Shape::new(batch, n, n as isize, 1)))
    }

    /// Columns of a row-major `[n, batch]` matrix.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of `n` > 0.
    #[inline]
    pub fn columns(data: &'a [E], n: usize) -> Result<Self> {
        let batch = Shape::vectors("batch of columns", data.len(), n)?;
        Ok(Self::new(data, Shape::new(batch, n, 1, batch as isize)))
    }

    /// `batch` vectors of length `n`, element i of vector v at v·`batch_stride` + i·`element_stride`.
    ///
    /// # Errors
    /// [`Error::Size`] unless all elements lie in `data`.
    pub fn strided(data: &'a [E], batch: usize, n: usize, batch_stride: usize, element_stride: usize) -> Result<Self> {
        let what = "strided batch";
        let shape = Shape::strided(what, batch, n, batch_stride, element_stride)?;
        shape.check(what, data.len()).map(|()| Self::new(data, shape))
    }

    #[inline]
    fn new(data: &'a [E], shape: Shape) -> Self {
        Self { first: data.as_ptr(), shape, life: PhantomData }
    }

    /// A view from raw parts; strides may be negative.
    ///
    /// # Safety
    /// - every `first + v·batch_stride + i·element_stride` (in elements) with v < batch, i < n is valid for reads and
    ///   initialised for the lifetime `'a`, and lies in one allocation, at most `isize::MAX` bytes apart;
    /// - nothing writes to these elements during `'a`, except a [`BatchMut`] given to the same call: verbs accept the
    ///   identical view (then they work in place) and refuse any other overlap.
    pub unsafe fn from_raw_parts(
        first: *const E,
        batch: usize,
        n: usize,
        batch_stride: isize,
        element_stride: isize,
    ) -> Self {
        Self { first, shape: Shape::new(batch, n, batch_stride, element_stride), life: PhantomData }
    }

    /// Number of vectors.
    pub fn batch(&self) -> usize {
        self.shape.batch
    }

    /// Length of each vector.
    pub fn n(&self) -> usize {
        self.shape.n
    }

    /// Element `i` of vector `v`.
    #[inline(always)]
    pub fn get(&self, v: usize, i: usize) -> Option<E> {
        if v < self.shape.batch && i < self.shape.n {
            // SAFETY: (v, i) lies inside the shape, whose elements are valid for reads.
            Some(unsafe { *self.first.offset(self.shape.offset(v, i)) })
        } else {
            None
        }
    }

    /// Vector `v`, if its elements are neighbours.
    #[inline(always)]
    pub fn row(&self, v: usize) -> Option<&'a [E]> {
        if v < self.shape.batch && self.shape.has_rows() {
            // SAFETY: the n elements of vector v are neighbours from here on and valid for reads; of an empty shape
            // every offset is 0 and the slice has no elements.
            Some(unsafe { core::slice::from_raw_parts(self.first.offset(self.shape.offset(v, 0)), self.shape.n) })
        } else {
            None
        }
    }

    /// Element `i` of every vector, if they are neighbours.
    #[inline(always)]
    pub fn column(&self, i: usize) -> Option<&'a [E]> {
        if i < self.shape.n && self.shape.has_columns() {
            // SAFETY: element i of the vectors are neighbours from here on and valid for reads.
            Some(unsafe { core::slice::from_raw_parts(self.first.offset(self.shape.offset(0, i)), self.shape.batch) })
        } else {
            None
        }
    }

    /// Vectors `start .. start + len`, which must lie inside.
    pub(crate) fn chunk(&self, start: usize, len: usize) -> Self {
        assert!(start <= self.shape.batch && len <= self.shape.batch - start);
        let first = if len == 0 { self.first } else { self.first.wrapping_offset(self.shape.offset(start, 0)) };
        Self { first, shape: self.shape.with_batch(len), life: PhantomData }
    }

    /// Whether this is the identical view as `other`.
    pub(crate) fn is_same(&self, other: &BatchMut<'_, E>) -> bool {
        core::ptr::eq(self.first, other.first) && self.shape == other.shape
    }

    /// Refuses views that share memory, unless they are identical. Views that interleave in one stretch of memory are told
    /// apart if their strides are equal; with unequal strides they are refused.
    pub(crate) fn check_disjoint(&self, what: &'static str, other: &BatchMut<'_, E>) -> Result<()> {
        if self.shape.is_empty() || other.shape.is_empty() || self.is_same(other) {
            return Ok(());
        }
        let error = |got| Err(Error::Overlap { what, expected: "views that are identical or disjoint", got });
        let (a, b) = match (self.shape.extent(), other.shape.extent()) {
            (Some(a), Some(b)) => (a, b),
            _ => return error(format!("{self:?} and {other:?}")),
        };
        // What a view names lies in one allocation, so nothing wraps.
        let bytes = size_of::<E>().max(1);
        let place = |p: *const E, at: isize| p.addr().wrapping_add_signed(at.wrapping_mul(bytes as isize));
        let (x0, x1) = (place(self.first, a.0), place(self.first, a.1).wrapping_add(bytes));
        let (y0, y1) = (place(other.first, b.0), place(other.first, b.1).wrapping_add(bytes));
        if x1 <= y0 || y1 <= x0 {
            return Ok(());
        }
        // Interleaved views of one matrix have the same strides: solve y − x = v·B + i·S exactly.
        let s = self.shape;
        let same = (s.batch_stride, s.element_stride) == (other.shape.batch_stride, other.shape.element_stride);
        let apart = other.first.addr() as i128 - self.first.addr() as i128;
        if same && apart % bytes as i128 == 0 {
            let distance = apart / bytes as i128;
            let meets = |v: i128| {
                let rest = distance - v * s.batch_stride as i128;
                if s.element_stride == 0 {
                    return rest == 0;
                }
                let (i, r) = (rest / s.element_stride as i128, rest % s.element_stride as i128);
                r == 0 && i < s.n as i128 && -i < other.shape.n as i128
            };
            if !(-(other.shape.batch as i128) + 1..s.batch as i128).any(meets) {
                return Ok(());
            }
        }
        error(format!("{self:?} and {other:?} in the same memory"))
    }
}

impl<'a, E: Copy> BatchMut<'a, E> {
    /// Rows of a row-major `[batch, n]` matrix.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of `n` > 0.
    #[inline]
    pub fn rows(data: &'a mut [E], n: usize) -> Result<Self> {
        let batch = Shape::vectors("batch of rows", data.len(), n)?;
        Ok(Self::new(data, Shape::new(batch, n, n as isize, 1)))
    }

    /// Columns of a row-major `[n, batch]` matrix.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of `n` > 0.
    #[inline]
    pub fn columns(data: &'a mut [E], n: usize) -> Result<Self> {
        let batch = Shape::vectors("batch of columns", data.len(), n)?;
        Ok(Self::new(data, Shape::new(batch, n, 1, batch as isize)))
    }

    /// `batch` vectors of length `n`, element i of vector v at v·`batch_stride` + i·`element_stride`.
    ///
    /// # Errors
    /// [`Error::Size`] unless all elements lie in `data`; [`Error::Overlap`] if one is named twice.
    pub fn strided(
        data: &'a mut [E],
        batch: usize,
        n: usize,
        batch_stride: usize,
        element_stride: usize,
    ) -> Result<Self> {
        let what = "strided batch";
        let shape = Shape::strided(what, batch, n, batch_stride, element_stride)?;
        shape.check(what, data.len())?;
        shape.check_unique(what).map(|()| Self::new(data, shape))
    }

    #[inline]
    fn new(data: &'a mut [E], shape: Shape) -> Self {
        Self { first: data.as_mut_ptr(), shape, life: PhantomData }
    }

    /// A view from raw parts; strides may be negative.
    ///
    /// # Errors
    /// [`Error::Overlap`] if the strides name an element twice.
    ///
    /// # Safety
    /// - every `first + v·batch_stride + i·element_stride` (in elements) with v < batch, i < n is valid for reads and
    ///   writes and initialised for the lifetime `'a`, and lies in one allocation, at most `isize::MAX` bytes apart;
    /// - nothing else reads or writes these elements during `'a`, except a [`Batch`] given to the same call (see
    ///   [`Batch::from_raw_parts`]).
    pub unsafe fn from_raw_parts(
        first: *mut E,
        batch: usize,
        n: usize,
        batch_stride: isize,
        element_stride: isize,
    ) -> Result<Self> {
        let shape = Shape::new(batch, n, batch_stride, element_stride);
        shape.check_unique("strided batch").map(|()| Self { first, shape, life: PhantomData })
    }

    /// Number of vectors.
    pub fn batch(&self) -> usize {
        self.shape.batch
    }

    /// Length of each vector.
    pub fn n(&self) -> usize {
        self.shape.n
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> BatchMut<'_, E> {
        BatchMut { first: self.first, shape: self.shape, life: PhantomData }
    }

    /// The same view for reading.
    pub fn as_batch(&self) -> Batch<'_, E> {
        Batch { first: self.first, shape: self.shape, life: PhantomData }
    }

    /// Vector `v` for reading, if its elements are neighbours.
    #[inline(always)]
    pub(crate) fn row(&self, v: usize) -> Option<&[E]> {
        self.as_batch().row(v)
    }

    /// Writes element `i` of vector `v`; `false` if there is none.
    #[inline(always)]
    pub fn set(&mut self, v: usize, i: usize, value: E) -> bool {
        let inside = v < self.shape.batch && i < self.shape.n;
        if inside {
            // SAFETY: (v, i) lies inside the shape, whose elements are valid for writes and ours alone.
            unsafe { *self.first.offset(self.shape.offset(v, i)) = value };
        }
        inside
    }

    /// Vector `v`, if its elements are neighbours.
    #[inline(always)]
    pub fn row_mut(&mut self, v: usize) -> Option<&mut [E]> {
        if v < self.shape.batch && self.shape.has_rows() {
            // SAFETY: the n elements of vector v are neighbours from here on, valid for writes and ours alone.
            Some(unsafe { core::slice::from_raw_parts_mut(self.first.offset(self.shape.offset(v, 0)), self.shape.n) })
        } else {
            None
        }
    }

    /// Vector 0, if its elements are neighbours, for as long as the memory is lent.
    #[inline(always)]
    pub(crate) fn into_row(self) -> Option<&'a mut [E]> {
        let has_row = self.shape.batch > 0 && self.shape.has_rows();
        // SAFETY: the n elements of vector 0 are neighbours from here on, valid for writes and ours alone for 'a: the view
        // is gone.
        has_row.then(|| unsafe {
            core::slice::from_raw_parts_mut(self.first.offset(self.shape.offset(0, 0)), self.shape.n)
        })
    }

    /// Element `i` of every vector, if they are neighbours.
    #[inline(always)]
    pub fn column_mut(&mut self, i: usize) -> Option<&mut [E]> {
        if i < self.shape.n && self.shape.has_columns() {
            // SAFETY: element i of the vectors are neighbours from here on, valid for writes and ours alone.
            Some(unsafe {
                core::slice::from_raw_parts_mut(self.first.offset(self.shape.offset(0, i)), self.shape.batch)
            })
        } else {
            None
        }
    }

    /// Vectors `start .. start + len`, which must lie inside.
    pub(crate) fn chunk_mut(&mut self, start: usize, len: usize) -> BatchMut<'_, E> {
        let Batch { first, shape, .. } = self.as_batch().chunk(start, len);
        BatchMut { first: first.cast_mut(), shape, life: PhantomData }
    }

    /// Cuts the batch at the given increasing vector numbers; the pieces can go to different threads.
    pub(crate) fn split(self, cuts: impl IntoIterator<Item = usize>) -> impl Iterator<Item = BatchMut<'a, E>> {
        let mut start = 0;
        cuts.into_iter().map(move |end| {
            assert!(start <= end && end <= self.shape.batch);
            let first = if start == end { self.first } else { self.first.wrapping_offset(self.shape.offset(start, 0)) };
            let shape = self.shape.with_batch(end - start);
            start = end;
            // The pieces hold different vectors, and no element belongs to two (checked when the view was made).
            BatchMut { first, shape, life: PhantomData }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn bounds_are_checked() {
        let data = vec![0f32; 10];
        assert!(Batch::rows(&data, 5).is_ok());
        assert!(Batch::rows(&data, 3).is_err());
        assert!(Batch::rows(&data, 0).is_err());
        assert_eq!(Batch::rows(&data[..0], 5).unwrap().batch(), 0);
        assert!(Batch::strided(&data, 2, 3, 7, 1).is_ok()); // last element 7 + 2
        assert!(Batch::strided(&data, 2, 3, 8, 1).is_err());
        assert!(Batch::strided(&data, 4, 10, 0, 1).is_ok()); // broadcast
        assert!(Batch::strided(&data, usize::MAX, 2, usize::MAX, usize::MAX).is_err());
        assert!(Batch::strided(&data, usize::MAX, usize::MAX, 1, 1).is_err());
        assert!(Batch::strided(&data, 0, usize::MAX, 1, 1).is_ok());
        let mut data = data;
        assert!(matches!(BatchMut::strided(&mut data, 4, 10, 0, 1), Err(Error::Overlap { .. })));
        assert!(BatchMut::strided(&mut data, 2, 5, 1, 2).is_ok());
    }

    #[test]
    fn views_without_elements_touch_no_memory() {
        let (data, mut one) = ([0f32; 1], [0f32; 1]);
        let huge = isize::MAX as usize;
        let view = Batch::strided(&data, 5, 0, huge, 1).unwrap();
        assert_eq!((view.row(1), view.row(3), view.row(5)), (Some(&[][..]), Some(&[][..]), None));
        let mut view = BatchMut::strided(&mut one, 0, 5, 1, 1000).unwrap();
        assert_eq!(view.column_mut(4), Some(&mut [][..]));
        assert_eq!(view.column_mut(5), None);
        assert_eq!(view.row_mut(0), None);
    }

    #[test]
    fn shared_memory_is_refused_unless_identical_or_interleaved() {
        let mut data = vec![0f64; 24];
        let p = data.as_mut_ptr();
        let read = |at: usize, batch, n, b, e| {
            // SAFETY: the view stays inside `data`, and nothing is read through it.
            unsafe { Batch::<f64>::from_raw_parts(p.wrapping_add(at), batch, n, b, e) }
        };
        let write = |at: usize, batch, n, b, e| {
            // SAFETY: the view stays inside `data`, and nothing is read or written through it.
            unsafe { BatchMut::<f64>::from_raw_parts(p.wrapping_add(at), batch, n, b, e) }.unwrap()
        };
        let ok = |x: Batch<f64>, y: BatchMut<f64>| x.check_disjoint("test", &y).is_ok();
        assert!(ok(read(0, 2, 6, 6, 1), write(0, 2, 6, 6, 1))); // identical
        assert!(ok(read(0, 2, 6, 6, 1), write(12, 2, 6, 6, 1))); // apart
        assert!(!ok(read(0, 2, 6, 6, 1), write(6, 2, 6, 6, 1))); // shifted
        assert!(ok(read(0, 4, 3, 6, 1), write(3, 4, 3, 6, 1))); // left and right halves of a matrix
        assert!(!ok(read(0, 4, 4, 6, 1), write(3, 4, 3, 6, 1))); // one column in common
        assert!(ok(read(0, 3, 4, 1, 6), write(3, 3, 4, 1, 6))); // the same as columns
        assert!(!ok(read(0, 2, 6, 6, 1), write(0, 6, 2, 1, 6))); // transposed
        assert!(ok(read(0, 0, 6, 6, 1), write(0, 2, 6, 6, 1))); // empty
        assert!(ok(read(0, 1, 4, 8, 2), write(1, 1, 4, 9, 2))); // one vector: its batch stride means nothing
        assert!(ok(read(0, 1, 4, 4, 1), write(0, 1, 4, 1, 1)));
        assert!(ok(read(0, 4, 1, 2, 7), write(1, 4, 1, 2, 5))); // one coordinate
        assert!(!ok(read(0, 4, 1, 2, 7), write(2, 4, 1, 2, 5)));
    }

    #[test]
    fn rows_columns_and_pieces() {
        let mut data: Vec<i32> = (0..12).collect();
        let mut view = BatchMut::columns(&mut data, 3).unwrap();
        assert_eq!(view.as_batch().get(1, 2), Some(9));
        assert_eq!(view.column_mut(1).unwrap(), &[4, 5, 6, 7]);
        assert!(view.row_mut(0).is_none());
        assert!(view.set(3, 0, -1) && !view.set(4, 0, -1));
        let pieces: Vec<_> = view.split([1, 4]).collect();
        assert_eq!((pieces[0].batch(), pieces[1].batch()), (1, 3));
        assert_eq!(pieces[1].as_batch().get(2, 0), Some(-1));
        assert_eq!(Batch::rows(&data, 4).unwrap().chunk(1, 2).row(0).unwrap(), &[4, 5, 6, 7]);
    }
}
