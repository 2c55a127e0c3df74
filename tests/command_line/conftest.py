"""Fixtures: the command line, run as a person or a script runs it."""

import gzip
import json
import os
import pathlib
import subprocess
import sys

import boto3
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/debug/billing-watch"
ACCOUNT = "111122223333"
BUCKET = "example-trail-logs"

sys.path.insert(0, str(ROOT / "scripts"))

import local_aws


class Folder:
    """A folder of log files as CloudTrail names them."""

    def __init__(self, path):
        self.path = path

    def put(self, records, *, day="20260302", name="Abcdefgh12345678", account=ACCOUNT, region="us-east-1", body=None):
        """Writes a log file. Returns its path."""
        folder = self.path / f"AWSLogs/o-exampleorg1/{account}/CloudTrail/{region}/{day[:4]}/{day[4:6]}/{day[6:]}"
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"{account}_CloudTrail_{region}_{day}T1650Z_{name}.json.gz"
        place.write_bytes(gzip.compress(json.dumps({"Records": records}).encode()) if body is None else body)
        return place


def record(number=1, name="CloseAccount", source="billingconsole.amazonaws.com", time="2026-03-02T16:44:04Z", **members):
    return {
        "eventVersion": "1.08", "eventTime": time, "eventSource": source, "eventName": name, "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.7",
        "userAgent": "Mozilla/5.0", "eventID": f"5923c499-063e-44ac-80fb-{number:012}", "readOnly": False, "eventType": "AwsConsoleAction",
        "recipientAccountId": ACCOUNT, "requestParameters": None, "responseElements": None,
        "userIdentity": {"type": "Root", "principalId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT}, **members,
    }


def run(*arguments, stdin=b"", **options):
    """Runs the command line. Returns the finished process, its output as text."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=120, env={**os.environ, **options.pop("env", {})}, **options,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert "panicked" not in done.stderr, done.stderr
    return done


def found(*arguments, **options):
    """Runs a scan. Returns its findings."""
    done = run("scan", "--format", "jsonl", *arguments, **options)
    assert done.returncode in (0, 1, 4), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "logs")


@pytest.fixture(scope="session")
def moto():
    with local_aws.moto() as address:
        yield address


@pytest.fixture
def s3(moto):
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def environment(moto):
    return {"AWS_ENDPOINT_URL": moto, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def upload(s3, folder):
    for path in sorted(folder.path.rglob("*")):
        if path.is_file():
            s3.put_object(Bucket=BUCKET, Key=str(path.relative_to(folder.path)), Body=path.read_bytes())
