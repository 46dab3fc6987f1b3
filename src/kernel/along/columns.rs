//! Columns of neighbouring blocks in registers: pairs of runs of U = 2 or 4 coordinates.
//!
//! A pair of registers holds the first and the second runs of L/U neighbouring blocks. Output run h is Σ_k E[k][h]·x_k, where
//! x_k is input k of each block in all lanes of its group of U, which is one shuffle within groups, and E[k][h] is column k of
//! the blocks, rows of run h: a register that lies in memory as it is needed. So a pair takes 2b multiply-adds (of which two
//! products) and b shuffles. Transposed blocks are made from the others by exchanges among U registers, once for all vectors.
//!
//! Going backwards, the gradient of E[k][h] is Σ g_h·x_k over the vectors, the same shuffles and another 2b multiply-adds; that
//! of x is the transposed stage of g. If the stage itself acts transposed, g and x change places in the gradient.

use bytemuck::Pod;

use crate::scalar::Scalar;
use crate::simd::{Lanes, load, store};

/// Inputs of a block, at most.
const WIDEST: usize = 8;

/// E[k][h]; the first 2U columns are in use.
#[derive(Clone, Copy)]
pub(super) struct Columns<V>([[V; 2]; WIDEST]);

/// Runs `$f` for each input of a block.
macro_rules! for_inputs {
    ($unit:ident, $f:ident) => {
        $f!(0);
        $f!(1);
        $f!(2);
        $f!(3);
        if const { $unit == 4 } {
            $f!(4);
            $f!(5);
            $f!(6);
            $f!(7);
        }
    };
}

impl<V: Pod> Columns<V> {
    #[inline(always)]
    pub(super) fn zero() -> Self {
        Self([[V::zeroed(); 2]; WIDEST])
    }

    /// Of the blocks whose entries begin here, in a panel of 64 bytes' worth of rows.
    #[inline(always)]
    pub(super) fn load<T: Scalar, S: Lanes<T, V = V>, const U: usize>(s: S, panel: &[T], transposed: bool) -> Self {
        let panel = &panel[..(4 * U - 1) * T::WIDTH + S::LANES];
        let mut columns = Self::zero();
        for (k, column) in columns.0.iter_mut().enumerate().take(2 * U) {
            for (h, rows) in column.iter_mut().enumerate() {
                *rows = load::<T, S>(&panel[(2 * k + h) * T::WIDTH..]);
            }
        }
        if transposed { columns.transposed::<T, S, U>(s) } else { columns }
    }

    /// Those of the transposed blocks.
    #[inline(always)]
    fn transposed<T: Scalar, S: Lanes<T, V = V>, const U: usize>(self, s: S) -> Self {
        let (Self(e), Self(mut t)) = (self, self);
        for (h, half) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (row, column) = (h * U, half * U);
            if const { U == 2 } {
                let [a, b] = s.exchange::<0>([e[row][half], e[row + 1][half]]);
                (t[column][h], t[column + 1][h]) = (a, b);
            } else {
                let [a, b] = s.exchange::<0>([e[row][half], e[row + 1][half]]);
                let [c, d] = s.exchange::<0>([e[row + 2][half], e[row + 3][half]]);
                let ([a, c], [b, d]) = (s.exchange::<1>([a, c]), s.exchange::<1>([b, d]));
                (t[column][h], t[column + 1][h], t[column + 2][h], t[column + 3][h]) = (a, b, c, d);
            }
        }
        Self(t)
    }

    /// The blocks times their inputs, in the order that all kernels keep.
    #[inline(always)]
    pub(super) fn times<T: Scalar, S: Lanes<T, V = V>, const U: usize>(&self, s: S, x: [V; 2]) -> [V; 2] {
        let Self(e) = self;
        let mut y = [V::zeroed(); 2];
        macro_rules! input {
            ($k:literal) => {
                let x = s.broadcast::<U, $k>(x[$k / U]);
                y = if $k == 0 {
                    [s.mul(e[$k][0], x), s.mul(e[$k][1], x)]
                } else {
                    [s.mul_add(e[$k][0], x, y[0]), s.mul_add(e[$k][1], x, y[1])]
                };
            };
        }
        for_inputs!(U, input);
        y
    }

    /// Adds g xᵀ of each block.
    #[inline(always)]
    pub(super) fn add_outer<T: Scalar, S: Lanes<T, V = V>, const U: usize>(&mut self, s: S, g: [V; 2], x: [V; 2]) {
        let Self(sums) = self;
        macro_rules! input {
            ($k:literal) => {
                let x = s.broadcast::<U, $k>(x[$k / U]);
                sums[$k] = [s.mul_add(g[0], x, sums[$k][0]), s.mul_add(g[1], x, sums[$k][1])];
            };
        }
        for_inputs!(U, input);
    }

    /// Adds them where [`load`](Self::load) finds columns.
    #[inline(always)]
    pub(super) fn add_to<T: Scalar, S: Lanes<T, V = V>, const U: usize>(&self, s: S, panel: &mut [T]) {
        let panel = &mut panel[..(4 * U - 1) * T::WIDTH + S::LANES];
        for (k, column) in self.0.iter().enumerate().take(2 * U) {
            for (h, sum) in column.iter().enumerate() {
                let panel = &mut panel[(2 * k + h) * T::WIDTH..];
                let sum = s.add(load::<T, S>(panel), *sum);
                store::<T, S>(panel, sum);
            }
        }
    }
}
