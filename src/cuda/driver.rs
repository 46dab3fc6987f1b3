//! The driver's and the compiler's libraries, which are found at run time, and their errors as papilio's.

#![allow(unsafe_code)] // what is not Rust: device memory, kernels, libraries

use std::ffi::CString;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use cudarc::driver::DriverError;
use cudarc::nvrtc;

use crate::error::{Error, Result};

/// What the driver said.
pub(super) fn failed(what: &'static str) -> impl Fn(DriverError) -> Error {
    move |error| Error::Device { what, expected: "success".into(), got: message(error) }
}

fn message(error: DriverError) -> String {
    let text = |text: core::result::Result<&core::ffi::CStr, DriverError>| {
        text.map_or_else(|_| "?".to_string(), |text| text.to_string_lossy().into_owned())
    };
    format!("{}: {}", text(error.error_name()), text(error.error_string()))
}

/// A library of CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    Driver,
    Compiler,
    Blas,
}

/// [`Error::Device`] unless the library can be loaded: cudarc panics where it cannot.
pub(super) fn check(library: Library) -> Result<()> {
    // SAFETY: loads a library by its name, whose initialisers are trusted as those of every library that a program
    // links with.
    let (present, name) = unsafe {
        match library {
            Library::Driver => (cudarc::driver::sys::is_culib_present(), "libcuda (the NVIDIA driver)"),
            Library::Compiler => (nvrtc::sys::is_culib_present(), "libnvrtc (CUDA's run-time compiler)"),
            Library::Blas => (cudarc::cublas::sys::is_culib_present(), "libcublas"),
        }
    };
    if present {
        return Ok(());
    }
    let got = "no such library in the search path".to_string();
    Err(Error::Device { what: "CUDA library", expected: name.to_string(), got })
}

/// Compiles CUDA C++ for one architecture ("sm_90"): the binary, and what the compiler said about it. Products and sums
/// are not fused unless the text says so.
pub(super) fn compile(source: &str, architecture: &str, more: &[&str]) -> Result<(Vec<u8>, String)> {
    check(Library::Compiler)?;
    let wrong = |step: &'static str, got: String| Error::Device { what: step, expected: "success".into(), got };
    let text = CString::new(source).map_err(|error| wrong("kernel text", error.to_string()))?;
    let mut options: Vec<String> =
        ["--std=c++17", "--fmad=false"].into_iter().chain(more.iter().copied()).map(String::from).collect();
    options.push(format!("--gpu-architecture={architecture}"));
    let program = nvrtc::result::create_program(&text, Some(c"papilio.cu"))
        .map_err(|error| wrong("NVRTC program", format!("{error:?}")))?;
    // SAFETY: the program was just made and is destroyed below, once, and not used afterwards.
    let compiled = unsafe { nvrtc::result::compile_program(program, &options) };
    // SAFETY: as above.
    let log = unsafe { nvrtc::result::get_program_log(program) }
        .map_or_else(|_| String::new(), |log| log.iter().map(|c| *c as u8 as char).filter(|c| *c != '\0').collect());
    let image = compiled.and_then(|()| {
        let mut size = 0;
        // SAFETY: as above; `size` outlives the call.
        unsafe { nvrtc::sys::nvrtcGetCUBINSize(program, &raw mut size) }.result()?;
        let mut image = std::vec![0u8; size];
        // SAFETY: as above; NVRTC writes the number of bytes that it has just told.
        unsafe { nvrtc::sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()) }.result()?;
        Ok(image)
    });
    // SAFETY: see above.
    let destroyed = unsafe { nvrtc::result::destroy_program(program) };
    let image = image.map_err(|error| wrong("NVRTC compilation", format!("{error:?}\n{log}")))?;
    destroyed.map_err(|error| wrong("NVRTC program's end", format!("{error:?}")))?;
    Ok((image, log))
}
