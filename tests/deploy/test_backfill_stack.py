"""The second function, for jobs of S3 Batch Operations, in a deployed stack."""

import json
import shlex

from deployed import Deployed
from moto.iam.access_control import IAMPolicy, PermissionResult
from stack import ACCOUNT, LOG_ACCOUNT, REGION, closure, transformed


def task(stack, key, bucket, mode):
    """Invokes the second function as a job does. Returns the result of the task."""
    event = {
        "invocationSchemaVersion": "2.0", "invocationId": "EXAMPLE", "job": {"id": "job", "userArguments": {"mode": mode}},
        "tasks": [{"taskId": "task", "s3Key": key, "s3VersionId": None, "s3Bucket": bucket}],
    }
    answer = stack.client("lambda").invoke(FunctionName=f"{stack.name}-backfill", Payload=json.dumps(event))
    return json.load(answer["Payload"])["results"][0]


def test_the_second_function_reports_and_alerts_as_the_job_says(localstack):
    watch = Deployed(localstack, "eventbridge", "backfill", Backfill="true", BackfillConcurrency=3)
    stack = watch.stack
    # Written where no rule of the stack sees it, as long ago.
    watch.s3.put_bucket_notification_configuration(Bucket=watch.bucket, NotificationConfiguration={})
    key = watch.put("Abcdefgh12345678", closure("a"))
    assert task(stack, key, watch.bucket, "report")["resultString"].startswith("1 finding: critical CloseAccount")
    assert stack.receive(watch.alerts) == []
    assert task(stack, key, watch.bucket, "alert")["resultCode"] == "Succeeded"
    [alert] = stack.receive(watch.alerts)
    assert alert["Subject"].startswith("[CRITICAL, BACKFILL]") and alert["MessageAttributes"]["backfill"]["Value"] == "true"
    arguments = shlex.split(stack.outputs["BackfillArguments"])
    assert arguments[::2] == ["--function", "--role", "--report-bucket"]
    function, role, reports = arguments[1::2]
    assert function == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{stack.name}-backfill" and reports == stack.outputs["LedgerBucketName"]
    iam = stack.client("iam")
    name = role.rpartition("/")[2]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"] for statement in trust] == [{"Service": "batchoperations.s3.amazonaws.com"}]
    policy = iam.get_role_policy(RoleName=name, PolicyName="billing-watch-backfill")["PolicyDocument"]

    def allows(action, resource, owner=ACCOUNT):
        each = [IAMPolicy(json.dumps({"Statement": [statement]})) for statement in policy["Statement"]]
        return any(one.is_action_permitted(action, resource, None, {"aws:ResourceAccount": owner}) == PermissionResult.PERMITTED for one in each)

    assert allows("lambda:InvokeFunction", function) and allows("s3:PutObject", f"arn:aws:s3:::{reports}/backfill/job-1/manifest.json")
    assert allows("s3:PutInventoryConfiguration", f"arn:aws:s3:::{watch.bucket}")
    assert not allows("s3:PutInventoryConfiguration", f"arn:aws:s3:::{watch.bucket}", LOG_ACCOUNT)
    assert not allows("s3:PutObject", f"arn:aws:s3:::{reports}/records/x") and not allows("s3:GetObject", f"arn:aws:s3:::{watch.bucket}/{key}")
    assert not allows("lambda:InvokeFunction", function.removesuffix("-backfill"))


def test_a_stack_has_no_second_function_unless_it_is_wanted():
    resources = transformed()["Resources"]
    assert {name for name, resource in resources.items() if resource.get("Condition") == "HasBackfill"} == {"BackfillFunction", "BackfillRole"}
    first, second = (resources[name]["Properties"] for name in ("Function", "BackfillFunction"))
    for same in ("Code", "Role", "Runtime", "Timeout", "MemorySize", "Environment", "LoggingConfig"):
        assert first[same] == second[same], same
    # LocalStack has no reserved concurrency.
    assert second["ReservedConcurrentExecutions"] == {"Ref": "BackfillConcurrency"} and "ReservedConcurrentExecutions" not in first
