"""The command line and the function find the same records in the same objects, with equal sources, rules, filters and level."""

import json
import random
import sys

import pytest

from conftest import ACCOUNT, BUCKET, ROOT, found, record, upload

sys.path.insert(0, str(ROOT / "scripts"))

import boto3
from lambda_peer import Lambda

FILTER = """title: Planned closure
id: 6b1f6c3e-7c3a-4f0e-8d55-9d3f5f0f7a11
description: Planned.
logsource: {product: aws, service: cloudtrail}
filter:
  rules: [RULE]
  planned: {sourceIPAddress: 203.0.113.99}
  condition: not planned
"""
NAMES = ["CloseAccount", "SetPayInformation", "SetContactAddress", "GetAddresses", "UpdateNothingKnown", "PutAlternateContact"]
SOURCES = ["billingconsole.amazonaws.com", "account.amazonaws.com", "payments.amazonaws.com", "s3.amazonaws.com"]


def function_finds(moto, keys, rules, level, sources):
    """Sends the function an event for each object. Returns the ids of the events that it alerts on."""
    options = {"endpoint_url": moto, "region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    sns, sqs = boto3.client("sns", **options), boto3.client("sqs", **options)
    topics = [sns.create_topic(Name=name)["TopicArn"] for name in ("people", "machines")]
    url = sqs.create_queue(QueueName="machines")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topics[1], Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    function = Lambda(ROOT / "target/debug/billing-watch-function", {
        "AWS_ENDPOINT_URL": moto, "ALERT_TOPIC_ARN": topics[0], "FINDING_TOPIC_ARN": topics[1], "RULES_URI": str(rules), "MINIMUM_LEVEL": level, "EVENT_SOURCES": sources,
    })
    try:
        for key in keys:
            kind, reply = function.invoke({"s3Bucket": BUCKET, "s3ObjectKey": [key]})
            assert kind == "response", reply
        bodies = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"])["metadata"]["original_event_uid"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies
    finally:
        function.stop()


@pytest.mark.parametrize("seed", range(4))
def test_the_same_records_are_found(s3, moto, environment, folder, tmp_path, seed):
    chance = random.Random(seed)
    for number in range(12):
        folder.put([
            record(
                chance.randrange(60), chance.choice(NAMES), chance.choice(SOURCES), sourceIPAddress=chance.choice(["203.0.113.7", "203.0.113.99"]),
                **({"errorCode": "AccessDenied"} if chance.random() < 0.3 else {}),
            )
            for _ in range(chance.randrange(20))
        ], name=f"File{number:02}")
    upload(s3, folder)
    rules = tmp_path / "rules"
    rules.mkdir()
    closed = next(line.split()[1] for line in (ROOT / "rules/account-closed.yml").read_text().splitlines() if line.startswith("id: "))
    (rules / "planned.yml").write_text(FILTER.replace("RULE", closed))
    level, sources = chance.choice(["low", "medium", "high"]), chance.choice(["billing-family", "billingconsole.amazonaws.com,payments.amazonaws.com"])
    keys = sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*.gz"))
    expected = function_finds(moto, keys, rules, level, sources)
    options = ("--rules", rules, "--minimum-level", level, "--event-source", sources)
    assert expected and len(set(expected)) == len(expected)
    for place in (folder.path, f"s3://{BUCKET}/"):
        assert sorted(finding["event_id"] for finding in found(place, *options, env=environment)) == sorted(expected), place
