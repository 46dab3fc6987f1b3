//! The front of what is worth its price.

use alloc::vec;
use alloc::vec::Vec;

/// Which of the points (price, error) no other dominates: none has a price and an error that are not larger, and one of them smaller.
/// Equal points are on the front together; a point with a NaN never is.
///
/// ```
/// let points = [(1.0, 0.9), (2.0, 0.5), (2.0, 0.6), (3.0, 0.5), (4.0, 0.1)];
/// assert_eq!(papilio::fit::pareto(&points), [true, true, false, false, true]);
/// ```
pub fn pareto(points: &[(f64, f64)]) -> Vec<bool> {
    let mut order: Vec<usize> =
        (0..points.len()).filter(|&i| !(points[i].0.is_nan() || points[i].1.is_nan())).collect();
    order.sort_by(|&i, &j| points[i].partial_cmp(&points[j]).unwrap_or(core::cmp::Ordering::Equal));
    let mut front = vec![false; points.len()];
    let mut last: Option<(f64, f64)> = None;
    for i in order {
        let point = points[i];
        if last.is_none_or(|last| point.1 < last.1 || point == last) {
            front[i] = true;
            last = Some(point);
        }
    }
    front
}
