//! Whatever a record holds, its alert is fit to be published, and hides nothing in its text.

#![no_main]

use std::sync::LazyLock;

use billing_watch::{
    alert::{AttributeValue, Context, compose},
    cloudtrail::Record,
    envelope::ObjectRef,
    rules::{Finding, OptionalRules, RulePack},
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static PACK: LazyLock<RulePack> =
    LazyLock::new(|| RulePack::load(&OptionalRules::default(), &[]).expect("the bundled rules are good").pack);

fuzz_target!(|data: &[u8]| {
    let Some((&[flags], rest)) = data.split_first_chunk::<1>() else {
        return;
    };
    let mut value = Record::parse(rest).record.as_value().clone();
    if let Value::Object(members) = &mut value {
        members.insert("eventSource".to_owned(), "billingconsole.amazonaws.com".into());
        if flags & 1 == 0 {
            members.insert("eventName".to_owned(), "CloseAccount".into());
        }
    }
    let record = Record::from_value(value);
    let Some(matched) = PACK.evaluate(&record, Timestamp::UNIX_EPOCH) else {
        return;
    };
    let object = ObjectRef {
        bucket: "bucket".to_owned(),
        key: String::from_utf8_lossy(rest).chars().take(200).collect(),
        version_id: (flags & 2 == 0).then(|| "version".to_owned()),
    };
    let context = Context {
        object: &object,
        file_account: None,
        now: Timestamp::UNIX_EPOCH,
        withhold_values: flags & 4 == 0,
    };
    let finding = Finding {
        record,
        rules: matched.rules,
    };
    let findings = vec![finding; 1 + usize::from(flags >> 5)];
    let parts = compose(&findings, &context, 0, true);
    assert_eq!(parts.iter().map(|(_, count)| count).sum::<usize>(), findings.len());
    for (alert, _) in parts {
        assert!(alert.subject.len() <= 99 && alert.subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(alert.text.len() < 262_144);
        for character in alert.text.chars() {
            assert!(character == '\n' || !character.is_control(), "{character:?}");
            assert!(!matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
        }
        assert!(alert.attributes.len() <= 10);
        for attribute in &alert.attributes {
            match &attribute.value {
                AttributeValue::One(value) => assert!(!value.is_empty()),
                AttributeValue::Many(values) => assert!(!values.is_empty()),
            }
        }
    }
});
