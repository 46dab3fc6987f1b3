//! What no wiring offers: sizes beyond 32-bit indices, and more stages than memory holds.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use crate::error::{Error, Result};

/// Indices that the tables of all stages may hold together: 4 GiB.
const MOST_INDICES: usize = 1 << 30;

/// `Err` unless 1 ≤ n < 2³².
pub(super) fn check_size(what: &'static str, n: usize) -> Result<()> {
    if n >= 1 && u32::try_from(n).is_ok() {
        return Ok(());
    }
    Err(Error::Size { what, expected: "1 <= n < 2^32".to_string(), got: format!("n = {n}") })
}

/// `Err` unless every number below the length, of which there are 1 to 2³² − 1, occurs once.
pub(crate) fn check_permutation(permutation: &[u32]) -> Result<()> {
    let n = permutation.len();
    check_size("permutation", n)?;
    let mut seen = vec![false; n];
    for &to in permutation {
        match seen.get_mut(to as usize) {
            None => return Err(Error::Index { what: "permutation", expected: n, got: to as usize }),
            Some(seen) if *seen => {
                let expected = "every index once";
                return Err(Error::Overlap { what: "permutation", expected, got: format!("index {to} twice") });
            }
            Some(seen) => *seen = true,
        }
    }
    Ok(())
}

/// `count` stages for vectors of length `n`, if tables for them all can be held (a short table counts as 64 indices).
pub(super) fn check_stages(what: &'static str, n: usize, count: Option<usize>) -> Result<usize> {
    check_size(what, n)?;
    match count {
        Some(count) if count.checked_mul(n.max(64)).is_some_and(|all| all <= MOST_INDICES) => Ok(count),
        _ => Err(Error::Size {
            what,
            expected: format!("at most {} stages for n = {n}, 2^30 indices in all", MOST_INDICES / n.max(64)),
            got: count.map_or("more than can be counted".to_string(), |count| format!("{count} stages")),
        }),
    }
}

/// ⌈log_b n⌉ for n ≥ 1 and b ≥ 2: the stages without which blocks of b cannot make n coordinates depend on all.
pub(super) fn ceil_log(n: usize, b: usize) -> usize {
    let (mut stages, mut reached) = (0, 1u128);
    while reached < n as u128 {
        reached *= b as u128;
        stages += 1;
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_rounded_up() {
        for (n, b, expected) in [(1, 2, 0), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 2, 3), (27, 3, 3), (28, 3, 4)] {
            assert_eq!(ceil_log(n, b), expected);
        }
        assert_eq!(ceil_log(usize::MAX, 2), usize::BITS as usize);
        assert_eq!(ceil_log(usize::MAX, usize::MAX), 1);
    }

    #[test]
    fn hostile_numbers_are_errors() {
        for n in [0, 1 << 32, usize::MAX] {
            assert!(matches!(check_size("x", n), Err(Error::Size { .. })));
        }
        assert!(check_stages("x", 1, Some(usize::MAX)).is_err());
        assert!(check_stages("x", 8, None).is_err());
        assert!(check_stages("x", (1 << 30) + 1, Some(1)).is_err());
        assert_eq!(check_stages("x", 1 << 30, Some(1)), Ok(1));
        assert_eq!(check_stages("x", 1, Some(0)), Ok(0));
    }
}
