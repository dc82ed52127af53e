//! The body is also run by the stable tests, over the committed corpus.

#![no_main]

#[path = "../bodies/client_frame.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
