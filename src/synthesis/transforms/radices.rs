//! How n is cut into the radices of a fast transform, and the order of coordinates that the cut leads to.
//!
//! Decimation in time: with radices r₀, r₁, …, r_{m−1}, whose product is n, stage k joins r_k transforms of size r₀···r_{k−1}.
//! The transform number s of the last stage is that of the inputs s, r + s, 2r + s, … (r = r_{m−1}), and so on inside: input i
//! starts where its digits are reversed. If the radices are a palindrome the reversal is its own inverse.
//!
//! Two stages of pairs cost as many multiply-adds as one of blocks of four, but go over the vector twice: fours are preferred.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::error::{Error, Result};

/// Coordinates of a transform, at most: its tables and blocks take some hundred bytes for each.
const MOST: usize = 1 << 24;

/// The largest prime factor that is taken: a stage of radix r costs r multiply-adds for each number.
const LARGEST: usize = 31;

/// `Err` unless 1 ≤ n ≤ 2²⁴.
pub(super) fn check_size(what: &'static str, n: usize) -> Result<()> {
    if (1..=MOST).contains(&n) {
        return Ok(());
    }
    Err(Error::Size { what, expected: "1 <= n <= 2^24".to_string(), got: format!("n = {n}") })
}

/// log₂ n, or `Err` unless n is a power of 2 from 1 to 2²⁴.
pub(super) fn logarithm(what: &'static str, n: usize) -> Result<usize> {
    if n.is_power_of_two() && n <= MOST {
        return Ok(n.trailing_zeros() as usize);
    }
    Err(Error::Size { what, expected: "a power of 2, at most 2^24".to_string(), got: format!("n = {n}") })
}

/// The power of 2 in n, and its other prime factors in ascending order.
fn factors(what: &'static str, n: usize) -> Result<(u32, Vec<usize>)> {
    check_size(what, n)?;
    let twos = n.trailing_zeros();
    let (mut rest, mut odd) = (n >> twos, Vec::new());
    for p in (3..=LARGEST).step_by(2) {
        while rest.is_multiple_of(p) {
            odd.push(p);
            rest /= p;
        }
    }
    if rest == 1 {
        return Ok((twos, odd));
    }
    let expected = format!("1 <= n <= 2^24 without a prime factor above {LARGEST}");
    Err(Error::Size { what, expected, got: format!("n = {n}") })
}

/// Radices of n in an order that is a palindrome, if any order is.
pub(super) fn symmetric(what: &'static str, n: usize) -> Result<Vec<usize>> {
    let (twos, odd) = factors(what, n)?;
    let (mut outer, mut middle) = (alloc::vec![4; twos as usize / 4], Vec::new());
    match twos % 4 {
        0 => {}
        1 => middle.push(2),
        2 => middle.push(4),
        _ => middle.push(8),
    }
    for p in odd {
        if middle.last() == Some(&p) {
            middle.pop();
            outer.push(p);
        } else {
            middle.push(p);
        }
    }
    Ok(outer.iter().chain(&middle).chain(outer.iter().rev()).copied().collect())
}

/// Radices of n, those of powers of 2 first: the first is 2, 4 or 8 for even n, and the others of 2 are 4.
pub(super) fn even_first(what: &'static str, n: usize) -> Result<Vec<usize>> {
    let (twos, odd) = factors(what, n)?;
    let first = match twos {
        0 => None,
        1 => Some(2),
        twos => Some(if twos % 2 == 0 { 4 } else { 8 }),
    };
    let fours = core::iter::repeat_n(4, (twos as usize).saturating_sub(2) / 2);
    Ok(first.into_iter().chain(fours).chain(odd).collect())
}

/// Where input i starts: its digits reversed.
pub(super) fn reversed(radices: &[usize], mut i: usize) -> usize {
    let (mut size, mut at) = (radices.iter().product::<usize>(), 0);
    for r in radices.iter().rev() {
        size /= r;
        at += i % r * size;
        i /= r;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radices_multiply_to_n() {
        for n in 1..3000usize {
            let smooth = (2..=n).all(|p| p <= LARGEST || !n.is_multiple_of(p) || (2..p).any(|q| p.is_multiple_of(q)));
            for cut in [symmetric, even_first] {
                match cut("transform", n) {
                    Ok(radices) => assert!(smooth && radices.iter().product::<usize>() == n, "{n}: {radices:?}"),
                    Err(error) => assert!(!smooth && error.to_string().contains("prime factor above 31"), "{n}"),
                }
            }
        }
        for n in [0, MOST + 1, usize::MAX] {
            assert!(symmetric("transform", n).is_err() && even_first("transform", n).is_err());
            assert!(logarithm("transform", n).is_err());
        }
    }

    #[test]
    fn powers_of_two_are_palindromes() {
        for k in 0..=24 {
            let radices = symmetric("transform", 1 << k).unwrap();
            assert!(radices.iter().eq(radices.iter().rev()), "{radices:?}");
            assert!((0..1usize << k).step_by(101).all(|i| reversed(&radices, reversed(&radices, i)) == i));
            assert!(even_first("transform", 1 << k).unwrap().iter().skip(1).all(|r| *r == 4));
        }
        assert_eq!(symmetric("transform", 144), Ok(alloc::vec![4, 3, 3, 4]));
        assert_eq!(reversed(&[2, 3], 1), 2); // 1 = 1 + 3·0 → digit 1 of radix 3 counts transforms of size 2
    }
}
