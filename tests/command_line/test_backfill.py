"""`billing-watch backfill`: a job of S3 Batch Operations from its plan to its report, with the real function."""

import gzip
import json
import random
import re

import boto3
import pytest

import batch_peer
from conftest import BUCKET, ROOT, found, record, run, upload
from lambda_peer import Lambda

FUNCTION, ROLE = "arn:aws:lambda:us-east-1:123456789012:function:billing-watch-backfill", "arn:aws:iam::123456789012:role/BackfillRole"
REPORTS = "example-ledger"
START = ["--function", FUNCTION, "--role", ROLE, "--report-bucket", REPORTS]


@pytest.fixture
def batch(s3, environment):
    s3.create_bucket(Bucket=REPORTS)
    peer = batch_peer.BatchPeer(s3)
    with batch_peer.serve(peer) as variables:
        environment |= variables
        yield peer
    for entry in s3.list_objects_v2(Bucket=REPORTS).get("Contents", []):
        s3.delete_object(Bucket=REPORTS, Key=entry["Key"])
    s3.delete_bucket(Bucket=REPORTS)


class Alerts:
    """The topics of a function, and a queue that gets all messages."""

    def __init__(self, moto):
        options = {"endpoint_url": moto, "region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.sqs, sns = boto3.client("sqs", **options), boto3.client("sns", **options)
        self.topic = sns.create_topic(Name="backfill-alerts")["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName="backfill-alerts")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn)

    def take(self):
        taken = []
        while messages := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                taken.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return taken


@pytest.fixture
def alerts(moto):
    return Alerts(moto)


@pytest.fixture
def function(moto, alerts):
    function = Lambda(ROOT / "target/debug/billing-watch-function", {"AWS_ENDPOINT_URL": moto, "ALERT_TOPIC_ARN": alerts.topic, "EVENT_SOURCES": "billing-family"})
    yield function
    function.stop()


def started(environment, *options):
    """Creates a job and lets it run. Returns its id."""
    done = run("backfill", "start", f"s3://{BUCKET}/AWSLogs/", *START, *options, env=environment)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    confirmed = run("backfill", "start", "--confirm", job, env=environment)
    assert confirmed.returncode == 0, confirmed.stderr
    return job


def test_a_job_waits_until_it_is_confirmed_and_asks_for_what_it_needs(s3, environment, batch, folder):
    folder.put([record(1)])
    upload(s3, folder)
    done = run("backfill", "start", f"s3://{BUCKET}/AWSLogs/", *START, "--from", "2023-01-01", "--to", "2025-12-31", env=environment)
    job = done.stdout.strip()
    assert f"backfill start --confirm {job}" in done.stderr
    assert batch.jobs[job]["status"] == "Suspended"
    order = batch.jobs[job]["order"]
    assert order["ConfirmationRequired"] is True and order["RoleArn"] == ROLE and order["AccountId"] == "123456789012"
    assert order["Operation"]["LambdaInvoke"] == {"FunctionArn": FUNCTION, "InvocationSchemaVersion": "2.0", "UserArguments": {"mode": "report"}}
    generator = order["ManifestGenerator"]["S3JobManifestGenerator"]
    names = {"MatchAnyPrefix": ["AWSLogs/"], "MatchAnySubstring": ["/CloudTrail/"], "MatchAnySuffix": [".json.gz"]}
    assert generator["SourceBucket"] == f"arn:aws:s3:::{BUCKET}" and generator["Filter"]["KeyNameConstraint"] == names
    # A day for clocks that differ, and a month for what CloudTrail delivers late.
    assert [str(generator["Filter"][name])[:10] for name in ("CreatedAfter", "CreatedBefore")] == ["2022-12-31", "2026-01-31"]
    assert order["Report"]["Bucket"] == f"arn:aws:s3:::{REPORTS}"
    status = run("backfill", "status", job, env=environment)
    assert "Status:    Suspended" in status.stdout and f"backfill start --confirm {job}" in status.stdout
    early = run("backfill", "report", job, env=environment)
    assert early.returncode == 3 and "is Suspended, so it has no report yet" in early.stderr


def test_a_report_shows_what_a_scan_of_the_bucket_shows(s3, environment, batch, folder, function, alerts, tmp_path):
    for number in range(40):
        folder.put([record(number), record(number + 1)] if number % 10 == 0 else [], day=f"202603{number % 28 + 1:02}", name=f"File{number:04}")
    folder.put([record(900 + number, userAgent=f"agent {number}") for number in range(30)], name="Many")
    folder.put([], name="Broken", body=gzip.compress(b'{"Records":[{"eventSource":"billingconsole.amazonaws.com"')[:40])
    digest = folder.path / "AWSLogs/111122223333/CloudTrail-Digest/us-east-1/2026/03/02/111122223333_CloudTrail-Digest_us-east-1_t_us-east-1_20260302T000000Z.json.gz"
    digest.parent.mkdir(parents=True)
    digest.write_bytes(gzip.compress(b"{}"))
    upload(s3, folder)
    job = started(environment)
    batch.run(job, function, most=10)
    active = run("backfill", "status", job, env=environment)
    assert "Active" in active.stdout and "42 found, 10 handled" in active.stdout and "about 1 min left" in active.stdout
    batch.run(job, function)
    ended = run("backfill", "status", job, env=environment)
    assert "42 found, 42 handled, 1 of them failed" in ended.stdout and f"backfill report {job}" in ended.stdout
    page = tmp_path / "report.html"
    report = run("backfill", "report", job, "--format", "json", "--report", page, env=environment)
    scan = run("scan", f"s3://{BUCKET}/AWSLogs/", "--format", "json", env=environment)
    assert report.returncode == scan.returncode == 4, report.stderr
    report, scan = json.loads(report.stdout), json.loads(scan.stdout)
    assert report["findings"] == scan["findings"] and len(report["findings"]) == 38
    same = ("files_failed", "findings", "findings_by_level", "gaps", "accounts", "regions", "duplicates", "failures", "files_read")
    assert [report["summary"][name] for name in same] == [scan["summary"][name] for name in same]
    assert "CloseAccount" in page.read_text()
    assert alerts.take() == []


def test_with_alert_findings_go_to_the_topics_marked_and_once(s3, environment, batch, folder, function, alerts):
    folder.put([record(1)], name="One")
    folder.put([record(1)], name="Two")
    upload(s3, folder)
    for _ in range(2):
        batch.run(started(environment, "--alert"), function)
    [message] = alerts.take()
    assert message["Subject"].startswith("[CRITICAL, BACKFILL] CloseAccount")
    assert message["MessageAttributes"]["backfill"]["Value"] == "true"
    text = " ".join(message["Message"].split())
    assert "This is history: a backfill of old log files has found it." in text


def test_ten_thousand_tasks(s3, environment, batch, folder, function):
    chance = random.Random(15)
    kinds = {"clean": [], "finding": [record(1)], "none": None}
    for number in range(100):
        kind = chance.choice(list(kinds))
        body = b"no gzip" if kind == "none" else None
        folder.put([{**one, "eventID": f"event-{number}"} for one in kinds[kind] or []], name=f"{kind}{number:04}", body=body)
    upload(s3, folder)
    job = started(environment)
    keys = batch.jobs[job]["keys"]
    assert len(keys) == 100
    batch.jobs[job]["keys"] = keys * 100
    batch.run(job, function)
    results = batch.jobs[job]["results"]
    assert len(results) == 10_000
    for _, key, _, status, _, _, message in results:
        expected = {"clean": "no findings", "finding": "1 finding: critical CloseAccount succeeded", "none": ""}[re.search("clean|finding|none", key)[0]]
        assert message.startswith(expected) and (status == "failed") == ("/none" in key or "_none" in key), (key, status, message)
    report = run("backfill", "report", job, "--format", "jsonl", env=environment)
    findings = {json.loads(line)["event_id"] for line in report.stdout.splitlines()}
    assert findings == {one["event_id"] for one in found(f"s3://{BUCKET}/", env=environment)} and len(findings) > 20


def test_a_plan_counts_what_a_job_would_look_at(s3, environment, folder):
    for day in ("20230302", "20260302"):
        folder.put([record(1)], day=day)
    (folder.path / "readme.txt").write_text("no")
    upload(s3, folder)
    plan = run("backfill", "plan", f"s3://{BUCKET}/", "--to", "2023-12-31", "--concurrency", "10", env=environment)
    assert plan.returncode == 0, plan.stderr
    lines = dict(line.split(":", 1) for line in plan.stdout.splitlines())
    assert lines["Log files"].split()[0] == "1" and lines["Left out"].split()[0] == "2"
    assert lines["Cost"].strip() == "about 0.25 dollars in us-east-1" and lines["Time"].strip() == "at least 1 min, with 10 invocations at a time"
    missing = run("backfill", "plan", "s3://no-such-bucket/", env=environment)
    assert missing.returncode == 4 and "s3://no-such-bucket/: it does not exist" in missing.stderr


def test_a_failed_job_says_why(s3, environment, batch, folder, function):
    folder.put([record(1)])
    upload(s3, folder)
    job = started(environment)
    batch.jobs[job]["status"] = "Failed"
    batch.jobs[job]["failures"] = [{"FailureCode": "JobReportFailed", "FailureReason": "Not authorized to \x85 write"}]
    status = run("backfill", "status", job, env=environment)
    assert status.returncode == 4 and "Failure:   JobReportFailed: Not authorized to ? write" in status.stdout


def test_a_job_that_did_not_reach_all_files_gives_no_complete_report(s3, environment, batch, folder, function, tmp_path):
    for number in range(5):
        folder.put([record(number)], name=f"File{number}")
    upload(s3, folder)
    job = started(environment)
    batch.run(job, function, most=2)
    batch.jobs[job]["status"] = "Cancelled"
    batch.write_report(job)
    report = run("backfill", "report", job, "--format", "json", env=environment)
    assert report.returncode == 4 and f"job {job} is Cancelled: 3 log files were not handled" in report.stderr and "Incomplete:" in report.stderr
    summary = json.loads(report.stdout)["summary"]
    assert (summary["findings"], summary["files_failed"]) == (2, 3)


@pytest.mark.parametrize(("manifest", "status", "says"), [
    (None, 4, "manifest.json: it does not exist"),
    (b"{", 3, "manifest.json is no manifest of a report"),
    (json.dumps({"ReportSchema": "Bucket, Key", "Results": []}).encode(), 3, "has columns that this version does not know"),
    (json.dumps({"ReportSchema": batch_peer.SCHEMA, "Results": [{"Bucket": REPORTS, "Key": "gone.csv"}]}).encode(), 4, "gone.csv: it does not exist"),
])
def test_a_broken_completion_report_is_named(s3, environment, batch, folder, function, manifest, status, says):
    folder.put([record(1)])
    upload(s3, folder)
    job = started(environment)
    batch.run(job, function)
    key = f"backfill/job-{job}/manifest.json"
    s3.delete_object(Bucket=REPORTS, Key=key)
    if manifest is not None:
        s3.put_object(Bucket=REPORTS, Key=key, Body=manifest)
    report = run("backfill", "report", job, env=environment)
    assert report.returncode == status and says in report.stderr and not report.stdout, report.stderr


def test_a_line_of_a_completion_report_that_names_no_object_is_a_failure(s3, environment, batch, folder, function):
    folder.put([record(1)])
    upload(s3, folder)
    job = started(environment)
    batch.run(job, function)
    s3.put_object(Bucket=REPORTS, Key="short.csv", Body=b"only,two\n")
    manifest = {"ReportSchema": batch_peer.SCHEMA, "Results": [{"Bucket": REPORTS, "Key": "short.csv"}]}
    s3.put_object(Bucket=REPORTS, Key=f"backfill/job-{job}/manifest.json", Body=json.dumps(manifest))
    report = run("backfill", "report", job, env=environment)
    assert report.returncode == 4 and "s3://only/two: " in report.stderr


def test_what_aws_refuses_is_said_in_its_words(environment, batch):
    unknown = run("backfill", "status", "no-such-job", env=environment)
    assert unknown.returncode == 4 and "s3:DescribeJob: NoSuchJob: The specified job does not exist" in unknown.stderr
    batch.refusal = ("AccessDenied", "not authorized to perform: s3:CreateJob")
    refused = run("backfill", "start", f"s3://{BUCKET}/", *START, env=environment)
    assert refused.returncode == 4 and "s3:CreateJob: AccessDenied: not authorized" in refused.stderr and not refused.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["start", f"s3://{BUCKET}/"], "--function"),
    (["start", "folder", *START], "folder is no place in S3; write s3://bucket/prefix"),
    (["plan", "folder"], "folder is no place in S3"),
    (["start", "--confirm", "job", *START], "cannot be used with"),
])
def test_arguments_that_miss_something(environment, batch, arguments, message):
    done = run("backfill", *arguments, env=environment)
    assert done.returncode == 3 and message in done.stderr, done.stderr
