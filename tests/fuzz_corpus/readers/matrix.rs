//! A matrix in a .npy file: `NpyArray::read` and `Matrix::read`.
//!
//! An input that begins with `{` is the dict of a header and, after a zero byte, data: what goes before is added, of the version
//! that its length needs. Any other is the file as it is.

use papilio::storage::{Matrix, NpyArray, is_npy};

use super::{Files, heard, parts};

/// Reads it, and what it writes of it.
pub fn matrix(input: &[u8]) -> bool {
    let bytes = match input {
        [b'{', ..] => {
            let [header, data] = parts(input);
            let short = u16::try_from(header.len()).ok().map(|length| [&[1, 0], &length.to_le_bytes()[..]].concat());
            let long = || [&[2, 0], &(header.len() as u32).to_le_bytes()[..]].concat();
            [b"\x93NUMPY", &short.unwrap_or_else(long)[..], header, data].concat()
        }
        _ => input.to_vec(),
    };
    let files = Files::new();
    let path = files.write("a.npy", &bytes);
    assert!(is_npy(&path));
    let (array, matrix) = (heard(NpyArray::read(&path)), heard(Matrix::read(&path, None)));
    assert!(heard(Matrix::read(&path, Some("a"))).is_none());
    let Some(array) = array else {
        assert!(matrix.is_none());
        return false;
    };
    let count: usize = array.shape.iter().product();
    assert_eq!(array.data.len(), if array.is_complex { 2 * count } else { count });
    if let Some(matrix) = matrix {
        assert_eq!((&[matrix.n; 2][..], matrix.data), (&array.shape[..], array.data.clone()));
    }
    let out = files.path("again.npy");
    array.write(&out, true).expect("an array that can be written");
    let again = NpyArray::read(&out).expect("a file that can be read again");
    assert_eq!((again.shape, again.kind, again.is_complex), (array.shape, array.kind, array.is_complex));
    let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    assert!(again.data.iter().zip(&array.data).all(same));
    files.check_no_temporaries();
    true
}
