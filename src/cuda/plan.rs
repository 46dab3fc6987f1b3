//! A plan on a device, and the verbs on it.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use std::format;
use std::sync::Arc;

use super::blas::Dense;
use super::buffer::{Batch, BatchMut, Buffer, Number, stored};
use super::call::Call;
use super::device::Stream;
use super::estimate::Speeds;
use super::loaded::Loaded;
use super::program::{Stored, Wanted};
use super::schedule::Schedule;
use super::tables::{Gradients, Made, Way};
use super::tile::{self, Tile, Tuning};
use super::verbs::{self, Rows};
use crate::error::{Error, Result, check_length};
use crate::plan::{Factors, Op, Plan};

/// A [`Plan`] on a device: its passes, and what of it lies in the device's memory. It belongs to a stream, as buffers
/// do.
#[derive(Debug)]
pub struct DevicePlan {
    stream: Stream,
    plan: Plan<f32>,
    forward: Way,
    /// Of gradients, where they are cut otherwise.
    backward: Option<Way>,
    /// For vectors of single and of half precision.
    tiles: [Tile; 2],
    /// Of two tiles at once, if they fit.
    gradient_tile: Result<Tile>,
    gradients: Gradients,
    /// Where the device has all charts.
    made: Option<Made>,
    loaded: Loaded,
    /// Known by its address.
    identity: Arc<()>,
}

/// Realised blocks in a device's memory, as its kernels read them. They belong to the [`DevicePlan`] that made them.
#[derive(Debug)]
pub struct DeviceFactors {
    numbers: Buffer<f32>,
    /// Likewise for gradients, where they are cut otherwise.
    gradient_numbers: Option<Buffer<f32>>,
    /// The angles of rotations, if all blocks are such, for vectors of half precision.
    angles: Buffer<f32>,
    /// As tensor cores take them, if they do.
    packed: Buffer<u32>,
    origin: Origin,
    /// Whose they are.
    plan: Arc<()>,
}

/// Where factors were made: on the device, where their blocks in double precision stay, or on the host.
#[derive(Debug)]
enum Origin {
    Device(Buffer<f64>),
    Host(Factors<f32>),
}

impl DevicePlan {
    /// The plan on the stream's device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for stages of reflectors, for n > 65536 and for vectors that do not fit the device's
    /// shared memory (58112 coordinates that belong together where it is 227 KiB; gradients need twice as much);
    /// [`Error::Device`].
    pub fn new(stream: &Stream, plan: &Plan<f32>) -> Result<Self> {
        Self::tuned(stream, plan, Tuning::default())
    }

    /// The plan, cut otherwise.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Size`] for a tile that is none.
    pub fn tuned(stream: &Stream, plan: &Plan<f32>, tuning: Tuning) -> Result<Self> {
        // What cannot be undone is computed again, stage by stage.
        let [window, gradient_window] = match plan.is_exact() {
            true => tuning.window.map_or_else(|| tile::windows(plan), |window| [window.clamp(1, 32); 2]),
            false => [1; 2],
        };
        let mut forward = Way::new(stream, plan, window)?;
        // Where vectors stay in registers there is no tile.
        forward.schedule.chain = forward.schedule.chain.filter(|_| tuning.tile.is_none());
        if let (Some(chain), Some(_)) = (&mut forward.schedule.chain, tuning.gradient_tile) {
            chain.sums = None;
        }
        let backward = match gradient_window == window {
            true => None,
            false => Some(Way::new(stream, plan, gradient_window)?),
        };
        let (schedule, back) = (&forward.schedule, &backward.as_ref().unwrap_or(&forward).schedule);
        let shared = stream.device().shared();
        let given = |sizes, tiles| {
            let tile = Tile::new(sizes, tuning.ahead).filter(|tile| tiles * tile.bytes(schedule.length) <= shared);
            tile.map(|tile| tile.keeping(if tiles == 1 { schedule } else { back }, tiles, shared)).ok_or_else(|| {
                Error::Size {
                    what: "tile",
                    expected: format!(
                        "chunks of 1, 2 or 4, a divisor, at most 1024 threads, {shared} bytes for {tiles}"
                    ),
                    got: format!("{sizes:?}"),
                }
            })
        };
        let tile = |stored| tuning.tile.map_or_else(|| tile::tile(schedule, shared, stored), |sizes| given(sizes, 1));
        let tiles = [tile(Stored::F32)?, tile(Stored::Bf16)?];
        let gradient_tile = match tuning.gradient_tile {
            None => tile::gradient_tile(back, shared),
            Some(sizes) => Ok(given(sizes, 2)?),
        };
        Ok(Self {
            made: Made::new(stream, plan)?,
            loaded: Loaded::default(),
            identity: Arc::default(),
            tiles,
            gradient_tile,
            gradients: Gradients::new(stream, back)?,
            stream: stream.clone(),
            plan: plan.clone(),
            forward,
            backward,
        })
    }

    /// The plan itself.
    pub fn plan(&self) -> &Plan<f32> {
        &self.plan
    }

    pub(super) fn schedule(&self) -> &Schedule {
        &self.forward.schedule
    }

    pub(super) fn tile(&self, stored: Stored) -> Tile {
        self.tiles[usize::from(stored != Stored::F32)]
    }

    fn backward(&self) -> &Way {
        self.backward.as_ref().unwrap_or(&self.forward)
    }

    pub(super) fn speeds(&self) -> Speeds {
        self.stream.device().speeds()
    }

    /// Factors that the host has realised, of any charts.
    ///
    /// # Errors
    /// [`Error::Size`] for factors of another plan; [`Error::Device`].
    pub fn upload(&self, factors: &Factors<f32>) -> Result<DeviceFactors> {
        // Its own check of whose factors they are.
        if self.plan.num_stages() > 0 && self.plan.num_entries() > 0 {
            let stage = self.plan.stages().iter().position(|stage| stage.num_groups() > 0).unwrap_or(0);
            let b = self.plan.stages()[stage].layout().block_size();
            self.plan.block(factors, stage, 0, &mut std::vec![0.0; b * b])?;
        } else {
            check_length("entries of factors", self.plan.num_entries(), factors.entries().len())?;
        }
        let entries = self.stream.upload(factors.entries())?;
        self.factors(verbs::gather, &[("entries", entries.address())], Origin::Host(factors.clone()))
    }

    /// The numbers of both ways, by this call.
    fn factors(
        &self,
        gather: impl Fn(&Schedule) -> Option<Call<'_>>,
        named: &[(&'static str, u64)],
        origin: Origin,
    ) -> Result<DeviceFactors> {
        let numbers = |way: &Way| {
            let numbers = self.stream.scratch(way.schedule.numbers.len())?;
            let mut named = named.to_vec();
            named.extend([("source", way.source.address()), ("numbers", numbers.address())]);
            self.run(gather(&way.schedule).as_slice(), &named)?;
            Ok(numbers)
        };
        let gradient_numbers = self.backward.as_ref().map(&numbers).transpose()?;
        let (numbers, schedule) = (numbers(&self.forward)?, &self.forward.schedule);
        let packed = self.stream.scratch(4 * schedule.packed * schedule.parts())?;
        self.run(&verbs::pack(schedule), &[("numbers", numbers.address()), ("packed", packed.address())])?;
        let angles = self.stream.scratch(schedule.angles.len())?;
        let named = [
            ("numbers", numbers.address()),
            ("angle_source", self.forward.angle_source.address()),
            ("angles", angles.address()),
        ];
        self.run(verbs::angles(schedule).as_slice(), &named)?;
        Ok(DeviceFactors { numbers, gradient_numbers, angles, packed, origin, plan: self.identity.clone() })
    }

    /// The blocks at θ (length [`num_params`](Plan::num_params)), made on the device in double precision and rounded
    /// once: Givens, Cayley up to b = 64 and the exponential up to b = 4. Plans with other charts, and parameters that
    /// are too large for the device's elimination (Σθ² > 10⁵ in a Cayley block), are realised on the host: the same
    /// blocks, later. Waits for the device.
    ///
    /// # Errors
    /// As [`Plan::realize`]; [`Error::Unsupported`] for a buffer of another stream, [`Error::Device`].
    pub fn realize(&self, theta: &Buffer<f32>) -> Result<DeviceFactors> {
        check_length("theta", self.plan.num_params(), theta.len())?;
        self.stream.check_same("theta", theta.stream())?;
        if let Some(made) = &self.made {
            let mut wide = self.stream.scratch::<f64>(self.plan.num_entries())?;
            if let Some(fixed) = &made.fixed {
                wide.copy_from(fixed)?;
            }
            let status = self.stream.zeros::<i32>(1)?;
            let at = wide.address();
            let named = [("theta", theta.address()), ("wide", at), ("status", status.address())];
            self.run(&made.blocks.realize(), &named)?;
            let named = [("wide", at), ("wide_at", made.wide_at.address())];
            let factors = self.factors(verbs::gather_wide, &named, Origin::Device(wide))?;
            // Only now, that the device is not waited for before.
            if status.download()? == [0] {
                return Ok(factors);
            }
        }
        self.upload(&self.plan.realize(&theta.download()?)?)
    }

    /// The adjoint of its derivative: `d_theta` += Jᵀ `d_factors`, where `theta` and `factors` are those of
    /// [`realize`](Self::realize).
    ///
    /// # Errors
    /// As [`Plan::realize_vjp`]; [`Error::Unsupported`] for buffers of another stream, [`Error::Device`].
    pub fn realize_vjp(
        &self,
        theta: &Buffer<f32>,
        factors: &DeviceFactors,
        d_factors: &Buffer<f32>,
        d_theta: &mut Buffer<f32>,
    ) -> Result<()> {
        check_length("theta", self.plan.num_params(), theta.len())?;
        check_length("d_theta", self.plan.num_params(), d_theta.len())?;
        check_length("d_factors", self.plan.num_entries(), d_factors.len())?;
        self.check_factors(factors)?;
        for (what, buffer) in [("theta", theta), ("d_theta", &*d_theta), ("d_factors", d_factors)] {
            self.stream.check_same(what, buffer.stream())?;
        }
        match (&factors.origin, &self.made) {
            (Origin::Device(wide), Some(made)) => self.run(
                &made.blocks.realize_vjp(),
                &[
                    ("theta", theta.address()),
                    ("wide", wide.address()),
                    ("d_factors", d_factors.address()),
                    ("entry", made.entry.address()),
                    ("d_theta", d_theta.address()),
                ],
            ),
            (Origin::Host(factors), _) => {
                let mut sum = d_theta.download()?;
                self.plan.realize_vjp(&theta.download()?, factors, &d_factors.download()?, &mut sum)?;
                d_theta.write(&sum)
            }
            (Origin::Device(_), None) => Ok(()), // nothing is made where there is nothing to make it
        }
    }

    /// y ← op(Q) x for every vector; all stages in one kernel that reads x once and writes y once. `x` and `y` may be
    /// the same memory, of foreign buffers. Every op of [`Op`] is one of the two that real matrices have.
    ///
    /// # Errors
    /// [`Error::Length`] where n or the batches differ, [`Error::Overlap`] where x and y share memory otherwise,
    /// [`Error::Unsupported`] for buffers of another stream, [`Error::Device`]. Nothing is written then.
    pub fn apply<E: Number>(&self, factors: &DeviceFactors, x: Batch<'_, E>, y: BatchMut<'_, E>, op: Op) -> Result<()> {
        self.check_factors(factors)?;
        let y = y.as_batch();
        self.check("x", &x)?;
        self.check("y", &y)?;
        check_length("batch of y", x.batch(), y.batch())?;
        x.check_apart("x and y", &y, true)?;
        self.apply_at(factors, (x.shape(), x.address()), (y.shape(), y.address()), stored::<E>(), transposes(op))
    }

    /// x ← op(Q) x.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_in_place<E: Number>(&self, factors: &DeviceFactors, x: BatchMut<'_, E>, op: Op) -> Result<()> {
        self.check_factors(factors)?;
        let x = x.as_batch();
        self.check("x", &x)?;
        let x = (x.shape(), x.address());
        self.apply_at(factors, x, x, stored::<E>(), transposes(op))
    }

    fn apply_at(
        &self,
        factors: &DeviceFactors,
        (x, x_at): (Rows, u64),
        (y, y_at): (Rows, u64),
        stored: Stored,
        transposed: bool,
    ) -> Result<()> {
        let call = verbs::apply(&self.forward.schedule, self.tile(stored), stored, transposed, x, y);
        let (numbers, packed) = (factors.numbers.address(), factors.packed.address());
        let index = self.forward.index.address();
        let angles = factors.angles.address();
        let named =
            [("x", x_at), ("y", y_at), ("numbers", numbers), ("angles", angles), ("packed", packed), ("index", index)];
        self.run(call.as_slice(), &named)
    }

    /// The adjoint of the derivative of y = op(Q) x: `gx`, if wanted, ← op(Q)ᵀ gy; `d_factors` (length
    /// [`num_entries`](Plan::num_entries), in the plan's order) += the gradient of all entries. As [`Plan::apply_vjp`],
    /// with sums over the batch in an order that the shape of the batch and the device decide (its shared memory and
    /// its number of multiprocessors). Where [`is_exact`](Plan::is_exact), of a block Q of up to eight rows the tangent
    /// Q·½(QᵀG − GᵀQ) of its gradient G is given: what moves Q among orthogonal matrices, from which the same ∂θ
    /// follows. In half precision gradients of blocks of 16, 32, 48 and 64 may lose 2⁻¹⁶ of the largest. Without `d_factors` this
    /// is [`apply`](Self::apply) the other way, which may round ∂x of half precision otherwise than with them.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and [`Error::Unsupported`] for a saved output unless [`is_exact`](Plan::is_exact),
    /// and, with `d_factors`, for vectors of which two tiles do not fit the shared memory.
    pub fn apply_vjp<E: Number>(
        &self,
        factors: &DeviceFactors,
        saved: Saved<'_, E>,
        op: Op,
        gy: Batch<'_, E>,
        gx: Option<BatchMut<'_, E>>,
        d_factors: Option<&mut Buffer<f32>>,
    ) -> Result<()> {
        self.check_factors(factors)?;
        let (kept, from_input) = match saved {
            Saved::Input(x) => (x, true),
            Saved::Output(y) => (y, false),
        };
        let gx = gx.as_ref().map(BatchMut::as_batch);
        self.check("saved batch", &kept)?;
        self.check("gy", &gy)?;
        check_length("batch of the saved batch", gy.batch(), kept.batch())?;
        if let Some(gx) = &gx {
            self.check("gx", gx)?;
            check_length("batch of gx", gy.batch(), gx.batch())?;
            gy.check_apart("gy and gx", gx, false)?;
            kept.check_apart("saved batch and gx", gx, false)?;
        }
        if let Some(d) = &d_factors {
            check_length("d_factors", self.plan.num_entries(), d.len())?;
            self.stream.check_same("d_factors", d.stream())?;
        }
        if !from_input && !self.plan.is_exact() {
            return Err(Error::Unsupported {
                what: "gradient from the saved output",
                expected: "a plan whose blocks are all orthogonal",
                got: "a plan with other fixed blocks or approximate charts".into(),
            });
        }
        let Some(d_factors) = d_factors else {
            let Some(gx) = gx else { return Ok(()) };
            let (from, to) = ((gy.shape(), gy.address()), (gx.shape(), gx.address()));
            return self.apply_at(factors, from, to, stored::<E>(), !transposes(op));
        };
        let (tile, way) = (self.gradient_tile.clone()?, self.backward());
        let numbers = factors.gradient_numbers.as_ref().unwrap_or(&factors.numbers);
        let multiprocessors = self.stream.device().multiprocessors();
        let wanted = Wanted { from_input, gx: gx.is_some() };
        let size = verbs::sums(&way.schedule);
        let crew = verbs::crew(&way.schedule, tile, stored::<E>(), from_input);
        let scratch = self.stream.scratch::<f32>(verbs::scratch(&way.schedule, crew, multiprocessors, gy.batch()))?;
        let sums = scratch.len().saturating_sub(size);
        let moments = self.stream.scratch::<f64>(way.schedule.tangents.moments)?;
        let gradients = &self.gradients;
        let shapes = [kept.shape(), gy.shape(), gx.as_ref().map_or(gy.shape(), Batch::shape)];
        let calls = verbs::vjp(&way.schedule, tile, stored::<E>(), transposes(op), wanted, multiprocessors, shapes);
        self.run(
            &calls,
            &[
                ("saved", kept.address()),
                ("gy", gy.address()),
                ("gx", gx.as_ref().map_or(0, Batch::address)),
                ("numbers", numbers.address()),
                ("index", way.index.address()),
                ("slots", scratch.address()),
                ("sums", scratch.address() + 4 * sums as u64),
                ("starts", gradients.starts.address()),
                ("places", gradients.places.address()),
                ("moment_starts", gradients.moment_starts.address()),
                ("moment_places", gradients.moment_places.address()),
                ("moments", moments.address()),
                ("entry_numbers", gradients.numbers.address()),
                ("order", gradients.order.address()),
                ("stages", gradients.stages.address()),
                ("packed", factors.packed.address()),
                ("d_factors", d_factors.address()),
            ],
        )
    }

    fn check<E: Number>(&self, what: &'static str, batch: &Batch<'_, E>) -> Result<()> {
        check_length("length n of a batch", self.plan.n(), batch.n())?;
        self.stream.check_same(what, batch.stream())
    }

    /// Q as a matrix of `E`, made by the kernel from the identity and rounded once.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn dense<E: Number>(&self, factors: &DeviceFactors) -> Result<Dense<E>> {
        let n = self.plan.n();
        let mut columns = self.stream.scratch::<E>(n * n)?;
        self.run(&[verbs::identity(n, stored::<E>())], &[("x", columns.address())])?;
        self.apply_in_place(factors, BatchMut::rows(&mut columns, n)?, Op::None)?;
        Ok(Dense { n, columns })
    }

    fn check_factors(&self, factors: &DeviceFactors) -> Result<()> {
        if Arc::ptr_eq(&self.identity, &factors.plan) {
            return Ok(());
        }
        let (expected, got) = ("those that this device plan made".into(), "those of another one".into());
        Err(Error::Size { what: "device factors", expected, got })
    }

    /// Puts these calls into the queue.
    fn run(&self, calls: &[Call<'_>], addresses: &[(&str, u64)]) -> Result<()> {
        for call in calls {
            let address = |name: &str| addresses.iter().find(|(n, _)| *n == name).map_or(0, |(_, address)| *address);
            // SAFETY: the verbs have checked that every batch is memory of this stream with n numbers in each of its
            // rows, that what is written is not read elsewhere, and that tables and numbers are those of the schedule
            // the call was made of. All buffers belong to this stream, so none is given back before the call has run.
            unsafe { self.stream.launch(&self.loaded, call, address)? };
        }
        Ok(())
    }
}

/// What [`DevicePlan::apply_vjp`] starts from.
#[derive(Debug, Clone, Copy)]
pub enum Saved<'a, E> {
    /// x, for any plan.
    Input(Batch<'a, E>),
    /// y = op(Q) x, for orthogonal blocks: one way through the stages is saved.
    Output(Batch<'a, E>),
}

/// Whether a real matrix is transposed.
fn transposes(op: Op) -> bool {
    matches!(op, Op::Adjoint | Op::Transpose)
}
