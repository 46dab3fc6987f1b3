//! Random rotations on a device, with the bits of every CPU.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use std::format;
use std::vec::Vec;

use super::buffer::{BatchMut, Buffer, Number, stored};
use super::call::{Argument, Call, Kernel, text};
use super::device::Stream;
use super::loaded::Loaded;
use super::program::{self, Stored, Turn};
use super::tile::Tile;
use super::verbs::Rows;
use crate::error::{Error, Result, check_length};
use crate::random::rotation::scale;
use crate::random::wiring::{Round, Shape, draw};
use crate::random::{Direction, RandomRotation};

/// A [`RandomRotation`] on a device: the same vectors, bit by bit, for those that are stored as `f32`. It belongs to a
/// stream.
#[derive(Debug)]
pub struct DeviceRotation {
    stream: Stream,
    turn: Turn,
    tile: Tile,
    data: Buffer<u32>,
    loaded: Loaded,
}

impl DeviceRotation {
    /// The rotation on the stream's device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for vectors that do not fit the device's shared memory (58112 coordinates where it is 227
    /// KiB); [`Error::Device`].
    pub fn new(stream: &Stream, rotation: &RandomRotation<f32>) -> Result<Self> {
        let (turn, data) = drawn(rotation.n(), rotation.seed(), rotation.rounds());
        let tile = tile(&turn, stream.device().shared())?;
        Ok(Self { stream: stream.clone(), turn, tile, data: stream.upload(&data)?, loaded: Loaded::default() })
    }

    /// Every vector x ← Q x, or Qᵀ x, computed in `f32` and rounded once.
    ///
    /// # Errors
    /// [`Error::Length`] if the vectors have another length, [`Error::Unsupported`] for a buffer of another stream,
    /// [`Error::Device`]. Nothing is written then.
    pub fn apply<E: Number>(&self, vectors: BatchMut<'_, E>, direction: Direction) -> Result<()> {
        let x = vectors.as_batch();
        check_length("length n of a random rotation's vectors", self.turn.n, x.n())?;
        self.stream.check_same("vectors", x.stream())?;
        let back = direction == Direction::Inverse;
        let Some(call) = call(&self.turn, self.tile, stored::<E>(), back, x.shape()) else { return Ok(()) };
        let address = |name: &str| if name == "x" { x.address() } else { self.data.address() };
        // SAFETY: the view was checked when it was made, its rows have n numbers, nothing else of this stream writes to
        // it meanwhile, and the data are those of this rotation.
        unsafe { self.stream.launch(&self.loaded, &call, address) }
    }
}

/// What is compiled, and for every block of every round the starts of its units and its signs.
pub(super) fn drawn(n: usize, seed: u64, rounds: usize) -> (Turn, Vec<u32>) {
    let shape = Shape::of(n);
    let mut data = Vec::new();
    for block in draw(shape, seed, rounds) {
        data.extend(block.starts);
        data.extend(block.signs.iter().chain(&block.between).flat_map(|word| [*word as u32, (*word >> 32) as u32]));
    }
    let bits = |round| scale::<f32>(shape.stages(round)).to_bits();
    let turn = Turn {
        n,
        block: shape.block,
        unit: shape.unit,
        blocks: shape.blocks,
        rounds,
        disjoint: shape.blocks * shape.block == n,
        scale: bits(Round::Opening),
        scale_middle: bits(Round::Middle),
    };
    (turn, data)
}

/// Four vectors in a chunk if they fit, and as many chunks as give 256 threads a pair each.
pub(super) fn tile(turn: &Turn, shared: usize) -> Result<Tile> {
    let cut = |chunk, planes| Tile { chunk, planes, together: 1, threads: 32, ahead: 0, kept: false };
    let bytes = |chunk, planes| cut(chunk, planes).bytes(turn.n);
    let Some(chunk) = [4, 2, 1].into_iter().find(|chunk| bytes(*chunk, 1) <= shared) else {
        return Err(Error::Unsupported {
            what: "random rotation on this device",
            expected: "vectors that fit the shared memory",
            got: format!("n = {}, {shared} bytes", turn.n),
        });
    };
    let pairs = (turn.block / 2 * if turn.disjoint { turn.blocks } else { 1 }).max(1);
    let mut planes = 1;
    while pairs * planes < 256 && bytes(chunk, 2 * planes) <= shared.min(33 << 10) {
        planes *= 2;
    }
    Ok(Tile { threads: (pairs * planes).next_multiple_of(32).clamp(32, 512), ..cut(chunk, planes) })
}

/// Vectors turned in place.
pub(super) fn call<'a>(turn: &Turn, tile: Tile, stored: Stored, back: bool, x: Rows) -> Option<Call<'a>> {
    use Argument::{Buffer, Integer};
    let (turn, aligned) = (*turn, x.aligned && turn.n.is_multiple_of(4));
    (x.batch > 0).then(|| Call {
        kernel: Kernel::Turn { tile, stored, aligned, back },
        program: text(move || program::turn(&turn, tile, stored, aligned, back)),
        blocks: x.batch.div_ceil(tile.vectors()),
        threads: tile.threads,
        shared: tile.bytes(turn.n),
        arguments: Vec::from([Buffer("x"), Integer(x.stride as i64), Integer(x.batch as i64), Buffer("data")]),
    })
}
