//! Panels of reflectors: how a block's vectors are grouped, stored and summed over.
//!
//! `count` vectors are cut into panels of 8, then 4, 2 and 1. The entries of a panel lie coordinate by coordinate, those of
//! its vectors side by side.

/// Vectors in a panel, at most; also the couplings stored for each vector.
pub(crate) const PANEL: usize = 8;

/// Number of panels of `count` vectors.
pub(crate) fn panels(count: usize) -> usize {
    count / PANEL + (count % PANEL).count_ones() as usize
}

/// First vector and number of vectors of panel `p`.
#[inline(always)]
pub(crate) fn panel(count: usize, p: usize) -> (usize, usize) {
    let whole = count / PANEL;
    if p < whole {
        return (p * PANEL, PANEL);
    }
    let (mut start, mut rest) = (whole * PANEL, count % PANEL);
    for _ in whole..p {
        let width = highest_bit(rest);
        (start, rest) = (start + width, rest - width);
    }
    (start, highest_bit(rest))
}

/// Where the entries of vector `i` of a block of size `b` lie: the first one, and the distance to the next.
pub(crate) fn vector(count: usize, b: usize, i: usize) -> (usize, usize) {
    let whole = count / PANEL;
    let mut p = (i / PANEL).min(whole);
    loop {
        let (start, width) = panel(count, p);
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
        for count in 0..70 {
            let mut next = 0;
            for p in 0..panels(count) {
                let (start, width) = panel(count, p);
                assert!(start == next && matches!(width, 8 | 4 | 2 | 1), "{count} {p}: {start} {width}");
                next += width;
            }
            assert_eq!(next, count);
            let mut seen = vec![false; count * 5];
            for i in 0..count {
                let (first, step) = vector(count, 5, i);
                for k in 0..5 {
                    assert!(!core::mem::replace(&mut seen[first + k * step], true));
                }
            }
            assert!(seen.iter().all(|seen| *seen));
        }
    }

    #[test]
    fn runs_grow_with_the_root() {
        assert_eq!([1, 4095, 4096, 100_000, 1 << 20].map(run_length), [64, 64, 64, 256, 1024]);
    }
}
