"""Runs what `make dist` built under AWS's Runtime Interface Emulator, and deploys it from an unpacked release. `make package` runs it."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import zipfile

import boto3
import pytest

from local_aws import free_port
from stack import ACCOUNT, LOG_KEY, REGION, ROOT, closure, log_file, subscribe_queue, until

[ZIP] = ROOT.glob("dist/billing-watch-[0-9]*-x86_64.zip")
CREDENTIALS = {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "test"}
# What the README's commands need. No compiler is among them.
PROGRAMS = {
    "sam": ROOT / ".venv-sam/bin/sam",
    "aws": ROOT / ".venv-awscli/bin/aws",
    "python3": ROOT / ".venv/bin/python",
    "sha256sum": shutil.which("sha256sum"),
}
COMPILERS = ("cargo", "rustc", "cc", "gcc", "clang", "zig", "cargo-lambda", "make")


def client(service, endpoint):
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=ACCOUNT, aws_secret_access_key="test")


def subscriber(endpoint, topic):
    """Subscribes a queue to the topic. Returns a function that receives the queue's messages."""
    sqs = client("sqs", endpoint)
    url = subscribe_queue(client("sns", endpoint), sqs, topic)
    return lambda: [json.loads(message["Body"]) for message in sqs.receive_message(QueueUrl=url).get("Messages", [])]


def test_the_bootstrap_runs_under_the_runtime_interface_emulator(moto, tmp_path):
    [emulator] = ROOT.glob(".venv-sam/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64")
    emulator.chmod(0o755)
    bootstrap = pathlib.Path(zipfile.ZipFile(ZIP).extract("bootstrap", tmp_path))
    bootstrap.chmod(0o755)
    topic = client("sns", moto).create_topic(Name="alerts")["TopicArn"]
    alerts = subscriber(moto, topic)
    s3, key = client("s3", moto), LOG_KEY % "Abcdefgh12345678"
    s3.create_bucket(Bucket="package-logs")
    s3.put_object(Bucket="package-logs", Key=key, Body=log_file(closure("event-1")))
    port = free_port()
    address = f"127.0.0.1:{port}"
    child = subprocess.Popen(
        [emulator, "--runtime-interface-emulator-address", address, "--runtime-api-address", f"127.0.0.1:{free_port()}", bootstrap],
        env={**CREDENTIALS, "AWS_ENDPOINT_URL": moto, "ALERT_TOPIC_ARN": topic, "AWS_LAMBDA_FUNCTION_NAME": "package",
             "AWS_LAMBDA_FUNCTION_TIMEOUT": "60", "PATH": os.environ["PATH"]},
    )
    try:
        event = {"s3Bucket": "package-logs", "s3ObjectKey": [key]}
        request = urllib.request.Request(f"http://{address}/2015-03-31/functions/function/invocations", json.dumps(event).encode())

        def answered():
            try:
                return urllib.request.urlopen(request, timeout=60).read()
            except urllib.error.URLError:
                return None

        report = json.loads(until("an answer", answered))
        assert (report["Scanned"], report["Messages"]) == (1, 1), report
        [alert] = until("an alert", alerts)
        assert alert["Subject"] == "[CRITICAL] CloseAccount in 111122223333 by root"
    finally:
        child.terminate()
        child.wait(10)


class Release:
    """An unpacked release in a folder of its own, where no compiler is on `PATH`."""

    def __init__(self, localstack, folder):
        self.localstack, self.folder = localstack, folder / "release"
        self.started = time.monotonic()
        shutil.copytree(ROOT / "dist", self.folder)
        programs = folder / "bin"
        programs.mkdir()
        for name, program in PROGRAMS.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = {**localstack.environment(), "PATH": str(programs), "HOME": str(folder), "SAM_CLI_TELEMETRY": "0"}
        assert not [name for name in COMPILERS if shutil.which(name, path=self.environment["PATH"])]

    def run(self, *words):
        """Runs a command in the release's folder. Returns its output."""
        done = subprocess.run(words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def check_that_it_alerts(self, name):
        """Connects the bucket `NAME-logs` with the stack, sends a test alert, and puts a log file into the bucket."""
        endpoint = self.localstack.address
        assert self.run("python3", "connect.py", f"{name}-logs", "--stack", name, "--yes").endswith(": connected\n")
        outputs = json.loads(self.run("aws", "cloudformation", "describe-stacks", "--stack-name", name, "--query", "Stacks[0].Outputs"))
        outputs = {output["OutputKey"]: output["OutputValue"] for output in outputs}
        alerts = subscriber(endpoint, outputs["AlertTopicArn"])
        reply = self.run("aws", "lambda", "invoke", "--function-name", name, "--payload", '{"action": "self-test"}', "/dev/stdout")
        assert re.search('"Messages": ?1,', reply), reply
        assert "self-test" in until("the test alert", alerts)[0]["Subject"]
        client("s3", endpoint).put_object(Bucket=f"{name}-logs", Key=LOG_KEY % "Abcdefgh12345678", Body=log_file(closure("event-1")))
        alert = until("an alert", lambda: [alert for alert in alerts() if "CloseAccount" in alert["Subject"]])
        print(f"{name}: an alert {time.monotonic() - self.started:.0f} s after the release was unpacked: {alert[0]['Subject']}")


@pytest.fixture
def release(localstack, tmp_path):
    return Release(localstack, tmp_path)


def parameters(name):
    given = {"Trigger": "eventbridge", "LogBucketName": f"{name}-logs", "AlertEmail": "soc@example.com", "AlarmEmail": "ops@example.com"}
    return [f"{key}={value}" for key, value in given.items()]


def test_the_checksums_are_those_of_the_files(release):
    assert "FAILED" not in release.run("sha256sum", "--check", "--strict", "SHA256SUMS")


def test_a_stack_deployed_with_sam_alerts(localstack, release):
    client("s3", localstack.address).create_bucket(Bucket="billing-watch-logs")
    release.run("sam", "deploy", "--no-confirm-changeset", "--parameter-overrides", *parameters("billing-watch"))
    release.check_that_it_alerts("billing-watch")


def test_a_stack_deployed_with_the_aws_cli_alerts(localstack, release):
    for bucket in ("by-cli-logs", "by-cli-code"):
        client("s3", localstack.address).create_bucket(Bucket=bucket)
    release.run("aws", "cloudformation", "package", "--template-file", "template.yaml", "--s3-bucket", "by-cli-code", "--output-template-file", "packaged.yaml")
    release.run("aws", "cloudformation", "deploy", "--template-file", "packaged.yaml", "--s3-bucket", "by-cli-code", "--stack-name", "by-cli",
                "--capabilities", "CAPABILITY_IAM", "--parameter-overrides", *parameters("by-cli"))
    release.check_that_it_alerts("by-cli")


def test_a_stack_with_its_code_in_a_bucket_alerts(localstack, release):
    """Deploys the template for StackSets and Terraform as these do: with template and code in a bucket."""
    for bucket in ("by-url-logs", "by-url-code"):
        client("s3", localstack.address).create_bucket(Bucket=bucket)
    for name in (ZIP.name, "template-cloudformation.json"):
        release.run("aws", "s3", "cp", name, f"s3://by-url-code/{name}")
    given = [*parameters("by-url"), "CodeBucket=by-url-code", f"CodeKey={ZIP.name}"]
    release.run("aws", "cloudformation", "create-stack", "--stack-name", "by-url", "--capabilities", "CAPABILITY_IAM",
                "--template-url", f"{localstack.address}/by-url-code/template-cloudformation.json",
                "--parameters", *["ParameterKey={},ParameterValue={}".format(*pair.split("=", 1)) for pair in given])
    release.run("aws", "cloudformation", "wait", "stack-create-complete", "--stack-name", "by-url")
    release.check_that_it_alerts("by-url")
