//! Fits up to the order of rows and columns: planted orders are found, errors never grow, what is returned is what was measured.

use std::ops::ControlFlow;

use papilio::fit::{self, Group, Options, Permuted, Progress, Sides, Stop, Target};
use papilio::generator::Generator;
use papilio::topology::{AnyButterfly, Benes, Butterfly};
use papilio::verify::dense;
use papilio::{Error, Plan, Scalar, Source, StageLayout, Wide, c64};

const EPS: f64 = f64::EPSILON;

fn go(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn haar<W: Wide>(n: usize, g: &mut Generator) -> Target<W> {
    Target::haar(n, Group::Full, g.next_u64()).unwrap()
}

fn matrix<W: Wide>(plan: &Plan<W>) -> Vec<W> {
    dense::matrix(plan, &plan.realize::<f64>(&[]).unwrap()).unwrap()
}

/// A butterfly of Haar distributed blocks.
fn planted<W: Wide>(n: usize, layouts: &[StageLayout], seed: u64) -> Vec<W> {
    let mut g = Generator::new(seed);
    let stage = |layout: &StageLayout| {
        let b = layout.block_size();
        let blocks: Vec<W> = (0..layout.num_blocks()).flat_map(|_| haar::<W>(b, &mut g).entries().to_vec()).collect();
        (layout.clone(), Source::Fixed(blocks.into()))
    };
    matrix(&Plan::from_stages(n, layouts.iter().map(stage).collect::<Vec<_>>()).unwrap())
}

fn check<W: Wide>(target: &Target<W>, found: &Permuted<W>) {
    let n = target.n();
    for order in [&found.rows, &found.columns] {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..n).collect::<Vec<_>>());
    }
    let r = matrix(found.fit.plan());
    let square = |at: usize| {
        let (i, j) = (found.rows[at / n], found.columns[at % n]);
        Scalar::abs(target.entries()[at] - r[i * n + j]).powi(2)
    };
    let error = (0..n * n).map(square).sum::<f64>() / (2.0 * n as f64);
    let same = (error.sqrt() - found.fit.error.sqrt()).abs() <= 32.0 * EPS;
    assert!(same, "{error:e}, {:e} said", found.fit.error);
    let falls = |pair: &[f64]| pair[1].sqrt() <= pair[0].sqrt() + 32.0 * EPS;
    assert!(found.curve.windows(2).all(falls), "{:?}", found.curve);
}

fn reversed(n: usize, i: usize) -> usize {
    i.reverse_bits() >> (n.leading_zeros() + 1)
}

#[test]
fn a_planted_order_is_found() {
    fn case<W: Wide>(n: usize) {
        let layouts = fit::layouts(n, &Butterfly::classic(2)).unwrap();
        let r = planted::<W>(n, &layouts, n as u64);
        let options = Options::default();
        let limit = 8.0 * EPS * (n as f64).log2();
        let rows: Vec<W> = (0..n * n).map(|at| r[reversed(n, at / n) * n + at % n]).collect();
        let both: Vec<W> = (0..n * n).map(|at| r[reversed(n, at / n) * n + reversed(n, at % n)]).collect();
        for (q, sides) in [(&r, Sides::Rows), (&rows, Sides::Rows), (&both, Sides::Both)] {
            let target = Target::new(n, q).unwrap();
            let found = fit::permuted(&target, &layouts, sides, &options, &mut go).unwrap();
            assert!(found.fit.relative_frobenius <= limit, "n = {n}: {:e}", found.fit.relative_frobenius);
            assert_eq!(found.fit.stop, Stop::Exact);
            check(&target, &found);
        }
    }
    case::<f64>(16);
    case::<f64>(64);
    case::<c64>(32);
}

/// Orders that no start has, two rows being exchanged: one assignment finds them. (Not always: it is a local search.)
#[test]
fn an_order_that_is_no_start_is_found() {
    let n = 64;
    let layouts = fit::layouts(n, &Butterfly::classic(2)).unwrap();
    for (seed, i, j) in [(10, 5, 40), (12, 7, 40)] {
        let mut q = planted::<f64>(n, &layouts, seed);
        (0..n).for_each(|k| q.swap(i * n + k, j * n + k));
        let target = Target::new(n, &q).unwrap();
        let found = fit::permuted(&target, &layouts, Sides::Rows, &Options::default(), &mut go).unwrap();
        assert!(found.fit.relative_frobenius <= 48.0 * EPS, "{seed}: {:e}", found.fit.relative_frobenius);
        assert_eq!((found.fit.stop, found.rows[i], found.rows[j]), (Stop::Exact, j, i));
        check(&target, &found);
    }
}

/// Rows out of place in an otherwise perfect butterfly, one with the other sign. No start has this order: it is a local search, which gains much
/// and need not find all.
#[test]
fn exchanged_rows_are_a_gain() {
    let n = 32;
    let layouts = fit::layouts(n, &Butterfly::classic(2)).unwrap();
    let mut q = planted::<f64>(n, &layouts, 3);
    for (i, j) in [(3, 17), (20, 9)] {
        (0..n).for_each(|k| q.swap(i * n + k, j * n + k));
    }
    (0..n).for_each(|k| q[5 * n + k] = -q[5 * n + k]);
    let target = Target::new(n, &q).unwrap();
    let mut options = Options::default();
    let plain = fit::fit(&target, &layouts, &options, &mut go).unwrap();
    let found = fit::permuted(&target, &layouts, Sides::Rows, &options, &mut go).unwrap();
    assert!(found.fit.error < 0.6 * plain.error, "{:e} of {:e}", found.fit.error, plain.error);
    check(&target, &found);
    // Rotations alone keep their signs.
    options.group = Group::Special;
    let found = fit::permuted(&target, &layouts, Sides::Both, &options, &mut go).unwrap();
    check(&target, &found);
}

#[test]
fn errors_never_grow() {
    for (seed, sides) in (0..6).map(|seed| (seed, if seed % 2 == 0 { Sides::Rows } else { Sides::Both })) {
        for n in [1, 2, 7, 16, 24] {
            // Layouts that chain begin anew with singular vectors, others with random blocks.
            let layouts =
                if seed < 3 { fit::layouts(n, &AnyButterfly::new(2)) } else { fit::layouts(n, &Benes) }.unwrap();
            let mut options = Options::default();
            (options.seed, options.restarts, options.sweeps) = (seed, 3, if seed % 2 == 1 { 3 } else { 30 });
            let mut g = Generator::new(seed);
            let target = haar::<f64>(n, &mut g);
            let found = fit::permuted(&target, &layouts, sides, &options, &mut go).unwrap();
            check(&target, &found);
            let again = fit::permuted(&target, &layouts, sides, &options, &mut go).unwrap();
            assert_eq!(matrix(again.fit.plan()), matrix(found.fit.plan()));
            let target = haar::<c64>(n, &mut g);
            check(&target, &fit::permuted(&target, &layouts, sides, &options, &mut go).unwrap());
        }
    }
}

#[test]
fn interrupts_and_refusals() {
    let mut g = Generator::new(1);
    let n = 16;
    let layouts = fit::layouts(n, &Butterfly::classic(2)).unwrap();
    let target = haar::<f64>(n, &mut g);
    // Wherever it comes: in sweeps that go on, in those that begin anew, at the end.
    for last in 1..120 {
        let mut calls = 0;
        let mut watch = |_: &Progress| {
            calls += 1;
            if calls == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let found = fit::permuted(&target, &layouts, Sides::Rows, &Options::default(), &mut watch).unwrap();
        assert_eq!((found.fit.stop, calls), (Stop::Interrupted, last));
        check(&target, &found);
    }
    let beyond = [StageLayout::contiguous(2, 9)];
    assert!(fit::permuted(&target, &beyond, Sides::Rows, &Options::default(), &mut go).is_err());
    let mut options = Options::default();
    options.group = Group::Special;
    let complex = fit::permuted(&haar::<c64>(n, &mut g), &layouts, Sides::Rows, &options, &mut go);
    assert!(matches!(complex, Err(Error::Unsupported { .. })));
}
