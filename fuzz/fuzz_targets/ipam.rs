//! `cargo +nightly fuzz run ipam`; what is checked stands in bodies.rs.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::ipam(data));
