//! Alerts as a subscriber gets them.

use billing_watch::{
    alert::{AttributeValue, Message},
    rules::{Level, RuleFile},
};
use serde_json::{Value, json};

use crate::support::{Harness, finance_role, gzip_log, log_key, record, record_with};

fn alerts_of(records: &[Value]) -> Vec<Message> {
    let key = log_key("Abcdefgh12345678");
    let harness = Harness::new().with_object(&key, gzip_log(records));
    harness.run(&[&key]).alerts
}

fn alert_of(record: Value) -> Message {
    let mut alerts = alerts_of(&[record]);
    assert_eq!(alerts.len(), 1);
    alerts.remove(0)
}

fn attributes(alert: &Message) -> Value {
    alert
        .attributes
        .iter()
        .map(|attribute| {
            let value = match &attribute.value {
                AttributeValue::One(value) => json!(value),
                AttributeValue::Many(values) => json!(values),
            };
            (attribute.name.to_owned(), value)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn the_alert_on_a_closed_account_reads_well() {
    let alert = alert_of(record(
        "CloseAccount",
        "5923c499-063e-44ac-80fb-b40e5fc3a2d1",
    ));
    insta::assert_snapshot!(alert.subject, @"[CRITICAL] CloseAccount in 111122223333 by root");
    insta::assert_snapshot!(alert.body, @r#"
    Critical: act now, at any hour
    The root user called CloseAccount, which succeeded, on account 111122223333:
    AWS account closed.

    Event:    CloseAccount (billingconsole.amazonaws.com)
    Outcome:  succeeded
    Account:  111122223333
    Who:      root user, of account 111122223333, access key
              ASIAEXAMPLEROOTKEY00, MFA unknown
    ARN:      arn:aws:iam::111122223333:root
    From:     203.0.113.7, Region us-east-1
    Agent:    Mozilla/5.0
    When:     2026-03-02 16:44:04 UTC (7 minutes ago)

    WHY IT MATTERS
    Closing an account suspends everything that runs in it at once. AWS Support
    can reopen it for 90 days; after that its resources and data are gone for
    good. Somebody who holds root or management-account access can use it as
    sabotage.

    WHAT TO DO NOW
    1. Ask the person named under "Who", over a channel you already trust,
       whether they did this and under which change. For root, ask whoever holds
       the account's root credentials.
    2. If nobody expected it: open an AWS Support case from the management
       account (or as the account's root user) and ask to reopen the account;
       this works for 90 days.
    3. Cut the actor off: revoke the role's sessions or disable the user; for
       root, change the password, MFA and root user email address.
    4. In CloudTrail, list what the same actor did in the last 24 hours, other
       account closures first.
    5. Until it is settled, deny account:CloseAccount by service control policy,
       and organizations:CloseAccount in the management account's own IAM
       policies, which no service control policy binds.

    KNOWN BENIGN CAUSES
    - Planned decommissioning of an account
    - Sandbox accounts that are recycled by account vending automation

    EVIDENCE
    Event id: 5923c499-063e-44ac-80fb-b40e5fc3a2d1
    Log file: s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz
    Print it: aws s3 cp s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz - | gunzip -cf | jq $'.Records[] | select(.eventID == "5923c499-063e-44ac-80fb-b40e5fc3a2d1")'
    Console:  https://us-east-1.console.aws.amazon.com/cloudtrailv2/home?region=us-east-1#/events/5923c499-063e-44ac-80fb-b40e5fc3a2d1
              (sign in to account 111122223333 first; works for 90 days)

    RULE
    AWS account closed (critical, d32db5c1-5db7-5dd6-9281-d35b9f12acf5,
    rules/account-closed.yml)
    "#);
    insta::assert_snapshot!(attributes(&alert), @r#"{"account":"111122223333","actor_type":"Root","event_name":"CloseAccount","event_source":"billingconsole.amazonaws.com","level":"critical","outcome":"succeeded","region":"us-east-1","rule":"d32db5c1-5db7-5dd6-9281-d35b9f12acf5"}"#);
}

#[test]
fn the_alert_on_a_failed_attempt_withholds_personal_values() {
    let alert = alert_of(record_with(
        "SetContactAddress",
        "5923c499-063e-44ac-80fb-b40e5fc3a2d2",
        json!({
            "userIdentity": finance_role(),
            "errorCode": "AccessDenied",
            "errorMessage": "Jane Doe may not",
            "requestParameters": {
                "city": "Seattle", "fullName": "Jane Doe", "phoneNumber": "206-555-0100",
                "email": "jane.doe@example.com", "countryCode": "US", "months": 12,
                "taxId": 123_456_789_u64, "districtOrCounty": null, "masked": "HIDDEN_DUE_TO_SECURITY_REASONS",
                "enabled": true, "list": ["a", {"b": "c"}], "empty": "",
            },
        }),
    ));
    insta::assert_snapshot!(alert.subject, @"[LOW] failed SetContactAddress in 111122223333 by role Finance");
    insta::assert_snapshot!(alert.body, @r#"
    Low: look at it this week
    Role Finance tried SetContactAddress, which failed, on account 111122223333.
    It would have meant: Contact details changed.

    Event:    SetContactAddress (billingconsole.amazonaws.com)
    Outcome:  failed, AccessDenied
    Level:    low, one below the rule's level (medium), because the attempt
              failed
    Account:  111122223333
    Who:      role Finance, session alice, of account 111122223333, access key
              ASIAEXAMPLEFINANCE00, with MFA
    ARN:      arn:aws:sts::111122223333:assumed-role/Finance/alice
    From:     203.0.113.7, Region us-east-1
    Agent:    Mozilla/5.0
    When:     2026-03-02 16:44:04 UTC (7 minutes ago)

    WHY IT MATTERS
    AWS verifies ownership against these details and sends notices about
    billing, operations and security to them. In a takeover, they are often the
    first or the last thing to be changed.

    WHAT TO DO NOW
    1. Ask the person named under "Who", over a channel you already trust,
       whether they did this and under which change. For root, ask whoever holds
       the account's root credentials.
    2. Compare address, phone number and alternate contacts with your inventory.
    3. If nobody expected it: restore them, then check the root user email
       address and MFA.
    4. Look for other events of this actor in the same hour.

    KNOWN BENIGN CAUSES
    - Office move or new phone number
    - Roll-out of shared contacts to all accounts of the organization

    FIELDS OF THE FAILED REQUEST
      requestParameters.city: (withheld)
      requestParameters.countryCode: US
      requestParameters.districtOrCounty: null
      requestParameters.email: j…@example.com
      requestParameters.empty: empty
      requestParameters.enabled: true
      requestParameters.fullName: (withheld)
      requestParameters.list[0]: (withheld)
      requestParameters.list[1].b: (withheld)
      requestParameters.masked: HIDDEN_DUE_TO_SECURITY_REASONS
      requestParameters.months: 12
      requestParameters.phoneNumber: …00
      requestParameters.taxId: (withheld)

    EVIDENCE
    Event id: 5923c499-063e-44ac-80fb-b40e5fc3a2d2
    Log file: s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz
    Print it: aws s3 cp s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz - | gunzip -cf | jq $'.Records[] | select(.eventID == "5923c499-063e-44ac-80fb-b40e5fc3a2d2")'
    Console:  https://us-east-1.console.aws.amazon.com/cloudtrailv2/home?region=us-east-1#/events/5923c499-063e-44ac-80fb-b40e5fc3a2d2
              (sign in to account 111122223333 first; works for 90 days)

    RULE
    Contact details changed (medium, bc6d9b22-5f40-56dc-8d77-ebd8fbd7709f,
    rules/contacts-changed.yml)
    "#);
    for secret in ["Seattle", "Jane", "0100", "206", "jane.doe", "123456789"] {
        assert!(!alert.body.contains(secret), "{secret}");
    }
}

#[test]
fn a_group_lists_every_finding_with_the_highest_level_on_top() {
    let alerts = alerts_of(&[
        record("SetContactAddress", "aaaa"),
        record("CloseAccount", "bbbb"),
        record_with(
            "SetPayInformation",
            "cccc",
            json!({"errorCode": "AccessDenied"}),
        ),
    ]);
    assert_eq!(alerts.len(), 1);
    insta::assert_snapshot!(alerts[0].subject, @"[CRITICAL] CloseAccount and 2 more in 111122223333 by root");
    insta::assert_snapshot!(alerts[0].body, @r#"
    Critical: act now, at any hour
    The root user made 3 sensitive calls on account 111122223333 (1 failed), the
    most severe CloseAccount: AWS account closed.

    Highest:  CloseAccount (billingconsole.amazonaws.com)
    Outcome:  succeeded
    Account:  111122223333
    Who:      root user, of account 111122223333, access key
              ASIAEXAMPLEROOTKEY00, MFA unknown
    ARN:      arn:aws:iam::111122223333:root
    From:     203.0.113.7, Region us-east-1
    Agent:    Mozilla/5.0
    When:     2026-03-02 16:44:04 UTC (7 minutes ago)

    ALL 3 FINDINGS
    1. CRITICAL CloseAccount succeeded
       2026-03-02 16:44:04 UTC, bbbb
    2. MEDIUM SetContactAddress succeeded
       2026-03-02 16:44:04 UTC, aaaa
    3. MEDIUM SetPayInformation failed (AccessDenied)
       2026-03-02 16:44:04 UTC, cccc

    WHY IT MATTERS: AWS account closed
    Closing an account suspends everything that runs in it at once. AWS Support
    can reopen it for 90 days; after that its resources and data are gone for
    good. Somebody who holds root or management-account access can use it as
    sabotage.

    WHAT TO DO NOW: AWS account closed
    1. Ask the person named under "Who", over a channel you already trust,
       whether they did this and under which change. For root, ask whoever holds
       the account's root credentials.
    2. If nobody expected it: open an AWS Support case from the management
       account (or as the account's root user) and ask to reopen the account;
       this works for 90 days.
    3. Cut the actor off: revoke the role's sessions or disable the user; for
       root, change the password, MFA and root user email address.
    4. In CloudTrail, list what the same actor did in the last 24 hours, other
       account closures first.
    5. Until it is settled, deny account:CloseAccount by service control policy,
       and organizations:CloseAccount in the management account's own IAM
       policies, which no service control policy binds.

    KNOWN BENIGN CAUSES: AWS account closed
    - Planned decommissioning of an account
    - Sandbox accounts that are recycled by account vending automation

    WHY IT MATTERS: Contact details changed
    AWS verifies ownership against these details and sends notices about
    billing, operations and security to them. In a takeover, they are often the
    first or the last thing to be changed.

    WHAT TO DO NOW: Contact details changed
    1. Ask the person named under "Who", over a channel you already trust,
       whether they did this and under which change. For root, ask whoever holds
       the account's root credentials.
    2. Compare address, phone number and alternate contacts with your inventory.
    3. If nobody expected it: restore them, then check the root user email
       address and MFA.
    4. Look for other events of this actor in the same hour.

    KNOWN BENIGN CAUSES: Contact details changed
    - Office move or new phone number
    - Roll-out of shared contacts to all accounts of the organization

    WHY IT MATTERS: Payment method added, changed or removed
    A stolen card added to an account, or the valid one removed, ends in fraud
    charges, suspension, or both. Attackers also test cards this way.

    WHAT TO DO NOW: Payment method added, changed or removed
    1. Ask the person named under "Who", over a channel you already trust,
       whether they did this and under which change. For root, ask whoever holds
       the account's root credentials.
    2. Compare the payment methods in the Billing console with what finance
       knows.
    3. If nobody expected it: remove the payment method that is not yours,
       restore yours, and tell finance and AWS Support (billing case).
    4. Check spending since the event, especially in Regions that you do not
       use.

    KNOWN BENIGN CAUSES: Payment method added, changed or removed
    - The sign-up of every new account writes Instruments_Create
    - Finance replacing an expiring card or bank account

    EVIDENCE
    Log file: s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz
    Print it: aws s3 cp s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz - | gunzip -cf | jq $'.Records[] | select(.eventID | IN("bbbb", "aaaa", "cccc"))'
    Console:  https://us-east-1.console.aws.amazon.com/cloudtrailv2/home?region=us-east-1#/events/bbbb
              (sign in to account 111122223333 first; works for 90 days)

    RULES
    AWS account closed (critical, d32db5c1-5db7-5dd6-9281-d35b9f12acf5,
    rules/account-closed.yml)
    Contact details changed (medium, bc6d9b22-5f40-56dc-8d77-ebd8fbd7709f,
    rules/contacts-changed.yml)
    Payment method added, changed or removed (high,
    f5cf39b0-d551-5615-bf83-f0935a9ad9d0, rules/payment-method-changed.yml)
    "#);
    insta::assert_snapshot!(attributes(&alerts[0]), @r#"{"account":"111122223333","actor_type":"Root","event_name":["CloseAccount","SetContactAddress","SetPayInformation"],"event_source":["billingconsole.amazonaws.com"],"level":"critical","outcome":"succeeded","region":"us-east-1","rule":["bc6d9b22-5f40-56dc-8d77-ebd8fbd7709f","d32db5c1-5db7-5dd6-9281-d35b9f12acf5","f5cf39b0-d551-5615-bf83-f0935a9ad9d0"]}"#);
}

#[test]
fn closing_a_member_account_names_the_member_account_everywhere() {
    for members in [
        json!({"requestParameters": {"accountId": "444455556666"}}),
        json!({
            "eventName": "CloseAccountResult",
            "userIdentity": {"accountId": "111122223333", "invokedBy": "organizations.amazonaws.com"},
            "serviceEventDetails": {"closeAccountStatus": {"accountId": "444455556666", "state": "SUCCEEDED"}},
        }),
    ] {
        let mut record = record_with("CloseAccount", "dddd", members);
        record["eventSource"] = json!("organizations.amazonaws.com");
        let key = log_key("Abcdefgh12345678");
        let mut harness = Harness::new().with_object(&key, gzip_log(&[record]));
        harness.settings.watched =
            billing_watch::cloudtrail::Sources::only(["organizations.amazonaws.com"]);
        let alert = harness.run(&[&key]).alerts.remove(0);
        assert!(
            alert.subject.contains(" in 444455556666 by "),
            "{}",
            alert.subject
        );
        assert_eq!(attributes(&alert)["account"], "444455556666");
        assert!(
            alert
                .body
                .contains("Account:  444455556666, by a call that was made in 111122223333"),
            "{}",
            alert.body
        );
    }
}

#[test]
fn a_root_session_names_the_member_account_that_it_is_in() {
    for target in ["444455556666", "arn:aws:iam::444455556666:root"] {
        let parameters = json!({"requestParameters": {"targetPrincipal": target}});
        let record = record_with("AssumeRoot", "dddd", parameters);
        let record = billing_watch::cloudtrail::Record::from_value(record);
        assert_eq!(
            record.affected_account().unwrap(),
            "444455556666",
            "{target}"
        );
    }
}

#[test]
fn an_account_deep_in_a_request_is_not_the_affected_account() {
    let alert = alert_of(record_with(
        "SetPayInformation",
        "e",
        json!({"requestParameters": {"recipient": {"accountId": "999900009999"}}}),
    ));
    assert!(
        alert.subject.contains(" in 111122223333 by "),
        "{}",
        alert.subject
    );
    let alert = alert_of(record_with(
        "SetPayInformation",
        "e",
        json!({"requestParameters": {"map": {"accountId": "4444-5555-6666"}}}),
    ));
    assert!(
        alert.subject.contains(" in 444455556666 by "),
        "{}",
        alert.subject
    );
}

#[test]
fn numbers_are_withheld_unless_they_are_counts() {
    let parameters =
        json!({"cvv": 123, "postalCode": 98108, "months": 12, "bankAccountId": "111122223333"});
    let alert = alert_of(record_with(
        "SetPayInformation",
        "e",
        json!({"requestParameters": parameters}),
    ));
    assert!(alert.body.contains("months: 12"), "{}", alert.body);
    for secret in ["cvv: 1", "98108", "bankAccountId: 1"] {
        assert!(!alert.body.contains(secret), "{secret}");
    }
}

#[test]
fn a_finding_too_long_for_a_message_is_sent_without_fields_and_advice() {
    let key = log_key("Abcdefgh12345678");
    let mut harness =
        Harness::new().with_object(&key, gzip_log(&[record("CloseAccount", "event-1")]));
    let step = format!("  - {}\n", "again and ".repeat(300));
    harness.rules.push(RuleFile {
        name: "talkative.yml".to_owned(),
        text: include_str!("../../rules/account-closed.yml").to_owned() + &step.repeat(100),
    });
    let run = harness.run(&[&key]);
    assert_eq!(run.alerts.len(), 1);
    assert!(
        run.alerts[0].body.len() < 10_000,
        "{}",
        run.alerts[0].body.len()
    );
    assert!(
        run.alerts[0]
            .body
            .contains("fields and advice are left out")
    );
    assert!(run.alerts[0].body.contains("Event id: event-1"));
}

#[test]
fn a_failed_service_event_counts_as_failed() {
    let alert = alert_of(record_with(
        "CloseAccount",
        "e",
        json!({"serviceEventDetails": {"status": {"state": "FAILED"}}}),
    ));
    assert!(
        alert.subject.starts_with("[HIGH] failed CloseAccount"),
        "{}",
        alert.subject
    );
    assert_eq!(attributes(&alert)["outcome"], "failed");
}

#[test]
fn a_failed_attempt_is_shown_one_level_lower_and_alerts_by_the_rule_s_level() {
    for (event, minimum, subject) in [
        (
            "CloseAccount",
            Level::Critical,
            "[HIGH] failed CloseAccount in",
        ),
        (
            "SetPayInformation",
            Level::High,
            "[MEDIUM] failed SetPayInformation in",
        ),
        (
            "SetContactAddress",
            Level::Medium,
            "[LOW] failed SetContactAddress in",
        ),
        (
            "RedeemPromoCode",
            Level::Low,
            "[INFORMATIONAL] failed RedeemPromoCode in",
        ),
        (
            "GetAddresses",
            Level::Informational,
            "[INFORMATIONAL] failed GetAddresses in",
        ),
    ] {
        let key = log_key("Abcdefgh12345678");
        let denied = record_with(event, "e", json!({"errorCode": "AccessDenied"}));
        let mut harness = Harness::new().with_object(&key, gzip_log(&[denied]));
        harness.settings.topics[0].minimum_level = minimum;
        let run = harness.run(&[&key]);
        let [alert] = &run.alerts[..] else {
            panic!("{event}: {} alerts", run.alerts.len());
        };
        assert!(alert.subject.starts_with(subject), "{}", alert.subject);
        let shown = subject.trim_start_matches('[').split(']').next();
        assert_eq!(
            shown,
            attributes(alert)["level"]
                .as_str()
                .map(str::to_uppercase)
                .as_deref()
        );
        // The report counts findings by the levels of their rules.
        assert_eq!(
            run.report
                .counters()
                .find(|(name, _)| name.to_lowercase() == format!("findings{minimum}"))
                .map(|(_, count)| count),
            Some(1)
        );
    }
}

#[test]
fn late_and_corrected_records_say_why() {
    // A labelled line with what it goes on with.
    let line = |label: &str, addendum: &Value| {
        let alert = alert_of(record_with(
            "CloseAccount",
            "f",
            json!({"addendum": addendum}),
        ));
        let mut lines = alert
            .body
            .lines()
            .skip_while(|line| !line.starts_with(label));
        let first = lines.next().unwrap_or("none").to_owned();
        let rest = lines.take_while(|line| line.starts_with("          "));
        rest.fold(first, |line, more| format!("{line} {}", more.trim_start()))
    };
    for (label, addendum, expected) in [
        (
            "When:",
            json!({"reason": "DELIVERY_DELAY"}),
            "When:     2026-03-02 16:44:04 UTC (7 minutes ago); CloudTrail delivered it late \
             (DELIVERY_DELAY)",
        ),
        (
            "When:",
            json!({"reason": "SERVICE_OUTAGE"}),
            "When:     2026-03-02 16:44:04 UTC (7 minutes ago); CloudTrail received it late, after an \
             outage of the service (SERVICE_OUTAGE)",
        ),
        (
            "When:",
            json!({"reason": "A_NEW\nREASON"}),
            "When:     2026-03-02 16:44:04 UTC (7 minutes ago); CloudTrail's addendum gives the reason \
             A_NEW\\nREASON",
        ),
        (
            "Note:",
            json!({"reason": "UPDATED_DATA", "originalEventID": "e", "updatedFields": "responseElements"}),
            "Note:     CloudTrail corrects event e (UPDATED_DATA); updated fields: responseElements",
        ),
        (
            "Note:",
            json!({"reason": "UPDATED_DATA", "updatedFields": ["userAgent", "errorCode"]}),
            "Note:     CloudTrail corrects an earlier event (UPDATED_DATA); updated fields: \
             userAgent, errorCode",
        ),
        (
            "Note:",
            json!({"reason": "UPDATED_DATA", "originalEventID": "e"}),
            "Note:     CloudTrail corrects event e (UPDATED_DATA)",
        ),
        (
            "Note:",
            json!({"reason": "DELIVERY_DELAY", "originalEventID": "e"}),
            "none",
        ),
        (
            "Note:",
            json!({"updatedFields": "responseElements"}),
            "none",
        ),
    ] {
        assert_eq!(line(label, &addendum), expected, "{addendum}");
    }
}

#[test]
fn a_record_that_has_only_a_name_alerts_and_says_what_is_missing() {
    let alert = alert_of(json!({
        "eventSource": "billingconsole.amazonaws.com", "eventName": "CloseAccount",
    }));
    insta::assert_snapshot!(alert.subject, @"[CRITICAL] CloseAccount in 111122223333 by an unknown actor");
    insta::assert_snapshot!(alert.body, @r#"
    Critical: act now, at any hour
    An unknown actor called CloseAccount, which succeeded, on account
    111122223333: AWS account closed.

    Event:    CloseAccount (billingconsole.amazonaws.com)
    Outcome:  succeeded
    Account:  111122223333
    Who:      an unknown actor, MFA unknown
    From:     unknown, Region unknown
    Agent:    unknown
    When:     unknown

    WHY IT MATTERS
    Closing an account suspends everything that runs in it at once. AWS Support
    can reopen it for 90 days; after that its resources and data are gone for
    good. Somebody who holds root or management-account access can use it as
    sabotage.

    WHAT TO DO NOW
    1. Ask the person named under "Who", over a channel you already trust,
       whether they did this and under which change. For root, ask whoever holds
       the account's root credentials.
    2. If nobody expected it: open an AWS Support case from the management
       account (or as the account's root user) and ask to reopen the account;
       this works for 90 days.
    3. Cut the actor off: revoke the role's sessions or disable the user; for
       root, change the password, MFA and root user email address.
    4. In CloudTrail, list what the same actor did in the last 24 hours, other
       account closures first.
    5. Until it is settled, deny account:CloseAccount by service control policy,
       and organizations:CloseAccount in the management account's own IAM
       policies, which no service control policy binds.

    KNOWN BENIGN CAUSES
    - Planned decommissioning of an account
    - Sandbox accounts that are recycled by account vending automation

    EVIDENCE
    Event id: no event id
    Log file: s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz
    Print it: aws s3 cp s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz - | gunzip -cf | jq $'.Records[] | select(.eventName == "CloseAccount" and .eventTime == .eventTime)'
    Console:  no link, for the record's Region or event id is missing or odd

    RULE
    AWS account closed (critical, d32db5c1-5db7-5dd6-9281-d35b9f12acf5,
    rules/account-closed.yml)
    "#);
}

#[test]
fn the_alert_on_awss_own_example_reads_well() {
    let alert = alert_of(json!({
        "eventVersion": "1.05",
        "userIdentity": {"accountId": "111122223333", "accessKeyId": "AIDACKCEVSQ6C2EXAMPLE"},
        "eventTime": "2018-05-30T16:44:04Z", "eventSource": "billingconsole.amazonaws.com",
        "eventName": "SetContactAddress", "awsRegion": "us-east-1", "sourceIPAddress": "100.100.10.10",
        "requestParameters": {"website": "https://amazon.com", "city": "Seattle", "state": "Washington"},
        "responseElements": null, "eventID": "5923c499-063e-44ac-80fb-b40example9f",
        "recipientAccountId": "1111-2222-3333",
    }));
    assert_eq!(
        alert.subject,
        "[MEDIUM] SetContactAddress in 111122223333 by unknown (AIDACKCEVSQ6C2EXAMPLE)"
    );
    assert!(
        alert
            .body
            .contains("2018-05-30 16:44:04 UTC (2833 days ago)"),
        "{}",
        alert.body
    );
    assert!(!alert.body.contains("Seattle") && !alert.body.contains("Washington"));
}

#[test]
fn no_text_of_a_record_reaches_the_reader_unescaped() {
    let nasty = "\u{202e}evil\u{0}\r\nSubject: x\u{2028}<@U1> http://evil.example\u{e0041}'$(id)";
    let alert = alert_of(record_with(
        "CloseAccount",
        nasty,
        json!({
            "userAgent": nasty, "sourceIPAddress": nasty, "awsRegion": nasty, "eventTime": nasty,
            "userIdentity": {"type": nasty, "arn": nasty, "userName": nasty, "accountId": nasty, "accessKeyId": nasty},
            "errorCode": nasty, "requestParameters": {nasty: nasty},
            "addendum": {"reason": "UPDATED_DATA", "originalEventID": nasty},
        }),
    ));
    assert!(
        alert
            .subject
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte)),
        "{}",
        alert.subject
    );
    assert!(alert.subject.len() <= 99);
    for hidden in ['\u{202e}', '\u{0}', '\r', '\u{2028}', '\u{e0041}'] {
        assert!(!alert.body.contains(hidden), "{hidden:?}");
    }
    assert!(!alert.body.contains("http://evil"));
    assert!(!alert.body.contains("\nSubject: x"));
    let command = alert
        .body
        .lines()
        .find(|line| line.starts_with("Print it:"))
        .unwrap();
    assert!(command.is_ascii(), "{command}");
}

#[test]
fn a_very_long_event_name_leaves_room_for_the_account() {
    let mut long = record("CloseAccount", "e");
    long["userIdentity"] = json!({"type": "IAMUser", "userName": "u".repeat(500)});
    let subject = alert_of(long).subject;
    assert_eq!(subject.len(), 99);
    assert!(
        subject.starts_with("[CRITICAL] CloseAccount in 111122223333 by user uuu"),
        "{subject}"
    );
}

#[test]
fn the_command_in_an_alert_prints_the_record() {
    let key = log_key("it's+here");
    let text = gzip_log(&[
        record("CloseAccount", "abc-1"),
        record("GetBillsForBillingPeriod", "abc-2"),
    ]);
    let alert = Harness::new()
        .with_object(&key, text.clone())
        .run(&[&key])
        .alerts
        .remove(0);
    let command = alert
        .body
        .lines()
        .find_map(|line| line.strip_prefix("Print it: "))
        .unwrap();
    assert_eq!(
        command,
        format!(
            "aws s3 cp $'s3://example-trail-logs/{}' - | gunzip -cf | jq $'.Records[] | select(.eventID == \"abc-1\")'",
            key.replace('\'', r"\'")
        )
    );
}
