"""The filter policies of docs/integrations.md: moto passes to each subscriber the alerts that the page says."""

import json
import re

import boto3
import pytest

from stack import REGION, ROOT
from test_formats import ACTORS, rendered, whole

PAGE = (ROOT / "docs/integrations.md").read_text()
ROWS = [
    tuple(cell.strip(" `") for cell in line.strip("|").split("|"))
    for line in PAGE.split("\n## Filter policies\n")[1].split("\n## ")[0].splitlines()
    if "`{" in line and line.startswith("|")
]


def event(source, name, number, **members):
    return whole({"eventSource": source, "eventName": name}, number, **{"userIdentity": ACTORS["user"], **members})


RECORDS = {
    "account closed by root": event("billingconsole.amazonaws.com", "CloseAccount", 1, userIdentity=ACTORS["root"]),
    "account closed, from EventBridge": event("billingconsole.amazonaws.com", "CloseAccount", 2, cameBy="EventBridge"),
    "failed to close": event("billingconsole.amazonaws.com", "CloseAccount", 3, errorCode="AccessDenied"),
    "contact of another account": event("account.amazonaws.com", "PutAlternateContact", 4, recipientAccountId="777788889999"),
    "payment method": event("payments.amazonaws.com", "Instruments_Create", 5, recipientAccountId="444455556666"),
}
# By the purpose of a policy, the records whose alerts pass it.
PASS = {
    "a pager at night": {"account closed by root", "account closed, from EventBridge"},
    "the ticket queue": {"failed to close", "contact of another account", "payment method"},
    "one business unit": RECORDS.keys() - {"contact of another account"},
    "only what succeeded": RECORDS.keys() - {"failed to close"},
    "root only": {"account closed by root"},
    "everything but the contacts": RECORDS.keys() - {"contact of another account"},
    "payments": RECORDS.keys() - {"contact of another account"},
    "level high and above": RECORDS.keys() - {"contact of another account"},
    "one tactic of ATT&CK": RECORDS.keys() - {"contact of another account"},
    "what came before its log file": {"account closed, from EventBridge"},
}


@pytest.fixture(scope="module")
def alerts():
    return dict(zip(RECORDS, rendered(RECORDS.values()), strict=True))


def publish(sns, topic, message):
    attributes = {
        name: {"DataType": "String", "StringValue": value} if isinstance(value, str) else {"DataType": "String.Array", "StringValue": json.dumps(value)}
        for name, value in message["attributes"].items()
    }
    sns.publish(TopicArn=topic, Subject=message["subject"], Message=message["body"], MessageAttributes=attributes)


def passed(moto, policy, body, messages):
    """Publishes the messages to a new topic, and returns the bodies that a subscriber with the policy gets."""
    options = {"endpoint_url": moto, "region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    sns, sqs = boto3.client("sns", **options), boto3.client("sqs", **options)
    topic = sns.create_topic(Name="filtered")["TopicArn"]
    queue = sqs.create_queue(QueueName="filtered")["QueueUrl"]
    try:
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        scope = {"FilterPolicyScope": "MessageBody"} if body else {}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true", "FilterPolicy": policy, **scope})
        for message in messages:
            publish(sns, topic, message)
        bodies = []
        while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in found]
        return bodies
    finally:
        sns.delete_topic(TopicArn=topic)
        sqs.delete_queue(QueueUrl=queue)


def test_the_page_has_a_row_for_each_policy():
    assert {row[0] for row in ROWS} == PASS.keys()


@pytest.mark.parametrize(("purpose", "topic", "scope", "policy"), ROWS, ids=[row[0] for row in ROWS])
def test_a_filter_policy_passes_the_alerts_that_it_is_for(moto, alerts, purpose, topic, scope, policy):
    assert len(json.loads(policy)) <= 5
    kinds = {"any": ("text", "chat", "ocsf"), "machines": ("ocsf",)}[topic]
    for kind in kinds:
        messages = {alert[kind]["body"]: name for name, alert in alerts.items()}
        bodies = passed(moto, policy, scope == "body", [alert[kind] for alert in alerts.values()])
        assert {messages[body] for body in bodies} == PASS[purpose], kind


def test_the_policies_on_other_pages_are_those_of_this_one():
    for page in ("docs/reference.md", "docs/deploy.md"):
        for policy in re.findall(r"--attribute-name FilterPolicy --attribute-value '([^']+)'", (ROOT / page).read_text()):
            assert set(json.loads(policy)) <= {"level"}, policy


def test_the_page_describes_members_that_a_finding_has(alerts):
    finding = json.loads(alerts["account closed, from EventBridge"]["ocsf"]["body"])
    members = re.findall(r"^\| `([a-z_.\[\]0-9]+)`", PAGE.split("\n## A finding\n")[1].split("\n## ")[0], re.M)
    assert len(members) > 8
    for member in members:
        value = finding
        for part in re.findall(r"[a-z_]+|\d+", member):
            value = value[int(part) if part.isdigit() else part]
        assert value, member
