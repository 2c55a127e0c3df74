"""Each trigger: deployed, used, broken and repaired."""

import json

import pytest

from deployed import connect
from stack import TRIGGERS, closure, until


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_log_file_becomes_an_alert_and_failed_events_can_be_redriven(deployed, trigger):
    watch = deployed(trigger)
    stack = watch.stack
    key = watch.put("Abcdefgh12345678", closure("event-1"))
    alert = watch.next_alert()
    assert alert["Subject"] == "[CRITICAL] CloseAccount in 111122223333 by root"
    assert f"s3://{watch.bucket}/{key}" in alert["Message"]

    # The same log file is delivered again. Its record does not alert again.
    watch.put("Abcdefgh12345678", closure("event-1"))
    until("the duplicate", lambda: watch.metrics("Duplicate") == 1)

    # Without the alert topic, the event fails, is retried, and moves to the failure queue.
    restore_topic = watch.delete_topic()
    watch.put("Bcdefghi23456789", closure("event-2"))
    until("the failure queue", lambda: stack.waiting(watch.failed) == 1)
    assert watch.metrics("FailedFindings") >= 3 and stack.receive(watch.alerts) == []

    # With the topic restored and the mapping enabled, the event alerts and leaves the queue.
    watch.alerts = restore_topic()
    stack.client("lambda").update_event_source_mapping(UUID=stack.outputs["RedriveMappingId"], Enabled=True)
    assert "CloseAccount" in watch.next_alert()["Subject"]
    until("the empty queue", lambda: stack.waiting(watch.failed) == 0)
    stack.client("lambda").update_event_source_mapping(UUID=stack.outputs["RedriveMappingId"], Enabled=False)
    assert stack.waiting(stack.resources["RedriveDeadLetterQueue"]) == 0


@pytest.mark.parametrize("trigger", [trigger for trigger in TRIGGERS if trigger.startswith("topic")])
def test_other_notifications_on_the_topic_do_not_invoke_the_function(deployed, trigger):
    watch = deployed(trigger)
    sns = watch.localstack.client("sns")
    before = len(watch.localstack.metric_lines(watch.stack.name))
    key = watch.put("Cdefghij34567890", closure("event-3"))
    watch.next_alert()

    # Only the last of these names a log file of the bucket: CloudTrail's own notification of the same log file.
    publish = lambda message: sns.publish(TopicArn=watch.topic, Message=message if isinstance(message, str) else json.dumps(message))
    publish({"messageType": "ConfigurationItemChangeNotification", "configurationItem": {"resourceType": "AWS::S3::Bucket"}})
    for kind in ("History", "Snapshot"):
        config_key = f"AWSLogs/111122223333/Config/us-east-1/2026/3/2/Config{kind}/111122223333_Config_us-east-1_Config{kind}_20260302T165000Z_1.json.gz"
        publish({"messageType": f"Configuration{kind}DeliveryCompleted", "recordVersion": "1.1", "s3Bucket": watch.bucket, "s3ObjectKey": config_key})
    publish("CloudTrail validation message.")
    publish({"s3Bucket": "another-bucket", "s3ObjectKey": [key]})
    publish({"s3Bucket": watch.bucket, "s3ObjectKey": [key]})
    until("CloudTrail's notification", lambda: len(watch.localstack.metric_lines(watch.stack.name)) == before + 2)
    last = watch.localstack.metric_lines(watch.stack.name)[-1]
    assert (last["Scanned"], last["Duplicate"], last["EnvelopeProblems"]) == (1, 1, 0)
    assert watch.metrics("Skipped") == 0 and nothing_failed_or_alerted(watch)


def nothing_failed_or_alerted(watch):
    return watch.stack.waiting(watch.failed) == 0 and watch.stack.receive(watch.alerts) == []


@pytest.mark.parametrize("trigger", [trigger for trigger in TRIGGERS if trigger.startswith("eventbridge")])
def test_other_objects_of_the_bucket_do_not_invoke_the_function(deployed, trigger):
    watch = deployed(trigger)
    before = len(watch.localstack.metric_lines(watch.stack.name))
    watch.s3.put_object(Bucket=watch.bucket, Key="AWSLogs/111122223333/Config/us-east-1/2026/3/2/x.json.gz", Body=b"x")
    watch.put("Defghijk45678901", closure("event-4"))
    watch.next_alert()
    assert len(watch.localstack.metric_lines(watch.stack.name)) == before + 1


@pytest.mark.parametrize("trigger", [trigger for trigger in TRIGGERS if trigger.startswith("bucket")])
def test_a_bucket_is_connected_only_once_and_can_be_disconnected(localstack, deployed, trigger):
    watch = deployed(trigger)
    stack = ["--stack", watch.stack.name]
    assert "nothing to do, it is connected already" in connect(localstack, watch.bucket, *stack)
    assert connect(localstack, watch.bucket, *stack, "--remove").endswith(": disconnected\n")
    assert "nothing to do, it is not connected" in connect(localstack, watch.bucket, *stack, "--remove")
    assert connect(localstack, watch.bucket, *stack).endswith(": connected\n")


def test_the_schedule_s_event_sends_a_test_alert(deployed):
    watch = deployed("bucket")
    events = watch.stack.client("events")
    rule = watch.stack.resources["SelfTestRule"]
    assert events.describe_rule(Name=rule)["ScheduleExpression"] == "rate(7 days)"
    [target] = events.list_targets_by_rule(Rule=rule)["Targets"]
    assert target["Arn"].endswith(f":function:{watch.stack.name}") and target["DeadLetterConfig"]["Arn"].endswith("-failed")
    _, failed = watch.stack.invoke(json.loads(target["Input"]))
    assert not failed and watch.next_alert()["Subject"] == "[TEST] billing-watch self-test: nothing has happened"
