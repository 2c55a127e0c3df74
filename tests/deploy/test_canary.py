"""The canary in a deployed stack: the schedule's event, the call, the log file with its record, the metrics and the alarm."""

import json

import pytest

from alarms import Metrics, state
from stack import ACCOUNT, LOG_KEY, ROOT, Stack, log_file

# A multiple of the alarm's period, because CloudWatch aligns periods to multiples of their length.
DAY = 86400
NOW = 20_000 * DAY


@pytest.fixture(scope="module")
def watch(localstack):
    localstack.client("s3").create_bucket(Bucket="logs-canary")
    return Stack(localstack, "watch-canary", {"Trigger": "bucket-queue", "LogBucketName": "logs-canary", "CanarySchedule": "rate(1 hour)"})


def run_canary(stack):
    """Invokes the function with the schedule's event. Returns the line of metrics."""
    [target] = stack.client("events").list_targets_by_rule(Rule=stack.resources["CanaryRule"])["Targets"]
    assert target["DeadLetterConfig"]["Arn"].endswith("-failed")
    reply, failed = stack.invoke(json.loads(target["Input"]))
    assert not failed, reply
    return stack.localstack.metric_lines(stack.name)[-1]


def record(stack, user_agent):
    """Returns the record of a call of the function, as CloudTrail writes it."""
    role = stack.outputs["FunctionRoleArn"]
    return {
        "eventID": "canary", "eventTime": "2026-03-02T16:44:04Z", "eventSource": "account.amazonaws.com", "eventName": "ListRegions",
        "userIdentity": {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"type": "Role", "arn": role}}},
        "userAgent": user_agent, "recipientAccountId": ACCOUNT,
    }


def scan(stack, name, *records):
    """Scans a log file with these records. Returns the line of metrics."""
    key = LOG_KEY % name
    stack.client("s3").put_object(Bucket="logs-canary", Key=key, Body=log_file(*records))
    _, failed = stack.invoke({"s3Bucket": "logs-canary", "s3ObjectKey": [key]})
    assert not failed
    return stack.localstack.metric_lines(stack.name)[-1]


def test_the_record_of_the_function_s_own_call_comes_back(localstack, watch):
    first = run_canary(watch)
    path, user_agent = localstack.account_management.calls[-1]
    assert (path, first["CanaryMissing"]) == ("/listRegions", 0)
    line = scan(watch, "Abcdefgh12345678", record(watch, user_agent))
    assert len(line["CanaryDelay"]) == 1 and (line["Scanned"], line["Findings"]) == (1, 0)
    # The same user agent in another role's record is a read like any other.
    stranger = record(watch, user_agent)
    stranger["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = "arn:aws:iam::999988887777:role/stranger"
    assert "CanaryDelay" not in scan(watch, "Bcdefghi23456789", stranger)
    assert run_canary(watch)["CanaryMissing"] == 0
    assert localstack.account_management.calls[-1][1] != user_agent
    assert watch.client("s3").head_object(Bucket=watch.outputs["LedgerBucketName"], Key="canary.json")


def test_the_alarm_tells_a_missing_canary_and_a_day_without_one(watch):
    alarm = watch.alarms()["canary-missing"]

    def with_values(*values):
        metrics = Metrics()
        metrics.put("BillingWatch", "CanaryMissing", {"FunctionName": watch.name}, NOW - 3600, *values)
        return state(alarm, metrics, NOW)

    assert with_values(0, 0) == "OK" and with_values(0, 1) == "ALARM" and with_values() == "ALARM"
    assert "| `canary-missing` |" in (ROOT / "docs/runbook.md").read_text()


def test_the_role_may_make_exactly_this_call_and_only_with_a_canary(watch, deployed):
    def statements(stack):
        iam, role = stack.client("iam"), stack.outputs["FunctionRoleArn"].rsplit("/", 1)[1]
        policy = iam.get_role_policy(RoleName=role, PolicyName="billing-watch")["PolicyDocument"]
        return [entry for entry in policy["Statement"] if "account:" in str(entry["Action"])]

    [statement] = statements(watch)
    assert (statement["Action"], statement["Resource"]) == ("account:ListRegions", f"arn:aws:account::{ACCOUNT}:account")
    assert statements(deployed("bucket").stack) == []
    configuration = lambda stack: stack.client("lambda").get_function_configuration(FunctionName=stack.name)["Environment"]["Variables"]
    assert configuration(watch)["CANARY_ROLE_ARN"] == watch.outputs["FunctionRoleArn"]
    assert configuration(deployed("bucket").stack)["CANARY_ROLE_ARN"] == ""
