//! Stages of Householder reflections against the definition, H = I − 2vvᴴ/(vᴴv) one after the other in double precision, in
//! every field, op, instruction set and shape; their gradients, certificates and special cases.

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::Butterfly;
use papilio::verify::{
    adjoint, certificate, dense, distance, isometry, orthogonality_ratio, plan_gradient, plan_tangent,
};
use papilio::{
    Batch, BatchMut, Element, Error, Isa, Op, Orthogonal, Parallelism, Plan, Real, Saved, Scalar, Sharing, Source,
    StageLayout, Wide, Workspace, c32, c64,
};

const COUNTS: [usize; 9] = [0, 1, 2, 3, 7, 8, 9, 20, 33];

fn whole(n: usize) -> StageLayout {
    StageLayout::contiguous(n, 1)
}

fn table(n: usize, block: usize, seed: u64) -> StageLayout {
    let mut index: Vec<u32> = (0..n as u32).collect();
    Generator::new(seed).shuffle(&mut index);
    index.truncate(n / block * block);
    StageLayout::Table { block, index: index.into() }
}

/// All layouts on which blocks can lie: one, several, strided, tables that leave coordinates out.
fn layouts() -> Vec<(usize, StageLayout)> {
    let strided = |unit, radix, distance, groups| StageLayout::Strided { unit, radix, distance, groups };
    vec![
        (1, whole(1)),
        (2, whole(2)),
        (13, whole(13)),
        (1000, whole(1000)),
        (24, StageLayout::contiguous(4, 6)),
        (64, strided(1, 2, 32, 1)),
        (36, strided(2, 3, 6, 2)),
        (23, table(23, 5, 1)),
        (40, table(40, 40, 2)),
    ]
}

fn stage<T: Scalar>(n: usize, layout: &StageLayout, source: Source<T>) -> Plan<T> {
    Plan::from_stages(n, [(layout.clone(), source)]).unwrap()
}

fn normal(len: usize, seed: u64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    (0..len).map(|_| (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0).collect()
}

fn random<T: Scalar>(len: usize, seed: u64) -> Vec<T> {
    let parts = normal(2 * len, seed);
    parts.chunks_exact(2).map(|p| T::from_wide(T::Wide::from_parts(p[0], p[1]))).collect()
}

fn wide<T: Scalar>(x: &[T]) -> Vec<T::Wide> {
    x.iter().map(|x| x.to_wide()).collect()
}

fn norm<W: Wide>(x: &[W]) -> f64 {
    x.iter().map(|x| x.re() * x.re() + x.im() * x.im()).sum::<f64>().sqrt()
}

/// op(Q) x for the vectors in θ.
fn naive<W: Wide>(layout: &StageLayout, count: usize, theta: &[f64], x: &[W], op: Op) -> Vec<W> {
    let (b, mut y) = (layout.block_size(), x.to_vec());
    let numbers = if W::IS_COMPLEX { 2 } else { 1 };
    let (reversed, conj) = match op {
        Op::None => (false, false),
        Op::Adjoint => (true, false),
        Op::Transpose => (true, true),
        Op::Conj => (false, true),
    };
    for j in 0..layout.num_blocks() {
        for at in 0..count {
            let i = if reversed { count - 1 - at } else { at };
            let v: Vec<W> = theta[(j * count + i) * b * numbers..][..b * numbers]
                .chunks_exact(numbers)
                .map(|p| W::from_parts(p[0], if conj { -p[numbers - 1] } else { p[numbers - 1] }))
                .collect();
            let square = norm(&v).powi(2);
            let dot = layout.indices(j).zip(&v).fold(W::zero(), |sum, (k, v)| sum + v.conj() * y[k]);
            let c = W::from_parts(-2.0 * dot.re() / square, -2.0 * dot.im() / square);
            for (k, v) in layout.indices(j).zip(&v) {
                y[k] += *v * c;
            }
        }
    }
    y
}

fn run<T: Scalar>(plan: &Plan<T>, theta: &[f64], x: &[T], op: Op) -> Vec<T> {
    let factors = plan.realize(theta).unwrap();
    let (n, mut y) = (plan.n(), vec![T::from_wide(T::Wide::from_real(f64::NAN)); x.len()]);
    let (from, to) = (Batch::rows(x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
    plan.apply(&factors, from, to, op, Parallelism::Rayon, &mut Workspace::new()).unwrap();
    y
}

fn max_ratio<T: Scalar>(y: &[T], truth: &[T::Wide], x: &[T], n: usize) -> f64 {
    let mut worst = 0f64;
    for v in (0..x.len()).step_by(n) {
        let error: Vec<T::Wide> = (v..v + n).map(|i| y[i].to_wide() - truth[i]).collect();
        worst = worst.max(norm(&error) / (norm(&wide(&x[v..v + n])) * T::Real::EPS.to_wide()));
    }
    worst
}

/// Errors grow like the root of the number of reflections, and with the couplings of more vectors than coordinates.
fn conformance<T: Scalar>() {
    let mut worst = [0f64; 2];
    for (n, layout) in layouts() {
        for count in COUNTS {
            let plan = stage::<T>(n, &layout, Source::reflectors(count));
            let theta = normal(plan.num_params(), count as u64 + 1);
            let factors = plan.realize(&theta).unwrap();
            let x = random::<T>(19 * n, 5);
            for op in Op::ALL {
                let truth: Vec<T::Wide> =
                    wide(&x).chunks_exact(n).flat_map(|x| naive(&layout, count, &theta, x, op)).collect();
                for isa in Isa::available() {
                    let (mut y, mut ws) = (x.clone(), Workspace::with_isa(isa).unwrap());
                    let view = BatchMut::rows(&mut y, n).unwrap();
                    plan.apply_in_place(&factors, view, op, Parallelism::None, &mut ws).unwrap();
                    let ratio = max_ratio(&y, &truth, &x, n) / (1.0 + count as f64).sqrt();
                    let many = usize::from(count > layout.block_size());
                    worst[many] = worst[many].max(ratio);
                    // In double precision the truth has as much of an error.
                    let limit = if T::IS_WIDE { [4.5, 5.5] } else { [2.0, 3.0] };
                    assert!(ratio <= limit[many], "n {n} {layout:?} count {count} {op:?} {isa:?}: {ratio}");
                }
            }
            if n <= 64 {
                let stored = dense::apply(&plan, &factors, &wide(&x), Op::Transpose).unwrap();
                let ratio = max_ratio(&run(&plan, &theta, &x, Op::Transpose), &stored, &x, n);
                assert!(ratio <= 20.0 * (1.0 + count as f64).sqrt(), "n {n} count {count}: {ratio}");
            }
        }
    }
    println!("{}: error over eps·√(1 + count): {worst:.2?}", std::any::type_name::<T>());
}

#[test]
fn products_agree_with_the_definition() {
    conformance::<f32>();
    conformance::<f64>();
    conformance::<c32>();
    conformance::<c64>();
}

/// A vector's bits depend on nothing but itself: not on neighbours, views, threads or the machine.
fn bits<T: Scalar + Element<Scalar = T>>() {
    for (n, layout) in layouts() {
        for count in [1, 7, 9] {
            let mut per_isa: Vec<Vec<T>> = Vec::new();
            for isa in Isa::available() {
                let plan = stage::<T>(n, &layout, Source::reflectors(count));
                let factors = plan.realize(&normal(plan.num_params(), 3)).unwrap();
                let mut ws = Workspace::with_isa(isa).unwrap();
                let batch = 70;
                let (x, mut y) = (random::<T>(batch * n, 4), vec![T::zero(); batch * n]);
                let (from, to) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
                plan.apply(&factors, from, to, Op::None, Parallelism::Rayon, &mut ws).unwrap();
                for size in [1, 2, 3, 4, 5, 9, 17] {
                    for start in (0..batch - size).step_by(size) {
                        let mut alone = x[start * n..(start + size) * n].to_vec();
                        let view = BatchMut::rows(&mut alone, n).unwrap();
                        plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut ws).unwrap();
                        assert!(alone == y[start * n..(start + size) * n], "{isa:?} n {n} {size} vectors from {start}");
                    }
                }
                let mut columns = vec![T::zero(); batch * n];
                let to = BatchMut::columns(&mut columns, n).unwrap();
                plan.apply(&factors, Batch::rows(&x, n).unwrap(), to, Op::None, Parallelism::None, &mut ws).unwrap();
                assert!((0..batch * n).all(|at| columns[at % n * batch + at / n] == y[at]), "columns");
                if isa != Isa::Portable {
                    per_isa.push(y);
                }
            }
            assert!(per_isa.windows(2).all(|pair| pair[0] == pair[1]), "machines differ");
        }
    }
}

#[test]
fn bits_depend_on_the_vector_alone() {
    bits::<f32>();
    bits::<f64>();
    bits::<c32>();
    bits::<c64>();
}

#[test]
fn threads_do_not_change_gradients() {
    let n = 300;
    let plan = stage::<f32>(n, &whole(n), Source::reflectors(9));
    let factors = plan.realize(&normal(plan.num_params(), 1)).unwrap();
    let (x, gy) = (random::<f32>(999 * n, 1), random::<f32>(999 * n, 2));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut gx, mut d) = (x.clone(), vec![0f32; plan.num_entries()]);
            let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
            let out = Some(BatchMut::rows(&mut gx, n).unwrap());
            let mut ws = Workspace::new();
            plan.apply_vjp(&factors, saved, Op::None, gy, out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
            (gx, d)
        })
    };
    let one = run(1);
    assert!(one == run(4) && one == run(3));
}

/// Sources and layouts whose gradients are checked, alone and between other stages.
fn trainable<W: Wide>() -> Vec<(String, Plan<W>)> {
    let mut plans = Vec::new();
    for (n, layout) in layouts().into_iter().filter(|(n, _)| *n < 64) {
        for count in [0, 1, 2, 3, 7, 8, 9, 11].into_iter().filter(|_| n > 1) {
            plans.push((format!("{layout:?} {count}"), stage(n, &layout, Source::reflectors(count))));
            // A full orthonormal basis gives −I whatever it is.
            if count < layout.block_size() {
                let source = Source::orthonormal_reflectors(count);
                plans.push((format!("{layout:?} {count} orthonormal"), stage(n, &layout, source)));
            }
        }
    }
    let shared = |sharing| Source::Reflectors { count: 3, orthonormal: true, sharing };
    plans.push(("shared".into(), stage(24, &StageLayout::contiguous(4, 6), shared(Sharing::All))));
    let groups = Sharing::Groups([1, 0, 1, 1].into());
    plans.push(("groups".into(), stage(23, &table(23, 5, 1), shared(groups))));
    let one = |count| stage::<W>(12, &whole(12), Source::reflectors(count));
    plans.push(("composed".into(), one(3).then(one(2).adjoint()).unwrap().then(one(5)).unwrap()));
    plans
}

fn check_gradients<W: Wide>(plans: Vec<(String, Plan<W>)>) {
    let (mut worst, mut gap) = (0f64, 0f64);
    for (name, plan) in plans {
        // Lengths around 1 keep differences sharp.
        let theta: Vec<f64> = normal(plan.num_params(), 21);
        for op in Op::ALL {
            for plan in [&plan, &plan.adjoint()] {
                let found = plan_gradient(plan, &theta, op, 8).unwrap();
                let tangent = plan_tangent(plan, &theta, op, 9).unwrap();
                assert!(found.theta <= 1e-9 && found.x <= 1e-9, "{name} {op:?}: {found:?}");
                assert!(tangent <= 128.0 * f64::EPSILON, "{name} {op:?}: {tangent:e}");
                (worst, gap) = (worst.max(found.theta), gap.max(tangent));
            }
        }
    }
    println!("largest relative error of a gradient {worst:e}, gap of a pushforward {gap:e}");
}

#[test]
fn gradients_in_every_shape_and_op_real() {
    let mut plans = trainable::<f64>();
    let butterfly = || Plan::<f64>::new(16, &Butterfly::classic(2), Givens).unwrap();
    let boft = || Plan::<f64>::new(16, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap();
    let reflectors = |count| stage::<f64>(16, &whole(16), Source::reflectors(count));
    let between = butterfly().then(reflectors(5)).unwrap().then(boft()).unwrap();
    plans.push(("first".into(), reflectors(3).then(boft()).unwrap()));
    plans.push(("last".into(), boft().then(reflectors(2)).unwrap()));
    plans.push(("twice between".into(), between.clone().then(reflectors(2)).unwrap().then(between.adjoint()).unwrap()));
    let fixed: Vec<f64> = normal(16, 3); // not orthogonal: only saved inputs serve
    let fixed = Plan::from_stages(16, [(StageLayout::contiguous(1, 16), Source::Fixed(fixed.into()))]).unwrap();
    plans.push(("with a stretch".into(), reflectors(3).then(fixed).unwrap().then(reflectors(9)).unwrap()));
    check_gradients(plans);
}

#[test]
fn gradients_in_every_shape_and_op_complex() {
    check_gradients(trainable::<c64>());
}

/// Blocks that are the same for all vectors have no gradient.
#[test]
fn constant_blocks_have_no_gradient() {
    for (b, source) in
        [(1, Source::reflectors(3)), (1, Source::orthonormal_reflectors(1)), (4, Source::orthonormal_reflectors(4))]
    {
        let plan = stage::<c64>(4, &StageLayout::contiguous(b, 4 / b), source);
        let theta = normal(plan.num_params(), 1);
        let (factors, x, gy) = (plan.realize(&theta).unwrap(), random::<c64>(20, 2), random::<c64>(20, 3));
        let (mut d, mut d_theta) = (vec![c64::default(); plan.num_entries()], vec![0.0; theta.len()]);
        let (saved, gy) = (Saved::Input(Batch::rows(&x, 4).unwrap()), Batch::rows(&gy, 4).unwrap());
        let mut ws = Workspace::new();
        plan.apply_vjp(&factors, saved, Op::None, gy, None, Some(&mut d), Parallelism::None, &mut ws).unwrap();
        plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
        assert!(d_theta.iter().all(|d| d.abs() <= 1e-13), "{b}: {d_theta:?}");
    }
}

/// Complex vectors and cotangents, along a random direction of θ.
#[test]
fn complex_gradients_along_a_direction() {
    let (n, batch) = (9, 5);
    for orthonormal in [false, true] {
        let source = Source::Reflectors { count: 7, orthonormal, sharing: Sharing::PerBlock };
        let plan = stage::<c64>(n, &whole(n), source);
        let (theta, along) = (normal(plan.num_params(), 1), normal(plan.num_params(), 2));
        let (x, gy) = (random::<c64>(batch * n, 3), random::<c64>(batch * n, 4));
        for op in Op::ALL {
            let value = |t: f64| {
                let theta: Vec<f64> = theta.iter().zip(&along).map(|(p, d)| p + t * d).collect();
                run(&plan, &theta, &x, op).iter().zip(&gy).map(|(y, g)| (g.conj() * y).re).sum::<f64>()
            };
            let h = 1.0 / 2048.0;
            let slope = (8.0 * (value(h) - value(-h)) - (value(2.0 * h) - value(-2.0 * h))) / (12.0 * h);
            let factors = plan.realize(&theta).unwrap();
            let y = run(&plan, &theta, &x, op);
            for saved in [Saved::Input(Batch::rows(&x, n).unwrap()), Saved::Output(Batch::rows(&y, n).unwrap())] {
                let (mut d, mut d_theta) = (vec![c64::default(); plan.num_entries()], vec![0.0; theta.len()]);
                let (gy, mut ws) = (Batch::rows(&gy, n).unwrap(), Workspace::new());
                plan.apply_vjp(&factors, saved, op, gy, None, Some(&mut d), Parallelism::None, &mut ws).unwrap();
                plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
                let found: f64 = d_theta.iter().zip(&along).map(|(d, a)| d * a).sum();
                assert!((found / slope - 1.0).abs() <= 1e-9, "{op:?}: {found} {slope}");
            }
        }
    }
}

/// Single precision loses eps, not more, in gradients as well.
#[test]
fn single_precision_gradients_are_rounded_double_ones() {
    let (n, batch) = (97, 40);
    let gradient = |narrow: bool| -> (Vec<f64>, Vec<f64>) {
        fn of<T: Real + Element<Scalar = T>>(n: usize, batch: usize) -> (Vec<f64>, Vec<f64>) {
            let plan = stage::<T>(n, &whole(n), Source::reflectors(12));
            let theta: Vec<f64> = normal(plan.num_params(), 1).iter().map(|t| f64::from(*t as f32)).collect();
            let single = |seed| normal(n * batch, seed).iter().map(|x| T::from_wide(f64::from(*x as f32))).collect();
            let (x, gy): (Vec<T>, Vec<T>) = (single(2), single(3));
            let factors = plan.realize(&theta).unwrap();
            let (mut d, mut d_theta) = (vec![T::zero(); plan.num_entries()], vec![0.0; theta.len()]);
            let mut gx = vec![T::nan(); n * batch];
            let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
            let out = Some(BatchMut::rows(&mut gx, n).unwrap());
            let mut ws = Workspace::new();
            plan.apply_vjp(&factors, saved, Op::None, gy, out, Some(&mut d), Parallelism::None, &mut ws).unwrap();
            plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
            (gx.iter().map(|g| g.to_wide()).collect(), d_theta)
        }
        if narrow { of::<f32>(n, batch) } else { of::<f64>(n, batch) }
    };
    let (narrow, truth) = (gradient(true), gradient(false));
    for (narrow, truth) in [(narrow.0, truth.0), (narrow.1, truth.1)] {
        let size = truth.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        let error = narrow.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("single precision: {:.2} eps", error / size / f64::from(f32::EPSILON));
        assert!(error <= 8.0 * f64::from(f32::EPSILON) * size);
    }
}

/// Orthogonality, isometry, the certificate and what it promises.
fn orthogonal<T: Scalar>() {
    let (mut ratios, mut isometries, mut factor) = ([0f64; 2], [0f64; 2], f64::INFINITY);
    for (n, layout) in layouts().into_iter().filter(|(n, _)| *n <= 64) {
        for count in COUNTS {
            let plan = stage::<T>(n, &layout, Source::reflectors(count));
            let theta = normal(plan.num_params(), 2);
            let factors = plan.realize(&theta).unwrap();
            let (reflections, many) = ((1.0 + count as f64).sqrt(), usize::from(count > layout.block_size()));
            for op in Op::ALL {
                let found = isometry(&plan, &factors, op, 1).unwrap();
                isometries[many] = isometries[many].max(found.norm.max(found.inner) / reflections);
            }
            assert!(adjoint(&plan, &factors, 2).unwrap() <= [2.0, 8.0][many] * reflections);
            let q = Orthogonal::new(plan.clone(), theta.clone()).unwrap();
            ratios[many] = ratios[many].max(orthogonality_ratio(n, n, &q.to_dense().unwrap()).unwrap());
            let proof = certificate(&plan, &factors).unwrap();
            assert_eq!((proof.defect, &proof.per_stage[..]), (0.0, &[0.0][..]));
            let truth = dense::defect(&plan, &factors).unwrap();
            assert!(truth.iter().all(|e| Scalar::abs(*e) < 1e-28), "double-double sees no defect");
            let x = random::<T>(40 * n, 7);
            let exact = dense::apply(&plan, &factors, &wide(&x), Op::None).unwrap();
            let measured = max_ratio(&run(&plan, &theta, &x, Op::None), &exact, &x, n) * T::Real::EPS.to_wide();
            // The truth in double precision has errors of its own.
            let bound = proof.apply_error;
            assert!(T::IS_WIDE || measured <= bound, "n {n} count {count}: {measured:e} {bound:e}");
            if measured > 0.0 {
                factor = factor.min(bound / measured);
            }
            assert!(count == 0 || bound <= T::Real::EPS.to_wide() * 5000.0 * count as f64, "{count}: {bound:e}");
        }
    }
    println!(
        "{}: ratio {ratios:.2?}, isometry {isometries:.2?}, bound/measured {factor:.1}",
        std::any::type_name::<T>()
    );
    assert!(ratios[0] <= 2.0 && isometries[0] <= 2.5 && ratios[1] <= 10.0 && isometries[1] <= 3.5);
}

#[test]
fn products_are_orthogonal_and_certified() {
    orthogonal::<f32>();
    orthogonal::<f64>();
    orthogonal::<c32>();
    orthogonal::<c64>();
}

/// LAPACK's ratio of what an apply makes of the identity. The product of the stored reflections has none; each reflection that is
/// applied rounds, so the ratio grows with the root of their number, and falls with n.
fn rounding<T: Scalar>() {
    let mut worst = [[0f64; 2]; 2];
    for n in [1usize, 2, 3, 4, 5, 7, 8, 9, 13, 16, 33] {
        for count in [1, n.div_ceil(2), n, 4 * n] {
            let plan = stage::<T>(n, &whole(n), Source::reflectors(count));
            for seed in 0..40 {
                let q = Orthogonal::new(plan.clone(), normal(plan.num_params(), seed)).unwrap().to_dense().unwrap();
                let ratio = orthogonality_ratio(n, n, &q).unwrap();
                let worst = &mut worst[usize::from(count > n)][usize::from(n > 8)];
                *worst = worst.max(if count > n { ratio / (count as f64).sqrt() } else { ratio });
            }
        }
    }
    println!("{}: ratios {worst:.2?}", std::any::type_name::<T>());
    // No more vectors than coordinates: ratios; more: over the root of their number. For n ≤ 8 and above.
    for (worst, limits) in worst.iter().zip([[2.5, 1.75], [2.5, 0.5]]) {
        assert!(worst[0] <= limits[0] && worst[1] <= limits[1], "{worst:?} {limits:?}");
    }
}

#[test]
fn roundings_of_products_are_few() {
    rounding::<f32>();
    rounding::<f64>();
    rounding::<c32>();
    rounding::<c64>();
}

#[test]
fn certificates_pass_reflectors_through() {
    // A defect stays what it is through reflectors that meet all its coordinates.
    let boft = |n| Plan::<f32>::new(n, &Butterfly::boft(2, 8).unwrap(), Cayley).unwrap();
    let alone = boft(64);
    let theta = normal(alone.num_params(), 3);
    let defect = certificate(&alone, &alone.realize(&theta).unwrap()).unwrap().defect;
    let both = boft(64).then(stage(64, &whole(64), Source::reflectors(4))).unwrap();
    let theta = [theta, normal(256, 4)].concat();
    let proof = certificate(&both, &both.realize(&theta).unwrap()).unwrap();
    assert!((proof.defect - defect).abs() <= 1e-20 && proof.per_stage[2] == 0.0);
}

#[test]
fn zero_is_no_reflection() {
    let n = 6;
    let plan = stage::<f64>(n, &whole(n), Source::reflectors(4));
    let x = normal(n, 1);
    assert_eq!(run(&plan, &[0.0; 24], &x, Op::None), x);
    // Zero vectors between others: the others alone, and no gradient for them.
    let (v, w) = (normal(n, 2), normal(n, 3));
    let some = [&v[..], &[0.0; 6], &w, &[0.0; 6]].concat();
    for (source, pair) in [
        (Source::reflectors(4), Source::reflectors(2)),
        (Source::orthonormal_reflectors(4), Source::orthonormal_reflectors(2)),
    ] {
        let (plan, two) = (stage::<f64>(n, &whole(n), source), stage::<f64>(n, &whole(n), pair));
        let theta = [&v[..], &w].concat();
        let (y, expected) = (run(&plan, &some, &x, Op::None), run(&two, &theta, &x, Op::None));
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 4.0 * f64::EPSILON));
        let gradient = |plan: &Plan<f64>, theta: &[f64]| {
            let factors = plan.realize(theta).unwrap();
            let (mut d, mut d_theta) = (vec![0.0; plan.num_entries()], vec![0.0; theta.len()]);
            let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&v, n).unwrap());
            let mut ws = Workspace::new();
            plan.apply_vjp(&factors, saved, Op::None, gy, None, Some(&mut d), Parallelism::None, &mut ws).unwrap();
            plan.realize_vjp(theta, &factors, &d, &mut d_theta).unwrap();
            d_theta
        };
        let (found, expected) = (gradient(&plan, &some), gradient(&two, &theta));
        for (i, from) in [(0, Some(0)), (1, None), (2, Some(1)), (3, None)] {
            for k in 0..n {
                let expected = from.map_or(0.0, |from| expected[from * n + k]);
                assert!((found[i * n + k] - expected).abs() <= 1e-13, "{i} {k}: {} {expected}", found[i * n + k]);
            }
        }
    }
}

#[test]
fn lengths_of_vectors_do_not_matter() {
    let n = 11;
    for orthonormal in [false, true] {
        let source = Source::Reflectors { count: 3, orthonormal, sharing: Sharing::PerBlock };
        let plan = stage::<f64>(n, &whole(n), source);
        let theta = normal(3 * n, 5);
        let x = normal(n, 6);
        let truth = run(&plan, &theta, &x, Op::None);
        for scale in [1e300, 1e-300, 2f64.powi(1020), 2f64.powi(-1021), 1e154, 1e-154] {
            let scaled: Vec<f64> = theta.iter().map(|t| t * scale).collect();
            let y = run(&plan, &scaled, &x, Op::None);
            let error = y.iter().zip(&truth).fold(0.0, |m: f64, (y, t)| m.max((y - t).abs()));
            assert!(error <= 32.0 * f64::EPSILON, "{scale:e}: {error:e}");
            // The gradient is that of the unit vectors over the length, where that is a number.
            let gradient = |theta: &[f64]| {
                let factors = plan.realize(theta).unwrap();
                let mut d_theta = vec![0.0; theta.len()];
                plan.realize_vjp(theta, &factors, &normal(plan.num_entries(), 7), &mut d_theta).unwrap();
                d_theta
            };
            for (a, b) in gradient(&scaled).iter().zip(gradient(&theta)) {
                let expected = b / scale;
                let same = (a - expected).abs() <= 1e-13 * (1.0 / scale).max(f64::MIN_POSITIVE);
                assert!(same || !expected.is_finite(), "{scale:e}: {a:e} {expected:e}");
            }
        }
    }
    // Denormal numbers, exactly representable: (3, 4)·2^-1074 is the direction (0.6, 0.8).
    let plan = stage::<f64>(2, &whole(2), Source::reflectors(1));
    let y = run(&plan, &[3.0 * 5e-324, 4.0 * 5e-324], &[0.6, 0.8], Op::None);
    assert!((y[0] + 0.6).abs() <= 2e-16 && (y[1] + 0.8).abs() <= 2e-16, "{y:?}");
    let y = run(&plan, &[f64::MAX, f64::MAX], &[1.0, 1.0], Op::None);
    assert!(y.iter().all(|y| (y + 1.0).abs() <= 4e-16), "{y:?}");
}

/// I − 2UUᴴ by faer's QR, whose Q spans the same vectors; and what cannot be made orthonormal.
#[test]
fn orthonormal_vectors() {
    for (n, count) in [(1, 1), (5, 5), (30, 7), (60, 33)] {
        let plan = stage::<f64>(n, &whole(n), Source::orthonormal_reflectors(count));
        let theta = normal(n * count, 8);
        let v = faer::Mat::from_fn(n, count, |k, i| theta[i * n + k]);
        let u = v.qr().compute_thin_Q();
        let x = normal(n, 9);
        for op in Op::ALL {
            let y = run(&plan, &theta, &x, op);
            for k in 0..n {
                let projected: f64 =
                    (0..count).map(|i| u[(k, i)] * (0..n).map(|l| u[(l, i)] * x[l]).sum::<f64>()).sum();
                assert!((y[k] - (x[k] - 2.0 * projected)).abs() <= 64.0 * f64::EPSILON, "n {n} count {count}");
            }
        }
    }
    // Nearly dependent vectors still give orthonormal ones.
    let (n, mut theta) = (20, normal(60, 10));
    for k in 0..n {
        theta[n + k] = theta[k] + 1e-9 * theta[n + k];
        theta[2 * n + k] = theta[n + k] + 1e-10 * theta[2 * n + k];
    }
    let plan = stage::<f64>(n, &whole(n), Source::orthonormal_reflectors(3));
    let factors = plan.realize(&theta).unwrap();
    for i in 0..3 {
        for j in 0..3 {
            let entry = |i, k| factors.entries()[plan.stages()[0].entry(0, i, k)];
            let dot: f64 = (0..n).map(|k| entry(i, k) * entry(j, k)).sum();
            assert!((dot - f64::from(u8::from(i == j))).abs() <= 8.0 * f64::EPSILON, "{i} {j}: {dot}");
        }
    }
    let refused = |count: usize, theta: &[f64]| {
        let plan = stage::<f32>(8, &StageLayout::contiguous(4, 2), Source::orthonormal_reflectors(count));
        plan.realize(theta).unwrap_err().to_string()
    };
    let (v, w) = (normal(4, 1), normal(4, 2));
    let mix: Vec<f64> = v.iter().zip(&w).map(|(v, w)| 3.0 * v - 1e-5 * w).collect();
    assert_eq!(
        refused(3, &[&v[..], &w, &normal(4, 3), &v, &w, &mix].concat()),
        "orthonormal reflectors of block 1 of stage 0: expected vectors that are independent of those before them, \
         got vector 2"
    );
    assert!(refused(2, &[&v[..], &v, &v, &w].concat()).ends_with("got vector 1"));
    let too_many = Plan::<f64>::from_stages(4, [(whole(4), Source::orthonormal_reflectors(5))]).unwrap_err();
    assert!(matches!(too_many, Error::Size { what: "orthonormal reflectors", .. }), "{too_many}");
}

/// The order of PEFT's HRA: R = H_0 H_1 ··· H_{r−1} from the columns of `hra_u`, merged weight W·R. The rows of W go through
/// `Op::None`; the forward pass W·(R x) applies `Op::Adjoint` to x.
#[test]
fn order_of_hra() {
    let (d, r) = (5, 3);
    let hra_u = normal(d * r, 1); // [d, r], row-major
    let mut rotation: Vec<f64> = (0..d * d).map(|at| f64::from(u8::from(at / d == at % d))).collect();
    for i in 0..r {
        let square: f64 = (0..d).map(|k| hra_u[k * r + i].powi(2)).sum();
        for row in rotation.chunks_exact_mut(d) {
            let dot: f64 = (0..d).map(|k| row[k] * hra_u[k * r + i]).sum();
            (0..d).for_each(|k| row[k] -= 2.0 * dot * hra_u[k * r + i] / square);
        }
    }
    let theta: Vec<f64> = (0..r * d).map(|at| hra_u[at % d * r + at / d]).collect();
    let plan = stage::<f64>(d, &whole(d), Source::reflectors(r));
    let x = normal(d, 2);
    let (merged, forward) = (run(&plan, &theta, &x, Op::None), run(&plan, &theta, &x, Op::Adjoint));
    for k in 0..d {
        let row: f64 = (0..d).map(|l| x[l] * rotation[l * d + k]).sum();
        let column: f64 = (0..d).map(|l| rotation[k * d + l] * x[l]).sum();
        assert!((merged[k] - row).abs() <= 1e-14 && (forward[k] - column).abs() <= 1e-14);
    }
}

#[test]
fn starts_at_the_identity_and_can_leave_it() {
    let butterfly = Plan::<f32>::new(64, &Butterfly::classic(2), Givens).unwrap();
    let plan = butterfly.then(stage(64, &StageLayout::contiguous(32, 2), Source::reflectors(10))).unwrap();
    let theta = plan.identity_start(3);
    assert_eq!(theta, plan.identity_start(3));
    assert!(theta != plan.identity_start(4));
    let x = random::<f32>(64, 1);
    let y = run(&plan, &theta, &x, Op::None);
    assert!(max_ratio(&y, &wide(&x), &x, 64) <= 2.0);
    for vector in theta[6 * 32..].chunks_exact(32) {
        assert!((0.5..2.0).contains(&norm(vector)));
    }
    // Gradient descent from there learns a rotation: x to t, of the same length.
    let n = 8;
    let plan = stage::<f64>(n, &whole(n), Source::reflectors(2));
    let (mut theta, x) = (plan.identity_start(1), [1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    let t = [0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let mut loss = f64::NAN;
    for _ in 0..400 {
        let (factors, y) = (plan.realize(&theta).unwrap(), run(&plan, &theta, &x, Op::None));
        let gy: Vec<f64> = y.iter().zip(&t).map(|(y, t)| y - t).collect();
        loss = gy.iter().map(|g| g * g).sum();
        let (mut d, mut d_theta) = (vec![0.0; plan.num_entries()], vec![0.0; theta.len()]);
        let (saved, gy) = (Saved::Output(Batch::rows(&y, n).unwrap()), Batch::rows(&gy, n).unwrap());
        let mut ws = Workspace::new();
        plan.apply_vjp(&factors, saved, Op::None, gy, None, Some(&mut d), Parallelism::None, &mut ws).unwrap();
        plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
        theta.iter_mut().zip(&d_theta).for_each(|(theta, d)| *theta -= 0.02 * d);
    }
    assert!(loss < 1e-6, "{loss:e}");
    let orthonormal = stage::<c64>(4, &whole(4), Source::orthonormal_reflectors(3));
    assert_eq!(orthonormal.identity_start(1), [0.0; 24]);
}

#[test]
fn determinants_count_reflections() {
    for (count, zeros, sign) in [(0, 0, 1), (1, 0, -1), (4, 0, 1), (4, 1, -1), (9, 2, -1)] {
        let plan = stage::<f32>(50, &whole(50), Source::reflectors(count));
        let mut theta = normal(count * 50, 1);
        theta[..zeros * 50].fill(0.0);
        assert_eq!(Orthogonal::new(plan, theta).unwrap().determinant_sign().unwrap(), sign, "{count} {zeros}");
    }
    // Three blocks, one of them alone in its group.
    let sharing = Sharing::Groups([0, 1, 1].into());
    let source = Source::Reflectors { count: 1, orthonormal: false, sharing };
    let plan = stage::<f32>(6, &StageLayout::contiguous(2, 3), source);
    assert_eq!(Orthogonal::new(plan, vec![1.0, 2.0, 0.0, 0.0]).unwrap().determinant_sign().unwrap(), -1);
}

#[test]
fn blocks_on_request() {
    let plan = stage::<f64>(12, &StageLayout::contiguous(4, 3), Source::reflectors(3));
    let theta = normal(36, 1);
    let factors = plan.realize(&theta).unwrap();
    let q = dense::matrix(&plan, &factors).unwrap();
    for g in 0..3 {
        let mut block = [f64::NAN; 16];
        plan.block(&factors, 0, g, &mut block).unwrap();
        for (at, x) in block.iter().enumerate() {
            assert!((x - q[(4 * g + at / 4) * 12 + 4 * g + at % 4]).abs() <= 4.0 * f64::EPSILON);
        }
    }
    let blocks = dense::blocks(&plan.adjoint(), &factors, 0).unwrap();
    assert!((blocks[1] - q[12]).abs() <= 4.0 * f64::EPSILON && blocks.len() == 48);
    // Factors of another kind are refused.
    let other = stage::<f64>(12, &StageLayout::contiguous(4, 3), Source::orthonormal_reflectors(3));
    assert!(other.block(&factors, 0, 0, &mut [0.0; 16]).is_err());
    // A matrix that does not fit is an error, not an allocation.
    let large = stage::<f64>(u32::MAX as usize, &whole(u32::MAX as usize), Source::reflectors(0));
    let factors = large.realize::<f64>(&[]).unwrap();
    assert!(matches!(dense::blocks(&large, &factors, 0), Err(Error::Size { .. })));
}

#[test]
fn hostile_counts_are_errors() {
    for count in [usize::MAX, usize::MAX / 2, usize::MAX / 8, 1 << 60] {
        for layout in [whole(1), whole(7), StageLayout::contiguous(1, 7)] {
            let error = Plan::<c64>::from_stages(7, [(layout, Source::reflectors(count))]).unwrap_err();
            assert!(matches!(error, Error::Size { .. }), "{error}");
        }
    }
    let plan = stage::<f64>(3, &whole(3), Source::reflectors(2));
    assert!(matches!(plan.realize(&[0.0; 5]), Err(Error::Length { expected: 6, got: 5, .. })));
    assert!(matches!(plan.realize(&[0.0, 1.0, f64::NAN, 0.0, 0.0, 0.0]), Err(Error::Domain { .. })));
}

/// Products of moved vectors: the bound holds, and is near for one reflection.
#[test]
fn distances_of_products() {
    let n = 12;
    for (count, step, slack) in [(0, 0.1, 1.0), (1, 1e-6, 1.5), (1, 0.3, 2.0), (5, 1e-5, 10.0), (3, 0.0, 1.0)] {
        for orthonormal in [false, true] {
            let source = Source::Reflectors { count, orthonormal, sharing: Sharing::All };
            let plan = stage::<f64>(n, &StageLayout::contiguous(6, 2), source);
            let theta = normal(6 * count, 1);
            let moved: Vec<f64> = theta.iter().zip(normal(6 * count, 2)).map(|(t, d)| t + step * d).collect();
            let (one, two) = (plan.realize(&theta).unwrap(), plan.realize(&moved).unwrap());
            let (p, q) = (dense::matrix(&plan, &one).unwrap(), dense::matrix(&plan, &two).unwrap());
            let difference: Vec<f64> = p.iter().zip(&q).map(|(p, q)| p - q).collect();
            let bound = distance((&plan, &one), (&plan, &two)).unwrap();
            let spectral = faer::Mat::from_fn(n, n, |i, j| difference[i * n + j]).svd().unwrap().S()[0];
            let frobenius = norm(&difference);
            let rounding = 1e-14;
            assert!(bound.frobenius + rounding >= frobenius && bound.spectral + rounding >= spectral, "{bound:?}");
            assert!(bound.spectral <= slack * spectral + rounding, "{count} {step}: {bound:?} {spectral}");
            assert!(bound.frobenius <= slack * frobenius + rounding, "{count} {step}: {bound:?} {frobenius}");
        }
    }
    let (plan, chart) = (stage::<f64>(4, &whole(4), Source::reflectors(1)), stage(4, &whole(4), Source::chart(Cayley)));
    let (one, two) = (plan.realize(&[1.0; 4]).unwrap(), chart.realize(&[0.1; 6]).unwrap());
    assert!(matches!(distance((&plan, &one), (&chart, &two)), Err(Error::Unsupported { .. })));
    let more = stage::<f64>(4, &whole(4), Source::reflectors(2));
    let two = more.realize(&[1.0; 8]).unwrap();
    assert!((distance((&plan, &one), (&more, &two)).unwrap().spectral - 2.0).abs() <= 1e-14);
}

/// What a dense matrix of 80 GB would do, in every verb.
#[test]
fn large_sizes_without_a_matrix() {
    let (n, batch) = (100_000, 3);
    let plan = stage::<f32>(n, &whole(n), Source::reflectors(4));
    let theta = normal(plan.num_params(), 1);
    let factors = plan.realize(&theta).unwrap();
    let x = random::<f32>(batch * n, 2);
    let y = run(&plan, &theta, &x, Op::None);
    let truth: Vec<f64> = wide(&x).chunks_exact(n).flat_map(|x| naive(&whole(n), 4, &theta, x, Op::None)).collect();
    let ratio = max_ratio(&y, &truth, &x, n);
    assert!(ratio <= 2.0, "{ratio}");
    let proof = certificate(&plan, &factors).unwrap();
    assert!(proof.defect == 0.0 && proof.apply_error < 1e-3, "{proof:?}");
    let (mut gx, mut d, mut d_theta) = (vec![0f32; batch * n], vec![0f32; 4 * n], vec![0f64; 4 * n]);
    let (saved, gy) = (Saved::Output(Batch::rows(&y, n).unwrap()), Batch::rows(&y, n).unwrap());
    let (out, mut ws) = (Some(BatchMut::rows(&mut gx, n).unwrap()), Workspace::new());
    plan.apply_vjp(&factors, saved, Op::None, gy, out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
    assert!(max_ratio(&gx, &wide(&x), &x, n) <= 4.0, "gy = Qx, so gx = x");
    plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
    // ‖Qx‖² does not depend on θ.
    let size = norm(&wide(&x)).powi(2) * f64::from(f32::EPSILON);
    assert!(norm(&d_theta) <= size, "{} {size}", norm(&d_theta));
    assert_eq!(Orthogonal::new(plan, theta).unwrap().determinant_sign().unwrap(), 1);
}
