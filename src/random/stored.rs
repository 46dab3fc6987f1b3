//! The stored form of a rotation: what it is drawn from, in 24 bytes.

use alloc::format;
use alloc::string::ToString;

use super::rotation::RandomRotation;
use crate::error::{Error, Result, check_length};
use crate::scalar::Real;

/// Bytes of the stored form.
const LENGTH: usize = 24;
const MAGIC: &[u8; 5] = b"papro";
/// Of the definition in [`super`].
const VERSION: u8 = 1;
/// This construction; others may follow.
const KIND: u8 = 1;

impl<T: Real> RandomRotation<T> {
    /// All that the rotation is drawn from: `papro`, the version and the kind (1 and 1), the number of rounds, n and the seed (8
    /// bytes each, little endian). The element type is the caller's: the bits of a rotation in `f32` and in `f64` differ.
    ///
    /// ```
    /// use papilio::random::RandomRotation;
    /// let rotation = RandomRotation::<f32>::new(768, 7)?;
    /// let stored: [u8; 24] = rotation.to_bytes();
    /// let again = RandomRotation::<f32>::from_bytes(&stored, 768)?;
    /// let (mut x, mut y) = (vec![1.0; 768], vec![1.0; 768]);
    /// rotation.apply(&mut x)?;
    /// again.apply(&mut y)?;
    /// assert_eq!(x, y);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..5].copy_from_slice(MAGIC);
        bytes[5..8].copy_from_slice(&[VERSION, KIND, self.rounds() as u8]);
        bytes[8..16].copy_from_slice(&(self.n() as u64).to_le_bytes());
        bytes[16..].copy_from_slice(&self.seed().to_le_bytes());
        bytes
    }

    /// The rotation that was stored. The reader says for which `n`: bytes that name another one are refused, so no file decides how
    /// much memory is taken.
    ///
    /// # Errors
    /// [`Error::Length`] for another number of bytes; [`Error::Unsupported`] for bytes of something else, of a later version or of
    /// another kind; [`Error::Size`] for another n, or for numbers that [`with_rounds`](Self::with_rounds) refuses.
    pub fn from_bytes(bytes: &[u8], n: usize) -> Result<Self> {
        check_length("stored random rotation", LENGTH, bytes.len())?;
        let refuse = |expected, got| Err(Error::Unsupported { what: "stored random rotation", expected, got });
        if bytes[..5] != *MAGIC {
            return refuse("the bytes `papro` first", format!("{:?}", &bytes[..5]));
        }
        if bytes[5] != VERSION {
            return refuse("version 1", bytes[5].to_string());
        }
        if bytes[6] != KIND {
            return refuse("kind 1", bytes[6].to_string());
        }
        let word = |at: usize| (0..8).fold(0, |word, i| word | u64::from(bytes[at + i]) << (8 * i));
        if word(8) != n as u64 {
            let expected = format!("n = {n}");
            return Err(Error::Size { what: "stored random rotation", expected, got: word(8).to_string() });
        }
        Self::with_rounds(n, word(16), usize::from(bytes[7]))
    }
}
