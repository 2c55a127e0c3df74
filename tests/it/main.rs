//! Everything that is tested through the crate's public face, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test stops where it can't go on, and tables of cases are long"
)]

mod alerts;
mod bad_input;
mod canary;
mod candidates;
mod claims;
mod config;
mod coverage;
mod deadline;
mod direct;
#[cfg(feature = "aws")]
mod end_to_end;
mod envelopes;
#[cfg(feature = "aws")]
mod lambda;
mod ledger;
mod pipeline;
#[cfg(feature = "aws")]
mod proxy;
mod rules;
mod scan;
mod scan_edges;
mod scenarios;
mod side_by_side;
mod simulation;
mod support;
mod tidy;
mod topics;
#[cfg(feature = "aws")]
mod wire;
