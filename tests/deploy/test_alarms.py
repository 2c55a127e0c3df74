"""Every alarm fires in the situation that it is for and in no other, evaluated on the metrics of real invocations."""

import datetime
import json
import time

import pytest

from alarms import Metrics, parts, state
from stack import LOG_KEY, REGION, ROOT, Stack, closure, log_file, transformed

# The metrics that AWS services publish, with the dimension that selects one function, queue, topic or rule:
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
# https://docs.aws.amazon.com/sns/latest/dg/sns-monitoring-using-cloudwatch.html
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
AWS_METRICS = {
    "AWS/Lambda": ("FunctionName", {"Errors", "Throttles", "AsyncEventsDropped", "DestinationDeliveryFailures", "Invocations", "Duration", "ConcurrentExecutions"}),
    "AWS/SQS": ("QueueName", {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"}),
    "AWS/SNS": ("TopicName", {"NumberOfNotificationsFailed", "NumberOfNotificationsFailedToRedriveToDlq"}),
    "AWS/Events": ("RuleName", {"InvocationsFailedToBeSentToDlq"}),
}
MINUTE = 60
# A multiple of every alarm's period, because CloudWatch aligns periods to multiples of their length.
NOW = 1_800_000_000


class Watched:
    """A stack that watches only the billing console, and the metrics of its invocations."""

    def __init__(self, localstack):
        self.localstack = localstack
        self.s3 = localstack.client("s3")
        self.s3.create_bucket(Bucket="logs-alarms")
        self.s3.create_bucket(Bucket="rules-alarms")
        # An instance reads rules only once. The test of a broken rule therefore deploys another stack.
        parameters = {"Trigger": "eventbridge-queue", "LogBucketName": "logs-alarms", "EventSources": "billingconsole.amazonaws.com"}
        self.stack = Stack(localstack, "watch-alarms", parameters)
        self.alarms = self.stack.alarms()

    def put(self, name, body):
        key = LOG_KEY % name
        self.s3.put_object(Bucket="logs-alarms", Key=key, Body=body)
        return key

    def invoke(self, event, stack=None):
        """Invokes the function. Returns the metrics that CloudWatch receives, as if a minute ago."""
        stack = stack or self.stack
        before = len(self.localstack.metric_lines(stack.name))
        _, failed = stack.invoke(event)
        [line] = self.localstack.metric_lines(stack.name)[before:]
        metrics = Metrics()
        metrics.put_line(line, NOW - 1 * MINUTE)
        for name, value in {"Invocations": 1, "Errors": int(failed), "Throttles": 0, "AsyncEventsDropped": 0, "DestinationDeliveryFailures": 0}.items():
            metrics.put("AWS/Lambda", name, {"FunctionName": stack.name}, NOW - 1 * MINUTE, value)
        return metrics


def s3_event(key, created=None):
    moment = datetime.datetime.fromtimestamp(created or time.time(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": moment,
                         "s3": {"bucket": {"name": "logs-alarms"}, "object": {"key": key, "size": 1}}}]}


def firing(alarms, metrics, now=NOW):
    return {name for name, alarm in alarms.items() if state(alarm, metrics, now) == "ALARM"}


@pytest.fixture(scope="module")
def watched(localstack):
    return Watched(localstack)


def test_a_scanned_log_file_raises_no_alarm_even_if_it_alerts(watched):
    event = s3_event(watched.put("Abcdefgh12345678", log_file(closure("event-1"))))
    assert firing(watched.alarms, watched.invoke(event)) == set()


def test_a_broken_log_file_raises_failed_objects_and_function_errors(watched):
    event = s3_event(watched.put("Bcdefghi23456789", b"\x1f\x8bbroken"))
    # No log file was scanned, which also raises `silence`.
    assert firing(watched.alarms, watched.invoke(event)) == {"failed-objects", "function-errors", "silence"}


def test_a_broken_log_file_from_the_queue_raises_failed_objects_but_not_function_errors(watched):
    body = json.dumps(s3_event(LOG_KEY % "Bcdefghi23456789"))
    event = {"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": body}]}
    assert firing(watched.alarms, watched.invoke(event)) == {"failed-objects", "silence"}


def test_an_unknown_envelope_raises_unknown_envelopes(watched):
    assert firing(watched.alarms, watched.invoke({"hello": "world"})) == {"unknown-envelopes", "function-errors", "silence"}
    event = {"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": "hello"}]}
    assert firing(watched.alarms, watched.invoke(event)) == {"unknown-envelopes", "silence"}


def test_a_finding_of_an_unwatched_source_raises_unwatched_findings(watched):
    moved = {**closure("event-2"), "eventSource": "payments.amazonaws.com", "eventName": "DeletePaymentInstrument"}
    event = s3_event(watched.put("Cdefghij34567890", log_file(moved)))
    assert firing(watched.alarms, watched.invoke(event)) == {"unwatched-findings"}


def test_late_handling_of_more_than_one_log_file_in_ten_raises_slow_handling(watched):
    key = watched.put("Defghijk45678901", log_file())
    late = watched.invoke(s3_event(key, time.time() - 901))
    assert firing(watched.alarms, late) == {"slow-handling"}
    assert firing(watched.alarms, watched.invoke(s3_event(key, time.time() - 800))) == set()
    # One late log file in ten is within the limit, two in eleven are not.
    delay = lambda *seconds: late.put("BillingWatch", "HandlingDelay", {"FunctionName": watched.stack.name}, NOW - 1 * MINUTE, *seconds)
    delay(*[1.0] * 9)
    assert firing(watched.alarms, late) == set()
    delay(901.0)
    assert firing(watched.alarms, late) == {"slow-handling"}


def test_a_broken_rule_raises_rejected_rules(watched):
    watched.s3.put_object(Bucket="rules-alarms", Key="own.yml", Body="title: no rule")
    watched.s3.put_object(Bucket="logs-alarms", Key="quiet.json.gz", Body=log_file())
    parameters = {"Trigger": "bucket", "LogBucketName": "logs-alarms", "RulesUri": "s3://rules-alarms/", "LogKeyPrefix": "", "SilenceHours": 0}
    stack = Stack(watched.localstack, "watch-rules", parameters)
    alarms = stack.alarms()
    # `SilenceHours` is 0, and this trigger has neither a queue nor an EventBridge rule.
    assert set(watched.alarms) - set(alarms) == {"silence", "deliveries-late", "rule-loses-events"}
    assert firing(alarms, watched.invoke(s3_event("quiet.json.gz"), stack)) == {"rejected-rules"}


def test_other_rules_than_before_raise_rules_changed(watched):
    """Three instances of the function, which loaded no rules, a filter on a critical rule, and a replacement of a bundled rule."""
    closed = "d32db5c1-5db7-5dd6-9281-d35b9f12acf5"
    logsource = "logsource: {product: aws, service: cloudtrail}"
    selection = "selection: {eventName: CloseAccount, eventSource: account.amazonaws.com}"
    filter_on = f"title: f\nid: 11111111-1111-4111-8111-111111111111\ndescription: d\n{logsource}\n" \
        f"filter:\n  rules: [{closed}]\n  {selection}\n  condition: not selection\n"
    replacement = f"title: r\nid: {closed}\nlevel: low\n{logsource}\ndetection:\n  {selection}\n  condition: selection\n"
    watched.s3.put_object(Bucket="logs-alarms", Key="quiet.json.gz", Body=log_file())
    lines = []
    for number, rules in enumerate([None, filter_on, replacement]):
        parameters = {"Trigger": "bucket", "LogBucketName": "logs-alarms", "SilenceHours": 0}
        if rules:
            watched.s3.create_bucket(Bucket=f"rules-changed-{number}")
            watched.s3.put_object(Bucket=f"rules-changed-{number}", Key="own.yml", Body=rules)
            parameters["RulesUri"] = f"s3://rules-changed-{number}/"
        stack = Stack(watched.localstack, f"watch-rules-{number}", parameters)
        stack.invoke(s3_event("quiet.json.gz"))
        lines.append({**watched.localstack.metric_lines(stack.name)[-1], "FunctionName": watched.stack.name})
    assert [(line["RulesReplaced"], line["CriticalFilters"]) for line in lines] == [(0, 0), (0, 1), (1, 0)]
    alarms = {"rules-changed": watched.alarms["rules-changed"]}

    def raised(*numbers, hours_between=1):
        metrics = Metrics()
        for age, number in enumerate(reversed(numbers)):
            metrics.put_line(lines[number], NOW - MINUTE - age * hours_between * 60 * MINUTE)
        return firing(alarms, metrics) == {"rules-changed"}

    assert raised(0, 1) and raised(1, 0) and raised(0, 2) and raised(2, 0) and raised(1, 2)
    assert not raised(0, 0) and not raised(1, 1) and not raised(2, 2, 2)
    # Seven hours later the change is history.
    assert not raised(0, 1, hours_between=7)


def test_silence_is_raised_after_hours_without_a_scanned_log_file(watched):
    scanned = watched.invoke(s3_event(watched.put("Efghijkl56789012", log_file())))
    silent = lambda hours, metrics=scanned: "silence" in firing(watched.alarms, metrics, NOW + hours * 60 * MINUTE)
    # The log file was scanned in the hour before NOW.
    assert [silent(hours) for hours in (0, 1, 2)] == [False, False, False]
    assert [silent(hours) for hours in (3, 4, 100)] == [True, True, True]
    # A skipped object and a self-test do not count as scanned log files.
    skipped = watched.invoke(s3_event("AWSLogs/111122223333/Config/us-east-1/2026/3/2/x.json.gz"))
    assert silent(0, skipped)
    self_test = watched.invoke({"action": "self-test"})
    assert silent(0, self_test)


def test_a_self_test_without_subscribers_raises_function_errors(watched):
    assert "function-errors" in firing(watched.alarms, watched.invoke({"action": "self-test"}))
    watched.stack.subscribe_queue(watched.stack.outputs["AlertTopicArn"])
    assert "function-errors" not in firing(watched.alarms, watched.invoke({"action": "self-test"}))


def test_each_alarm_on_a_metric_of_an_aws_service_fires_at_its_threshold(watched, deployed):
    alarms = {**watched.alarms, **deployed("topic-queue").stack.alarms()}
    thresholds = {
        "function-errors": (0, 1), "events-dropped": (0, 1), "destination-failures": (0, 1),
        "undelivered-alerts": (0, 1), "rule-loses-events": (0, 1), "self-test-loses-events": (0, 1), "topic-loses-notifications": (0, 1),
        "failed-queue-filled": (0, 1), "redrive-dead-letter-queue-filled": (0, 1),
        "failed-queue-old": (4 * 86400 - 1, 4 * 86400), "redrive-dead-letter-queue-old": (86400 - 1, 86400), "deliveries-late": (900, 901),
    }
    on_aws_metrics = {name for name, alarm in alarms.items() if alarm.get("Namespace") in AWS_METRICS}
    assert on_aws_metrics == {"function-throttles", *thresholds}
    for name, (quiet, loud) in thresholds.items():
        alarm = alarms[name]
        for value, expected in ((quiet, "OK"), (loud, "ALARM")):
            metrics = Metrics()
            dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
            metrics.put(alarm["Namespace"], alarm["MetricName"], dimensions, NOW - 1 * MINUTE, value)
            assert state(alarm, metrics, NOW) == expected, (name, value)
        # Missing data raises no alarm. Only `silence`, which is not in this list, is different.
        assert state(alarm, Metrics(), NOW) == "OK", name


def test_a_message_in_the_failure_queue_raises_failed_queue_filled(watched):
    url = watched.stack.outputs["FailedQueueUrl"]
    alarm = watched.alarms["failed-queue-filled"]
    [dimension] = alarm["Dimensions"]
    assert url.endswith("/" + dimension["Value"])
    sqs = watched.stack.client("sqs")
    for expected in ("OK", "ALARM"):
        visible = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"]
        metrics = Metrics()
        metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", {dimension["Name"]: dimension["Value"]}, NOW - 1 * MINUTE, int(visible))
        assert state(alarm, metrics, NOW) == expected
        sqs.send_message(QueueUrl=url, MessageBody="{}")
    sqs.purge_queue(QueueUrl=url)


def test_throttles_raise_function_throttles_only_if_they_go_on(watched):
    alarm = watched.alarms["function-throttles"]
    def after(*throttles):
        metrics = Metrics()
        for number, count in enumerate(reversed(throttles)):
            metrics.put("AWS/Lambda", "Throttles", {"FunctionName": watched.stack.name}, NOW - number * 5 * MINUTE - 1, count)
        return state(alarm, metrics, NOW)
    assert after() == after(0, 0, 1) == after(0, 0, 1000) == after(5, 0, 0) == "OK"
    assert after(0, 1, 1) == after(1, 0, 1) == "ALARM"


def test_every_alarm_and_every_graph_uses_an_existing_metric(watched, deployed):
    event = s3_event(watched.put("Fghijklm67890123", log_file(closure("event-5"))))
    line_metrics = {name for _, name, _ in watched.invoke(event).values}
    # Nothing is known of the metrics of direct events here: tests/deploy/test_direct_events.py sees them.
    for stack in (watched.stack, deployed("topic-queue").stack):
        for metric in [metric for alarm in stack.alarms().values() for metric in parts(alarm)[0].values()]:
            check_metric(metric["Namespace"], metric["MetricName"], [(entry["Name"], entry["Value"]) for entry in metric["Dimensions"]], line_metrics, stack)
    body = json.loads(dashboard(watched.stack))
    shown = set()
    for widget in body["widgets"]:
        assert widget["properties"]["region"] == REGION
        for metric in widget["properties"]["metrics"]:
            namespace, name, dimension, value = metric[:4]
            if name not in ("DirectAlertDelay", "CameDirectly"):
                check_metric(namespace, name, [(dimension, value)], line_metrics, watched.stack)
            shown.add(name)
    assert {"Scanned", "FetchedBytes", "ExpandedBytes", "LogFileAlertDelay", "DirectAlertDelay", "HandlingDelay", "Failed", "Errors", "ColdStart"} <= shown
    assert {f"Findings{level}" for level in ("Critical", "High", "Medium", "Low", "Informational")} <= shown


def dashboard(stack):
    """Returns the dashboard's body with its references resolved here, because LocalStack creates no dashboards."""
    text = transformed()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    names = {"Function": stack.name, "AWS::Region": REGION}
    names |= {f"{queue}.QueueName": stack.resources[queue].rsplit("/", 1)[1] for queue in ("FailedQueue", "RedriveDeadLetterQueue")}
    for name, value in names.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return text


def check_metric(namespace, name, dimensions, line_metrics, stack):
    [(dimension, value)] = dimensions
    if namespace == "BillingWatch":
        assert name in line_metrics and (dimension, value) == ("FunctionName", stack.name)
        return
    expected, names = AWS_METRICS[namespace]
    assert dimension == expected and name in names, (namespace, name)
    known = {stack.name, stack.outputs["AlertTopicArn"].rsplit(":", 1)[1], "logs-topic-queue-topic", *stack.resources.values()}
    assert value in known | {url.rsplit("/", 1)[-1] for url in stack.resources.values()}, value


def test_alarms_notify_the_alarm_topic_and_silence_also_the_alert_topic(watched):
    alarms, alerts = watched.stack.outputs["AlarmTopicArn"], watched.stack.outputs["AlertTopicArn"]
    for name, alarm in watched.alarms.items():
        expected = [alarms, alerts] if name == "silence" else [alarms]
        assert alarm["AlarmActions"] == expected, name
        # That `rules-changed` ends does not mean that the change was undone.
        assert alarm["OKActions"] == ([] if name == "rules-changed" else expected), name
        assert alarm["ActionsEnabled"]


def test_the_runbook_has_an_entry_for_every_alarm(watched, deployed):
    runbook = (ROOT / "docs/runbook.md").read_text()
    for name in {**watched.alarms, **deployed("topic-queue").stack.alarms()}:
        assert f"| `{name}` |" in runbook, name
