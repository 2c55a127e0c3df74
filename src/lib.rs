//! billing-watch tells a security team that somebody touched the money, the ownership or the
//! contact details of an AWS account, from the log files that CloudTrail delivers.
//!
//! The modules in reading order:
//!
//! 1. [`envelope`]: the JSON that invokes the function, and the reply to its sender.
//! 2. [`cloudtrail`]: from an object's bytes to the records of interest, in bounded memory.
//! 3. [`rules`]: which records are findings, by Sigma rules.
//! 4. [`alert`]: findings as a person reads them.
//! 5. [`ledger`]: each record alerts once.
//! 6. [`pipeline`]: the one orchestration of all these, and the traits behind which S3 and SNS are.
//! 7. [`report`] and [`metrics`]: what an invocation did, in numbers.
//! 8. [`config`]: what the operator decided.
//! 9. `aws`: the only code that knows the AWS SDK.
//!
//! Everything but `aws` does no I/O of its own; time and storage are handed in.

pub mod alert;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cloudtrail;
pub mod config;
pub mod envelope;
pub mod ledger;
pub mod metrics;
pub mod pipeline;
pub mod report;
pub mod rules;
