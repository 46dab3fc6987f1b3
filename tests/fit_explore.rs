//! Explorations: rows against fits one by one, fronts against their definition, budgets, interruption, all sizes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use papilio::fit::{self, Budget, Candidate, Exploration, Group, Options, Stop, Target};
use papilio::generator::Generator;
use papilio::topology::{AnyButterfly, BlockDiagonal, Brick, Butterfly, RandomPairings, Repeated};
use papilio::transmission::{Dimension, Network};
use papilio::{Error, Parallelism, StageLayout, Topology, Wide, c64};

fn haar<W: Wide>(n: usize, seed: u64) -> Target<W> {
    Target::haar(n, Group::Full, seed).unwrap()
}

fn hadamard(n: usize) -> Target<f64> {
    let size = 1.0 / (n as f64).sqrt();
    let entry = |at: usize| if ((at / n) & (at % n)).count_ones().is_multiple_of(2) { size } else { -size };
    Target::new(n, &(0..n * n).map(entry).collect::<Vec<_>>()).unwrap()
}

/// Few sweeps: what is tested are not the fits.
fn hasty() -> Options {
    let mut options = Options::default();
    (options.sweeps, options.tolerance) = (6, 1e-3);
    options
}

fn within(parameters: usize) -> Budget {
    let mut budget = Budget::default();
    budget.parameters = parameters;
    budget
}

fn run<W: Wide>(target: &Target<W>, budget: &Budget, options: &Options) -> Exploration<W> {
    let all = fit::candidates(target, budget, options.seed);
    fit::explore(target, &all, budget, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// By definition, of (price, error).
fn front(points: &[(f64, f64)]) -> Vec<bool> {
    let dominates = |a: &(f64, f64), b: &(f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    points.iter().map(|b| !points.iter().any(|a| dominates(a, b))).collect()
}

fn same_bits<W: Wide>(a: &Exploration<W>, b: &Exploration<W>) {
    assert_eq!(a.rows.len(), b.rows.len());
    for (a, b) in a.rows.iter().zip(&b.rows) {
        assert_eq!(a.candidate.name, b.candidate.name);
        assert_eq!(a.fit.error.to_bits(), b.fit.error.to_bits(), "{}", a.candidate.name);
        assert_eq!(a.fit.curve, b.fit.curve, "{}", a.candidate.name);
        assert_eq!((a.pareto, a.pareto_dimension), (b.pareto, b.pareto_dimension));
    }
}

#[test]
fn rows_are_the_fits_of_their_candidates() {
    fn check<W: Wide>(n: usize, parameters: usize) {
        let target = haar::<W>(n, 5);
        let found = run(&target, &within(parameters), &hasty());
        assert!(found.rows.len() > 10 && !found.interrupted);
        assert!(found.rows.windows(2).all(|pair| pair[0].parameters <= pair[1].parameters));
        for row in &found.rows {
            let name = &row.candidate.name;
            let stages = fit::layouts(n, &*row.candidate.topology).unwrap();
            let alone = fit::fit(&target, &stages, &hasty(), &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(alone.error.to_bits(), row.fit.error.to_bits(), "{name}");
            assert_eq!((alone.curve, alone.stop), (row.fit.curve.clone(), row.fit.stop), "{name}");
            assert_eq!((row.parameters, row.stages), (row.fit.num_parameters(), row.fit.plan().num_stages()), "{name}");
            let blocks = row.fit.plan().stages().iter().map(|stage| stage.layout());
            let work: usize = blocks.clone().map(|l| l.block_size().pow(2) * l.num_blocks()).sum();
            assert_eq!(row.flops, work as u64 * if W::IS_COMPLEX { 8 } else { 2 }, "{name}");
            assert_eq!(row.block, blocks.map(|l| l.block_size()).max().unwrap_or(0), "{name}");
            assert!(row.parameters <= parameters, "{name}");
            // Against the closed form, a computation of its own for real blocks.
            let network = Network::new(n, &*row.candidate.topology).unwrap();
            if let (false, Some(dimension)) = (W::IS_COMPLEX, network.rotation_dimension()) {
                assert_eq!(row.dimension.map(|d| d.value()), Some(dimension), "{name}");
            }
            assert!(row.effective_dimension() <= row.parameters, "{name}");
            assert!(row.dimension.is_none_or(|d| d.value() <= row.dimension_bound), "{name}");
        }
        let best = found.rows.iter().map(|row| row.fit.error).fold(f64::INFINITY, f64::min);
        assert_eq!(found.best().map(|row| row.fit.error), Some(best));
    }
    check::<f64>(16, 140);
    check::<f64>(30, 200);
    check::<c64>(12, 160);
}

#[test]
fn fronts_are_what_nothing_dominates() {
    let mut g = Generator::new(3);
    for case in 0..300u64 {
        let count = g.below(12) as usize;
        let mut coordinate = || (g.below(2 + case % 6) as f64 - 1.0) / 3.0;
        let points: Vec<(f64, f64)> = (0..count).map(|_| (coordinate(), coordinate())).collect();
        assert_eq!(fit::pareto(&points), front(&points), "{points:?}");
    }
    let odd = [(f64::NAN, 0.0), (1.0, f64::NAN), (0.0, f64::INFINITY), (-0.0, 5.0), (f64::INFINITY, -1.0), (0.0, 5.0)];
    assert_eq!(fit::pareto(&odd), [false, false, false, true, true, true]);

    let found = run(&haar::<f64>(24, 8), &within(300), &hasty());
    let by = |price: fn(&fit::Row<f64>) -> usize| {
        front(&found.rows.iter().map(|row| (price(row) as f64, row.fit.error)).collect::<Vec<_>>())
    };
    let marks = |mark: fn(&fit::Row<f64>) -> bool| found.rows.iter().map(mark).collect::<Vec<_>>();
    assert_eq!(marks(|row| row.pareto), by(|row| row.parameters));
    assert_eq!(marks(|row| row.pareto_dimension), by(fit::Row::effective_dimension));
    assert_ne!(marks(|row| row.pareto), marks(|row| row.pareto_dimension), "block sizes waste parameters");
}

/// Digits of rounding buy no place on the front.
#[test]
fn exact_rows_are_equally_good() {
    let found = run(&hadamard(32), &within(400), &Options::default());
    let exact: Vec<_> = found.rows.iter().filter(|row| row.fit.error < 1e-26).collect();
    assert!(exact.len() > 3, "several families have it");
    let marked: Vec<_> = exact.iter().filter(|row| row.pareto).map(|row| row.parameters).collect();
    assert_eq!(marked, [80], "5·16, the butterfly");
    for row in [found.cheapest(1e-26), found.cheapest(0.0), found.best()] {
        let row = row.unwrap();
        assert_eq!((row.parameters, row.candidate.name.as_str()), (80, "BOFT(5, 2)"));
    }
    assert!(found.cheapest(-1.0).is_none());
}

#[test]
fn budgets_are_kept() {
    let target = haar::<f64>(32, 2);
    let mut budget = within(500);
    let all = run(&target, &budget, &hasty());
    budget.dimension = 200;
    let few = run(&target, &budget, &hasty());
    let expected = |row: &&fit::Row<f64>| row.effective_dimension() <= 200;
    let names = |rows: Vec<&fit::Row<f64>>| rows.iter().map(|row| row.candidate.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(few.rows.iter().collect()), names(all.rows.iter().filter(expected).collect()));
    assert!(few.rows.len() < all.rows.len() && few.rows.iter().any(|row| row.parameters > 200));

    // Families end with their first member that is good enough.
    budget = within(500);
    budget.error = 0.6;
    let good = run(&target, &budget, &hasty());
    let families: BTreeSet<&str> = good.rows.iter().map(|row| row.candidate.family.as_str()).collect();
    let mut met = 0;
    for family in families {
        let rows: Vec<_> = good.rows.iter().filter(|row| row.candidate.family == family).collect();
        let last = rows.len() - 1;
        assert!(rows[..last].iter().all(|row| row.fit.error > 0.6), "{family}");
        let mut curves = rows.iter().map(|row| &row.fit.curve);
        assert!(curves.all(|c| c[..c.len() - 1].iter().all(|e| *e > 0.6)), "{family}: no fit goes on beyond the goal");
        met += usize::from(rows[last].fit.error <= 0.6);
    }
    assert!(met > 3 && good.rows.len() < all.rows.len());
    let cheapest = good.cheapest(0.6).unwrap().parameters;
    assert!(good.rows.iter().filter(|row| row.fit.error <= 0.6).all(|row| row.parameters >= cheapest));
    let over = good.rows.iter().filter(|row| row.pareto && row.parameters > cheapest).count();
    assert_eq!(over, 0, "good enough is good enough");
}

#[test]
fn every_size_has_candidates_that_fit() {
    for n in 1..=70 {
        for parameters in [0, 40, usize::MAX] {
            let (target, budget) = (hadamard_or_identity(n), within(parameters));
            let all = fit::candidates(&target, &budget, 1);
            assert_eq!(all[0].name, "diagonal");
            let mut layouts = Vec::new();
            let mut names = BTreeSet::new();
            for candidate in &all {
                let stages = fit::layouts(n, &*candidate.topology).unwrap();
                stages.iter().for_each(|layout| layout.validate(n).unwrap());
                let count: usize =
                    stages.iter().map(|l| l.block_size() * (l.block_size() - 1) / 2 * l.num_blocks()).sum();
                assert!(count <= parameters && count <= (n * (n - 1) / 2) * 27 / 20 + 1, "{n} {}", candidate.name);
                assert!(!layouts.contains(&stages), "{n}: {} comes twice", candidate.name);
                assert!(names.insert(candidate.name.clone()), "{n}: {} names two", candidate.name);
                layouts.push(stages);
            }
            assert!(parameters < usize::MAX || n < 5 || all.len() > 5, "{n}: {}", all.len());
        }
    }
    fn hadamard_or_identity(n: usize) -> Target<f64> {
        let unit = |at: usize| f64::from(u8::from(at.is_multiple_of(n + 1)));
        Target::new(n, &(0..n * n).map(unit).collect::<Vec<_>>()).unwrap()
    }
}

#[test]
fn small_and_prime_sizes() {
    let one = Target::new(1, &[-1.0]).unwrap();
    let found = run(&one, &Budget::default(), &Options::default());
    assert_eq!((found.rows.len(), found.rows[0].fit.error, found.rows[0].pareto), (1, 0.0, true));
    let phase = Target::new(1, &[c64::new(0.0, 1.0)]).unwrap();
    assert!(run(&phase, &Budget::default(), &Options::default()).best().unwrap().fit.error < 1e-31);
    // Any matrix of 2, 3, 5, 7 coordinates: some structure within 1.35 times its dimension has it.
    for n in [2, 3, 5, 7] {
        let mut options = Options::default();
        (options.sweeps, options.restarts) = (4000, 3);
        let found = run(&haar::<f64>(n, n as u64), &Budget::default(), &options);
        let best = found.best().unwrap();
        assert!(best.fit.error <= 1e-11, "{n}: {:e} by {}", best.fit.error, best.candidate.name);
    }
    let found = run(&haar::<f64>(13, 1), &within(60), &hasty());
    assert!(found.rows.iter().any(|row| row.candidate.family == "butterfly" && row.fit.error < 0.8));
}

#[test]
fn an_interruption_keeps_what_was_found() {
    let target = haar::<f64>(16, 4);
    let (budget, options) = (within(100), hasty());
    let all = fit::candidates(&target, &budget, 0);
    let whole = run(&target, &budget, &options);
    let mut calls = 0;
    let mut told = Vec::new();
    let count = |step: &fit::Step<'_>| {
        calls += 1;
        told.push((step.index, step.count, step.candidate.name.clone(), step.fit.is_none()));
        ControlFlow::Continue(())
    };
    let mut count = count;
    fit::explore(&target, &all, &budget, &options, &mut count).unwrap();
    assert!(told.iter().all(|(index, of, ..)| index < of && *of == whole.rows.len()));
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert!(told.iter().any(|t| t.3) && told.iter().any(|t| !t.3));
    for stop_at in (0..calls).step_by(37) {
        let mut left = stop_at;
        let mut stop = |_: &fit::Step<'_>| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let part = fit::explore(&target, &all, &budget, &options, &mut stop).unwrap();
        let (index, _, name, counting) = &told[stop_at as usize];
        assert!(part.interrupted);
        assert_eq!(part.rows.len(), index + usize::from(!counting), "stopped at {name}");
        if !counting {
            assert_eq!(part.rows[*index].fit.stop, Stop::Interrupted);
        }
        for (part, whole) in part.rows[..*index].iter().zip(&whole.rows) {
            assert_eq!(part.fit.error.to_bits(), whole.fit.error.to_bits());
        }
        let marks: Vec<bool> = part.rows.iter().map(|row| row.pareto).collect();
        let points: Vec<_> = part.rows.iter().map(|row| (row.parameters as f64, row.fit.error)).collect();
        assert_eq!(marks, front(&points));
    }
}

#[test]
fn bits_depend_on_the_seed_alone() {
    let target = haar::<f64>(40, 6);
    let budget = within(200);
    let mut options = hasty();
    options.parallelism = Parallelism::None;
    let one = run(&target, &budget, &options);
    options.parallelism = Parallelism::Rayon;
    same_bits(&one, &run(&target, &budget, &options));
    options.seed = 1;
    let other = run(&target, &budget, &options);
    let differ = one.rows.iter().zip(&other.rows).filter(|(a, b)| a.fit.error != b.fit.error).count();
    assert!(2 * differ > one.rows.len());
}

/// A stage with more coordinates than there are numbers.
#[derive(Debug)]
struct Endless;

impl Topology for Endless {
    fn name(&self) -> &'static str {
        "endless"
    }

    fn num_stages(&self, _: usize) -> papilio::Result<usize> {
        Ok(1)
    }

    fn stage(&self, _: usize, _: usize) -> StageLayout {
        StageLayout::Strided { unit: 1, radix: usize::MAX, distance: 2, groups: 1 }
    }
}

#[test]
fn own_candidates_are_taken_as_they_are() {
    let target = haar::<f64>(16, 7);
    let own = [
        Candidate::new("mesh", "brick", Brick),
        Candidate::new("pairs", "9 pairings", RandomPairings { stages: 9, seed: 3 }),
        Candidate::new("pairs", "4 pairings", RandomPairings { stages: 4, seed: 3 }),
        Candidate::new("butterfly", "two", Repeated::new(AnyButterfly::new(2), 2)),
    ];
    let go_on = &mut |_: &fit::Step<'_>| ControlFlow::Continue(());
    let found = fit::explore(&target, &own, &Budget::default(), &hasty(), go_on).unwrap();
    let names: Vec<_> = found.rows.iter().map(|row| row.candidate.name.as_str()).collect();
    assert_eq!(names, ["4 pairings", "two", "9 pairings", "brick"]);
    assert_eq!(found.rows[3].dimension, Some(Dimension::ClosedForm(120)));
    assert!(matches!(found.rows[1].dimension, Some(Dimension::Rank(rank)) if rank.rank == 64));
    let mut budget = Budget::default();
    budget.rank = 10;
    let unknown = fit::explore(&target, &own, &budget, &hasty(), go_on).unwrap();
    assert_eq!((unknown.rows[1].dimension, unknown.rows[1].effective_dimension()), (None, 64));

    let wrong = [Candidate::new("butterfly", "radix 3", Butterfly::classic(3))];
    let error = fit::explore(&target, &wrong, &Budget::default(), &hasty(), go_on).unwrap_err();
    assert!(matches!(error, Error::Size { .. }), "{error}");
    // Layouts that no plan takes are refused before anything is counted.
    let endless = [Candidate::new("endless", "endless", Endless)];
    assert!(fit::explore(&target, &endless, &Budget::default(), &hasty(), go_on).is_err());
    let none = fit::explore(&target, &[], &Budget::default(), &hasty(), go_on).unwrap();
    assert!(none.rows.is_empty() && none.best().is_none() && !none.interrupted);
    let blocks = [Candidate::new("blocks", "dense", BlockDiagonal::new(16))];
    let dense = fit::explore(&target, &blocks, &Budget::default(), &hasty(), go_on).unwrap();
    assert!(dense.rows[0].fit.error < 1e-27 && dense.rows[0].pareto);
}
