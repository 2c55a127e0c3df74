"""Runs the result of `sam build` under AWS's Runtime Interface Emulator, and deploys it with `sam deploy`. `make package` runs it."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request

import boto3

from deployed import connect
from local_aws import free_port
from stack import ACCOUNT, LOG_KEY, REGION, ROOT, closure, log_file, subscribe_queue, until

BUILT = ROOT / ".aws-sam/build/Function/bootstrap"
CREDENTIALS = {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "test"}


def client(service, endpoint):
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=ACCOUNT, aws_secret_access_key="test")


def subscriber(endpoint, topic):
    """Subscribes a queue to the topic. Returns a function that receives the queue's messages."""
    sqs = client("sqs", endpoint)
    url = subscribe_queue(client("sns", endpoint), sqs, topic)
    return lambda: [json.loads(message["Body"]) for message in sqs.receive_message(QueueUrl=url).get("Messages", [])]


def test_the_bootstrap_runs_under_the_runtime_interface_emulator(moto):
    [emulator] = ROOT.glob(".venv-sam/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64")
    emulator.chmod(0o755)
    topic = client("sns", moto).create_topic(Name="alerts")["TopicArn"]
    alerts = subscriber(moto, topic)
    s3, key = client("s3", moto), LOG_KEY % "Abcdefgh12345678"
    s3.create_bucket(Bucket="package-logs")
    s3.put_object(Bucket="package-logs", Key=key, Body=log_file(closure("event-1")))
    port = free_port()
    address = f"127.0.0.1:{port}"
    child = subprocess.Popen(
        [emulator, "--runtime-interface-emulator-address", address, "--runtime-api-address", f"127.0.0.1:{free_port()}", BUILT],
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


def test_a_stack_deployed_with_sam_deploy_alerts(localstack):
    """Runs the README's commands from `sam deploy` on, against LocalStack."""
    endpoint = localstack.address
    s3 = client("s3", endpoint)
    s3.create_bucket(Bucket="deploy-logs")
    subprocess.run(
        [ROOT / ".venv-sam/bin/sam", "deploy", "--no-confirm-changeset", "--parameter-overrides",
         "Trigger=eventbridge", "LogBucketName=deploy-logs", "AlertEmail=soc@example.com", "AlarmEmail=ops@example.com"],
        cwd=ROOT, env={**localstack.environment(), "SAM_CLI_TELEMETRY": "0"}, check=True,
    )
    assert connect(localstack, "deploy-logs").endswith(": connected\n")
    stacks = client("cloudformation", endpoint).describe_stacks(StackName="billing-watch")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}
    alerts = subscriber(endpoint, outputs["AlertTopicArn"])
    function = client("lambda", endpoint)
    answer = function.invoke(FunctionName=outputs["FunctionName"], Payload=json.dumps({"action": "self-test"}))
    assert "FunctionError" not in answer, answer["Payload"].read()
    assert "self-test" in until("the test alert", alerts)[0]["Subject"]
    s3.put_object(Bucket="deploy-logs", Key=LOG_KEY % "Abcdefgh12345678", Body=log_file(closure("event-1")))
    started = time.monotonic()
    alert = until("an alert", lambda: [alert for alert in alerts() if "CloseAccount" in alert["Subject"]])
    print(f"an alert {time.monotonic() - started:.1f} s after the log file: {alert[0]['Subject']}")
