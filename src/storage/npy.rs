//! NumPy's .npy format, versions 1–3, as far as matrices need it: little- or big-endian `f2`, `f4`, `f8`, `c8` and `c16`, C or
//! Fortran order; written as version 1, little-endian, in C order. (The crates that read .npy bring a parser generator for the
//! header, which is a dict of three keys.)
//!
//! Layout: `\x93NUMPY`, version major and minor, header length (u16, from version 2 on u32), a Python dict literal
//! `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3), }`, the data.

use std::format;
use std::io::{Read, Write};
use std::path::Path;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::{FloatType, Output, file_error, open_regular, reserve, unwritable};
use crate::error::{Error, Result, check_length};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Numbers read at a time.
const PORTION: usize = 1 << 16;

/// A floating-point array from a .npy file, in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type, or that of real and imaginary parts.
    pub kind: FloatType,
    /// Whether its elements are complex.
    pub is_complex: bool,
    /// Its elements; the last index runs fastest. Complex ones take two places, real part first.
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

        let parts = if header.is_complex { 2 } else { 1 };
        let count = header.shape.iter().try_fold(parts, |n: u64, &extent| n.checked_mul(extent));
        let bytes = count.and_then(|n| n.checked_mul(header.kind.size() as u64));
        if bytes != Some(length - start) {
            let numbers = if header.is_complex { "complex numbers" } else { "numbers" };
            let expected = format!("the bytes of {} {numbers} {:?}", header.kind, header.shape);
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
            reverse_axes(&data, &shape, parts as usize, &mut ordered);
            data = ordered;
        }
        Ok(Self { shape, kind: header.kind, is_complex: header.is_complex, data })
    }

    /// Writes the array to a file that appears whole or not at all, each number rounded to [`kind`](Self::kind). With `replace` a
    /// file that is empty, or a .npy or safetensors file, is replaced.
    ///
    /// # Errors
    /// [`Error::Length`] if the elements are not as many as the shape says; [`Error::File`] from the system, for a path that holds
    /// something else, and for a `kind` that NumPy does not have (`bf16`).
    pub fn write(&self, path: &Path, replace: bool) -> Result<()> {
        let parts = if self.is_complex { 2 } else { 1 };
        let count = self.shape.iter().fold(parts, |n: usize, &extent| n.saturating_mul(extent));
        check_length("elements of the array", count, self.data.len())?;
        let descr = match (self.kind, self.is_complex) {
            (FloatType::F16, false) => "<f2",
            (FloatType::F32, false) => "<f4",
            (FloatType::F64, false) => "<f8",
            (FloatType::F32, true) => "<c8",
            (FloatType::F64, true) => "<c16",
            (kind, _) => return Err(file_error(path, "a type of NumPy's", kind.name())),
        };
        let extents: String = self.shape.iter().map(|extent| format!("{extent}, ")).collect();
        let tuple = if let [_] = self.shape[..] { extents.trim_end() } else { extents.trim_end_matches(", ") };
        let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({tuple}), }}");
        // The data begin at a multiple of 64 bytes.
        let length = (MAGIC.len() + 4 + dict.len() + 1).next_multiple_of(64) - MAGIC.len() - 4;
        let header =
            u16::try_from(length).map_err(|_| file_error(path, "a shape of few dimensions", self.shape.len()))?;
        let output = Output::file(path, replace)?;
        let failed = |e: std::io::Error| unwritable(path, e);
        let mut file = std::fs::File::create(output.path("")).map_err(failed)?;
        file.write_all(&[&MAGIC[..], &[1, 0], &header.to_le_bytes()].concat()).map_err(failed)?;
        file.write_all(format!("{dict:<width$}\n", width = length - 1).as_bytes()).map_err(failed)?;
        let size = self.kind.size();
        let mut bytes = vec![0; PORTION.min(count) * size];
        for portion in self.data.chunks(PORTION) {
            let bytes = &mut bytes[..portion.len() * size];
            self.kind.encode(&mut portion.to_vec(), bytes);
            file.write_all(bytes).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        output.commit()
    }
}

/// The dict at the head of the file.
struct Header {
    kind: FloatType,
    is_complex: bool,
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
        let (order, name) = descr.split_at_checked(1).unwrap_or_default();
        let (kind, is_complex) = match name {
            "f2" => (FloatType::F16, false),
            "f4" => (FloatType::F32, false),
            "f8" => (FloatType::F64, false),
            "c8" => (FloatType::F32, true),
            "c16" => (FloatType::F64, true),
            _ => return Err(HeaderError("element type f2, f4, f8, c8 or c16", format!("`{descr}`"))),
        };
        if !["<", "|", ">"].contains(&order) {
            return Err(HeaderError("a byte order `<` or `>`", format!("`{descr}`")));
        }
        let big_endian = order == ">";
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
        Ok(Self { kind, is_complex, big_endian, fortran, shape })
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

/// From Fortran order to C order: element (i₀, …, iₖ) moves from Σ iₜ·Π_{u<t} nᵤ to Σ iₜ·Π_{u>t} nᵤ. Elements have `parts` numbers.
fn reverse_axes(data: &[f64], shape: &[usize], parts: usize, ordered: &mut Vec<f64>) {
    let Some((&columns, rest)) = shape.split_last() else { return ordered.extend_from_slice(data) };
    // In Fortran order the last index is the slowest, so an array is `columns` arrays of the shape `rest`, one after
    // the other. Element (r, c), r counting through `rest` in C order, is element r of array c.
    let rows: usize = rest.iter().product();
    let mut places = vec![0; rest.len()];
    for _ in 0..rows {
        let from = places.iter().zip(rest).rev().fold(0, |at, (&i, &extent)| at * extent + i);
        (0..columns).for_each(|c| ordered.extend_from_slice(&data[(c * rows + from) * parts..][..parts]));
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
    fn complex_numbers_are_pairs_in_every_order() {
        let columns: Vec<u8> = [1, 2, 5, 6, 3, 4, 7, 8].iter().flat_map(|&x| (x as f32).to_be_bytes()).collect();
        let found = read("{'descr': '>c8', 'fortran_order': True, 'shape': (2, 2), }", &columns).unwrap();
        assert_eq!((found.is_complex, found.kind, found.shape), (true, FloatType::F32, vec![2, 2]));
        assert_eq!(found.data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npy");
        let numbers: Vec<f64> = (0..12).map(|i| f64::from(i) - 0.5).collect();
        for (kind, is_complex, shape) in [
            (FloatType::F64, false, vec![3, 4]),
            (FloatType::F32, false, vec![12]),
            (FloatType::F16, false, vec![2, 1, 6]),
            (FloatType::F64, true, vec![2, 3]),
            (FloatType::F32, true, vec![6]),
            (FloatType::F64, false, vec![0, 5]),
            (FloatType::F64, false, vec![]),
        ] {
            let count = shape.iter().product::<usize>() * if is_complex { 2 } else { 1 };
            let array = NpyArray { shape, kind, is_complex, data: numbers[..count].to_vec() };
            array.write(&path, true).unwrap();
            assert_eq!(NpyArray::read(&path).unwrap(), array);
            assert_eq!((std::fs::metadata(&path).unwrap().len() - (count * kind.size()) as u64) % 64, 0);
        }
        let array = NpyArray { shape: vec![2], kind: FloatType::F64, is_complex: false, data: vec![1.0] };
        assert!(matches!(array.write(&path, true), Err(Error::Length { .. })));
        let array = NpyArray { shape: vec![1], kind: FloatType::Bf16, ..array };
        assert!(array.write(&path, true).unwrap_err().to_string().contains("bf16"));
        let array = NpyArray { kind: FloatType::F64, ..array };
        assert!(array.write(&path, false).unwrap_err().to_string().contains("--force"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
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
            "{'descr': '=f8', 'fortran_order': False, 'shape': (2, 3)}",
            "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3)}",
            "{'descr': '', 'fortran_order': False, 'shape': (2, 3)}",
            "{'descr': 'é8', 'fortran_order': False, 'shape': (2, 3)}",
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
