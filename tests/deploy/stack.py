"""The template as CloudFormation gets it, deployed into LocalStack, and what its parts can be asked."""

import functools
import gzip
import io
import json
import os
import pathlib
import subprocess
import time
import zipfile

import boto3
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/debug/billing-watch-function"
REGION = "us-east-1"
# LocalStack keeps accounts apart by access keys that look like an account's id.
ACCOUNT = "999988887777"
LOG_ACCOUNT = "444455556666"
MANAGEMENT_ACCOUNT = "111111111111"
ORGANIZATION = "o-exampleorg1"
PATIENCE_SECONDS = 120
CODE_BUCKET = "example-code"
TRIGGERS = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]["Trigger"]["AllowedValues"]
LOG_KEY = "AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/" \
    "111122223333_CloudTrail_us-east-1_20260302T1650Z_%s.json.gz"


class NoManagedPolicies:
    """The template names none."""

    def load(self):
        return {}


def transformed(path="template.yaml"):
    """What CloudFormation makes of the template, its code uploaded as `sam deploy` does."""
    template = yaml_parse((ROOT / path).read_text())
    if "Transform" not in template:
        return template
    template["Resources"]["Function"]["Properties"]["CodeUri"] = {"Bucket": CODE_BUCKET, "Key": "function.zip"}
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    return transform(template, {}, NoManagedPolicies())


def until(what, probe, seconds=PATIENCE_SECONDS):
    """The first truth that `probe` tells."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := probe():
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{what}: nothing in {seconds} s")


def environment(address, account=ACCOUNT):
    """The variables with which a program of AWS's takes a local peer for AWS."""
    return {**os.environ, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "test"}


def subscribe_queue(sns, sqs, topic_arn):
    """A queue that hears what the topic says; gives its URL."""
    url = sqs.create_queue(QueueName=f"hears-{topic_arn.rsplit(':', 1)[1]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)
    return url


class LocalStack:
    """A LocalStack of its own, and clients of any account."""

    def __init__(self, directory):
        self.function_log = pathlib.Path(directory) / "function.log"
        self.call_log = pathlib.Path(directory) / "calls.log"
        for log in (self.function_log, self.call_log):
            log.touch()
        self.child = subprocess.Popen(
            [ROOT / ".venv-localstack/bin/python", ROOT / "tests/deploy/localstack_peer.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "FUNCTION_LOG": str(self.function_log), "CALL_LOG": str(self.call_log)},
        )
        for line in self.child.stdout:
            if line.startswith("http://"):
                self.address = line.strip()
                break
        else:
            raise AssertionError("LocalStack did not start; see the lines above")
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
        """What makes a program of AWS's talk to this one."""
        return environment(self.address, account)

    def stop(self):
        self.child.stdin.close()
        self.child.wait(30)

    def metric_lines(self, function_name):
        """The lines of metrics that a function has written."""
        lines = [json.loads(line) for line in self.function_log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if "_aws" in line and line["FunctionName"] == function_name]


class Stack:
    """A deployed stack."""

    def __init__(self, localstack, name, parameters, path="template.yaml", account=ACCOUNT):
        self.localstack, self.name, self.account = localstack, name, account
        self.cloudformation = self.client("cloudformation")
        # As `sam deploy` hands it over: a template in a bucket may be longer than one in a request.
        localstack.client("s3").put_object(Bucket=CODE_BUCKET, Key=name, Body=json.dumps(transformed(path)))
        self.cloudformation.create_stack(
            StackName=name,
            TemplateURL=f"{localstack.address}/{CODE_BUCKET}/{name}",
            Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stack = until(name, self.ended)
        assert stack["StackStatus"] == "CREATE_COMPLETE", self.why()
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        pages = self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        self.resources = {page["LogicalResourceId"]: page["PhysicalResourceId"] for page in pages if "PhysicalResourceId" in page}

    def client(self, service):
        return self.localstack.client(service, self.account)

    def ended(self):
        stack = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

    def why(self):
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return [event for event in events if "FAILED" in event["ResourceStatus"]]

    def cloudwatch(self, operation, **arguments):
        """An answer of CloudWatch, asked by a boto3 of LocalStack's age: a newer one speaks a protocol that it does not know."""
        program = "import boto3, json, sys; client = boto3.client('cloudwatch'); " \
            "print(json.dumps(getattr(client, sys.argv[1])(**json.loads(sys.argv[2])), default=str))"
        done = subprocess.run(
            [ROOT / ".venv-localstack/bin/python", "-c", program, operation, json.dumps(arguments)],
            env=self.localstack.environment(self.account),
            stdout=subprocess.PIPE, text=True, check=True,
        )
        return json.loads(done.stdout)

    def alarms(self):
        """The alarms as CloudWatch has them, by what stands behind the stack's name."""
        alarms = self.cloudwatch("describe_alarms", AlarmNamePrefix=f"{self.name}-", MaxRecords=100)["MetricAlarms"]
        return {alarm["AlarmName"].removeprefix(f"{self.name}-"): alarm for alarm in alarms}

    def subscribe_queue(self, topic_arn):
        """A queue that hears what the topic says; gives its URL."""
        return subscribe_queue(self.client("sns"), self.client("sqs"), topic_arn)

    def waiting(self, url):
        """How many messages a queue holds, shown or not."""
        attributes = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"])

    def receive(self, url):
        """Everything in a queue, taken out of it."""
        bodies = []
        while messages := self.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(json.loads(message["Body"]))
        return bodies

    def invoke(self, payload):
        """`(reply, whether it is an error)`."""
        answer = self.client("lambda").invoke(FunctionName=self.name, Payload=json.dumps(payload))
        return json.loads(answer["Payload"].read()), "FunctionError" in answer


def log_file(*records):
    return gzip.compress(json.dumps({"Records": records}).encode())


def closure(event_id):
    """A record of the root user closing the account, minutes ago."""
    return {
        "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333", "arn": "arn:aws:iam::111122223333:root"},
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 300)),
        "eventSource": "billingconsole.amazonaws.com", "eventName": "CloseAccount", "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.7",
        "requestParameters": None, "responseElements": None, "eventID": event_id, "eventType": "AwsConsoleAction", "recipientAccountId": "111122223333",
    }
