//! The names of accounts, from a file or from S3.

use super::{Clients, rule_files::Cause};
use crate::{alert::AccountNames, config::Location};

/// Largest file of names that is read, in bytes: what `aws organizations list-accounts` prints of some
/// 20,000 accounts.
const NAMES_BYTES: usize = 8 << 20;

impl Clients {
    /// Reads the names of accounts.
    ///
    /// # Errors
    ///
    /// The file is missing, too long, or not a file of names.
    pub async fn account_names(&self, location: &Location) -> Result<AccountNames, Cause> {
        let bytes = match location {
            Location::Path(path) => std::fs::read(path)?,
            Location::S3 { bucket, key } => self.read_object(bucket, key).await?,
        };
        if bytes.len() > NAMES_BYTES {
            return Err(format!("longer than {NAMES_BYTES} bytes").into());
        }
        Ok(AccountNames::parse(&String::from_utf8(bytes)?)?)
    }
}
