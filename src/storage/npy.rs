//! NumPy's .npy format, versions 1–3, as far as matrices need it: little- or big-endian `f2`, `f4` and `f8`, C or
//! Fortran order. (The crates that read .npy bring a parser generator for the header, which is a dict of three keys.)
//!
//! Layout: `\x93NUMPY`, version major and minor, header length (u16, from version 2 on u32), a Python dict literal
//! `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3), }`, the data.

use std::format;
use std::io::Read;
use std::path::Path;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::{FloatType, file_error, open_regular, reserve};
use crate::error::{Error, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Numbers read at a time.
const PORTION: usize = 1 << 16;

/// A floating-point array from a .npy file, in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type.
    pub kind: FloatType,
    /// Its elements; the last index runs fastest.
    pub data: Vec<f64>,
}

/// Whether the file begins like a .npy file, or is called like one or like an archive of them (which
/// [`NpyArray::read`] then says is wrong with it).
pub fn is_npy(path: &Path) -> bool {
    let is_called = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy") || e.eq_ignore_ascii_case("npz"));
    let mut magic = [0; 6];
    open_regular(path).is_ok_and(|(mut file, _)| is_called || (file.read_exact(&mut magic).is_ok() && &magic == MAGIC))
}

impl NpyArray {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`] if it is no .npy file, of another element type, truncated or longer than its header says, or
    /// beyond the memory there is.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, length) = open_regular(path)?;
        let unreadable = |e: std::io::Error| file_error(path, "a readable .npy file", e);
        let mut preamble = [0; 8];
        if length < 12 {
            return Err(file_error(path, "a .npy file", format!("a file of {length} bytes")));
        }
        file.read_exact(&mut preamble).map_err(unreadable)?;
        if preamble.starts_with(b"PK\x03\x04") {
            return Err(file_error(path, "a .npy file", "a .npz archive (numpy.save writes one array as .npy)"));
        }
        if &preamble[..6] != MAGIC {
            return Err(file_error(path, "a .npy file", "other first bytes"));
        }
        let wide = match preamble[6] {
            1 => false,
            2 | 3 => true,
            v => return Err(file_error(path, ".npy version 1, 2 or 3", v)),
        };
        let mut size = [0; 4];
        let size_bytes = if wide { 4 } else { 2 };
        file.read_exact(&mut size[..size_bytes]).map_err(unreadable)?;
        let header_length = u64::from(u32::from_le_bytes(size));
        let start = 8 + size_bytes as u64 + header_length;
        if start > length || header_length > 1 << 20 {
            return Err(file_error(path, "a header inside the file", format!("one of {header_length} bytes")));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let header = Header::parse(&String::from_utf8_lossy(&header)).map_err(|e| e.in_file(path))?;

        let count = header.shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent));
        let bytes = count.and_then(|n| n.checked_mul(header.kind.size() as u64));
        if bytes != Some(length - start) {
            let expected = format!("the bytes of {} numbers {:?}", header.kind, header.shape);
            return Err(file_error(path, expected, format!("{} bytes", length - start)));
        }
        let too_large = |got| file_error(path, "an array that fits into memory", got);
        let (count, size) = (((length - start) / header.kind.size() as u64) as usize, header.kind.size());
        let mut data = reserve(count).map_err(too_large)?;
        data.resize(count, 0.0);
        let mut raw = vec![0; PORTION.min(count) * size];
        for portion in data.chunks_mut(PORTION) {
            let raw = &mut raw[..portion.len() * size];
            file.read_exact(raw).map_err(unreadable)?;
            if header.big_endian {
                raw.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            }
            header.kind.decode(raw, portion);
        }
        let shape: Vec<usize> = header.shape.iter().map(|&extent| extent as usize).collect();
        if header.fortran {
            let mut ordered = reserve(count).map_err(too_large)?;
            reverse_axes(&data, &shape, &mut ordered);
            data = ordered;
        }
        Ok(Self { shape, kind: header.kind, data })
    }
}

/// The dict at the head of the file.
struct Header {
    kind: FloatType,
    big_endian: bool,
    fortran: bool,
    shape: Vec<u64>,
}

/// What the header should say and says.
struct HeaderError(&'static str, String);

impl HeaderError {
    fn in_file(self, path: &Path) -> Error {
        file_error(path, self.0, self.1)
    }
}

impl Header {
    fn parse(text: &str) -> core::result::Result<Self, HeaderError> {
        let fail = |expected| HeaderError(expected, format!("header `{}`", text.trim().escape_debug()));
        let descr = field(text, "descr").and_then(quoted).ok_or(fail("a `descr` that is a string"))?;
        let (kind, big_endian) = match descr {
            "<f2" | "|f2" => (FloatType::F16, false),
            ">f2" => (FloatType::F16, true),
            "<f4" | "|f4" => (FloatType::F32, false),
            "<f8" | "|f8" => (FloatType::F64, false),
            ">f4" => (FloatType::F32, true),
            ">f8" => (FloatType::F64, true),
            other => return Err(HeaderError("element type f2, f4 or f8", format!("`{other}`"))),
        };
        let fortran = match field(text, "fortran_order") {
            Some(rest) if rest.starts_with("False") => false,
            Some(rest) if rest.starts_with("True") => true,
            _ => return Err(fail("`fortran_order` True or False")),
        };
        let tuple = field(text, "shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
        let tuple = tuple.ok_or(fail("a `shape` that is a tuple"))?.0.trim();
        let tuple = tuple.strip_suffix(',').unwrap_or(tuple);
        let extents = tuple.split(',').filter(|_| !tuple.is_empty());
        let shape: Option<Vec<u64>> = extents.map(|extent| extent.trim().parse().ok()).collect();
        let shape = shape.filter(|s| s.len() <= 32).ok_or(fail("a `shape` of whole numbers"))?;
        Ok(Self { kind, big_endian, fortran, shape })
    }
}

/// What follows `'key':` in a dict literal.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    ['\'', '"'].iter().find_map(|quote| {
        let (_, rest) = text.split_once(&format!("{quote}{key}{quote}"))?;
        rest.trim_start().strip_prefix(':').map(str::trim_start)
    })
}

/// The contents of the string literal at the start of `text`.
fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    text[1..].split_once(quote).map(|(inside, _)| inside)
}

/// From Fortran order to C order: element (i₀, …, iₖ) moves from Σ iₜ·Π_{u<t} nᵤ to Σ iₜ·Π_{u>t} nᵤ.
fn reverse_axes(data: &[f64], shape: &[usize], ordered: &mut Vec<f64>) {
    let Some((&columns, rest)) = shape.split_last() else { return ordered.extend_from_slice(data) };
    // In Fortran order the last index is the slowest, so an array is `columns` arrays of the shape `rest`, one after
    // the other. Element (r, c), r counting through `rest` in C order, is element r of array c.
    let rows: usize = rest.iter().product();
    let mut places = vec![0; rest.len()];
    for _ in 0..rows {
        let from = places.iter().zip(rest).rev().fold(0, |at, (&i, &extent)| at * extent + i);
        ordered.extend((0..columns).map(|c| data[c * rows + from]));
        for (place, &extent) in places.iter_mut().zip(rest).rev() {
            *place += 1;
            if *place < extent {
                break;
            }
            *place = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn file(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn read(header: &str, data: &[u8]) -> Result<NpyArray> {
        NpyArray::read(file(header, data).path())
    }

    #[test]
    fn both_orders_and_byte_orders_give_the_same_matrix() {
        let rows: Vec<u8> = (1..=6).flat_map(|x| f64::from(x).to_le_bytes()).collect();
        let columns: Vec<u8> = [1, 4, 2, 5, 3, 6].iter().flat_map(|&x| (x as f32).to_be_bytes()).collect();
        let c = read("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }   \n", &rows).unwrap();
        let f = read("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }", &columns).unwrap();
        assert_eq!(c.data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((&c.shape, &c.data), (&f.shape, &f.data));
        assert_eq!((c.kind, f.kind), (FloatType::F64, FloatType::F32));
        let halves: Vec<u8> = (1..=24).flat_map(|x| half::f16::from_f64(f64::from(x)).to_le_bytes()).collect();
        let cube = read("{'descr': '<f2', 'fortran_order': True, 'shape': (2, 3, 4)}", &halves).unwrap();
        let place = |i: usize| 1.0 + (i / 12 + 2 * (i / 4 % 3) + 6 * (i % 4)) as f64;
        assert_eq!(cube.data, (0..24).map(place).collect::<Vec<_>>());
        assert_eq!(read("{'descr': '<f8', 'fortran_order': True, 'shape': ()}", &rows[..8]).unwrap().data, [1.0]);
        assert!(read("{'descr': '<f8', 'fortran_order': True, 'shape': (0, 3)}", &[]).unwrap().data.is_empty());
        assert_eq!(read("{\"shape\":(6,),\"fortran_order\":False,\"descr\":\"<f8\"}", &rows).unwrap().shape, [6]);
    }

    #[test]
    fn hostile_headers_are_errors() {
        for header in [
            "",
            "{}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-2, 3)}",
            "{'descr': '<f8', 'fortran_order': Maybe, 'shape': (2, 3)}",
            "{'descr': '<c16', 'fortran_order': False, 'shape': (2, 3)}",
            "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2, 3)}",
            "{'descr': 'é",
        ] {
            let error = read(header, &[0; 48]).unwrap_err().to_string();
            assert!(error.contains("expected"), "{header}: {error}");
        }
        for cut in 0..12 {
            let whole = file("{}", &[]);
            std::fs::write(whole.path(), &std::fs::read(whole.path()).unwrap()[..cut]).unwrap();
            assert!(NpyArray::read(whole.path()).is_err());
        }
    }
}
