//! Where the proof is: the log file, a command that prints the records, a link to the console.

use super::{
    Context,
    body::Body,
    escape::{clean, json_string, shell_word},
    text::event_id,
};
use crate::{cloudtrail::Record, rules::Finding};

/// Most event ids in the command that prints the records.
const PRINTED_RECORDS: usize = 20;

pub(super) fn evidence(body: &mut Body, findings: &[Finding], context: &Context<'_>) {
    let record = &findings[0].record;
    body.heading("EVIDENCE");
    if findings.len() == 1 {
        body.field("Event id", &event_id(record));
    }
    let file = format!("{}/{}", context.object.bucket, context.object.key);
    body.field("Log file", &format!("s3://{}", clean(&file, 2048)));
    body.field("Print it", &print_command(findings, context));
    if findings.len() > PRINTED_RECORDS {
        body.line("          (the first ones; the list above has the ids of all)");
    }
    body.field("Console", &console_link(record));
}

/// A command for copy and paste that prints the records; `gunzip -cf` passes plain JSON through.
fn print_command(findings: &[Finding], context: &Context<'_>) -> String {
    let object = context.object;
    let fetch = match &object.version_id {
        Some(version) => format!(
            "aws s3api get-object --bucket {} --key {} --version-id {} /dev/fd/3 3>&1 >/dev/null",
            shell_word(&object.bucket),
            shell_word(&object.key),
            shell_word(version)
        ),
        None => format!(
            "aws s3 cp {} -",
            shell_word(&format!("s3://{}/{}", object.bucket, object.key))
        ),
    };
    let ids: Vec<String> = findings
        .iter()
        .take(PRINTED_RECORDS)
        .filter_map(|finding| finding.record.event_id().filter(is_short))
        .map(json_string)
        .collect();
    let member = |name| findings[0].record.text(name).filter(is_short);
    let chosen = match &ids[..] {
        [] => format!(
            ".eventName == {} and .eventTime == {}",
            member("eventName").map_or_else(|| ".eventName".to_owned(), json_string),
            member("eventTime").map_or_else(|| ".eventTime".to_owned(), json_string)
        ),
        [id] => format!(".eventID == {id}"),
        ids => format!(".eventID | IN({})", ids.join(", ")),
    };
    let filter = shell_word(&format!(".Records[] | select({chosen})"));
    format!("{fetch} | gunzip -cf | jq {filter}")
}

/// Whether a text may stand in a command: AWS's own ids, names and times are no longer.
fn is_short(text: &&str) -> bool {
    text.len() <= 128
}

/// A link that opens for whoever is signed in to the right account, and says which that is.
fn console_link(record: &Record) -> String {
    let plain = |text: &&str| {
        text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let region = record.text("awsRegion").filter(plain);
    let id = record.event_id().filter(plain);
    let (Some(region), Some(id)) = (region, id) else {
        return "no link, for the record's Region or event id is missing or odd".to_owned();
    };
    let domain = if region.starts_with("us-gov-") {
        "console.amazonaws-us-gov.com"
    } else if region.starts_with("cn-") {
        "console.amazonaws.cn"
    } else {
        "console.aws.amazon.com"
    };
    let account = record.recipient_account().map_or_else(
        || "the account of the event".to_owned(),
        |account| format!("account {account}"),
    );
    format!(
        "https://{region}.{domain}/cloudtrailv2/home?region={region}#/events/{id} \
         (sign in to {account} first; works for 90 days)"
    )
}
