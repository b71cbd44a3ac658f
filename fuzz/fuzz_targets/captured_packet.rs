//! `cargo +nightly fuzz run captured_packet`; what is checked stands in bodies.rs.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::captured_packet(data));
