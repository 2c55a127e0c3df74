//! Whatever a record holds, its alert is fit to be published in each format, and hides nothing in its text.

#![no_main]

use std::sync::LazyLock;

use billing_watch::{
    alert::{AccountNames, AttributeValue, Audience, Context, FindingContent, Message, RuleContents, Style, compose},
    cloudtrail::{CameBy, Record},
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
    let came_by = if flags & 8 == 0 { CameBy::LogFile } else { CameBy::EventBridge };
    let record = Record::from_value(value).with_path(came_by);
    let Some(matched) = PACK.evaluate(&record, Timestamp::UNIX_EPOCH) else {
        return;
    };
    let object = ObjectRef {
        bucket: "bucket".to_owned(),
        key: String::from_utf8_lossy(rest).chars().take(200).collect(),
        version_id: (flags & 2 == 0).then(|| "version".to_owned()),
    };
    let style = Style {
        withhold_values: flags & 4 == 0,
        account_names: AccountNames::default(),
        time_zone: None,
    };
    let context = Context {
        object: (!came_by.is_direct()).then_some(&object),
        file_account: None,
        backfill: false,
        style: &style,
        now: Timestamp::UNIX_EPOCH,
    };
    let finding = Finding {
        record,
        rules: matched.rules,
    };
    let content = FindingContent::of(&finding, &context, &mut RuleContents::default(), flags & 16 != 0);
    let contents = vec![&content; 1 + usize::from(flags >> 5)];
    for audience in [Audience::People, Audience::Chat, Audience::Machines] {
        let parts = compose(audience, &contents, &context, 0, true);
        assert_eq!(parts.iter().map(|(_, count)| count).sum::<usize>(), contents.len());
        for (message, _) in &parts {
            check(message);
            match audience {
                Audience::People => check_text(&message.body),
                Audience::Chat => check_chat(&message.body),
                Audience::Machines => check_json(&message.body),
            }
        }
    }
});

fn check(message: &Message) {
    assert!(message.subject.len() <= 99 && message.subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(message.body.len() < 262_144);
    assert!(message.attributes.len() <= 10);
    for attribute in &message.attributes {
        match &attribute.value {
            AttributeValue::One(value) => assert!(!value.is_empty()),
            AttributeValue::Many(values) => assert!(!values.is_empty()),
        }
    }
}

fn check_text(text: &str) {
    for character in text.chars() {
        assert!(character == '\n' || !character.is_control(), "{character:?}");
        assert!(!matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    }
}

/// The message follows the limits of the schema, and holds no mention, no link and no open code span.
fn check_chat(body: &str) {
    let message: Value = serde_json::from_str(body).expect("a chat message is JSON");
    let content = &message["content"];
    let limits = [("title", 200), ("description", 6_400), ("nextSteps", 280), ("keywords", 60)];
    for (name, limit) in limits {
        let texts = match &content[name] {
            Value::Array(texts) => texts.clone(),
            text => vec![text.clone()],
        };
        for text in texts.iter().filter_map(Value::as_str) {
            assert!(text.len() <= limit, "{name}: {}", text.len());
            assert!(!text.contains('<'), "{text}");
            check_text(text);
            for line in text.lines() {
                assert!(line.matches('`').count() % 2 == 0, "{line}");
            }
        }
    }
}

fn check_json(body: &str) {
    let finding: Value = serde_json::from_str(body).expect("a finding is JSON");
    assert_eq!(finding["type_uid"], 200_401);
    let mut values = vec![&finding];
    while let Some(value) = values.pop() {
        match value {
            Value::String(text) => check_text(text),
            Value::Array(elements) => values.extend(elements),
            Value::Object(members) => {
                members.keys().for_each(|name| check_text(name));
                values.extend(members.values());
            }
            _ => {}
        }
    }
}
