//! Numbers in a device's memory, and batches of vectors in them.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use core::ops::Range;
use std::format;
use std::string::ToString;
use std::vec::Vec;

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits};
use half::{bf16, f16};

use super::device::Stream;
use super::driver::failed;
use super::program::Stored;
use super::verbs::Rows;
use crate::error::{Error, Result, check_length};

mod sealed {
    pub trait Sealed {
        /// Of `Stored`'s variants.
        const STORED: usize;
    }
}
use sealed::Sealed;

/// A number that vectors on a device are stored as: `f32`, `half::bf16` or `half::f16`; computed with as `f32`.
#[allow(private_bounds)] // sealed
pub trait Number: Sealed + crate::Element<Scalar = f32> + DeviceRepr + ValidAsZeroBits {}

macro_rules! numbers {
    ($($t:ident $stored:literal),*) => {$(
        impl Sealed for $t {
            const STORED: usize = $stored;
        }
        impl Number for $t {}
    )*};
}
numbers!(f32 0, bf16 1, f16 2);

/// How these numbers are stored.
pub(super) fn stored<E: Number>() -> Stored {
    [Stored::F32, Stored::Bf16, Stored::F16][E::STORED]
}

/// Numbers in a device's memory. It belongs to the stream that made it: work of other streams is refused, and the
/// memory is given back when that stream has come so far.
#[derive(Debug)]
pub struct Buffer<E> {
    memory: Memory<E>,
    len: usize,
    stream: Stream,
}

#[derive(Debug)]
enum Memory<E> {
    Owned(CudaSlice<E>),
    Foreign(u64),
}

impl Stream {
    /// A copy of these numbers.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn upload<E: DeviceRepr + ValidAsZeroBits>(&self, numbers: &[E]) -> Result<Buffer<E>> {
        if numbers.is_empty() {
            return self.zeros(0);
        }
        let memory = Memory::Owned(self.stream.clone_htod(numbers).map_err(failed("copy to the device"))?);
        self.synchronize()?; // the driver may still be reading them
        Ok(Buffer { memory, len: numbers.len(), stream: self.clone() })
    }

    /// That many zeros.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error::Size`] for more than memory has addresses.
    pub fn zeros<E: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> Result<Buffer<E>> {
        check_bytes::<E>(len)?;
        // Nothing of length zero is ever allocated.
        let memory = Memory::Owned(self.stream.alloc_zeros(len.max(1)).map_err(failed("device memory"))?);
        Ok(Buffer { memory, len, stream: self.clone() })
    }

    /// That many numbers that a kernel writes before anyone reads them.
    pub(super) fn scratch<E: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> Result<Buffer<E>> {
        check_bytes::<E>(len)?;
        let memory = match len {
            0 => Memory::Foreign(0), // which no kernel looks at
            // SAFETY: any bytes are numbers, and those that no kernel has written are not read but for sums that nobody
            // reads.
            _ => Memory::Owned(unsafe { self.stream.alloc(len) }.map_err(failed("device memory"))?),
        };
        Ok(Buffer { memory, len, stream: self.clone() })
    }

    /// Memory that someone else owns, without a copy: a framework's tensor at this device address.
    ///
    /// # Safety
    /// * `address` is device memory of this stream's device, aligned for `E`, of `len` numbers, and lives until this
    ///   buffer has been dropped and the work on it has ended.
    /// * Work of others on it is ordered with this stream by the caller.
    /// * Of the buffers given to one call, those that are written to overlap no other, but x and y of an `apply` in place.
    pub unsafe fn borrow<E>(&self, address: u64, len: usize) -> Buffer<E> {
        Buffer { memory: Memory::Foreign(address), len, stream: self.clone() }
    }
}

/// Refuses what has no address: cudarc would multiply without looking.
fn check_bytes<E>(len: usize) -> Result<()> {
    if len.checked_mul(size_of::<E>()).is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    let expected = format!("at most {} bytes", isize::MAX);
    Err(Error::Size { what: "buffer", expected, got: format!("{len} numbers of {} bytes", size_of::<E>()) })
}

/// Memory is given back in its stream's order, on whatever thread: the driver means the device that is bound there.
impl<E> Drop for Buffer<E> {
    fn drop(&mut self) {
        // An error of before is told first, and binds nothing.
        if self.stream.bind().is_err() {
            _ = self.stream.bind();
        }
    }
}

impl<E> Buffer<E> {
    /// Number of numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The stream it belongs to.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Its device address.
    pub fn address(&self) -> u64 {
        match &self.memory {
            // The guard orders streams; there is only one.
            Memory::Owned(slice) => slice.device_ptr(&self.stream.stream).0,
            Memory::Foreign(address) => *address,
        }
    }

    /// Waits, and copies all numbers to the host.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn download(&self) -> Result<Vec<E>>
    where
        E: DeviceRepr + ValidAsZeroBits + Clone + Default,
    {
        let mut numbers = std::vec![E::default(); self.len];
        if self.len > 0 {
            let what = "copy from the device";
            self.stream.bind()?;
            // SAFETY: both are as long as `numbers`; the stream is waited for before they are used or dropped.
            unsafe {
                let stream = self.stream.stream.cu_stream();
                cudarc::driver::result::memcpy_dtoh_async(&mut numbers, self.address(), stream)
                    .map_err(failed(what))?;
            }
            self.stream.synchronize()?;
        }
        Ok(numbers)
    }

    /// Overwrites all numbers by those of the host.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Device`].
    pub fn write(&mut self, numbers: &[E]) -> Result<()>
    where
        E: DeviceRepr,
    {
        check_length("numbers for a buffer", self.len, numbers.len())?;
        if self.len > 0 {
            self.stream.bind()?;
            // SAFETY: both are of the same length; the stream is waited for before `numbers` can go.
            unsafe {
                let stream = self.stream.stream.cu_stream();
                cudarc::driver::result::memcpy_htod_async(self.address(), numbers, stream)
                    .map_err(failed("copy to the device"))?;
            }
            self.stream.synchronize()?;
        }
        Ok(())
    }

    /// Overwrites all numbers by those of a buffer of the same stream.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Unsupported`] for another stream's, [`Error::Device`].
    pub fn copy_from(&mut self, other: &Buffer<E>) -> Result<()> {
        check_length("numbers for a buffer", self.len, other.len)?;
        self.stream.check_same("buffer to copy", &other.stream)?;
        if self.len > 0 {
            self.stream.bind()?;
            // SAFETY: both have that many bytes and belong to this stream.
            unsafe {
                let (stream, bytes) = (self.stream.stream.cu_stream(), self.len * size_of::<E>());
                cudarc::driver::result::memcpy_dtod_async(self.address(), other.address(), bytes, stream)
            }
            .map_err(failed("copy on the device"))?;
        }
        Ok(())
    }

    /// Overwrites all numbers by zeros.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn clear(&mut self) -> Result<()> {
        if self.len > 0 {
            self.stream.bind()?;
            // SAFETY: the buffer has that many bytes.
            unsafe {
                let (stream, bytes) = (self.stream.stream.cu_stream(), self.len * size_of::<E>());
                cudarc::driver::result::memset_d8_async(self.address(), 0, bytes, stream)
            }
            .map_err(failed("device memory"))?;
        }
        Ok(())
    }
}

/// Where vectors are in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: usize,
    batch: usize,
    n: usize,
    stride: usize,
}

impl Place {
    fn rows(len: usize, n: usize) -> Result<Self> {
        if n == 0 || !len.is_multiple_of(n) {
            let expected = format!("a length that is a multiple of n = {n}");
            return Err(Error::Size { what: "rows of a buffer", expected, got: len.to_string() });
        }
        Ok(Self { offset: 0, batch: len / n, n, stride: n })
    }

    fn strided(len: usize, offset: usize, [batch, n]: [usize; 2], stride: usize, writes: bool) -> Result<Self> {
        let end = match batch {
            0 => Some(offset),
            _ => (batch - 1).checked_mul(stride).and_then(|x| x.checked_add(offset)?.checked_add(n)),
        };
        if n == 0 || end.is_none_or(|end| end > len) {
            let expected = format!("vectors inside the buffer's {len} numbers");
            let got = format!("{batch} of n = {n}, one every {stride}, from {offset} on");
            return Err(Error::Size { what: "batch of a buffer", expected, got });
        }
        if writes && batch > 1 && stride < n {
            let (what, expected) = ("batch of a buffer", "vectors that do not overlap");
            return Err(Error::Overlap { what, expected, got: format!("n = {n}, one every {stride}") });
        }
        Ok(Self { offset, batch, n, stride })
    }
}

/// Vectors to be read, each of n neighbouring numbers.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a, E> {
    buffer: &'a Buffer<E>,
    place: Place,
}

/// Vectors to be written.
#[derive(Debug)]
pub struct BatchMut<'a, E> {
    buffer: &'a mut Buffer<E>,
    place: Place,
}

impl<'a, E: Number> Batch<'a, E> {
    /// All of the buffer as vectors of length `n`, one after the other.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of n ≥ 1.
    pub fn rows(buffer: &'a Buffer<E>, n: usize) -> Result<Self> {
        Ok(Self { buffer, place: Place::rows(buffer.len, n)? })
    }

    /// `batch` vectors of length `n`, from number `offset` on, one every `stride` numbers (0 repeats one).
    ///
    /// # Errors
    /// [`Error::Size`] for n = 0 and for vectors beyond the buffer.
    pub fn strided(buffer: &'a Buffer<E>, offset: usize, [batch, n]: [usize; 2], stride: usize) -> Result<Self> {
        Ok(Self { buffer, place: Place::strided(buffer.len, offset, [batch, n], stride, false)? })
    }
}

impl<'a, E: Number> BatchMut<'a, E> {
    /// As [`Batch::rows`].
    ///
    /// # Errors
    /// Likewise.
    pub fn rows(buffer: &'a mut Buffer<E>, n: usize) -> Result<Self> {
        let place = Place::rows(buffer.len, n)?;
        Ok(Self { buffer, place })
    }

    /// As [`Batch::strided`].
    ///
    /// # Errors
    /// Likewise; [`Error::Overlap`] for vectors that share memory.
    pub fn strided(buffer: &'a mut Buffer<E>, offset: usize, [batch, n]: [usize; 2], stride: usize) -> Result<Self> {
        let place = Place::strided(buffer.len, offset, [batch, n], stride, true)?;
        Ok(Self { buffer, place })
    }

    /// To be read.
    pub fn as_batch(&self) -> Batch<'_, E> {
        Batch { buffer: self.buffer, place: self.place }
    }
}

impl<E: Number> Batch<'_, E> {
    /// Number of vectors.
    pub fn batch(&self) -> usize {
        self.place.batch
    }

    /// Their length.
    pub fn n(&self) -> usize {
        self.place.n
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.buffer.stream
    }

    pub(super) fn stride(&self) -> usize {
        self.place.stride
    }

    /// Address of the first vector.
    pub(super) fn address(&self) -> u64 {
        self.buffer.address() + (self.place.offset * size_of::<E>()) as u64
    }

    /// As kernels see it.
    pub(super) fn shape(&self) -> Rows {
        let (batch, stride) = (self.place.batch, self.place.stride);
        let aligned = self.address().is_multiple_of(16) && (stride * size_of::<E>()).is_multiple_of(16);
        Rows { batch, stride, aligned }
    }

    fn extent(&self) -> Range<u64> {
        let Place { batch, n, stride, .. } = self.place;
        let numbers = if batch == 0 { 0 } else { (batch - 1) * stride + n };
        self.address()..self.address() + (numbers * size_of::<E>()) as u64
    }

    /// [`Error::Overlap`] where this and `other` share memory, unless they are the same view and that is allowed.
    pub(super) fn check_apart(&self, what: &'static str, other: &Self, or_same: bool) -> Result<()> {
        let (a, b) = (self.extent(), other.extent());
        let same =
            or_same && a == b && self.place.stride == other.place.stride && self.place.batch == other.place.batch;
        if same || a.end <= b.start || b.end <= a.start {
            return Ok(());
        }
        let expected = if or_same { "the same view or disjoint memory" } else { "disjoint memory" };
        Err(Error::Overlap { what, expected, got: format!("addresses {a:#x?} and {b:#x?}") })
    }
}
