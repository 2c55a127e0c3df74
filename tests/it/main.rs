//! Everything that is tested through the crate's public face, in one binary.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should stop with the place and the value"
)]

mod alerts;
mod bad_input;
mod config;
mod end_to_end;
mod envelopes;
mod lambda;
mod ledger;
mod pipeline;
mod rules;
mod scan;
mod support;
