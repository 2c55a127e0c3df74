"""verify_paths.py: what it says of a ledger in which the ids of both paths are equal, differ, or cannot be compared."""

import json
import subprocess

import boto3
import pytest

import verify_paths
from stack import REGION, ROOT, environment

FINDING = {"event_time": "2026-03-02T16:44:04Z", "event_source": "billingconsole.amazonaws.com", "event_name": "CloseAccount", "affected_account": "111122223333", "actor": "arn"}


def entry(direct=False, log_file=False, alerted=True, **finding):
    published = [{"topic": "t", "message_id": "m", "accepted_at": "2026-03-02T16:44:10Z", "archive": {"finding": {**FINDING, **finding}}}]
    return {
        "published": published if alerted else [],
        **({"direct_at": "2026-03-02T16:44:09Z"} if direct else {}), **({"log_file": "s3://logs/k"} if log_file else {}),
    }


@pytest.mark.parametrize(("day", "verdict"), [
    pytest.param({"a": entry(direct=True, log_file=True)}, (["a"], [], []), id="both paths, one entry"),
    pytest.param({"a": entry(direct=True), "b": entry(log_file=True)}, ([], ["a and b"], []), id="both paths, two entries"),
    pytest.param({"a": entry(direct=True), "b": entry(log_file=True, actor="somebody else")}, ([], [], ["a"]), id="another event in the log file"),
    pytest.param({"a": entry(direct=True)}, ([], [], ["a"]), id="no log file yet"),
    pytest.param({"a": entry(log_file=True), "b": entry(log_file=True)}, ([], [], []), id="log files only"),
    pytest.param({"a": entry(direct=True, alerted=False)}, ([], [], []), id="claimed, not alerted"),
])
def test_a_ledger_says_whether_the_ids_are_equal(day, verdict):
    assert verify_paths.judge([day]) == verdict


@pytest.mark.parametrize(("entries", "code", "says"), [
    ({"a": entry(direct=True, log_file=True)}, 0, "equal for 1 events"),
    ({"a": entry(direct=True), "b": entry(log_file=True)}, 1, "The ids differ"),
    ({}, 2, "Nothing to compare"),
])
def test_the_command_reads_the_ledger_of_a_stack(moto, entries, code, says):
    options = {"endpoint_url": moto, "region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    s3, cloudformation = boto3.client("s3", **options), boto3.client("cloudformation", **options)
    bucket, name = f"ledger-of-paths-{code}", f"paths-{code}"
    template = {"Resources": {"Ledger": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}}}, "Outputs": {"LedgerBucketName": {"Value": {"Ref": "Ledger"}}}}
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    today = verify_paths.datetime.datetime.now(verify_paths.datetime.timezone.utc)
    for key, value in entries.items():
        s3.put_object(Bucket=bucket, Key=f"{today:%Y/%m/%d}/{key}.json", Body=json.dumps(value))
    done = subprocess.run(
        [ROOT / ".venv/bin/python", ROOT / "scripts/verify_paths.py", name], env=environment(moto, "test"), capture_output=True, text=True,
    )
    assert (done.returncode, says in done.stdout) == (code, True), done.stdout + done.stderr


def test_a_stack_that_does_not_exist_is_named_without_a_traceback(moto):
    done = subprocess.run([ROOT / ".venv/bin/python", ROOT / "scripts/verify_paths.py", "nowhere"], env=environment(moto, "test"), capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere" in done.stderr and "Traceback" not in done.stderr
