//! One scan again and again, for valgrind to count: `bench-counts one|busy FILE SCANS`.
//!
//! It opens no socket and has no clock, so that its instructions are the same in every run.
//! `make bench-compare` compiles it with the library of an older commit as well.

#![allow(
    clippy::print_stdout,
    reason = "the result keeps the scan from being optimized away"
)]

use std::sync::Arc;

mod support;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, pack, file, scans] = &arguments[..] else {
        println!("usage: bench-counts one|busy FILE SCANS");
        return;
    };
    let candidates = match pack.as_str() {
        "busy" => support::busy(),
        _ => support::one(),
    };
    let candidates = Arc::new(candidates);
    let body = std::fs::read(file).expect("a log file").into();
    let scans: usize = scans.parse().expect("a number");
    let found: usize = (0..scans).map(|_| support::scan(&candidates, &body)).sum();
    println!("{found}");
}
