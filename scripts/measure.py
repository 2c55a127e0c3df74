"""Measures the release binary: start-up time, memory and CPU. `make measure` runs it.

Each figure is a mean, a median or a peak of this run. docs/performance.md quotes the figures.
"""

import gzip
import json
import pathlib
import statistics
import sys
import time
import zlib

import boto3

from lambda_peer import Lambda
from local_aws import moto

KEY = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_%s.json.gz"
BUCKET = "measured-logs"
LEDGER = "measured-ledger"
STARTS = 31
ALERTS = 500
DELIVERIES = 2000
GIB = 1 << 30


def record(number, source="s3.amazonaws.com", name="GetObject"):
    """Returns a record of the usual size and shape."""
    return {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "AssumedRole", "principalId": f"AROAEXAMPLE{number:08d}:session-{number}",
            "arn": f"arn:aws:sts::111122223333:assumed-role/Example/session-{number}",
            "accountId": "111122223333", "accessKeyId": f"ASIAEXAMPLE{number:08d}",
            "sessionContext": {"sessionIssuer": {"type": "Role", "userName": "Example"},
                               "attributes": {"creationDate": "2026-03-02T16:00:00Z", "mfaAuthenticated": "false"}},
        },
        "eventTime": "2026-03-02T16:44:04Z", "eventSource": source, "eventName": name,
        "awsRegion": "us-east-1", "sourceIPAddress": f"203.0.113.{number % 250}",
        "userAgent": "[aws-sdk-java/2.25.11 Linux/5.10 OpenJDK_64-Bit_Server_VM/17]",
        "requestParameters": {"bucketName": f"example-{number}", "key": f"data/{number:010d}/part.parquet"},
        "responseElements": None, "requestID": f"{number:016X}", "eventID": f"00000000-0000-4000-8000-{number:012d}",
        "readOnly": True, "eventType": "AwsApiCall", "managementEvent": False,
        "recipientAccountId": "111122223333", "eventCategory": "Data",
    }


def big_file(hits, limit):
    """Returns a gzipped log file of at most `limit` bytes, and its expanded size. Either all of its records match a rule, or none."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    source, name = ("billingconsole.amazonaws.com", "SetContactAddress") if hits else ("s3.amazonaws.com", "GetObject")
    out, size, number = [squeeze.compress(b'{"Records":[')], 12, 0
    while size < limit:
        # One actor did everything, as with a runaway script.
        who = {"userIdentity": record(0)["userIdentity"]} if hits else {}
        records = [json.dumps({**record(number + i, source, name), **who}, separators=(",", ":")) for i in range(500)]
        number += 500
        text = ((b"" if size == 12 else b",") + ",".join(records).encode())
        if size + len(text) + 2 > limit:
            break
        size += len(text)
        out.append(squeeze.compress(text))
    out.append(squeeze.compress(b"]}"))
    out.append(squeeze.flush())
    return b"".join(out), size + 2


def event(name):
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-03-02T16:50:58Z",
                         "s3": {"bucket": {"name": BUCKET}, "object": {"key": KEY % name}}}]}


def measure_ledger(binary, s3, variables):
    """Measures small files with one alert each: without the ledger, with it, and again when the ledger has their records."""
    s3.create_bucket(Bucket=LEDGER)
    billing = {"eventSource": "billingconsole.amazonaws.com", "eventName": "SetContactAddress"}
    for number in range(ALERTS):
        records = [{**record(number), **billing}, *(record(ALERTS + i) for i in range(4))]
        s3.put_object(Bucket=BUCKET, Key=KEY % f"alert{number}", Body=gzip.compress(json.dumps({"Records": records}).encode()))
    without, kept = Lambda(binary, variables), Lambda(binary, {**variables, "LEDGER_BUCKET": LEDGER})
    for function in (without, kept):
        function.invoke(event("small"))
    runs = {"no ledger": (without, "Published"), "ledger": (kept, "Published"), "ledger, duplicate": (kept, "Duplicate")}
    times, cpu = {name: [] for name in runs}, {}
    for name, (function, counter) in runs.items():
        before = function.cpu_seconds()
        for number in range(ALERTS):
            began = time.monotonic()
            kind, answer = function.invoke(event(f"alert{number}"))
            times[name].append((time.monotonic() - began) * 1000)
            assert kind == "response" and answer[counter] == 1, answer
        cpu[name] = (function.cpu_seconds() - before) / ALERTS * 1000
    for name in runs:
        print(f"one alert, {name:<20}{cpu[name]:.2f} ms CPU, mean of {ALERTS}; {statistics.median(times[name]):.1f} ms, median")
    entries = [s3.head_object(Bucket=LEDGER, Key=entry["Key"])["ContentLength"]
               for entry in s3.list_objects_v2(Bucket=LEDGER)["Contents"]]
    print(f"one entry of the ledger        {statistics.median(entries):.0f} bytes, median of {len(entries)}")
    for function in (without, kept):
        function.stop()


def measure(binary, endpoint):
    keys = {"endpoint_url": endpoint, "region_name": "us-east-1",
            "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    s3 = boto3.client("s3", **keys)
    s3.create_bucket(Bucket=BUCKET)
    topic = boto3.client("sns", **keys).create_topic(Name="measured")["TopicArn"]
    variables = {"AWS_ENDPOINT_URL": endpoint, "ALERT_TOPIC_ARN": topic}

    print(f"binary                         {pathlib.Path(binary).stat().st_size / 1e6:.1f} MB, "
          f"{len(zlib.compress(pathlib.Path(binary).read_bytes(), 9)) / 1e6:.1f} MB deflated")
    starts = []
    for _ in range(STARTS):
        function = Lambda(binary, variables)
        starts.append(function.start_seconds() * 1000)
        function.stop()
    print(f"start to first next request    {statistics.median(starts):.1f} ms median of {STARTS}")

    small = {"Records": [record(i) for i in range(5)]}
    s3.put_object(Bucket=BUCKET, Key=KEY % "small", Body=gzip.compress(json.dumps(small).encode()))
    function = Lambda(binary, variables)
    for _ in range(50):
        function.invoke(event("small"))
    before = function.cpu_seconds()
    for _ in range(DELIVERIES):
        kind, answer = function.invoke(event("small"))
        assert kind == "response" and answer["Scanned"] == 1, answer
    cpu = (function.cpu_seconds() - before) / DELIVERIES * 1000
    print(f"one small delivery             {cpu:.2f} ms CPU, mean of {DELIVERIES}")
    print(f"after small deliveries          {function.peak_bytes() / 2**20:.1f} MiB peak")
    function.stop()

    measure_ledger(binary, s3, variables)

    for hits, limit in ((False, GIB), (True, GIB // 8)):
        body, size = big_file(hits, limit)
        s3.put_object(Bucket=BUCKET, Key=KEY % "big", Body=body)
        function = Lambda(binary, {**variables, "MAX_EXPANDED_BYTES": str(GIB)})
        kind, answer = function.invoke(event("big"), timeout=1200)
        assert kind == "response" and answer["ExpandedBytes"] == size, answer
        what = "every record matches" if hits else "no record matches"
        print(f"{size >> 20} MiB, {what:<20} {function.peak_bytes() / 2**20:.1f} MiB peak, "
              f"{function.cpu_seconds():.1f} s CPU, {len(body) / 2**20:.0f} MiB fetched, "
              f"{answer['Published']} findings in {answer['Messages']} messages")
        function.stop()
        s3.delete_object(Bucket=BUCKET, Key=KEY % "big")


if __name__ == "__main__":
    with moto() as address:
        measure(sys.argv[1], address)
