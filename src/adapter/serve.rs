//! Serving without merging: a batch whose rows belong to different adapters goes through one call.
//!
//! The base model keeps its one dense product for all rows; around it every row gets what is its own adapter's,
//!
//! > x ← x R  before the product,  y ← s ⊙ (L y) + d  after it and before the bias,
//!
//! which is y = (diag(s)·L·W·Rᵀ) x + b' for d = b' − b: 0 but for adapters that turn the bias. R and L are any plans, of other blocks
//! and stages for each adapter, and each of the four may be missing. Rows are brought together by adapter, turned, and put back; an adapter whose rows are neighbours already is
//! served where they lie. By the arithmetic contract of products with a plan the bits of a row do not depend on the others:
//! they are those of a call for this row alone.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::{Sides, View};
use crate::batch::BatchMut;
use crate::error::{Error, Result, check_length};
use crate::orthogonal::Orthogonal;
use crate::parallel::{Parallelism, for_each};
use crate::plan::{Factors, Op, Plan, Workspace};
use crate::scalar::{Element, Real};

/// A rotation, ready to be applied.
#[derive(Debug, Clone)]
pub struct Turn<T: Real> {
    plan: Plan<T>,
    factors: Factors<T>,
}

impl<T: Real> Turn<T> {
    /// A plan at θ.
    ///
    /// # Errors
    /// As [`Plan::realize`].
    pub fn new(plan: Plan<T>, theta: &[f64]) -> Result<Self> {
        let factors = plan.realize(theta)?;
        Ok(Self { plan, factors })
    }
}

/// What one adapter does to one layer. Missing parts do nothing.
#[derive(Debug, Clone)]
pub struct Served<T: Real> {
    /// R, of as many coordinates as the layer has inputs.
    pub inputs: Option<Turn<T>>,
    /// L, of as many coordinates as the layer has outputs.
    pub outputs: Option<Turn<T>>,
    /// s, one factor for each output.
    pub scale: Option<Vec<T>>,
    /// d, what the adapter adds to the bias of the layer.
    pub shift: Option<Vec<T>>,
}

impl<T: Real> Served<T> {
    /// A layer y = Wx + b of an adapter, as [`Adapter::sides`](super::Adapter::sides) reads it. `bias` is the layer's own, which
    /// some adapters turn along; `None` if it has none. Rows of an embedding are outputs:
    /// [`of_embedding`](Self::of_embedding).
    ///
    /// ```
    /// use papilio::adapter::{Adapter, serve::Served};
    /// let adapter = Adapter::open("examples/data/boft_llama/adapter".as_ref())?;
    /// let served = Served::<f32>::from_sides(&adapter.sides(&adapter.layers()[0], None)?, None)?;
    /// assert!(served.inputs.is_some() && served.scale.is_some());
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a reinterpreted weight, whose sides are not those of the layer; [`Error::Length`] for a bias of
    /// another length; [`Error::Domain`] for blocks beyond the precision.
    pub fn from_sides(sides: &Sides, bias: Option<&[f64]>) -> Result<Self> {
        if sides.view != View::Weight {
            let (what, expected) = ("serving without merging", "rotations of the inputs and outputs of the layer");
            return Err(Error::Unsupported { what, expected, got: "one of a reinterpreted weight".to_string() });
        }
        let turn =
            |side: &Option<Orthogonal<f64>>| side.as_ref().map(|q| Turn::new(q.plan().cast()?, q.theta())).transpose();
        if let (Some(bias), Some(outputs)) =
            (bias, sides.left.as_ref().map(Orthogonal::n).or(sides.scale.as_ref().map(Vec::len)))
        {
            check_length("bias", outputs, bias.len())?;
        }
        let shift = match bias.filter(|_| sides.turns_bias) {
            None => None,
            Some(bias) => {
                let mut turned = bias.to_vec();
                sides.merge_bias(&mut turned, &Workspace::new())?;
                Some(turned.iter().zip(bias).map(|(new, old)| T::from_wide(new - old)).collect())
            }
        };
        let scale = sides.scale.as_ref().map(|scale| scale.iter().map(|s| T::from_wide(*s)).collect());
        Ok(Self { inputs: turn(&sides.right)?, outputs: turn(&sides.left)?, scale, shift })
    }

    /// An embedding, whose rows E_k are looked up and turned: E'_k = R E_k, which are outputs of the layer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for sides that do more than that; [`Error::Domain`] for blocks beyond the precision.
    pub fn of_embedding(sides: &Sides) -> Result<Self> {
        match sides {
            Sides { view: View::Weight, left: None, right: Some(q), scale: None, .. } => {
                Ok(Self { outputs: Some(Turn::new(q.plan().cast()?, q.theta())?), ..Self::default() })
            }
            _ => Err(Error::Unsupported {
                what: "serving an embedding",
                expected: "a rotation of its features alone",
                got: "sides with a scale, or of a layer".to_string(),
            }),
        }
    }
}

impl<T: Real> Default for Served<T> {
    fn default() -> Self {
        Self { inputs: None, outputs: None, scale: None, shift: None }
    }
}

/// The adapters of one layer.
///
/// ```
/// use papilio::adapter::serve::{Mixed, Served, Turn};
/// use papilio::{Parallelism, Plan, Workspace, parametrization::Cayley, topology::{BlockDiagonal, Butterfly}};
///
/// let mut layer = Mixed::<f32>::new(8, 4)?; // inputs and outputs
/// let boft = Plan::new(8, &Butterfly::boft(3, 2)?, Cayley)?;
/// let oft = Plan::new(8, &BlockDiagonal::new(4), Cayley)?;
/// let mut serve = |plan: Plan<f32>, scale| {
///     let turn = Turn::new(plan.clone(), &vec![0.3; plan.num_params()])?;
///     layer.add(Served { inputs: Some(turn), scale, ..Served::default() })
/// };
/// let (first, second) = (serve(boft, Some(vec![1.5; 4]))?, serve(oft, None)?);
///
/// let which = [Some(second), None, Some(first), Some(second)];
/// let (mut x, mut y, ws) = ([1.0f32; 4 * 8], [0.0f32; 4 * 4], &mut Workspace::new());
/// layer.turn_inputs(&mut x, &which, Parallelism::Rayon, ws)?;
/// // y ← x Wᵀ for all rows at once: the base model's own product
/// layer.turn_outputs(&mut y, &which, Parallelism::Rayon, ws)?;
/// // y += bias
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mixed<T: Real> {
    inputs: usize,
    outputs: usize,
    adapters: Vec<Served<T>>,
}

impl<T: Real> Mixed<T> {
    /// A layer of these sizes, without adapters.
    ///
    /// # Errors
    /// [`Error::Size`] unless both are at least 1.
    pub fn new(inputs: usize, outputs: usize) -> Result<Self> {
        if inputs == 0 || outputs == 0 {
            let got = std::format!("{inputs} inputs and {outputs} outputs");
            return Err(Error::Size { what: "layer", expected: "at least one input and one output".to_string(), got });
        }
        Ok(Self { inputs, outputs, adapters: Vec::new() })
    }

    /// Adds an adapter and gives its number.
    ///
    /// # Errors
    /// [`Error::Length`] if a part has another size than the layer, [`Error::Domain`] for a scale that is not finite.
    pub fn add(&mut self, adapter: Served<T>) -> Result<usize> {
        let length = |what, expected, turn: &Option<Turn<T>>| {
            check_length(what, expected, turn.as_ref().map_or(expected, |turn| turn.plan.n()))
        };
        length("rotation of inputs", self.inputs, &adapter.inputs)?;
        length("rotation of outputs", self.outputs, &adapter.outputs)?;
        for (what, numbers) in [("scale of an adapter", &adapter.scale), ("shift of an adapter", &adapter.shift)] {
            let Some(numbers) = numbers else { continue };
            check_length(what, self.outputs, numbers.len())?;
            if let Some(at) = numbers.iter().position(|x| !num_traits::Float::is_finite(*x)) {
                let got = std::format!("{:?} at position {at}", numbers[at]);
                return Err(Error::Domain { what: what.into(), expected: "finite numbers", got });
            }
        }
        self.adapters.push(adapter);
        Ok(self.adapters.len() - 1)
    }

    /// The adapters, in the order in which they were added.
    pub fn adapters(&self) -> &[Served<T>] {
        &self.adapters
    }

    /// x ← x R, each row of `x` `[batch, inputs]` with the R of its adapter; `which` has one entry for each row, `None` for the base.
    ///
    /// # Errors
    /// [`Error::Size`] unless x is whole rows, [`Error::Length`] for another number of entries, [`Error::Index`] for an adapter that
    /// was not added. Nothing is written then.
    pub fn turn_inputs<E: Element<Scalar = T>>(
        &self,
        x: &mut [E],
        which: &[Option<usize>],
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let workspace = &*workspace;
        self.by_adapter(x, self.inputs, which, parallelism, |adapter, rows| {
            let Some(turn) = &adapter.inputs else { return Ok(()) };
            let mut rows = BatchMut::rows(rows, self.inputs)?;
            turn.plan.run(&turn.factors, None, &mut rows, Op::Transpose, parallelism, workspace)
        })
    }

    /// y ← s ⊙ (L y) + d, each row of `y` `[batch, outputs]` with the L, s and d of its adapter.
    ///
    /// # Errors
    /// As [`turn_inputs`](Self::turn_inputs).
    pub fn turn_outputs<E: Element<Scalar = T>>(
        &self,
        y: &mut [E],
        which: &[Option<usize>],
        parallelism: Parallelism,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let workspace = &*workspace;
        self.by_adapter(y, self.outputs, which, parallelism, |adapter, rows| {
            if let Some(turn) = &adapter.outputs {
                let mut batch = BatchMut::rows(rows, self.outputs)?;
                turn.plan.run(&turn.factors, None, &mut batch, Op::None, parallelism, workspace)?;
            }
            for row in rows.chunks_exact_mut(self.outputs) {
                match (&adapter.scale, &adapter.shift) {
                    (None, None) => break,
                    (Some(scale), None) => row.iter_mut().zip(scale).for_each(|(y, s)| *y = E::store(y.load() * *s)),
                    (None, Some(shift)) => row.iter_mut().zip(shift).for_each(|(y, d)| *y = E::store(y.load() + *d)),
                    (Some(scale), Some(shift)) => {
                        let both = scale.iter().zip(shift);
                        row.iter_mut().zip(both).for_each(|(y, (s, d))| *y = E::store(y.load() * *s + *d));
                    }
                }
            }
            Ok(())
        })
    }

    /// Brings the rows of every adapter together, lets `work` have them, and puts them back.
    fn by_adapter<E: Element<Scalar = T>>(
        &self,
        data: &mut [E],
        width: usize,
        which: &[Option<usize>],
        parallelism: Parallelism,
        work: impl Fn(&Served<T>, &mut [E]) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        check_length("adapters of rows", BatchMut::rows(data, width)?.batch(), which.len())?;
        let mut rows = vec![Vec::new(); self.adapters.len()];
        for (row, adapter) in which.iter().enumerate() {
            let Some(adapter) = *adapter else { continue };
            let Some(rows) = rows.get_mut(adapter) else {
                return Err(Error::Index { what: "adapter of a row", expected: self.adapters.len(), got: adapter });
            };
            rows.push(row);
        }
        // Neighbours stay where they are; the others are copied together.
        let is_run = |rows: &[usize]| rows.last().is_some_and(|last| last - rows[0] + 1 == rows.len());
        let moved = || rows.iter().enumerate().filter(|(_, rows)| !is_run(rows));
        let mut gathered = Vec::with_capacity(moved().map(|(_, rows)| rows.len() * width).sum());
        for row in moved().flat_map(|(_, rows)| rows) {
            gathered.extend_from_slice(&data[row * width..(row + 1) * width]);
        }
        let mut jobs = Vec::new();
        let mut runs: Vec<_> = rows.iter().enumerate().filter(|(_, rows)| is_run(rows)).collect();
        runs.sort_by_key(|(_, rows)| rows[0]);
        let (mut rest, mut start) = (&mut *data, 0);
        for (adapter, rows) in runs {
            let (_, from) = rest.split_at_mut((rows[0] - start) * width);
            let (run, after) = from.split_at_mut(rows.len() * width);
            (rest, start) = (after, rows[0] + rows.len());
            jobs.push((adapter, run, Ok(())));
        }
        let mut rest = &mut gathered[..];
        for (adapter, rows) in moved() {
            let (mine, after) = rest.split_at_mut(rows.len() * width);
            rest = after;
            jobs.push((adapter, mine, Ok(())));
        }
        for_each(parallelism, jobs.iter_mut().collect(), |(adapter, rows, result)| {
            *result = work(&self.adapters[*adapter], rows);
        });
        jobs.into_iter().try_for_each(|(_, _, result)| result)?;
        for (row, from) in moved().flat_map(|(_, rows)| rows).zip(gathered.chunks_exact(width)) {
            data[row * width..(row + 1) * width].copy_from_slice(from);
        }
        Ok(())
    }
}
