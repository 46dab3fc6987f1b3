//! What papilio is held against, measured on the same machine in the same run: the peak of multiply-add, copies, the dense
//! product, and a loop over stages as one would first write it.

use std::hint::black_box;

use papilio::{Factors, Plan, Scalar};
use pulp::{Arch, Simd, WithSimd};

/// Chains of multiply-adds that do not wait for each other: more than latency times ports on any machine, few enough that 16
/// registers hold them and two constants.
const CHAINS: usize = 12;

/// Floating-point operations of a multiply-add in a peak.
const PER_STEP: usize = 2;

macro_rules! peak {
    ($name:ident, $t:ident, $v:ident, $lanes:ident, $splat:ident, $mul_add:ident, $sum:ident) => {
        /// Runs `steps` rounds of independent multiply-adds in registers; the number of operations done.
        pub(crate) fn $name(steps: usize) -> usize {
            struct Chains(usize);
            impl WithSimd for Chains {
                type Output = usize;
                #[inline(always)]
                fn with_simd<S: Simd>(self, s: S) -> usize {
                    // A contraction to 1, so that no number becomes subnormal.
                    let (a, b) = (s.$splat(black_box(0.5)), s.$splat(black_box(0.5)));
                    let mut chains: [S::$v; CHAINS] = core::array::from_fn(|i| s.$splat(i as $t));
                    for _ in 0..self.0 {
                        for chain in &mut chains {
                            *chain = s.$mul_add(*chain, a, b);
                        }
                    }
                    for chain in chains {
                        black_box(s.$sum(chain));
                    }
                    self.0 * CHAINS * S::$lanes * PER_STEP
                }
            }
            Arch::new().dispatch(Chains(steps))
        }
    };
}
peak!(peak_f32, f32, f32s, F32_LANES, splat_f32s, mul_add_f32s, reduce_sum_f32s);
peak!(peak_f64, f64, f64s, F64_LANES, splat_f64s, mul_add_f64s, reduce_sum_f64s);

/// Runs `steps` rounds of independent additions in registers; the number of additions done.
#[allow(dead_code)] // the benchmarks share this file
pub(crate) fn additions_f32(steps: usize) -> usize {
    struct Chains(usize);
    impl WithSimd for Chains {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, s: S) -> usize {
            let a = s.splat_f32s(black_box(1e-3));
            let mut chains: [S::f32s; CHAINS] = core::array::from_fn(|i| s.splat_f32s(i as f32));
            for _ in 0..self.0 {
                for chain in &mut chains {
                    *chain = s.add_f32s(*chain, a);
                }
            }
            for chain in chains {
                black_box(s.reduce_sum_f32s(chain));
            }
            self.0 * CHAINS * S::F32_LANES
        }
    }
    Arch::new().dispatch(Chains(steps))
}

/// A copy in whole registers. The compiler would make `memcpy` of a plain loop, so this one adds a zero it cannot see.
pub(crate) fn copy_loop(from: &[u32], to: &mut [u32]) {
    struct Copy<'a>(&'a [u32], &'a mut [u32], u32);
    impl WithSimd for Copy<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, s: S) {
            let zero = s.splat_u32s(self.2);
            let ((from, from_rest), (to, to_rest)) = (S::as_simd_u32s(self.0), S::as_mut_simd_u32s(self.1));
            for (to, from) in to.iter_mut().zip(from) {
                *to = s.add_u32s(*from, zero);
            }
            to_rest.copy_from_slice(from_rest);
        }
    }
    Arch::new().dispatch(Copy(from, to, black_box(0)));
}

/// y ← x Aᵀ for the rows of x, by faer on one thread. `a` holds A by rows, or by columns.
pub(crate) fn dense<T: faer::traits::ComplexField>(n: usize, a: &[T], by_rows: bool, x: &[T], y: &mut [T]) {
    let transposed = if by_rows {
        faer::MatRef::from_column_major_slice(a, n, n)
    } else {
        faer::MatRef::from_row_major_slice(a, n, n)
    };
    let batch = x.len() / n;
    let x = faer::MatRef::from_row_major_slice(x, batch, n);
    let y = faer::MatMut::from_row_major_slice_mut(y, batch, n);
    faer::linalg::matmul::matmul(y, faer::Accum::Replace, x, transposed, T::one_impl(), faer::Par::Seq);
    // Its kernels leave the upper parts of registers in use, which slows code without AVX that runs next (the portable machine,
    // the naive loop) to half its speed. Functions compiled with AVX clear them as they return.
    peak_f32(1);
}

/// The same factors without any of papilio's care: stage by stage over the whole batch, block by block, every block gathered
/// by its indices and multiplied in plain loops.
pub(crate) struct Naive<T> {
    n: usize,
    stages: Vec<Stage<T>>,
}

struct Stage<T> {
    b: usize,
    index: Vec<usize>,
    blocks: Vec<T>,
}

impl<T: Scalar> Naive<T> {
    pub(crate) fn new(plan: &Plan<T>, factors: &Factors<T>) -> papilio::Result<Self> {
        let stages = plan.stages().iter().enumerate().map(|(k, stage)| {
            let (b, count) = (stage.layout().block_size(), stage.layout().num_blocks());
            let mut blocks = vec![T::zero(); b * b * count];
            for (j, block) in blocks.chunks_exact_mut(b * b).enumerate() {
                plan.block(factors, k, stage.group_of(j), block)?;
            }
            let index = (0..count).flat_map(|j| (0..b).map(move |i| stage.layout().index(j, i))).collect();
            Ok(Stage { b, index, blocks })
        });
        Ok(Self { n: plan.n(), stages: stages.collect::<papilio::Result<_>>()? })
    }

    /// y ← Q x for the rows of x.
    pub(crate) fn apply(&self, x: &[T], y: &mut [T]) {
        y.copy_from_slice(x);
        for Stage { b, index, blocks } in &self.stages {
            let mut inputs = vec![T::zero(); *b];
            for vector in y.chunks_exact_mut(self.n) {
                for (index, block) in index.chunks_exact(*b).zip(blocks.chunks_exact(b * b)) {
                    for (input, i) in inputs.iter_mut().zip(index) {
                        *input = vector[*i];
                    }
                    for (row, i) in block.chunks_exact(*b).zip(index) {
                        vector[*i] = row.iter().zip(&inputs).fold(T::zero(), |sum, (q, x)| sum + *q * *x);
                    }
                }
            }
        }
    }
}
