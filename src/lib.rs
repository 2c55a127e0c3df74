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
//! 6. [`pipeline`]: ties the stages together, and holds the traits that S3 and SNS implement.
//! 7. [`report`] and [`metrics`]: what an invocation did, in numbers.
//! 8. [`config`]: the operator's decisions, from environment variables.
//! 9. `aws`: the only code that uses the AWS SDK.
//!
//! Everything but `aws` and the environment reader in `config` does no I/O of its own. Time and storage
//! are passed in.

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
