"""Log files in another account: what that account must add, and that the log files then alert."""

import json
import shlex

import pytest

from deployed import connect
from stack import ACCOUNT, LOG_ACCOUNT, LOG_KEY, REGION, Stack, closure, log_file, transformed, until
from test_permissions import allows, role_policy

READER = f"arn:aws:iam::{LOG_ACCOUNT}:role/billing-watch-log-reader"
LOG_KEY_ARN = f"arn:aws:kms:{REGION}:{LOG_ACCOUNT}:key/11112222-3333-4444-5555-666677778888"


def deploy(localstack, name, **parameters):
    localstack.client("s3", LOG_ACCOUNT).create_bucket(Bucket=f"{name}-logs")
    return Stack(localstack, name, {"LogBucketName": f"{name}-logs", "LogBucketAccountId": LOG_ACCOUNT, **parameters})


def deploy_log_account(localstack, stack):
    """Deploys the stack of the output `LogAccountCommand` in the bucket's account."""
    words = shlex.split(stack.outputs["LogAccountCommand"])
    option = lambda name: words[words.index(name) + 1]
    assert words[:3] == ["aws", "cloudformation", "deploy"] and option("--template-file") == "template-log-account.yaml"
    parameters = dict(word.split("=", 1) for word in words[words.index("--parameter-overrides") + 1:])
    assert set(parameters) <= set(transformed("template-log-account.yaml")["Parameters"])
    return Stack(localstack, option("--stack-name"), parameters, option("--template-file"), LOG_ACCOUNT)


def test_control_tower_s_topic_notifies_and_a_role_reads_the_log_files(localstack):
    """The organization's trail notifies a topic of the audit account. Nobody can change the bucket's policy."""
    topic = localstack.client("sns").create_topic(Name="aws-controltower-AllConfigNotifications")["TopicArn"]
    watch = deploy(localstack, "control-tower", Trigger="topic-queue", NotificationTopicArn=topic, LogReaderRoleArn=READER,
                   LogKeyArn=LOG_KEY_ARN, LogKeyPrefix="o-exampleorg1/AWSLogs/")
    reader = deploy_log_account(localstack, watch)
    assert reader.outputs["LogReaderRoleArn"] == READER
    alerts = watch.subscribe_queue(watch.outputs["AlertTopicArn"])

    assert json.loads(watch.outputs["KeyPolicyStatement"])["Principal"] == {"AWS": READER}

    # The function's role can assume the reader role and can read no log file itself. The reader role can read only the trail's log files.
    assert allows(role_policy(watch), "sts:AssumeRole", READER)
    for key in ("o-exampleorg1/AWSLogs/x", "x"):
        assert not allows(role_policy(watch), "s3:GetObject", f"arn:aws:s3:::control-tower-logs/{key}")
    assert not allows(role_policy(watch), "kms:Decrypt", LOG_KEY_ARN)
    iam = localstack.client("iam", LOG_ACCOUNT)
    trust = iam.get_role(RoleName="billing-watch-log-reader")["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [(entry["Action"], entry["Principal"]) for entry in trust] == [("sts:AssumeRole", {"AWS": watch.outputs["FunctionRoleArn"]})]
    policy = iam.get_role_policy(RoleName="billing-watch-log-reader", PolicyName="read-log-files")["PolicyDocument"]
    for action, resource, allowed in [
        ("s3:GetObject", "arn:aws:s3:::control-tower-logs/o-exampleorg1/AWSLogs/x", True),
        ("s3:GetObjectVersion", "arn:aws:s3:::control-tower-logs/o-exampleorg1/AWSLogs/x", True),
        ("kms:Decrypt", LOG_KEY_ARN, True),
        ("s3:GetObject", "arn:aws:s3:::control-tower-logs/x", False),
        ("s3:PutObject", "arn:aws:s3:::control-tower-logs/o-exampleorg1/AWSLogs/x", False),
        ("s3:ListBucket", "arn:aws:s3:::control-tower-logs", False),
    ]:
        assert allows(policy, action, resource, LOG_ACCOUNT) == allowed, (action, resource)
    assert not allows(policy, "kms:Decrypt", LOG_KEY_ARN, LOG_ACCOUNT, via="")

    # CloudTrail and AWS Config share the topic. Only CloudTrail's log files are read.
    keys = ["o-exampleorg1/" + LOG_KEY % f"Abcdefgh1234567{number}" for number in range(3)]
    config = lambda kind: f"o-exampleorg1/AWSLogs/o-exampleorg1/111122223333/Config/us-east-1/2026/3/2/Config{kind}/" \
        f"111122223333_Config_us-east-1_Config{kind}_20260302T165000Z_1.json.gz"
    delivered = lambda kind: {"messageType": f"Configuration{kind}DeliveryCompleted", "s3Bucket": "control-tower-logs", "s3ObjectKey": config(kind)}
    before = len(localstack.call_log.read_text().splitlines())
    for message in [
        delivered("Snapshot"),
        {"messageType": "ConfigurationItemChangeNotification", "configurationItem": {"resourceType": "AWS::S3::Bucket"}},
        {"s3Bucket": "control-tower-logs", "s3ObjectKey": keys[:1]},
        delivered("History"),
        {"messageType": "ComplianceChangeNotification", "awsAccountId": "111122223333"},
        {"s3Bucket": "control-tower-logs", "s3ObjectKey": keys[1:]},
        delivered("Snapshot"),
    ]:
        for key in message["s3ObjectKey"] if isinstance(message.get("s3ObjectKey"), list) else []:
            localstack.client("s3", LOG_ACCOUNT).put_object(Bucket="control-tower-logs", Key=key, Body=log_file(closure(key[-24:])))
        localstack.client("sns").publish(TopicArn=topic, Message=json.dumps(message))
    received = []
    until("an alert on each log file", lambda: received.extend(watch.receive(alerts)) or len(received) == 3)
    assert {key for key in keys for alert in received if f"s3://control-tower-logs/{key}" in alert["Message"]} == set(keys)
    queue = watch.resources["DeliveryQueue"]
    until("the empty queue", lambda: watch.waiting(queue) == 0)
    calls = [json.loads(line) for line in localstack.call_log.read_text().splitlines()[before:]]
    read = [call["parameters"]["Key"] for call in calls if call["operation"] == "GetObject" and call["parameters"]["Bucket"] == "control-tower-logs"]
    assert sorted(read) == keys
    assert {call["parameters"]["RoleArn"] for call in calls if call["operation"] == "AssumeRole"} == {READER}
    total = lambda name: sum(line[name] for line in localstack.metric_lines("control-tower"))
    assert [total(name) for name in ("Scanned", "Skipped", "Failed", "EnvelopeProblems")] == [3, 0, 0, 0]
    assert watch.waiting(watch.outputs["FailedQueueUrl"]) == 0


def test_eventbridge_forwards_events_from_the_other_account(localstack):
    watch = deploy(localstack, "far-events", Trigger="eventbridge")
    sender = deploy_log_account(localstack, watch)
    assert "LogReaderRoleArn" not in sender.outputs
    alerts = watch.subscribe_queue(watch.outputs["AlertTopicArn"])
    assert connect(localstack, "far-events-logs", "--target", "eventbridge", account=LOG_ACCOUNT).endswith(": connected\n")

    # LocalStack does not enforce these: this account's bus accepts only S3's events from that account, and that account's role can send only to this bus.
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    statement = transformed()["Resources"]["OtherAccountMaySendEvents"]["Properties"]["Statement"]
    assert statement["Action"] == "events:PutEvents"
    assert statement["Condition"] == {
        "ForAllValues:StringEquals": {"events:source": "aws.s3"}, "StringEquals": {"events:detail-type": "Object Created"},
    }
    [name] = [role["RoleName"] for role in localstack.client("iam", LOG_ACCOUNT).list_roles()["Roles"] if "SenderRole" in role["RoleName"]]
    policy = localstack.client("iam", LOG_ACCOUNT).get_role_policy(RoleName=name, PolicyName="send-events")["PolicyDocument"]
    assert allows(policy, "events:PutEvents", bus) and not allows(policy, "events:PutEvents", bus.replace(ACCOUNT, "123456789012"))
    [target] = localstack.client("events", LOG_ACCOUNT).list_targets_by_rule(Rule=sender.resources["LogFileRule"])["Targets"]
    assert target["Arn"] == bus and target["RoleArn"].endswith(name) and target["DeadLetterConfig"]["Arn"].startswith("arn:aws:sqs:")

    key = LOG_KEY % "Abcdefgh12345678"
    localstack.client("s3", LOG_ACCOUNT).put_object(Bucket="far-events-logs", Key=key, Body=log_file(closure("event-1")))
    [alert] = until("an alert", lambda: watch.receive(alerts))
    assert f"s3://far-events-logs/{key}" in alert["Message"]


@pytest.mark.parametrize("trigger", ["bucket", "bucket-queue"])
def test_the_outputs_name_what_the_other_account_must_add(localstack, trigger):
    watch = deploy(localstack, f"far-{trigger}", Trigger=trigger, LogKeyArn=LOG_KEY_ARN)
    role = watch.outputs["FunctionRoleArn"]
    statement = json.loads(watch.outputs["BucketPolicyStatement"])
    assert statement["Principal"] == {"AWS": role} and statement["Resource"] == [f"arn:aws:s3:::far-{trigger}-logs/AWSLogs/*"]
    assert statement["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    key = json.loads(watch.outputs["KeyPolicyStatement"])
    assert (key["Principal"], key["Action"]) == ({"AWS": role}, "kms:Decrypt")
    assert key["Condition"] == {"StringEquals": {"kms:ViaService": [f"s3.{REGION}.amazonaws.com", f"s3.{REGION}.amazonaws.com.cn"]}}
    # S3 accepts the statement, and the bucket notifies the function in the other account.
    s3 = localstack.client("s3", LOG_ACCOUNT)
    s3.put_bucket_policy(Bucket=f"far-{trigger}-logs", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    output = connect(localstack, f"far-{trigger}-logs", "--target", watch.outputs["NotificationTarget"], account=LOG_ACCOUNT)
    assert output.endswith(": connected\n"), output
    alerts = watch.subscribe_queue(watch.outputs["AlertTopicArn"])
    s3.put_object(Bucket=f"far-{trigger}-logs", Key=LOG_KEY % "Abcdefgh12345678", Body=log_file(closure("event-1")))
    until("an alert", lambda: watch.receive(alerts))


def test_the_outputs_name_what_the_topic_s_owner_must_add(deployed):
    watch = deployed("topic")
    statement = json.loads(watch.stack.outputs["TopicPolicyStatement"])
    assert statement["Action"] == ["sns:Subscribe", "sns:GetTopicAttributes"] and statement["Resource"] == watch.topic
    assert "LogAccountCommand" not in watch.stack.outputs and "BucketPolicyStatement" not in watch.stack.outputs


def test_the_outputs_name_what_a_trail_s_key_must_allow(localstack):
    key = localstack.client("kms").create_key()["KeyMetadata"]["Arn"]
    watch = Stack(localstack, "keyed-trail", {"Trigger": "new-trail", "LogBucketName": "keyed-trail-logs", "LogKeyArn": key})
    encrypts, describes = json.loads(watch.outputs["TrailKeyPolicyStatements"])
    trail = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/keyed-trail"
    assert encrypts["Condition"]["StringEquals"] == describes["Condition"]["StringEquals"] == {"aws:SourceArn": trail}
    policy = json.loads(localstack.client("s3").get_bucket_policy(Bucket="keyed-trail-logs")["Policy"])
    named = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert named["TrailChecks"]["Condition"]["StringEquals"]["aws:SourceArn"] == trail
    assert named["TrailWrites"]["Resource"] == [f"arn:aws:s3:::keyed-trail-logs/AWSLogs/{ACCOUNT}/*"]
