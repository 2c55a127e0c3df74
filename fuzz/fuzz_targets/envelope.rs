//! Any JSON is an envelope or a named error; every delivery gets its reply.

#![no_main]

use billing_watch::envelope::{DeliveryOutcome, Envelope};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    match Envelope::parse(&value) {
        Ok(envelope) => {
            let outcomes = vec![DeliveryOutcome::default(); envelope.deliveries.len()];
            let reply = envelope.respond(&outcomes, json!({}));
            assert!(reply.is_ok());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.chars().any(char::is_control));
        }
    }
});
