//! The canary's call to AWS Account Management.

use aws_config::AppName;
use aws_sdk_account::error::ProvideErrorMetadata as _;

use super::{Clients, request_error::RequestError};
use crate::pipeline::{CanaryCallError, app_name};

impl Clients {
    /// Calls `ListRegions`, which changes nothing. The user agent carries the nonce. CloudTrail writes
    /// the user agent into the call's record.
    pub async fn call_canary(&self, nonce: &str) -> Result<(), CanaryCallError> {
        let failed = |remedy, source| CanaryCallError { remedy, source };
        let name = AppName::new(app_name(nonce)).map_err(|error| failed("", error.into()))?;
        let config = aws_sdk_account::config::Builder::from(&self.shared).app_name(name);
        let client = aws_sdk_account::Client::from_conf(config.build());
        let called = client.list_regions().max_results(1).send().await;
        called.map(|_| ()).map_err(|error| {
            let remedy = match error.code() {
                Some("AccessDeniedException") => "allow account:ListRegions in the function's role",
                _ => "",
            };
            failed(remedy, RequestError(error).into())
        })
    }
}
