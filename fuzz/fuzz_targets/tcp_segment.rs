//! `cargo +nightly fuzz run tcp_segment`; what is checked stands in bodies.rs.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tcp_segment(data));
