//! Panels of reflectors: how a block's vectors are grouped, stored and summed over.
//!
//! `count` vectors are cut into panels of 8 (fewer where blocks are small), then 4, 2 and 1. The entries of a panel lie
//! coordinate by coordinate, those of its vectors side by side.

/// Vectors in a panel, at most; also the couplings stored for each vector.
pub(crate) const PANEL: usize = 8;

/// Vectors in a panel of blocks of size `b`, at most: the power of two below b/2, and 1 for b ≤ 4. Vectors of few coordinates
/// are far from orthogonal to each other, so couplings are large, and what a panel rounds adds up faster than what panels do.
#[inline(always)]
fn widest(b: usize) -> usize {
    highest_bit((b.max(1) - 1) / 2).clamp(1, PANEL)
}

/// Number of panels of `count` vectors of length `b`.
pub(crate) fn panels(count: usize, b: usize) -> usize {
    let widest = widest(b);
    count / widest + (count % widest).count_ones() as usize
}

/// First vector and number of vectors of panel `p`.
#[inline(always)]
pub(crate) fn panel(count: usize, b: usize, p: usize) -> (usize, usize) {
    let widest = widest(b);
    let whole = count / widest;
    if p < whole {
        return (p * widest, widest);
    }
    let (mut start, mut rest) = (whole * widest, count % widest);
    for _ in whole..p {
        let width = highest_bit(rest);
        (start, rest) = (start + width, rest - width);
    }
    (start, highest_bit(rest))
}

/// Where the entries of vector `i` of a block of size `b` lie: the first one, and the distance to the next.
pub(crate) fn vector(count: usize, b: usize, i: usize) -> (usize, usize) {
    let widest = widest(b);
    let mut p = (i / widest).min(count / widest);
    loop {
        let (start, width) = panel(count, b, p);
        if i < start + width || width == 0 {
            return (start * b + (i - start), width);
        }
        p += 1;
    }
}

/// Coordinates that are summed at a time: about the square root of the block size, and not few.
pub(crate) fn run_length(b: usize) -> usize {
    64.max(1 << (b.max(1).ilog2() / 2))
}

#[inline(always)]
fn highest_bit(x: usize) -> usize {
    if x == 0 { 0 } else { 1 << x.ilog2() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn panels_cover_every_vector_once() {
        for (count, b) in (0..70).flat_map(|count| [1, 2, 5, 8, 9, 16, 17, 100].map(|b| (count, b))) {
            let mut next = 0;
            for p in 0..panels(count, b) {
                let (start, width) = panel(count, b, p);
                assert!(start == next && matches!(width, 8 | 4 | 2 | 1), "{count} {b} {p}: {start} {width}");
                next += width;
            }
            assert_eq!(next, count);
            let mut seen = vec![false; count * b];
            for i in 0..count {
                let (first, step) = vector(count, b, i);
                for k in 0..b {
                    assert!(!core::mem::replace(&mut seen[first + k * step], true));
                }
            }
            assert!(seen.iter().all(|seen| *seen));
        }
    }

    #[test]
    fn small_blocks_have_narrow_panels() {
        assert_eq!([0, 1, 2, 4, 5, 8, 9, 16, 17, 4096, usize::MAX].map(widest), [1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 8]);
    }

    #[test]
    fn runs_grow_with_the_root() {
        assert_eq!([1, 4095, 4096, 100_000, 1 << 20].map(run_length), [64, 64, 64, 256, 1024]);
    }
}
