//! A safetensors file.
//!
//! An input that begins with `{` is a header and, after a zero byte, data: the length that goes before is added. Any other is the
//! file as it is.

use std::fs::File;

use papilio::adapter::Adapter;
use papilio::archive::scalar_of;
use papilio::storage::{Checkpoint, Container, FloatType, Matrix, TensorInfo, TensorSpec, Writer};

use super::{Files, heard, parts};

/// Reads it as what it is, and by everything that looks into files of any kind.
pub fn container(input: &[u8]) -> bool {
    let bytes = match input {
        [b'{', ..] => {
            let [header, data] = parts(input);
            [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
        }
        _ => input.to_vec(),
    };
    let files = Files::new();
    let path = files.write("a.safetensors", &bytes);
    let opened = heard(Container::open(&path));
    let model = heard(Checkpoint::open(&path));
    let (is_adapter, scalar) = (heard(Adapter::is_at(&path)), heard(scalar_of(&path)));
    let _ = heard(Adapter::open(&path));
    let Some(file) = opened else {
        // Those that look into files of any kind know .npy, too, by its first bytes.
        assert!(model.is_none() && (is_adapter.is_none() || bytes.starts_with(b"\x93NUMPY")) || scalar.is_some());
        return false;
    };
    assert_eq!(model.expect("a model").tensors().count(), file.tensors().len());
    assert!(is_adapter.is_some() && scalar.is_some());
    let _ = heard(Matrix::read(&path, None));
    let held: u64 = file.tensors().iter().map(TensorInfo::num_bytes).sum();
    assert!(held < bytes.len() as u64);
    for tensor in file.tensors() {
        assert_eq!(file.get(&tensor.name), Some(tensor));
        assert_eq!(tensor.is_empty(), tensor.num_bytes() == 0);
        assert_eq!(heard(file.float_type(tensor)), FloatType::from_dtype(tensor.dtype));
        let numbers = heard(file.read_finite(tensor));
        assert_eq!(numbers.is_some(), heard(file.check_finite(tensor)).is_some());
        assert!(numbers.is_none_or(|numbers| numbers.len() == tensor.len() && numbers.iter().all(|x| x.is_finite())));
        assert!(heard(file.read_indices(tensor)).is_none_or(|indices| indices.len() == tensor.len()));
        let _ = heard(Matrix::read(&path, Some(&tensor.name)));
    }
    write_again(&file, &bytes[bytes.len() - held as usize..], &files);
    true
}

/// What is read and written is read again.
fn write_again(file: &Container, data: &[u8], files: &Files) {
    let path = files.path("again.safetensors");
    let spec = |t: &TensorInfo| TensorSpec { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
    let specs: Vec<TensorSpec> = file.tensors().iter().map(spec).collect();
    let out = File::create(&path).expect("room for a file");
    let mut writer = Writer::new(out, &path, file.metadata(), &specs).expect("a header that can be written");
    writer.write(data).expect("room for the data");
    writer.finish().expect("all of the data");
    let again = Container::open(&path).expect("a file that can be read again");
    assert_eq!(again.metadata().filter(|m| !m.is_empty()), file.metadata().filter(|m| !m.is_empty()));
    assert_eq!(again.tensors().iter().map(spec).collect::<Vec<_>>(), specs);
}
