//! Safetensors files from a few lines of text, so that random changes meet the reader's meaning and not only its grammar.
//!
//! > F32 2,4,2,2 base_model.model.a.boft_R
//!
//! One line for each tensor: type, extents, and the rest is its name. Offsets follow from these, and numbers from the data, one
//! byte each, over and over: integers as they are, floats as 64ths, some as what is special ([`float`]).

use std::fmt::Write;

use serde_json::{Value, json};

/// Files are at most so long; beyond it an input is not tried.
const MOST_BYTES: usize = 1 << 16;

/// Bytes without an end, taken in order: those given, again and again.
pub(super) struct Data<'a>(std::iter::Cycle<std::iter::Copied<std::slice::Iter<'a, u8>>>);

impl<'a> Data<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(if bytes.is_empty() { &[0] } else { bytes }.iter().copied().cycle())
    }

    /// The next bytes.
    fn take(&mut self, count: usize) -> Vec<u8> {
        self.0.by_ref().take(count).collect()
    }
}

/// A safetensors file with the tensors of these lines; `None` if it were large. Any text is a name or type, and a name may come
/// twice. With `metadata`, an object of texts.
pub(super) fn file(lines: &[u8], metadata: Option<Value>, data: &mut Data<'_>) -> Option<Vec<u8>> {
    let (mut header, mut numbers) = (String::from("{"), Vec::new());
    if let Some(metadata) = metadata {
        let _ = write!(header, r#""__metadata__":{metadata},"#);
    }
    for line in String::from_utf8_lossy(lines).split('\n').filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let [dtype, extents, name] = [(); 3].map(|()| words.next().unwrap_or_default());
        let shape: Vec<usize> = extents.split(',').filter_map(|extent| extent.parse().ok()).collect();
        let count = if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1usize, |n, &e| n.checked_mul(e)) };
        let count = count.filter(|&count| count <= MOST_BYTES)?;
        let start = numbers.len();
        match dtype {
            "F4" => numbers.extend(data.take(count.div_ceil(2))),
            "F6_E2M3" | "F6_E3M2" => numbers.extend(data.take((6 * count).div_ceil(8))),
            _ => data.take(count).iter().for_each(|byte| numbers.extend(element(dtype, *byte))),
        }
        if numbers.len() > MOST_BYTES {
            return None;
        }
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, numbers.len()]});
        let _ = write!(header, "{}:{entry},", json!(name));
    }
    let header = format!("{}}}", header.strip_suffix(',').unwrap_or(&header));
    Some([&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &numbers].concat())
}

/// The bytes of the number that a byte stands for.
fn element(dtype: &str, byte: u8) -> Vec<u8> {
    let wide = [byte, 0, 0, 0, 0, 0, 0, 0];
    match dtype {
        "F64" => float(byte).to_le_bytes().to_vec(),
        "F32" => (float(byte) as f32).to_le_bytes().to_vec(),
        "F16" => half::f16::from_f64(float(byte)).to_le_bytes().to_vec(),
        "BF16" => half::bf16::from_f64(float(byte)).to_le_bytes().to_vec(),
        "C64" | "I64" | "U64" => wide.to_vec(),
        "I16" | "U16" => wide[..2].to_vec(),
        _ if dtype.starts_with("F8") || ["BOOL", "I8", "U8"].contains(&dtype) => wide[..1].to_vec(),
        _ => wide[..4].to_vec(),
    }
}

/// The float that a byte stands for.
fn float(byte: u8) -> f64 {
    match byte as i8 {
        -128 => f64::NAN,
        -127 => f64::INFINITY,
        -126 => 1e300,
        -125 => -1e38, // near the end of single precision
        -124 => 1e-310,
        -123 => -0.0,
        -122 => 1e9,
        -121 => 1e-9,
        other => f64::from(other) / 64.0,
    }
}
