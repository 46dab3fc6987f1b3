//! A block without registers.

use super::passes::Block;
use super::wiring::{Round, Shape};
use crate::scalar::Scalar;

/// One block, one number after the other, for units shorter than any register.
pub(super) fn plainly<T: Scalar>(shape: Shape, block: Block<'_, T>, row: &mut [T], back: bool) {
    let Block { round, places, signs, between } = block;
    let starts = places.starts();
    let Shape { block, unit, .. } = shape;
    let place = |i: usize| starts[i / unit] as usize + i % unit;
    let multiply = |row: &mut [T]| (0..block).for_each(|i| row[place(i)] = row[place(i)] * signs[i]);
    let add = |row: &mut [T], distance: usize| {
        for i in (0..block).filter(|i| i & distance == 0) {
            let (a, b) = (row[place(i)], row[place(i + distance)]);
            (row[place(i)], row[place(i + distance)]) = if round == Round::Opening && distance == 1 && unit > 1 {
                (between[i] * a + b, a + between[i + 1] * b)
            } else {
                (a + b, a - b)
            };
        }
    };
    let odd_units = |row: &mut [T]| {
        for (k, sign) in between.iter().enumerate() {
            let i = place((2 * (k / unit) + 1) * unit + k % unit);
            row[i] = row[i] * *sign;
        }
    };
    let up = |row: &mut [T], from: usize, to: usize| (from.ilog2()..to.ilog2()).for_each(|bit| add(row, 1 << bit));
    let down =
        |row: &mut [T], from: usize, to: usize| (from.ilog2()..to.ilog2()).rev().for_each(|bit| add(row, 1 << bit));
    match (round, back) {
        (Round::Opening, false) => {
            multiply(row);
            down(row, unit, block);
            up(row, 1, unit);
        }
        (Round::Opening, true) => {
            down(row, 1, unit);
            up(row, unit, block);
            multiply(row);
        }
        (Round::Middle, false) => {
            multiply(row);
            up(row, unit, block);
        }
        (Round::Middle, true) => {
            down(row, unit, block);
            multiply(row);
        }
        (Round::Closing, false) => {
            multiply(row);
            up(row, 1, unit);
            odd_units(row);
            up(row, unit, block);
        }
        (Round::Closing, true) => {
            down(row, unit, block);
            odd_units(row);
            down(row, 1, unit);
            multiply(row);
        }
    }
}
