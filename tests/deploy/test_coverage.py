"""The coverage check in deployed stacks: the schedule's event, the listing, the metric and the alarm."""

import json
import time

from alarms import Metrics, state
from stack import LOG_ACCOUNT, ROOT, Stack
from test_log_account import READER, allows, deploy, deploy_log_account, role_policy

DAY = 86400
# A multiple of the alarm's period, because CloudWatch aligns periods to multiples of their length.
NOW = 20_000 * DAY


def put(client, bucket, account, days_ago, prefix="AWSLogs/"):
    day = time.strftime("%Y/%m/%d", time.gmtime(time.time() - days_ago * DAY))
    client.put_object(Bucket=bucket, Key=f"{prefix}{account}/CloudTrail/us-east-1/{day}/x.json.gz", Body=b"")


def check(stack):
    """Invokes the function with the schedule's event. Returns the reply and the line of metrics."""
    [target] = stack.client("events").list_targets_by_rule(Rule=stack.resources["CoverageRule"])["Targets"]
    reply, failed = stack.invoke(json.loads(target["Input"]))
    assert not failed, reply
    return reply, stack.localstack.metric_lines(stack.name)[-1]


def test_silent_accounts_are_named_and_raise_the_alarm(localstack):
    s3 = localstack.client("s3")
    s3.create_bucket(Bucket="logs-coverage")
    stack = Stack(localstack, "watch-coverage", {
        "Trigger": "eventbridge", "LogBucketName": "logs-coverage", "CoverageSchedule": "rate(1 day)", "CoverageDays": 3,
    })
    put(s3, "logs-coverage", "111122223333", 0)
    reply, line = check(stack)
    assert (reply["AccountsWithoutLogs"], line["AccountsWithoutLogs"], "WithoutLogs" in reply) == (0, 0, False)
    put(s3, "logs-coverage", "444455556666", 5)
    put(s3, "logs-coverage", "777788889999", 2)
    reply, line = check(stack)
    assert (reply["WithoutLogs"], line["AccountsWithoutLogs"]) == (["444455556666"], 1)

    alarm = stack.alarms()["accounts-without-logs"]

    def with_value(value):
        metrics = Metrics()
        metrics.put("BillingWatch", "AccountsWithoutLogs", {"FunctionName": stack.name}, NOW - 3600, value)
        return state(alarm, metrics, NOW)

    assert with_value(0) == "OK" and with_value(1) == "ALARM"
    assert "| `accounts-without-logs` |" in (ROOT / "docs/runbook.md").read_text()
    # The role can list the log files' prefix and nothing else.
    [statement] = [entry for entry in role_policy(stack)["Statement"] if entry["Sid"] == "ListLogFiles"]
    assert (statement["Action"], statement["Resource"]) == ("s3:ListBucket", "arn:aws:s3:::logs-coverage")
    assert statement["Condition"]["StringLike"] == {"s3:prefix": "AWSLogs/*"}


def test_the_other_account_lets_the_reader_list_only_for_the_check(localstack):
    watch = deploy(localstack, "far-coverage", Trigger="bucket-queue", LogReaderRoleArn=READER, CoverageSchedule="rate(1 day)")
    reader = deploy_log_account(localstack, watch)
    assert reader.outputs["LogReaderRoleArn"] == READER
    policy = localstack.client("iam", LOG_ACCOUNT).get_role_policy(RoleName="billing-watch-log-reader", PolicyName="read-log-files")["PolicyDocument"]
    [statement] = [entry for entry in policy["Statement"] if entry["Sid"] == "ListLogFiles"]
    assert (statement["Action"], statement["Resource"]) == ("s3:ListBucket", "arn:aws:s3:::far-coverage-logs")
    assert not allows(role_policy(watch), "s3:ListBucket", "arn:aws:s3:::far-coverage-logs")
    put(localstack.client("s3", LOG_ACCOUNT), "far-coverage-logs", "111122223333", 30)
    reply, _ = check(watch)
    assert reply["WithoutLogs"] == ["111122223333"]
    reader.cloudformation.delete_stack(StackName=reader.name)


def test_the_bucket_s_policy_must_allow_listing_only_for_the_check(localstack):
    watch = deploy(localstack, "far-listing", Trigger="bucket", CoverageSchedule="rate(1 day)")
    statement = json.loads(watch.outputs["BucketPolicyStatement"])
    assert statement["Action"][-1] == "s3:ListBucket" and statement["Resource"][-1] == "arn:aws:s3:::far-listing-logs"
