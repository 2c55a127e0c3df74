"""The alert in each format, as its subscriber gets it: schemas, limits, and records that mean harm."""

import datetime
import functools
import itertools
import json
import re
import subprocess

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from stack import ROOT

CHAT = json.loads((ROOT / "tests/data/chat.schema.json").read_text())
# 80% of what a limit allows, in bytes or UTF-16 units, whichever are more: AWS does not say what it counts.
CHAT_LIMITS = {"title": 200, "description": 6_400, "nextSteps": 280, "keywords": 60}
ACCOUNT = "111122223333"
ACTORS = {
    "root": {"type": "Root", "principalId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT, "accessKeyId": "ASIAEXAMPLEROOTKEY00"},
    "user": {"type": "IAMUser", "principalId": "AIDAEXAMPLE", "arn": f"arn:aws:iam::{ACCOUNT}:user/alice", "accountId": ACCOUNT, "userName": "alice"},
    "role with MFA": {
        "type": "AssumedRole", "principalId": "AROAEXAMPLE:alice", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Finance/alice", "accountId": ACCOUNT,
        "accessKeyId": "ASIAEXAMPLEFINANCE00", "sessionContext": {"attributes": {"mfaAuthenticated": "true"}},
    },
    "federated": {"type": "FederatedUser", "principalId": f"{ACCOUNT}:bob", "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/bob", "accountId": ACCOUNT},
    "Identity Center": {"type": "IdentityCenterUser", "accountId": ACCOUNT, "userName": "carol", "onBehalfOf": {"userId": "1"}},
    "service": {"type": "AWSService", "invokedBy": "organizations.amazonaws.com"},
}
OUTCOMES = {"success": {}, "failure": {"errorCode": "AccessDenied", "errorMessage": "Jane Doe may not"}}


def rendered(records):
    """Returns the alert on each record in each format."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    done = subprocess.run(
        ["cargo", "run", "--quiet", "--locked", "--example", "render"], cwd=ROOT, input=lines, capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def whole(members, number, **more):
    """A record with the members that CloudTrail always writes."""
    return {
        "eventVersion": "1.08", "eventTime": "2026-03-02T16:44:04Z", "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.7",
        "userAgent": "Mozilla/5.0 (compatible; +http://agent.example)", "eventID": f"5923c499-063e-44ac-80fb-{number:012}", "readOnly": False,
        "eventType": "AwsApiCall", "recipientAccountId": ACCOUNT,
        "requestParameters": {"city": "Seattle", "email": "jane.doe@example.com", "currency": "EUR"}, "responseElements": None, **members, **more,
    }


@functools.cache
def all_alerts():
    """Returns the alerts of each rule, actor and outcome: `[((rule, actor, outcome), formats)]`."""
    names, records = [], []
    tests = sorted((ROOT / "rules").glob("**/*.tests.json"))
    for path, actor, outcome in itertools.product(tests, ACTORS, OUTCOMES):
        members = json.loads(path.read_text())["match"][0]
        members = {name: value for name, value in members.items() if name not in ("userIdentity", "errorCode", "errorMessage")}
        names.append((path.name, actor, outcome))
        records.append(whole(members, len(records), userIdentity=ACTORS[actor], **OUTCOMES[outcome]))
    alerts = rendered(records)
    # A rule that wants a root user, or success, matches some of them only.
    by_id = {record["eventID"]: name for name, record in zip(names, records)}
    found = [(by_id[json.loads(alert["ocsf"]["body"])["metadata"]["original_event_uid"]], alert) for alert in alerts]
    assert {name for (name, _, _), _ in found} == {path.name for path in tests}
    assert len(found) > 0.95 * len(names)
    return found


@functools.cache
def ocsf_validator():
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0")).get_class_schema(class_name="detection_finding", profiles=["cloud", "datetime"])
    return jsonschema.Draft202012Validator(schema)


def check_ocsf(body):
    """Checks a finding against the schema, and what the schema does not check."""
    finding = json.loads(body)
    errors = [f"{error.json_path}: {error.message[:200]}" for error in ocsf_validator().iter_errors(finding)]
    assert not errors, errors
    assert finding["type_uid"] == finding["class_uid"] * 100 + finding["activity_id"]
    assert finding["severity"] == {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}[finding["severity_id"]]
    assert (finding["category_uid"], finding["category_name"]) == (2, "Findings")
    assert (finding["activity_id"], finding["activity_name"], finding["type_name"]) == (1, "Create", "Detection Finding: Create")
    assert (finding["status_id"], finding["status"]) == (1, "New")
    assert finding["metadata"]["profiles"] == ["cloud", "datetime"]
    # Each `…_dt` is its number of milliseconds.
    for members in (finding, finding["finding_info"], finding["metadata"]):
        for name in [name for name in members if name.endswith("_dt")]:
            time = datetime.datetime.fromisoformat(members[name])
            assert round(time.timestamp() * 1000) == members[name.removesuffix("_dt")], name
    for observable in finding.get("observables", []):
        value = finding
        for part in re.findall(r"[a-z_]+|\d+", observable["name"]):
            value = value[int(part) if part.isdigit() else part]
        assert value == observable["value"]
    return finding


def longest(text):
    return max(len(text.encode()), len(text.encode("utf-16-le")) // 2)


def check_chat(body):
    message = json.loads(body)
    jsonschema.validate(message, CHAT)
    content = message["content"]
    for name, limit in CHAT_LIMITS.items():
        texts = content.get(name, [])
        for text in [texts] if isinstance(texts, str) else texts:
            assert longest(text) <= limit, name
    return message


def test_each_rule_actor_and_outcome_fits_the_schema_of_ocsf():
    for name, alert in all_alerts():
        finding = check_ocsf(alert["ocsf"]["body"])
        assert len(alert["ocsf"]["body"].encode()) < 250_000
        account = finding["cloud"]["account"]
        assert account["uid"] == alert["ocsf"]["attributes"]["account"]
        assert account.get("name") == ("Payments <production>" if account["uid"] == ACCOUNT else None)
        evidence = finding["evidences"][0]
        assert evidence["src_endpoint"] == {"ip": "203.0.113.7"}
        assert ("response" in evidence["api"]) == (name[2] == "failure")
        # Withheld values are withheld.
        assert "Seattle" not in alert["ocsf"]["body"] and "Jane" not in alert["ocsf"]["body"]


def test_each_rule_says_which_tactic_and_technique_it_is_about():
    for (name, _, _), alert in all_alerts():
        attacks = json.loads(alert["ocsf"]["body"])["finding_info"].get("attacks", [])
        tags = re.findall(r"attack\.t[\d.]+", next((ROOT / "rules").glob(f"**/{name.replace('.tests.json', '.yml')}")).read_text())
        assert len({attack.get("technique", attack.get("sub_technique", {})).get("uid") for attack in attacks} - {None}) == len(set(tags))
        for attack in attacks:
            for part in attack.values():
                if isinstance(part, dict):
                    assert part["name"] and part["uid"] and part["src_url"].startswith("https://attack.mitre.org/")


def test_each_rule_actor_and_outcome_fits_the_limits_of_chat():
    for _, alert in all_alerts():
        message = check_chat(alert["chat"]["body"])
        assert message["content"]["title"].startswith("[") and alert["chat"]["attributes"]["account"] in message["content"]["title"]
        assert message["metadata"]["threadId"].startswith("billing-watch-")
        assert "Seattle" not in alert["chat"]["body"] and "Jane" not in alert["chat"]["body"]


def test_alerts_of_one_actor_on_one_account_share_a_thread():
    threads = {}
    for (_, actor, _), alert in all_alerts():
        account = alert["chat"]["attributes"]["account"]
        threads.setdefault((actor, account), set()).add(json.loads(alert["chat"]["body"])["metadata"]["threadId"])
    assert all(len(ids) == 1 for ids in threads.values())
    assert len(set.union(*threads.values())) == len(threads)


def first_lines(text, columns, count=5):
    """Returns the first lines of a mail on a screen that breaks lines between words."""
    lines = []
    for line in text.splitlines():
        while len(line) > columns:
            at = line.rfind(" ", 0, columns + 1)
            at = at if at > 0 else columns
            lines.append(line[:at])
            line = line[at:].lstrip()
        lines.append(line)
    return " ".join(lines[:count])


@pytest.mark.parametrize("columns", [40, 80])
def test_the_first_five_lines_of_a_mail_say_what_matters(columns):
    who = {"root": "The root user", "user": "User alice", "role with MFA": "Role Finance", "federated": "Federated user", "Identity Center": "Identity Center user carol",
           "service": "Organizations.amazonaws.com"}
    for (_, actor, outcome), alert in all_alerts():
        mail, attributes = alert["text"]["body"], alert["text"]["attributes"]
        top = first_lines(mail, columns)
        assert top.lower().startswith(attributes["level"]), top
        # A name that is longer than the screen is wide may be broken.
        for part in (who[actor], attributes["event_name"], attributes["account"], "succeeded" if outcome == "success" else "failed"):
            assert part.replace(" ", "") in top.replace(" ", ""), (part, top)
        # Only commands, links and ARNs are longer than a line.
        for line in mail.splitlines():
            assert len(line) <= 80 or re.search(r"aws |https://|arn:|s3://|^  \S+: ", line), line
        assert "2026-03-02 16:44:04 UTC (2026-03-02 17:44:04 Europe/Berlin; just now)" in re.sub(r"\n +", " ", mail)


# What a record must not bring into any format. docs/testing.md says what may be left of it.
HOSTILE = {
    "a mention in Slack": "<@U0123> <!channel> <!here> <!subteam^S1>",
    "a link in Slack": "<https://evil.example|AWS console>",
    "a link in Teams": "[AWS console](https://evil.example)",
    "an image": "![x](http://evil.example/x.png)",
    "markdown": "*bold* _it_ ~no~ `code` ```block``` # head\n> quote",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "ANSI": "\x1b[31mred\x1b]8;;http://evil.example\x07link\x1b\\",
    "bidirectional": "\u202egnp.exe\u2066x\u2069\u200f",
    "homoglyphs": "\u0440aypal \u0430dmin \uff41dmin",
    "invisible": "a\u200bb\u2060c\ufeffd\u00ade\U000e0041",
    "line breaks": "x\r\nSubject: y\u2028z\u2029\x85\x0b\x0c",
    "shell": "'; $(id) `id` \"; | & > /tmp/x #",
    "JSON": '"}],"x":[{"',
    "long": "\u202e漢" * 100_000,
    "control": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "every unseen character": "x".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x115F, 0x3164, 0xFFA0, 0xE000, 0xFFFE, 0x1D173, 0xF0000, 0x10FFFF])),
}
def unseen():
    """Returns a pattern of the characters that docs/testing.md lists."""
    block = (ROOT / "docs/testing.md").read_text().split("apart from line breaks:")[1].split("```")[1]
    ranges = re.findall(r"U\+([0-9A-F]+)(?:-U\+([0-9A-F]+))?", block)
    assert len(ranges) > 20
    return re.compile("[" + "".join(f"\\U{int(first, 16):08x}-\\U{int(last or first, 16):08x}" for first, last in ranges) + "]")


UNSEEN = unseen()


def hostile_record(text, number, member=None):
    """A record with the text in every field, or in one. Only name and source stay, or no rule would match."""
    identity = {"type": text, "arn": text, "userName": text, "principalId": text, "accountId": text, "accessKeyId": text, "invokedBy": text}
    members = {
        "userIdentity": identity, "sourceIPAddress": text, "userAgent": text, "awsRegion": text, "eventTime": text, "eventID": text, "errorCode": text,
        "errorMessage": text, "requestParameters": {text[:60]: text, "currency": text, "list": [text]}, "responseElements": text,
        "addendum": {"reason": text, "originalEventID": text, "updatedFields": [text]}, "recipientAccountId": text,
    }
    if member:
        members = {member: members[member]}
    return whole({"eventSource": "billingconsole.amazonaws.com", "eventName": "CloseAccount"}, number, **members)


def outside_code(markdown):
    """Returns a message without its code spans, each of which must end in its own line."""
    for line in markdown.splitlines():
        assert line.count("`") % 2 == 0, line
    return re.sub(r"`[^`\n]*`", "", markdown)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_record_is_inert_in_every_format(what):
    text = HOSTILE[what]
    members = [None, "userIdentity", "sourceIPAddress", "userAgent", "awsRegion", "eventTime", "eventID", "errorCode", "requestParameters", "addendum", "recipientAccountId"]
    records = [hostile_record(text, number, member) for number, member in enumerate(members)]
    records += [{**records[0], "cameBy": "EventBridge", "differs": True}]
    alerts = rendered(records)
    assert len(alerts) == len(records)
    for alert in alerts:
        for kind in ("text", "chat", "ocsf"):
            assert re.fullmatch("[ -~]{1,99}", alert[kind]["subject"])
            for value in alert[kind]["attributes"].values():
                for one in [value] if isinstance(value, str) else value:
                    assert one and not UNSEEN.search(one) and "://" not in one
        mail = alert["text"]["body"]
        assert not UNSEEN.search(mail)
        # An address has no slashes left, or those of a JSON string in a command.
        assert "evil.example" not in re.sub(r"(\[:\]//|:\\\\/\\\\/)\S+", "", mail), mail
        command = next((line for line in mail.splitlines() if line.startswith(("Print it:", "Look up:"))), "")
        assert command.isascii()
        chat = check_chat(alert["chat"]["body"])
        texts = [chat["content"]["title"], chat["content"]["description"], chat["metadata"]["summary"], *chat["content"]["nextSteps"], *chat["content"]["keywords"]]
        for shown in texts:
            assert not UNSEEN.search(shown), shown
            assert not re.search(r"<[@!#]|<http|</?[a-z]", shown), shown
            rest = outside_code(shown)
            assert "evil" not in rest and "](" not in rest and "alert(1)" not in rest, rest
        finding = check_ocsf(alert["ocsf"]["body"])
        for shown in strings(finding):
            assert not UNSEEN.search(shown.replace("\n", "")), shown
            assert "http://evil" not in shown and "https://evil" not in shown, shown


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from strings(member)


def test_letters_that_look_like_others_show_in_names():
    alert, = rendered([hostile_record("\u0430dmin", 0, "userIdentity")])
    for kind in ("text", "chat", "ocsf"):
        assert "\u0430" not in alert[kind]["body"], kind


@pytest.mark.parametrize("way", ["EventBridge", "CloudWatchLogs"])
def test_an_alert_on_a_direct_event_names_its_path_and_a_command(way):
    record = whole({"eventSource": "billingconsole.amazonaws.com", "eventName": "CloseAccount", "cameBy": way}, 1, userIdentity=ACTORS["root"])
    alert, = rendered([record])
    name = {"EventBridge": "EventBridge", "CloudWatchLogs": "CloudWatch Logs"}[way]
    mail = alert["text"]["body"]
    assert f"Came by:  {name}, ahead of the log file" in mail and "Log file:" not in mail
    assert f"aws cloudtrail lookup-events --region us-east-1 --lookup-attributes AttributeKey=EventId,AttributeValue={record['eventID']}" in mail
    assert json.loads(alert["ocsf"]["body"])["unmapped"]["came_by"] == name
    assert f"Came by: {name}" in json.loads(alert["chat"]["body"])["content"]["description"]
