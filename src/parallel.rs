//! Threads as a value. Work is cut by shapes, never by the number of threads, so results have the same bits for any.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Pod;

/// Who runs the pieces of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Parallelism {
    /// The calling thread.
    None,
    /// The current rayon pool; the calling thread where the feature `rayon` is off. Same bits either way.
    #[default]
    Rayon,
}

/// Runs `work` on every item, in any order.
pub(crate) fn for_each<I: Send>(parallelism: Parallelism, items: Vec<I>, work: impl Fn(I) + Send + Sync) {
    #[cfg(feature = "rayon")]
    if parallelism == Parallelism::Rayon && items.len() > 1 {
        use rayon::prelude::*;
        return items.into_par_iter().for_each(work);
    }
    let _ = parallelism;
    items.into_iter().for_each(work);
}

/// Alignment of scratch memory in bytes: a cache line, and the widest SIMD register.
const ALIGN: usize = 64;
/// Words to move the start by, at most.
const SPARE: usize = ALIGN / size_of::<u64>() - 1;

/// Numbers that start at an alignment of 64 bytes, so that no register of them crosses a cache line.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    words: Vec<u64>,
    start: usize,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let words = vec![0; (len * size_of::<T>()).div_ceil(size_of::<u64>()) + SPARE];
        let start = words.as_ptr().align_offset(ALIGN).min(SPARE);
        Self { words, start, len, kind: PhantomData }
    }
}

impl<T: Pod> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.words[self.start..self.words.len() - (SPARE - self.start)])[..self.len]
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let end = self.words.len() - (SPARE - self.start);
        &mut bytemuck::cast_slice_mut(&mut self.words[self.start..end])[..self.len]
    }
}

/// Scratch memory that is kept between calls: one buffer for each piece of work that runs at a time. Without `std`
/// there is no lock to guard it with, and every call allocates.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    #[cfg(feature = "std")]
    buffers: std::sync::Mutex<Vec<Vec<u64>>>,
}

impl Pool {
    #[cfg(feature = "std")]
    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u64>>> {
        self.buffers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The smallest buffer of at least `words`, or else the largest.
    fn take(&self, words: usize) -> Vec<u64> {
        #[cfg(feature = "std")]
        {
            let mut buffers = self.buffers();
            let fit = |buffer: &Vec<u64>| (buffer.len() < words, buffer.len().abs_diff(words));
            let best = (0..buffers.len()).min_by_key(|at| fit(&buffers[*at]));
            best.map(|at| buffers.swap_remove(at)).unwrap_or_default()
        }
        #[cfg(not(feature = "std"))]
        {
            let _ = words;
            Vec::new()
        }
    }

    fn give(&self, buffer: Vec<u64>) {
        #[cfg(feature = "std")]
        self.buffers().push(buffer);
        #[cfg(not(feature = "std"))]
        drop(buffer);
    }

    /// Lends `work` a buffer of `len` numbers, aligned to 64 bytes, holding anything.
    pub(crate) fn with<T: Pod, R>(&self, len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
        let words = (len * size_of::<T>()).div_ceil(size_of::<u64>());
        let mut buffer = self.take(words + SPARE);
        if buffer.len() < words + SPARE {
            buffer = vec![0; words + SPARE];
        }
        let start = buffer.as_ptr().align_offset(ALIGN).min(SPARE);
        let result = work(&mut bytemuck::cast_slice_mut(&mut buffer[start..start + words])[..len]);
        self.give(buffer);
        result
    }
}
