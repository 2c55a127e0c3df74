"""Deploys the template into LocalStack in the form that CloudFormation receives, and queries the result."""

import functools
import gzip
import http.server
import io
import json
import os
import pathlib
import subprocess
import threading
import time
import zipfile

import boto3
from samtranslator.yaml_helper import yaml_parse

import templates

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/debug/billing-watch-function"
REGION = "us-east-1"
# LocalStack takes an access key of 12 digits as the id of the caller's account.
ACCOUNT = "999988887777"
LOG_ACCOUNT = "444455556666"
MANAGEMENT_ACCOUNT = "111111111111"
ORGANIZATION = "o-exampleorg1"
PATIENCE_SECONDS = 120
CODE_BUCKET = "example-code"
TRIGGERS = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]["Trigger"]["AllowedValues"]
LOG_KEY = "AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/" \
    "111122223333_CloudTrail_us-east-1_20260302T1650Z_%s.json.gz"


def transformed(path="template.yaml"):
    """Returns the template after SAM's transform, with its code in a bucket as `sam deploy` uploads it."""
    if path == "template.yaml":
        return templates.transformed({"Bucket": CODE_BUCKET, "Key": "function.zip"})
    return yaml_parse((ROOT / path).read_text())


def until(what, probe, seconds=PATIENCE_SECONDS):
    """Calls `probe` until it returns a true value, and returns that value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := probe():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not there after {seconds} s")


def environment(address, account=ACCOUNT):
    """Returns environment variables that make AWS's SDKs and tools use a local peer."""
    return {**os.environ, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "test"}


def subscribe_queue(sns, sqs, topic_arn):
    """Subscribes a new queue to the topic. Returns the queue's URL."""
    url = sqs.create_queue(QueueName=f"subscribed-to-{topic_arn.rsplit(':', 1)[1]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)
    return url


class AccountManagement(http.server.ThreadingHTTPServer):
    """Answers like AWS Account Management that there are no Regions, and keeps each request's path and user agent."""

    def __init__(self):
        self.calls = calls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                calls.append((self.path, self.headers["User-Agent"]))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"Regions": []}')

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.address = "http://{}:{}".format(*self.server_address)


class LocalStack:
    """A running LocalStack, with clients for any account."""

    def __init__(self, directory):
        self.account_management = AccountManagement()
        self.function_log = pathlib.Path(directory) / "function.log"
        self.call_log = pathlib.Path(directory) / "calls.log"
        for log in (self.function_log, self.call_log):
            log.touch()
        self.child = subprocess.Popen(
            [ROOT / ".venv-localstack/bin/python", ROOT / "tests/deploy/localstack_peer.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "FUNCTION_LOG": str(self.function_log), "CALL_LOG": str(self.call_log),
                 "ACCOUNT_ADDRESS": self.account_management.address},
        )
        for line in self.child.stdout:
            if line.startswith("http://"):
                self.address = line.strip()
                break
        else:
            raise AssertionError("LocalStack did not start; see its output above")
        self.client("s3").create_bucket(Bucket=CODE_BUCKET)
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("bootstrap", f"#!/bin/sh\nexec {BINARY}\n")
        self.client("s3").put_object(Bucket=CODE_BUCKET, Key="function.zip", Body=code.getvalue())

    @functools.cache
    def client(self, service, account=ACCOUNT):
        return boto3.client(service, endpoint_url=self.address, region_name=REGION,
                            aws_access_key_id=account, aws_secret_access_key="test")

    def environment(self, account=ACCOUNT):
        """Returns environment variables that make AWS's SDKs and tools use this LocalStack."""
        return environment(self.address, account)

    def stop(self):
        self.child.stdin.close()
        self.child.wait(30)

    def metric_lines(self, function_name):
        """Returns the metric lines that a function has written."""
        lines = [json.loads(line) for line in self.function_log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if "_aws" in line and line["FunctionName"] == function_name]


class Stack:
    """A deployed stack."""

    def __init__(self, localstack, name, parameters, path="template.yaml", account=ACCOUNT):
        self.localstack, self.name, self.account = localstack, name, account
        self.cloudformation = self.client("cloudformation")
        # As `sam deploy` does, because a template in a bucket may be longer than one in the request.
        localstack.client("s3").put_object(Bucket=CODE_BUCKET, Key=name, Body=json.dumps(transformed(path)))
        self.cloudformation.create_stack(
            StackName=name,
            TemplateURL=f"{localstack.address}/{CODE_BUCKET}/{name}",
            Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stack = until(name, self.ended)
        assert stack["StackStatus"] == "CREATE_COMPLETE", self.failed_events()
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        pages = self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        self.resources = {page["LogicalResourceId"]: page["PhysicalResourceId"] for page in pages if "PhysicalResourceId" in page}

    def client(self, service):
        return self.localstack.client(service, self.account)

    def ended(self):
        stack = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

    def failed_events(self):
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return [event for event in events if "FAILED" in event["ResourceStatus"]]

    def cloudwatch(self, operation, **arguments):
        """Calls CloudWatch with the boto3 of LocalStack's own environment, because this LocalStack does not support the protocol of newer ones."""
        program = "import boto3, json, sys; client = boto3.client('cloudwatch'); " \
            "print(json.dumps(getattr(client, sys.argv[1])(**json.loads(sys.argv[2])), default=str))"
        done = subprocess.run(
            [ROOT / ".venv-localstack/bin/python", "-c", program, operation, json.dumps(arguments)],
            env=self.localstack.environment(self.account),
            stdout=subprocess.PIPE, text=True, check=True,
        )
        return json.loads(done.stdout)

    def alarms(self):
        """Returns the stack's alarms by name, without the stack's name before it."""
        alarms = self.cloudwatch("describe_alarms", AlarmNamePrefix=f"{self.name}-", MaxRecords=100)["MetricAlarms"]
        return {alarm["AlarmName"].removeprefix(f"{self.name}-"): alarm for alarm in alarms}

    def subscribe_queue(self, topic_arn):
        """Subscribes a new queue to the topic. Returns the queue's URL."""
        return subscribe_queue(self.client("sns"), self.client("sqs"), topic_arn)

    def waiting(self, url):
        """Returns the number of messages in a queue, visible or not."""
        attributes = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"])

    def receive(self, url):
        """Returns all messages of a queue and deletes them."""
        bodies = []
        while messages := self.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(json.loads(message["Body"]))
        return bodies

    def invoke(self, payload):
        """Returns `(reply, whether it is an error)`."""
        answer = self.client("lambda").invoke(FunctionName=self.name, Payload=json.dumps(payload))
        return json.loads(answer["Payload"].read()), "FunctionError" in answer


def log_file(*records):
    return gzip.compress(json.dumps({"Records": records}).encode())


def closure(event_id):
    """Returns a record of the root user closing the account five minutes ago."""
    return {
        "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333", "arn": "arn:aws:iam::111122223333:root"},
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 300)),
        "eventSource": "billingconsole.amazonaws.com", "eventName": "CloseAccount", "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.7",
        "requestParameters": None, "responseElements": None, "eventID": event_id, "eventType": "AwsConsoleAction", "recipientAccountId": "111122223333",
    }
