"""Three topics, of which one fails for a while: the others are served at once, and it gets its messages later, each once."""

import json
import time

import pytest

from deployed import Deployed
from stack import closure, until


@pytest.mark.parametrize(("trigger", "needs_redrive"), [("bucket-queue", False), ("bucket", True)])
def test_a_topic_that_fails_for_a_while_is_complete_afterwards_and_nothing_comes_twice(localstack, trigger, needs_redrive):
    watch = Deployed(localstack, trigger, f"topics-of-{trigger}", ChatTopic="true", FindingTopic="true")
    stack = watch.stack
    chat = stack.subscribe_queue(stack.outputs["ChatTopicArn"])
    if not needs_redrive:
        # The queue tries five times.
        stack.client("sqs").set_queue_attributes(QueueUrl=stack.resources["DeliveryQueue"], Attributes={"VisibilityTimeout": "5"})

    restore_topic = watch.delete_topic("FindingTopicArn")
    watch.put("Klmnopqr12345678", closure("event-1"), closure("event-2"))
    subject = "[CRITICAL] CloseAccount and 1 more in 111122223333 by root"
    assert watch.next_alert()["Subject"] == subject
    [message] = until("the chat message", lambda: stack.receive(chat))
    assert message["Subject"] == subject
    until("the failure", lambda: watch.metrics("FailedFindings") >= 2)

    if needs_redrive:
        until("the failure queue", lambda: stack.waiting(watch.failed) == 1)
    findings = restore_topic()
    if needs_redrive:
        stack.client("lambda").update_event_source_mapping(UUID=stack.outputs["RedriveMappingId"], Enabled=True)
    ids = []

    def all_findings():
        ids.extend(json.loads(message["Message"])["metadata"]["original_event_uid"] for message in stack.receive(findings))
        return len(ids) >= 2

    until("the findings", all_findings)
    # The same log file again, and time for whatever might still come.
    watch.put("Klmnopqr12345678", closure("event-1"), closure("event-2"))
    until("the duplicates", lambda: watch.metrics("Duplicate") >= 2)
    time.sleep(1)
    all_findings()
    assert sorted(ids) == ["event-1", "event-2"]
    assert stack.receive(watch.alerts) == stack.receive(chat) == []
    assert stack.waiting(watch.failed) == 0
    # Each finding counts as published once: when its last topic had accepted it.
    assert watch.metrics("Published") == 2
