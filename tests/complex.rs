//! The kernels over complex scalars against the definition, in every shape, stride, instruction set and number of threads.

#[path = "support/unitary.rs"]
mod unitary;

use std::sync::Arc;

use papilio::generator::Generator;
use papilio::verify::dense;
use papilio::{
    Batch, BatchMut, Element, Factors, Isa, Op, Parallelism, Plan, Real, Saved, Scalar, Sharing, Source, StageLayout,
    Workspace, c32, c64,
};
use unitary::{Affine, Unitary, complex, random};

/// A complex scalar.
trait Complex: Scalar<Wide = c64> + Element<Scalar = Self> {
    const NAME: &'static str;
    const NAN: Self;
    fn is_nan(self) -> bool {
        self.re() != self.re() && self.im() != self.im()
    }
}

impl Complex for c32 {
    const NAME: &'static str = "c32";
    const NAN: Self = c32 { re: f32::NAN, im: f32::NAN };
}

impl Complex for c64 {
    const NAME: &'static str = "c64";
    const NAN: Self = c64 { re: f64::NAN, im: f64::NAN };
}

fn strided(unit: usize, radix: usize, distance: usize, groups: usize) -> StageLayout {
    StageLayout::Strided { unit, radix, distance, groups }
}

fn table(n: usize, block: usize, seed: u64) -> StageLayout {
    let mut index: Vec<u32> = (0..n as u32).collect();
    Generator::new(seed).shuffle(&mut index);
    index.truncate(n / block * block);
    StageLayout::Table { block, index: index.into() }
}

/// Fixed blocks of random entries, of a size that keeps products near 1, not unitary: the kernels must not care.
fn fixed<T: Complex>(layout: StageLayout, seed: u64) -> (StageLayout, Source<T>) {
    let b = layout.block_size();
    let scale = f64::from((0.8 / (b as f64).sqrt()) as f32);
    let blocks = random(layout.num_blocks() * b * b, seed).into_iter();
    let blocks: Vec<c64> = blocks.map(|x| T::from_wide(x * scale).to_wide()).collect();
    (layout, Source::Fixed(blocks.into()))
}

/// Blocks that share their parameters.
fn shared<T: Complex>(layout: StageLayout, groups: u32) -> (StageLayout, Source<T>) {
    let of = |j: usize| if (j as u32) < groups { j as u32 } else { (j as u32 * 7 + 3) % groups };
    let sharing = match groups {
        1 => Sharing::All,
        _ => Sharing::Groups((0..layout.num_blocks()).map(of).collect()),
    };
    (layout, Source::Chart { chart: Arc::new(Affine), sharing })
}

/// Sizes around lanes, coordinates that pass through, every compiled block size and some that are not, strides as butterflies
/// and Monarch wirings have them, shared groups, adjoint stages in between.
fn cases<T: Complex>() -> Vec<(Plan<T>, Factors<T>)> {
    let mut cases: Vec<(usize, Vec<(StageLayout, Source<T>)>)> = vec![(1, vec![])];
    let mut add = |n: usize, layouts: &[StageLayout]| {
        let seed = 10 * cases.len() as u64;
        cases.push((n, layouts.iter().zip(seed..).map(|(layout, seed)| fixed(layout.clone(), seed)).collect()));
    };
    add(13, &[strided(2, 2, 4, 1), table(13, 3, 5)]);
    add(64, &(0..6).map(|k| strided(1, 2, 1 << k, 64 >> (k + 1))).collect::<Vec<_>>());
    add(100, &[strided(1, 2, 33, 1), strided(1, 2, 16, 3), strided(1, 4, 25, 1), strided(1, 8, 12, 1)]);
    add(96, &[strided(2, 2, 2, 24), strided(2, 2, 4, 12), strided(2, 2, 8, 6), strided(2, 2, 16, 3)]);
    add(81, &[strided(1, 3, 1, 27), strided(1, 3, 3, 9), strided(1, 3, 27, 1)]);
    add(66, &[strided(33, 1, 33, 2), strided(11, 3, 22, 1), strided(3, 2, 6, 5)]);
    add(40, &[strided(1, 1, 1, 0), table(40, 40, 3)]);
    for b in [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32, 33] {
        add(2 * b + 3, &[table(2 * b + 3, b, b as u64), strided(b, 1, b, 2), strided(1, b, 2, 1)]);
    }
    cases.push((24, vec![shared(strided(1, 2, 4, 3), 5), shared(table(24, 3, 1), 1), shared(table(24, 5, 2), 3)]));
    let mut plans: Vec<_> = cases.into_iter().map(|(n, stages)| Plan::from_stages(n, stages).unwrap()).collect();
    let (first, second) = (plans[1].clone(), Plan::from_stages(13, [shared(table(13, 4, 8), 2)]).unwrap());
    plans.push(first.then(second.adjoint()).unwrap());
    let realized = |plan: Plan<T>| {
        let theta: Vec<f64> = random(plan.num_params(), 4).iter().map(|x| 0.3 * x.re).collect();
        let factors = plan.realize(&theta).unwrap();
        (plan, factors)
    };
    plans.into_iter().map(realized).collect()
}

fn narrow<T: Complex>(x: &[c64]) -> Vec<T> {
    x.iter().map(|x| T::from_wide(*x)).collect()
}

/// ‖y − truth‖∞ in units of eps·m·√2b·‖x‖: what summing 2b products in every stage may lose.
fn check<T: Complex>(plan: &Plan<T>, x: &[c64], truth: &[c64], y: &[T], context: &str) {
    let n = plan.n();
    let b = plan.stages().iter().map(|stage| stage.layout().block_size()).max().unwrap_or(1) as f64;
    let unit = T::Real::EPS.to_wide() * plan.num_stages().max(1) as f64 * (2.0 * b).sqrt();
    for ((x, truth), y) in x.chunks_exact(n).zip(truth.chunks_exact(n)).zip(y.chunks_exact(n)) {
        let norm = x.iter().map(|x| x.norm_sqr()).sum::<f64>().sqrt();
        let error = truth.iter().zip(y).fold(0.0, |worst: f64, (t, y)| {
            let off = (t - y.to_wide()).norm();
            assert!(off.is_finite(), "{context}: not all written");
            worst.max(off)
        });
        assert!(error <= unit * norm, "{context}: ratio {}", error / (unit * norm));
    }
}

const BATCHES: [usize; 13] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 67];

fn rows<T: Copy>(y: &mut [T], n: usize) -> BatchMut<'_, T> {
    BatchMut::rows(y, n).unwrap()
}

fn conformance<T: Complex>() {
    for (c, (plan, factors)) in cases::<T>().iter().enumerate() {
        let n = plan.n();
        let wide = random(67 * n, 7);
        let all = narrow::<T>(&wide);
        for op in Op::ALL {
            let truth = dense::apply(plan, factors, &wide, op).unwrap();
            for (isa, batch) in Isa::available().into_iter().flat_map(|isa| BATCHES.map(|batch| (isa, batch))) {
                let context = format!("{} case {c} n {n} batch {batch} {isa:?} {op:?}", T::NAME);
                let (x, mut ws) = (&all[..batch * n], Workspace::with_isa(isa).unwrap());
                // Rows out of place, the output NaN before.
                let mut y = vec![T::NAN; batch * n];
                plan.apply(factors, Batch::rows(x, n).unwrap(), rows(&mut y, n), op, Parallelism::Rayon, &mut ws)
                    .unwrap();
                check(plan, &wide[..batch * n], &truth, &y, &context);
                // Every other way gives the same bits: in place, columns, strides, a broadcast, alone.
                let mut z = x.to_vec();
                plan.apply_in_place(factors, rows(&mut z, n), op, Parallelism::None, &mut ws).unwrap();
                assert!(z == y, "{context}: in place");
                let mut columns = vec![T::NAN; batch * n];
                for v in 0..batch {
                    for i in 0..n {
                        columns[i * batch + v] = x[v * n + i];
                    }
                }
                let mut out = vec![T::NAN; 2 * batch * n + 1];
                let from = Batch::columns(&columns, n).unwrap();
                let to = BatchMut::strided(&mut out[..], batch, n, 2 * n, 2).unwrap();
                plan.apply(factors, from, to, op, Parallelism::None, &mut ws).unwrap();
                for (at, y) in y.iter().enumerate() {
                    assert!(out[2 * at] == *y, "{context}: columns to strides");
                    assert!(out[2 * at + 1].is_nan(), "{context}: wrote between strides");
                }
                let from = Batch::strided(&out, batch, n, 2 * n, 2).unwrap();
                let to = BatchMut::columns(&mut columns, n).unwrap();
                plan.apply(factors, from, to, op, Parallelism::None, &mut ws).unwrap();
                for v in 0..batch {
                    let mut alone = y[v * n..(v + 1) * n].to_vec();
                    plan.apply_in_place(factors, rows(&mut alone, n), op, Parallelism::None, &mut ws).unwrap();
                    for i in 0..n {
                        assert!(alone[i] == columns[i * batch + v], "{context}: neighbours change a vector");
                    }
                }
                let mut copies = vec![T::NAN; batch * n];
                let from = Batch::strided(&all[..n], batch, n, 0, 1).unwrap();
                plan.apply(factors, from, rows(&mut copies, n), op, Parallelism::None, &mut ws).unwrap();
                assert!(copies.chunks_exact(n).all(|copy| *copy == y[..n]), "{context}: broadcast");
            }
        }
    }
}

#[test]
fn every_kernel_and_view_agrees_with_the_definition_c64() {
    conformance::<c64>();
}

#[test]
fn every_kernel_and_view_agrees_with_the_definition_c32() {
    conformance::<c32>();
}

fn fused_agree<T: Complex>() {
    let fused: Vec<_> = Isa::available().into_iter().filter(|isa| *isa != Isa::Portable).collect();
    for (c, (plan, factors)) in cases::<T>().iter().enumerate() {
        let x = narrow::<T>(&random(19 * plan.n(), 3));
        for op in Op::ALL {
            let results: Vec<_> = fused
                .iter()
                .map(|isa| {
                    let (mut y, mut ws) = (x.clone(), Workspace::with_isa(*isa).unwrap());
                    plan.apply_in_place(factors, rows(&mut y, plan.n()), op, Parallelism::None, &mut ws).unwrap();
                    y
                })
                .collect();
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{} case {c} {op:?}", T::NAME);
        }
    }
}

#[test]
fn fused_machines_agree_bit_for_bit() {
    fused_agree::<c64>();
    fused_agree::<c32>();
}

/// gx and the gradient of the entries against the definition: the derivative in every part of an entry is what changes when
/// it moves (the product is linear in each).
#[test]
fn vjp_agrees_with_the_definition() {
    for (c, (plan, factors)) in cases::<c64>().iter().enumerate() {
        let n = plan.n();
        if plan.num_params() > 0 {
            continue; // shared blocks are moved through their parameters, in tests/unitary.rs
        }
        let stages: Vec<_> = plan.stages().iter().map(|s| (s.layout().clone(), s.source().clone())).collect();
        for (batch, isa) in [0, 1, 5, 33].into_iter().flat_map(|b| Isa::available().into_iter().map(move |i| (b, i))) {
            let mut ws = Workspace::with_isa(isa).unwrap();
            let (x, gy) = (random(batch * n, 1), random(batch * n, 2));
            let view = |data| Batch::rows(data, n).unwrap();
            for op in Op::ALL {
                let context = format!("case {c} n {n} batch {batch} {isa:?} {op:?}");
                let (mut gx, mut d) = (vec![c64::NAN; batch * n], vec![complex(0.25, -0.5); plan.num_entries()]);
                let (saved, out) = (Saved::Input(view(&x)), Some(rows(&mut gx, n)));
                plan.apply_vjp(factors, saved, op, view(&gy), out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
                let back = match op {
                    Op::None => Op::Adjoint,
                    Op::Adjoint => Op::None,
                    Op::Transpose => Op::Conj,
                    Op::Conj => Op::Transpose,
                };
                check(plan, &gy, &dense::apply(plan, factors, &gy, back).unwrap(), &gx, &context);
                // Without the gradient of the entries: the same gx; without gx: the same gradient.
                let mut alone = vec![c64::NAN; batch * n];
                let (saved, out) = (Saved::Input(view(&x)), Some(rows(&mut alone, n)));
                plan.apply_vjp(factors, saved, op, view(&gy), out, None, Parallelism::None, &mut ws).unwrap();
                assert!(gx == alone, "{context}");
                let mut again = vec![complex(0.25, -0.5); plan.num_entries()];
                let saved = Saved::Input(view(&x));
                plan.apply_vjp(factors, saved, op, view(&gy), None, Some(&mut again), Parallelism::None, &mut ws)
                    .unwrap();
                assert!(d == again, "{context}");
                if batch != 5 {
                    continue;
                }
                let mut probe = Generator::new(9);
                for (k, stage) in plan.stages().iter().enumerate() {
                    let (b, Source::Fixed(blocks)) = (stage.layout().block_size(), stage.source()) else { continue };
                    for _ in 0..2.min(stage.num_groups()) {
                        let [g, i, l] = [stage.num_groups(), b, b].map(|bound| probe.below(bound as u64) as usize);
                        let value = |by: c64| {
                            let (mut stages, mut moved) = (stages.clone(), blocks.to_vec());
                            moved[g * b * b + i * b + l] += by;
                            stages[k].1 = Source::Fixed(moved.into());
                            let plan = Plan::from_stages(n, stages).unwrap();
                            let y = dense::apply(&plan, &plan.realize::<f64>(&[]).unwrap(), &x, op).unwrap();
                            y.iter().zip(&gy).map(|(y, g)| (g.conj() * y).re).sum::<f64>()
                        };
                        let slope = |by: c64| (value(by) - value(-by)) / 2.0;
                        let truth = complex(slope(complex(1.0, 0.0)), slope(complex(0.0, 1.0)));
                        let got = d[stage.entry(g, i, l)] - complex(0.25, -0.5);
                        let scale = (batch * n) as f64 * 64.0 * f64::EPSILON;
                        assert!((got - truth).norm() <= scale, "{context} stage {k}: {got} {truth}");
                    }
                }
            }
        }
    }
}

fn threads_agree<T: Complex>() {
    let n = 256;
    let stages = (0..7).map(|k| fixed(strided(1, 2, 1 << k, n >> (k + 1)), k)).chain([fixed(table(n, 8, 1), 9)]);
    let plan = Plan::<T>::from_stages(n, stages).unwrap();
    let factors = plan.realize::<f64>(&[]).unwrap();
    let (x, gy) = (narrow::<T>(&random(499 * n, 1)), narrow::<T>(&random(499 * n, 2)));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut ws = Workspace::new();
            let (mut y, mut gx, mut d) = (x.clone(), x.clone(), vec![T::zero(); plan.num_entries()]);
            plan.apply_in_place(&factors, rows(&mut y, n), Op::Adjoint, Parallelism::Rayon, &mut ws).unwrap();
            let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
            let out = Some(rows(&mut gx, n));
            plan.apply_vjp(&factors, saved, Op::Conj, gy, out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
            (y, gx, d)
        })
    };
    let one = run(1);
    assert!(one == run(4) && one == run(3), "{}", T::NAME);
}

#[test]
fn threads_do_not_change_bits() {
    threads_agree::<c64>();
    threads_agree::<c32>();
}

/// A plan over real numbers, made complex: the same real parts, and imaginary parts that are zero.
#[test]
fn real_plans_are_complex_plans() {
    let (n, batch) = (24, 9);
    let layouts = [strided(1, 2, 4, 3), table(24, 6, 1), table(24, 5, 2)];
    let blocks = |layout: &StageLayout, seed| -> Vec<f64> {
        let len = layout.num_blocks() * layout.block_size().pow(2);
        random(len, seed).iter().map(|x| x.re / 2.0).collect()
    };
    let real = layouts.iter().zip(0..).map(|(l, seed)| (l.clone(), Source::<f64>::Fixed(blocks(l, seed).into())));
    let real = Plan::<f64>::from_stages(n, real).unwrap();
    let widen = |x: Vec<f64>| -> Vec<c64> { x.into_iter().map(|x| complex(x, 0.0)).collect() };
    let stages = layouts.iter().zip(0..).map(|(l, seed)| (l.clone(), Source::Fixed(widen(blocks(l, seed)).into())));
    let plan = Plan::<c64>::from_stages(n, stages).unwrap();
    let x: Vec<f64> = random(batch * n, 3).iter().map(|x| x.re).collect();
    for isa in Isa::available() {
        let (mut y, mut z, mut ws) = (x.clone(), widen(x.clone()), Workspace::with_isa(isa).unwrap());
        let (f, g) = (real.realize::<f64>(&[]).unwrap(), plan.realize::<f64>(&[]).unwrap());
        real.apply_in_place(&f, rows(&mut y, n), Op::None, Parallelism::None, &mut ws).unwrap();
        plan.apply_in_place(&g, rows(&mut z, n), Op::None, Parallelism::None, &mut ws).unwrap();
        assert!(z == widen(y), "{isa:?}");
    }
}

#[test]
fn a_nan_stays_in_its_block_and_vector() {
    let plan = Plan::<c32>::from_stages(8, [fixed(strided(2, 2, 2, 2), 0)]).unwrap();
    let factors = plan.realize::<f64>(&[]).unwrap();
    for batch in [2, 20] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut y = vec![c32 { re: 1.0, im: -1.0 }; batch * 8];
            y[9].im = bad; // vector 1, coordinate 1
            plan.apply_in_place(&factors, rows(&mut y, 8), Op::None, Parallelism::None, &mut Workspace::new()).unwrap();
            for (at, y) in y.iter().enumerate() {
                assert_eq!(!(y.re.is_finite() && y.im.is_finite()), (8..12).contains(&at), "{at}: {y}");
            }
        }
    }
}

/// Charts reach complex factors: Q of phases alone is what the phases say, in both precisions.
#[test]
fn phases_act_as_phases() {
    let n = 5;
    let theta = [0.3, -1.0, 2.0, 0.0, 3.0];
    fn run<T: Complex>(n: usize, theta: &[f64]) -> Vec<c64> {
        let plan = Plan::<T>::from_stages(n, [(strided(1, 1, 1, n), Source::chart(Unitary))]).unwrap();
        let mut y = vec![T::one(); n];
        let factors = plan.realize(theta).unwrap();
        plan.apply_in_place(&factors, rows(&mut y, n), Op::Adjoint, Parallelism::None, &mut Workspace::new()).unwrap();
        y.iter().map(|y| y.to_wide()).collect()
    }
    for (eps, y) in [(f64::EPSILON, run::<c64>(n, &theta)), (f64::from(f32::EPSILON), run::<c32>(n, &theta))] {
        for (y, t) in y.iter().zip(theta) {
            assert!((y - complex(t.cos(), -t.sin())).norm() <= eps, "{y} {t}");
        }
    }
}
