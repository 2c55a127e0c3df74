//! The alert for Amazon Q Developer in chat applications, which shows it in Slack or Teams.
//!
//! Schema: <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>. A message that does
//! not follow it vanishes without a word, so every limit is kept with a fifth of it to spare, in bytes:
//! nobody documents what they are counted in.

use serde_json::{Map, Value, json};

use super::{
    Alert, Escaped, TestContent,
    content::AccountContent,
    header::{ascii, subject},
    words::{Markup, urgency},
};

/// 80% of 8,000.
const DESCRIPTION_BYTES: usize = 6_400;
/// 80% of 350.
const STEP_BYTES: usize = 280;
/// Most steps; how many a message may hold is not documented.
const STEPS: usize = 10;
/// 80% of 75.
const KEYWORD_BYTES: usize = 60;
/// 80% of the 1,024 characters that a variable of a custom action may have, in printable ASCII.
const CONTEXT_CHARACTERS: usize = 819;
/// Most bytes of a name in a title, so that event, actor and the rest stay within 80% of 250.
const TITLE_NAME_BYTES: usize = 60;
/// What stands where a description has no room for a line.
const LEFT_OUT: &str = "… more than a chat message holds: see the mail";

const CHAT: Markup = Markup::Chat;

/// The message, or `None` if its findings are too many for one.
pub(super) fn message(alert: &Alert<'_>) -> Option<String> {
    let mut description = Description::default();
    opening(&mut description, alert);
    findings(&mut description, alert);
    evidence(&mut description, alert);
    if !description.is_whole {
        return None;
    }
    fields(&mut description, alert);
    Some(envelope(alert, &description.text))
}

/// The message on one finding, without what it has no room for.
pub(super) fn bare(alert: &Alert<'_>) -> String {
    let mut description = Description::default();
    opening(&mut description, alert);
    evidence(&mut description, alert);
    description.is_whole = false;
    envelope(alert, &description.text)
}

/// The message of a self-test.
pub(super) fn self_test(test: &TestContent<'_>) -> String {
    json!({
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": "[TEST] billing-watch self-test: nothing has happened",
            "description": format!(
                "If you can read this, alerts reach this channel. Nothing has happened in any account, \
                 and there is nothing to do.\n{}",
                test.lines().join("\n")
            ),
            "keywords": ["self-test"],
        },
        "metadata": {"threadId": "billing-watch-self-test", "eventType": "billing-watch-self-test"},
    })
    .to_string()
}

/// Lines of a description, as far as it has room.
struct Description {
    text: String,
    /// Whether every line has found room.
    is_whole: bool,
}

impl Default for Description {
    fn default() -> Self {
        Self {
            text: String::new(),
            is_whole: true,
        }
    }
}

impl Description {
    fn line(&mut self, line: &str) {
        let room = DESCRIPTION_BYTES - LEFT_OUT.len() - 2;
        if self.text.len() + line.len() < room {
            self.text.push_str(line);
            self.text.push('\n');
        } else if self.is_whole {
            self.is_whole = false;
            self.text.push_str(LEFT_OUT);
            self.text.push('\n');
        }
    }

    fn fact(&mut self, label: &str, text: &str) {
        self.line(&format!("{label}: {text}"));
    }
}

/// Urgency, headline and facts.
fn opening(description: &mut Description, alert: &Alert<'_>) {
    description.line(urgency(alert.top().level));
    description.line(&CHAT.headline(alert));
    if !alert.part.only {
        description.line(&format!(
            "This is part {} of this alert.",
            alert.part.number
        ));
    }
    description.line("");
    for (label, text) in CHAT.facts(alert) {
        description.fact(label, &text);
    }
}

/// The findings of a group.
fn findings(description: &mut Description, alert: &Alert<'_>) {
    if alert.findings.len() == 1 {
        return;
    }
    description.line("");
    description.line(&format!("All {} findings", alert.findings.len()));
    for (index, finding) in alert.findings.iter().enumerate() {
        let (what, when) = CHAT.listed(finding);
        description.line(&format!("{}. {what}, {when}", index + 1));
    }
}

fn evidence(description: &mut Description, alert: &Alert<'_>) {
    let top = alert.top();
    if alert.findings.len() == 1 {
        description.fact("Event id", &CHAT.event_id(top));
    }
    if let Some(log_file) = &top.evidence.log_file {
        description.fact("Log file", &CHAT.value(log_file));
    } else if let Some(lookup) = &top.evidence.lookup {
        description.fact("Look up", &CHAT.value(lookup));
    }
    if let Some(link) = &top.evidence.console {
        description.fact("Console", link.as_str());
    }
}

/// The changed fields of a single finding; those of a group are in the mail.
fn fields(description: &mut Description, alert: &Alert<'_>) {
    let top = alert.top();
    if alert.findings.len() > 1 || top.fields.is_empty() {
        return;
    }
    description.line("");
    description.line(if top.outcome.failed {
        "Fields of the failed request"
    } else {
        "Changed fields"
    });
    for field in &top.fields {
        description.fact(&CHAT.value(&field.path), &CHAT.value(&field.value));
    }
    if top.has_more_fields {
        description.line("… and more, see the record itself");
    }
}

fn envelope(alert: &Alert<'_>, description: &str) -> String {
    let top = alert.top();
    let mut keywords = vec![top.level.as_str().to_owned(), top.outcome.word().to_owned()];
    keywords.extend(top.affected.as_ref().map(|account| account.id.to_string()));
    keywords.retain(|keyword| keyword.len() <= KEYWORD_BYTES);
    let id = top.event.id.as_ref().map_or("no-event-id", Escaped::as_str);
    json!({
        "version": "1.0",
        "source": "custom",
        "id": ascii(&format!("{id}-{}", alert.part.number), CONTEXT_CHARACTERS),
        "content": {
            "textType": "client-markdown",
            "title": title(alert),
            "description": description.trim_end(),
            "nextSteps": next_steps(alert),
            "keywords": keywords,
        },
        "metadata": {
            "threadId": top.thread,
            "summary": title(alert),
            "eventType": format!("billing-watch-{}", top.level),
            "relatedResources": top.affected.iter().map(account_arn(top.event.region.as_ref())).collect::<Vec<_>>(),
            "additionalContext": additional_context(alert),
            "enableCustomActions": true,
        },
    })
    .to_string()
}

/// Level and event, in 80% of the limit whatever the names are.
fn title(alert: &Alert<'_>) -> String {
    let top = alert.top();
    let name = |text: &Escaped| {
        let whole = CHAT.value(text);
        if whole.len() <= TITLE_NAME_BYTES {
            return whole;
        }
        // Entities take up to five times their character.
        CHAT.value(&Escaped::name(
            &ascii(text.as_str(), TITLE_NAME_BYTES / 5),
            usize::MAX,
        ))
    };
    let failed = if top.outcome.failed { "failed " } else { "" };
    let event = top
        .event
        .name
        .as_ref()
        .map_or_else(|| "an unnamed event".to_owned(), name);
    let more = match alert.findings.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let account = match &top.affected {
        Some(account) => account.id.as_str(),
        None => "an unknown account",
    };
    let part = if alert.part.only {
        String::new()
    } else {
        format!(" (part {})", alert.part.number)
    };
    let level = top.level.as_str().to_uppercase();
    let who = name(&top.actor.who);
    format!("[{level}] {failed}{event}{more} in {account} by {who}{part}")
}

/// What to do now, of the rule on top; a step that is too long goes on in the next bullet.
fn next_steps(alert: &Alert<'_>) -> Vec<String> {
    let steps = alert.top().rule().response.iter();
    let pieces = steps.flat_map(|step| pieces(&CHAT.prose(step), STEP_BYTES));
    pieces.take(STEPS).collect()
}

/// Cuts a text between words into pieces of at most `limit` bytes.
fn pieces(text: &str, limit: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word: String = word
            .chars()
            .scan(0, |bytes, character| {
                *bytes += character.len_utf8();
                (*bytes <= limit).then_some(character)
            })
            .collect();
        match pieces.last_mut() {
            Some(piece) if piece.len() + 1 + word.len() <= limit => {
                piece.push(' ');
                piece.push_str(&word);
            }
            _ => pieces.push(word),
        }
    }
    pieces
}

/// For the variables of custom actions: printable ASCII.
fn additional_context(alert: &Alert<'_>) -> Map<String, Value> {
    let top = alert.top();
    let pairs = [
        ("subject", Some(subject(alert))),
        ("level", Some(top.level.to_string())),
        ("outcome", Some(top.outcome.word().to_owned())),
        (
            "account",
            top.affected.as_ref().map(|account| account.id.to_string()),
        ),
        ("event_id", top.event.id.as_ref().map(Escaped::to_string)),
        (
            "event_name",
            top.event.name.as_ref().map(Escaped::to_string),
        ),
        (
            "event_source",
            top.event.source.as_ref().map(Escaped::to_string),
        ),
        ("region", top.event.region.as_ref().map(Escaped::to_string)),
        ("actor", top.actor.arn.as_ref().map(Escaped::to_string)),
        ("rule", Some(top.rule().id.to_string())),
    ];
    pairs
        .into_iter()
        .filter_map(|(name, text)| {
            let text = text.filter(|text| !text.is_empty())?;
            Some((
                name.to_owned(),
                Value::String(ascii(&text, CONTEXT_CHARACTERS)),
            ))
        })
        .collect()
}

/// Gives the ARN of an account's root user, in the partition of a Region.
fn account_arn(region: Option<&Escaped>) -> impl Fn(&AccountContent) -> String {
    let partition = partition(region);
    move |account| format!("arn:{partition}:iam::{}:root", account.id)
}

/// The partition that a Region belongs to.
pub(super) fn partition(region: Option<&Escaped>) -> &'static str {
    match region.map_or("", Escaped::as_str) {
        region if region.starts_with("us-gov-") => "aws-us-gov",
        region if region.starts_with("cn-") => "aws-cn",
        _ => "aws",
    }
}
