"""The log files that the benches read, made once in target/bench/files: records as CloudTrail writes them, the same in every run."""

import gzip
import json
import zlib

from paths import ROOT, WORK

MATCH = "billingconsole.amazonaws.com", "SetContactAddress"
# What accounts do most. Some rule packs name other actions of the same sources.
BUSY = [("s3.amazonaws.com", "GetObject"), ("ec2.amazonaws.com", "DescribeInstances"), ("kms.amazonaws.com", "Decrypt"),
        ("sts.amazonaws.com", "AssumeRole"), ("iam.amazonaws.com", "GetRole"), ("logs.amazonaws.com", "CreateLogStream"),
        ("dynamodb.amazonaws.com", "DescribeTable"), ("signin.amazonaws.com", "ConsoleLogin")]
MASK = (1 << 64) - 1
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL_FILES, BIG_FILES, BIG_BYTES = 4000, 10, 30 * MIB
ALERTS = 500
# One rule for each pair of event source and name in this list.
BUSY_PAIRS = ROOT / "benches/busy-pairs.tsv"
RULES = WORK / "rules"
RULE = """\
title: {name}
id: 00000000-0000-4000-8000-{number:012d}
status: test
description: A rule of the benches.
logsource:
  product: aws
  service: cloudtrail
detection:
  selection:
    eventSource: {source}
    eventName: {name}
  condition: selection
level: medium
"""
# Raise this when the files change.
VERSION = 1


def mixed(number):
    """Returns 64 bits that look random."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & MASK
    return number ^ number >> 27


def uuid(seed):
    digits = f"{mixed(seed):016x}{mixed(seed ^ MASK):016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def record(number, pair=None):
    """Returns record `number`: of the source and name `pair`, or of a busy one."""
    scrambled = mixed(number + 1 << 20)
    source, name = pair or BUSY[scrambled % len(BUSY)]
    role, session = f"Example-{scrambled % 17}", f"session-{scrambled >> 40:x}"
    return {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "AssumedRole", "principalId": f"AROAEXAMPLE{scrambled % 9973:010d}:{session}",
            "arn": f"arn:aws:sts::111122223333:assumed-role/{role}/{session}", "accountId": "111122223333",
            "accessKeyId": f"ASIAEXAMPLE{scrambled >> 24:010X}",
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": f"arn:aws:iam::111122223333:role/{role}", "userName": role},
                               "attributes": {"creationDate": "2026-03-02T16:00:00Z", "mfaAuthenticated": "false"}},
        },
        "eventTime": f"2026-03-02T16:{number // 60 % 60:02d}:{number % 60:02d}Z", "eventSource": source, "eventName": name,
        "awsRegion": "us-east-1", "sourceIPAddress": f"203.0.113.{scrambled % 250}",
        "userAgent": "[aws-sdk-java/2.25.11 Linux/5.10 OpenJDK_64-Bit_Server_VM/17]",
        "requestParameters": {"bucketName": f"example-{scrambled % 91}", "key": f"data/{scrambled:016x}/part-{number}.parquet"},
        "responseElements": None, "additionalEventData": {"bytesTransferredOut": scrambled % 100000, "x-amz-id-2": uuid(scrambled + 2)},
        "requestID": uuid(scrambled), "eventID": uuid(scrambled + 1), "readOnly": True, "eventType": "AwsApiCall",
        "managementEvent": False, "recipientAccountId": "111122223333", "eventCategory": "Data",
    }


def records(count, matches=(), start=0):
    """Returns `count` records, of which those at the positions `matches` match."""
    return [record(start + i, MATCH if i in matches else None) for i in range(count)]


def text(record):
    return json.dumps(record, separators=(",", ":"))


def log_file(records):
    """Returns a gzipped log file."""
    return gzip.compress(('{"Records":[' + ",".join(map(text, records)) + "]}").encode(), 6, mtime=0)


def sized(limit, matches=lambda number: False, start=0, actor=None):
    """Returns a log file of at most `limit` expanded bytes. `matches` says which records match, `actor` who did everything."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    out, size, number = [squeeze.compress(b'{"Records":[')], 14, 0
    while True:
        made = record(start + number, MATCH if matches(number) else None)
        if actor:
            made["userIdentity"] = actor
        part = ("," if number else "") + text(made)
        if size + len(part) > limit:
            break
        size += len(part)
        number += 1
        out.append(squeeze.compress(part.encode()))
    return b"".join(out) + squeeze.compress(b"]}") + squeeze.flush()


def single_files():
    """Yields name and maker of each file that is used by itself."""
    yield "small", lambda: log_file(records(6))
    yield "one", lambda: log_file(records(6, {3}))
    for name, size in (("1kb", KIB), ("30kb", 30 * KIB), ("1mb", MIB), ("30mb", 30 * MIB), ("100mb", 100 * MIB), ("1gib", GIB)):
        # A file that any record of the usual size fits into.
        yield name, lambda size=size: sized(max(size, 1700))
    for name, size in (("1mb", MIB), ("30mb", 30 * MIB)):
        yield f"{name}first", lambda size=size: sized(size, lambda number: number == 0)
        yield f"{name}percent", lambda size=size: sized(size, lambda number: number % 100 == 99)
        yield f"{name}all", lambda size=size: sized(size, lambda number: True)
    yield "128mball", lambda: sized(128 * MIB, lambda number: True, actor=record(0)["userIdentity"])
    for number in range(ALERTS):
        yield f"alert{number}", lambda number=number: log_file(records(5, {0}, start=10 * number))


def folders():
    """Yields path and maker of each file of the two folders that are searched."""
    for number in range(SMALL_FILES):
        found = {2} if number % 100 == 50 else ()
        yield f"folders/small/{number:04d}.json.gz", lambda number=number, found=found: log_file(records(6, found, start=6 * number))
    for number in range(BIG_FILES):
        found = 20000 if number % 5 == 2 else None
        yield f"folders/big/{number:04d}.json.gz", lambda number=number, found=found: sized(
            BIG_BYTES, lambda record: record == found, start=10**6 * number)


# The matches in the two folders, as made above.
FOUND = {"small": SMALL_FILES // 100, "big": 2}


def rules():
    """Yields path and maker of each rule of a user's pack on busy sources."""
    for number, line in enumerate(BUSY_PAIRS.read_text().splitlines()):
        source, name = line.split("\t")
        yield f"rules/{name}.yml", lambda source=source, name=name, number=number: RULE.format(source=source, name=name, number=number).encode()


def make_files():
    """Makes the files that are missing."""
    version = WORK / "files-version"
    current = version.exists() and version.read_text() == str(VERSION)
    for name, make in [*((f"files/{name}.json.gz", make) for name, make in single_files()), *folders(), *rules()]:
        path = WORK / name
        if not (current and path.exists()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make())
    version.write_text(str(VERSION))
