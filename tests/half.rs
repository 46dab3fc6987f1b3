//! Batches in half precision: the results of single precision on the same numbers, rounded once.
#![cfg(feature = "half")]

use half::{bf16, f16};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{AnyButterfly, Butterfly};
use papilio::{Batch, BatchMut, Element, Isa, Op, Parallelism, Plan, Saved, Workspace};

trait Bits: Element<Scalar = f32> {
    fn bits(self) -> u16;
}
impl Bits for bf16 {
    fn bits(self) -> u16 {
        self.to_bits()
    }
}
impl Bits for f16 {
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

fn bits<E: Bits>(numbers: &[E]) -> Vec<u16> {
    numbers.iter().map(|x| x.bits()).collect()
}

/// Numbers of E, and what they are in single precision.
fn numbers<E: Bits>(len: usize, seed: u64) -> (Vec<E>, Vec<f32>) {
    let mut g = Generator::new(seed);
    let x: Vec<E> = (0..len).map(|_| E::store(2.0 * g.uniform() as f32 - 1.0)).collect();
    let wide = x.iter().map(|x| x.load()).collect();
    (x, wide)
}

fn rounded<E: Bits>(x: &[f32]) -> Vec<u16> {
    x.iter().map(|x| E::store(*x).bits()).collect()
}

fn plans() -> Vec<Plan<f32>> {
    vec![
        Plan::identity(5).unwrap(),
        Plan::new(1, &Butterfly::classic(2), Givens).unwrap(),
        Plan::new(13, &AnyButterfly::new(3), Cayley).unwrap(),
        Plan::new(64, &Butterfly::classic(2), Givens).unwrap(),
        Plan::new(48, &Butterfly::boft(2, 8).unwrap(), Cayley).unwrap(),
        Plan::new(96, &Butterfly::boft(2, 16).unwrap(), Cayley).unwrap(),
    ]
}

fn theta(plan: &Plan<f32>) -> Vec<f64> {
    let mut g = Generator::new(3);
    (0..plan.num_params()).map(|_| g.uniform() - 0.5).collect()
}

fn applies_as_single_precision<E: Bits>() {
    for plan in plans() {
        let (n, factors) = (plan.n(), plan.realize(&theta(&plan)).unwrap());
        for isa in Isa::available() {
            let mut ws = Workspace::with_isa(isa).unwrap();
            for batch in [0, 1, 3, 15, 16, 17, 70] {
                let (x, wide) = numbers::<E>(n * batch, batch as u64);
                let (mut y, mut truth) = (vec![E::store(f32::NAN); n * batch], vec![f32::NAN; n * batch]);
                let op = Op::ALL[batch % 4];
                let mut check = |x: Batch<'_, E>, wide: Batch<'_, f32>, columns: bool, par| {
                    let view = |y| if columns { BatchMut::columns(y, n) } else { BatchMut::rows(y, n) };
                    plan.apply(&factors, x, view(&mut y).unwrap(), op, par, &mut ws).unwrap();
                    let view = |y| if columns { BatchMut::columns(y, n) } else { BatchMut::rows(y, n) };
                    plan.apply(&factors, wide, view(&mut truth).unwrap(), op, par, &mut ws).unwrap();
                    assert_eq!(bits(&y), rounded::<E>(&truth), "n = {n}, batch {batch}, {isa:?}");
                };
                let rows = (Batch::rows(&x, n).unwrap(), Batch::rows(&wide, n).unwrap());
                let columns = (Batch::columns(&x, n).unwrap(), Batch::columns(&wide, n).unwrap());
                check(rows.0, rows.1, false, Parallelism::Rayon);
                check(rows.0, rows.1, true, Parallelism::None);
                check(columns.0, columns.1, false, Parallelism::None);
            }
            // Gaps between elements, in place.
            let (mut x, mut wide) = numbers::<E>(3 * n * 20, 9);
            let view = BatchMut::strided(&mut x, 20, n, 3 * n, 3).unwrap();
            plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut ws).unwrap();
            let view = BatchMut::strided(&mut wide, 20, n, 3 * n, 3).unwrap();
            plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut ws).unwrap();
            assert_eq!(bits(&x), rounded::<E>(&wide));
        }
    }
}

#[test]
fn batches_of_bf16_and_f16() {
    applies_as_single_precision::<bf16>();
    applies_as_single_precision::<f16>();
}

fn gradients_of_single_precision<E: Bits>() {
    for plan in plans() {
        let (n, batch, factors) = (plan.n(), 21, plan.realize(&theta(&plan)).unwrap());
        let ((x, wide_x), (gy, wide_gy)) = (numbers::<E>(n * batch, 1), numbers::<E>(n * batch, 2));
        let (mut gx, mut wide_gx) = (vec![E::store(f32::NAN); n * batch], vec![f32::NAN; n * batch]);
        let (mut d, mut wide_d) = (vec![0f32; plan.num_entries()], vec![0f32; plan.num_entries()]);
        let mut ws = Workspace::new();
        let (saved, cotangent) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
        let out = Some(BatchMut::rows(&mut gx, n).unwrap());
        let par = Parallelism::Rayon;
        plan.apply_vjp(&factors, saved, Op::Adjoint, cotangent, out, Some(&mut d), par, &mut ws).unwrap();
        let (saved, cotangent) = (Saved::Input(Batch::rows(&wide_x, n).unwrap()), Batch::rows(&wide_gy, n).unwrap());
        let out = Some(BatchMut::rows(&mut wide_gx, n).unwrap());
        plan.apply_vjp(&factors, saved, Op::Adjoint, cotangent, out, Some(&mut wide_d), par, &mut ws).unwrap();
        assert_eq!(bits(&gx), rounded::<E>(&wide_gx));
        assert_eq!(d, wide_d, "gradients of blocks are sums in single precision");
    }
}

#[test]
fn gradients_of_batches_in_half_precision() {
    gradients_of_single_precision::<bf16>();
    gradients_of_single_precision::<f16>();
}

/// Every number of 16 bits goes through the identity unchanged; NaN stays NaN.
#[test]
fn every_number_survives_the_tile() {
    fn check<E: Bits>(of: impl Fn(u16) -> E) {
        let plan = Plan::<f32>::identity(64).unwrap();
        let factors = plan.realize::<f32>(&[]).unwrap();
        let x: Vec<E> = (0..=u16::MAX).map(of).collect();
        let mut y = vec![E::store(7.0); x.len()];
        let (from, to) = (Batch::rows(&x, 64).unwrap(), BatchMut::rows(&mut y, 64).unwrap());
        plan.apply(&factors, from, to, Op::None, Parallelism::None, &mut Workspace::new()).unwrap();
        for (x, y) in x.iter().zip(&y) {
            assert!(x.bits() == y.bits() || (x.load().is_nan() && y.load().is_nan()));
        }
    }
    check(bf16::from_bits);
    check(f16::from_bits);
}
