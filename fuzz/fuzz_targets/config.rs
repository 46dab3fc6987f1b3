#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    papilio_fuzz::config(input);
});
