//! A square of numbers, a register in each row, transposed in registers.

use super::Lanes;

/// Lanes of double precision, at most.
pub(crate) const MOST: usize = 8;

/// The first `S::LANES` rows as a square, transposed. A round that interleaves the halves of the square's rows turns the bits
/// of (row, lane) by one; as many rounds as a row number has bits exchange the two. `MOST` is at least `S::LANES`.
#[inline(always)]
pub(crate) fn transposed<T, S: Lanes<T>, const MOST: usize>(s: S, mut square: [S::V; MOST]) -> [S::V; MOST] {
    if S::LANES >= 2 {
        square = interleaved::<T, S, MOST>(s, square);
    }
    if S::LANES >= 4 {
        square = interleaved::<T, S, MOST>(s, square);
    }
    if S::LANES >= 8 {
        square = interleaved::<T, S, MOST>(s, square);
    }
    if S::LANES >= 16 {
        square = interleaved::<T, S, MOST>(s, square);
    }
    square
}

#[inline(always)]
fn interleaved<T, S: Lanes<T>, const MOST: usize>(s: S, square: [S::V; MOST]) -> [S::V; MOST] {
    let mut next = square;
    for i in 0..S::LANES / 2 {
        [next[2 * i], next[2 * i + 1]] = s.zip(square[i], square[i + S::LANES / 2]);
    }
    next
}
