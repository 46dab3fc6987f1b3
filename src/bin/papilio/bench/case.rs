//! One size: a plan with its numbers, and everything that is timed at it.

use std::hint::black_box;
use std::time::Duration;

use papilio::generator::Generator;
use papilio::{Batch, BatchMut, Element, Explanation, Factors, Isa, Op, Parallelism, Plan, Saved, Scalar, Workspace};

use super::clock::{Timing, interleaved};
use super::yardsticks::{Naive, copy_loop, dense, peak_f32, peak_f64};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Apply,
    Adjoint,
    Vjp,
    Realize,
    RealizeVjp,
    Memcpy,
    CopyLoop,
    DenseByRows,
    DenseByColumns,
    Naive,
    Peak,
}

/// Papilio's own, by the names that users give them.
pub(crate) const VERBS: [(&str, Contender); 5] = [
    ("apply", Contender::Apply),
    ("adjoint", Contender::Adjoint),
    ("vjp", Contender::Vjp),
    ("realize", Contender::Realize),
    ("realize_vjp", Contender::RealizeVjp),
];

/// A copy of at most so many bytes is one of the faster kind: `memcpy` or a loop.
const SMALL_COPY: usize = 1 << 20;

/// Rounds of multiply-adds for a peak: some microseconds.
const PEAK_STEPS: usize = 1 << 12;

/// What is wanted of a case besides its plan.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) isa: Isa,
    pub(crate) verbs: Vec<Contender>,
    /// Whether the dense matrix and the naive loop take part.
    pub(crate) dense: bool,
    pub(crate) naive: bool,
    pub(crate) time: Duration,
}

/// The times of a case, and what they are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    all: Vec<(Contender, Timing)>,
    /// What runs.
    pub(crate) explanation: Explanation,
    /// Floating-point operations per second of all threads, at most.
    pub(crate) peak: f64,
    pub(crate) parameters: usize,
}

impl Times {
    /// Seconds of a contender, if it took part.
    pub(crate) fn of(&self, contender: Contender) -> Option<Timing> {
        self.all.iter().find(|(other, _)| *other == contender).map(|(_, timing)| *timing)
    }

    /// Seconds of the fastest of some.
    fn fastest<const N: usize>(&self, contenders: [Contender; N]) -> Option<f64> {
        contenders.into_iter().filter_map(|c| self.of(c)).map(|t| t.median).min_by(f64::total_cmp)
    }

    /// Seconds to copy the batch.
    pub(crate) fn copy(&self) -> Option<f64> {
        self.fastest([Contender::Memcpy, Contender::CopyLoop])
    }

    /// Seconds of the dense product.
    pub(crate) fn dense(&self) -> Option<f64> {
        self.fastest([Contender::DenseByRows, Contender::DenseByColumns])
    }
}

/// Numbers in [−½, ½).
fn random<E: Element>(g: &mut Generator, len: usize) -> Vec<E> {
    let mut one = || <E::Scalar as Scalar>::Real::from_wide(g.uniform() - 0.5);
    (0..len).map(|_| E::store(E::Scalar::from_parts(one(), one()))).collect()
}

/// Memory of a case. Contenders have their own where sharing it would help one of them.
struct Case<'a, E: Element> {
    plan: &'a Plan<E::Scalar>,
    settings: &'a Settings,
    theta: Vec<f64>,
    factors: Factors<E::Scalar>,
    x: Vec<E>,
    y: Vec<E>,
    gy: Vec<E>,
    d_factors: Vec<E::Scalar>,
    d_theta: Vec<f64>,
    workspace: Workspace,
    /// The batch as plain words, to be copied.
    words: (Vec<u32>, Vec<u32>),
    /// Matrix, batch and result of the dense product and the naive loop, which know scalars only.
    matrix: Vec<E::Scalar>,
    scalars: (Vec<E::Scalar>, Vec<E::Scalar>),
    naive: Option<Naive<E::Scalar>>,
}

/// Times one case; `None` if `stop` said so.
pub(crate) fn measure<E>(
    plan: &Plan<E::Scalar>,
    settings: &Settings,
    stop: impl Fn() -> bool + Sync,
) -> Result<Option<Times>, String>
where
    E: Element,
    E::Scalar: faer::traits::ComplexField,
{
    let told = |e: papilio::Error| e.to_string();
    let mut g = Generator::new(1);
    let (n, len) = (plan.n(), plan.n() * settings.batch);
    let theta: Vec<f64> = (0..plan.num_params()).map(|_| g.uniform() - 0.5).collect();
    let factors = plan.realize(&theta).map_err(told)?;
    let differs = settings.dense || settings.naive;
    let words = (len * size_of::<E>()).div_ceil(size_of::<u32>());
    let mut case = Case::<E> {
        plan,
        settings,
        naive: if settings.naive { Some(Naive::new(plan, &factors).map_err(told)?) } else { None },
        matrix: random(&mut g, if settings.dense { n * n } else { 0 }),
        scalars: (random(&mut g, if differs { len } else { 0 }), random(&mut g, if differs { len } else { 0 })),
        x: random(&mut g, len),
        y: random(&mut g, len),
        gy: random(&mut g, if settings.verbs.contains(&Contender::Vjp) { len } else { 0 }),
        d_factors: random(&mut g, plan.num_entries()),
        d_theta: vec![0.0; theta.len()],
        workspace: Workspace::with_isa(settings.isa).map_err(told)?,
        words: (vec![1; words], vec![2; words]),
        theta,
        factors,
    };
    let mut contenders = settings.verbs.clone();
    contenders.extend([Contender::Peak, Contender::Memcpy]);
    if len * size_of::<E>() <= SMALL_COPY {
        contenders.push(Contender::CopyLoop);
    }
    if settings.dense {
        contenders.push(Contender::DenseByRows);
    }
    if settings.dense && settings.batch == 1 {
        contenders.push(Contender::DenseByColumns); // a product of matrices packs them anyway
    }
    if settings.naive {
        contenders.push(Contender::Naive);
    }
    let pool = match settings.threads {
        1 => None,
        threads => Some(rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| e.to_string())?),
    };
    let mut failed = None;
    let count = contenders.len();
    let timings = interleaved(
        count,
        settings.time,
        |at, times| {
            // Called from outside of the pool, as a program with a thread of its own does.
            let result = (0..times).try_for_each(|_| match &pool {
                Some(pool) => pool.install(|| case.run(contenders[at])),
                None => case.run(contenders[at]),
            });
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        },
        stop,
    );
    if let Some(error) = failed {
        return Err(error.to_string());
    }
    let steps = if case.is_single() { peak_f32(1) } else { peak_f64(1) } * PEAK_STEPS;
    Ok(timings.map(|timings| {
        let all: Vec<_> = contenders.iter().copied().zip(timings).collect();
        let peak = all.iter().find(|(c, _)| *c == Contender::Peak).map_or(f64::NAN, |(_, t)| steps as f64 / t.median);
        Times {
            explanation: plan.explain(settings.batch, settings.isa),
            peak: peak * settings.threads as f64,
            parameters: plan.num_params(),
            all,
        }
    }))
}

impl<E> Case<'_, E>
where
    E: Element,
    E::Scalar: faer::traits::ComplexField,
{
    fn is_single(&self) -> bool {
        size_of::<<E::Scalar as Scalar>::Real>() == size_of::<f32>()
    }

    fn run(&mut self, contender: Contender) -> papilio::Result<()> {
        let (n, plan) = (self.plan.n(), self.plan);
        let parallelism = if self.settings.threads == 1 { Parallelism::None } else { Parallelism::Rayon };
        match contender {
            Contender::Apply | Contender::Adjoint => {
                let op = if contender == Contender::Apply { Op::None } else { Op::Adjoint };
                let (x, y) = (Batch::rows(&self.x, n)?, BatchMut::rows(&mut self.y, n)?);
                plan.apply(&self.factors, x, y, op, parallelism, &mut self.workspace)?;
            }
            Contender::Vjp => {
                let saved = Saved::Input(Batch::rows(&self.x, n)?);
                let (gy, gx) = (Batch::rows(&self.gy, n)?, BatchMut::rows(&mut self.y, n)?);
                let d = Some(&mut self.d_factors[..]);
                plan.apply_vjp(&self.factors, saved, Op::None, gy, Some(gx), d, parallelism, &mut self.workspace)?;
            }
            Contender::Realize => self.factors = plan.realize(&self.theta)?,
            Contender::RealizeVjp => {
                plan.realize_vjp(&self.theta, &self.factors, &self.d_factors, &mut self.d_theta)?;
            }
            Contender::Memcpy => black_box(&mut self.words.1).copy_from_slice(black_box(&self.words.0)),
            Contender::CopyLoop => copy_loop(&self.words.0, &mut self.words.1),
            Contender::DenseByRows => dense(n, &self.matrix, true, &self.scalars.0, &mut self.scalars.1),
            Contender::DenseByColumns => dense(n, &self.matrix, false, &self.scalars.0, &mut self.scalars.1),
            Contender::Naive => {
                if let Some(naive) = &self.naive {
                    naive.apply(&self.scalars.0, &mut self.scalars.1);
                }
            }
            Contender::Peak => {
                let steps = black_box(PEAK_STEPS);
                black_box(if self.is_single() { peak_f32(steps) } else { peak_f64(steps) });
            }
        }
        Ok(())
    }
}
