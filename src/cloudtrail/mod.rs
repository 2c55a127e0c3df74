//! CloudTrail's side of the work: which objects are log files, and which records they hold.
//!
//! No I/O and no AWS SDK type: bytes in, records out.

mod candidates;
mod captured;
mod inflate;
mod key;
mod log_file_name;
mod probe;
mod record;
mod scan;
mod sources;
mod splitter;

pub use candidates::{Candidates, Pairs};
pub use key::{KeyKind, OtherKind, classify_key, is_account_id};
pub use log_file_name::LogFileName;
pub use record::{Actor, Addendum, CameBy, Outcome, ParsedRecord, Record, is_well_formed};
pub use scan::{SMALL_FILE_BYTES, Scan, ScanError, ScanLimits, Step};
pub use sources::Sources;
