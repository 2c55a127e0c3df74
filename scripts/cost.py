"""Prints the tables of docs/cost.md, computed from the prices, measurements and assumptions below.

A test compares the output with the document. `cost.py FILES_PER_MONTH` prints the cost for your own volume.
"""

import sys

# Prices in US dollars: list prices in us-east-1, October 2026, without free tiers.
LAMBDA_GB_SECOND = 0.0000166667  # x86_64; on arm64 0.0000133334
LAMBDA_REQUEST = 0.20 / 1e6
S3_GET = 0.40 / 1e6
S3_PUT = 5.00 / 1e6
SQS_REQUEST = 0.40 / 1e6
SNS_PUBLISH = 0.50 / 1e6
EVENTBRIDGE_EVENT = 1.00 / 1e6  # the price of opt-in events; S3's events are opt-in
LOGS_GB = 0.50
METRIC_MONTH = 0.30
ALARM_MONTH = 0.10
DASHBOARD_MONTH = 3.00
KEY_MONTH = 1.00
KMS_REQUEST = 3.00 / 1e6

# Measurements, from docs/performance.md and tests/deploy.
MEMORY_GB = 0.25
INVOCATION_CPU_SECONDS = 0.0003  # on a whole core, without its log files
FILE_CPU_SECONDS = 0.0001  # for each small log file
VCPU = 256 / 1769  # the share of a core that Lambda gives to 256 MB
METRICS = 27
LINE_BYTES = 1452 + 350  # the metrics line; plus Lambda's own three lines, and the 26 bytes that CloudWatch adds to each of the four

# Assumptions.
FILES_PER_ACCOUNT = 9_000  # a month: one log file every five minutes, in one Region
REGIONS = (1, 17)  # the Regions in which each account has that many
S3_ANSWER_SECONDS = 0.15  # AWS says "roughly 100-200 milliseconds" for small objects
CONCURRENT_OBJECTS = 50  # in one invocation: the constant of the same name in src/pipeline/
IDLE_REQUESTS = 648_000  # a month: 5 pollers, each with a request every 20 s
WINDOW_SECONDS, BATCH = 5, 10  # the template's defaults
BUSY_SHARE_US_EAST_1 = 0.25  # the share of an organization's log files that comes from us-east-1

SECONDS_A_MONTH = 30 * 86400
# An alarm on an expression costs as much as one for each metric in it. `rules-changed` has four.
ALARM_METRICS = {"": 19, "queue": 1, "eventbridge": 1, "topic": 1}
TRIGGERS = ["new-trail, new-organization-trail, bucket", "bucket-queue", "eventbridge", "eventbridge-queue", "topic", "topic-queue"]


def fixed(trigger):
    """Returns the dollars a month that do not depend on the number of log files."""
    alarms = ALARM_METRICS[""] + sum(count for word, count in ALARM_METRICS.items() if word and word in trigger)
    polling = IDLE_REQUESTS * SQS_REQUEST if "queue" in trigger else 0
    return METRICS * METRIC_MONTH + alarms * ALARM_MONTH + DASHBOARD_MONTH + 2 * KEY_MONTH + polling


def batch_size(files, window=WINDOW_SECONDS, most=BATCH):
    """Returns the number of log files in one invocation from the queue, if they arrive evenly."""
    return min(most, 1 + files / SECONDS_A_MONTH * window)


def seconds(files_at_once):
    """Returns the billed seconds of an invocation that handles `files_at_once` log files."""
    rounds = max(1, files_at_once / CONCURRENT_OBJECTS)
    return rounds * S3_ANSWER_SECONDS + (INVOCATION_CPU_SECONDS + files_at_once * FILE_CPU_SECONDS) / VCPU


def variable(trigger, files, handled=1.0, window=WINDOW_SECONDS, most=BATCH):
    """Returns the dollars a month for `files` log files, of which the share `handled` reaches the function."""
    reach = files * handled
    batch = batch_size(reach, window, most) if "queue" in trigger else 1
    invocations = reach / batch
    cost = invocations * (LAMBDA_REQUEST + seconds(batch) * MEMORY_GB * LAMBDA_GB_SECOND + LINE_BYTES / 1e9 * LOGS_GB) + reach * S3_GET
    if "queue" in trigger:
        cost += reach * (1 + 2 / batch) * SQS_REQUEST
    if "eventbridge" in trigger:
        cost += files * EVENTBRIDGE_EVENT
    if "topic" in trigger:
        cost += files * SNS_PUBLISH
    return cost


def dollars(amount):
    return f"{amount:,.2f}"


def row(trigger, volumes):
    names = ", ".join(f"`{name}`" for name in trigger.split(", "))
    return f"| {names} | {dollars(fixed(trigger))} | " + " | ".join(dollars(fixed(trigger) + variable(trigger, files)) for files in volumes) + " |"


def tables():
    volumes = [FILES_PER_ACCOUNT * accounts * regions for accounts in (1, 100, 1000) for regions in REGIONS]
    columns = [f"{accounts}, {regions}" for accounts in ("1 account", "100 accounts", "1,000 accounts") for regions in ("1 Region", f"{REGIONS[1]} Regions")]
    lines = [f"| `Trigger` | fixed part | {' | '.join(columns)} |", "| --- " * (len(columns) + 2) + "|"]
    lines += [row(trigger, volumes) for trigger in TRIGGERS]
    million = 1_000_000
    lines += ["", "| part, for a million log files | one log file an invocation | 10 an invocation | 100 an invocation |", "| --- | --- | --- | --- |"]
    parts = {
        "Lambda: requests": lambda batch: million / batch * LAMBDA_REQUEST,
        "Lambda: duration": lambda batch: million / batch * seconds(batch) * MEMORY_GB * LAMBDA_GB_SECOND,
        "S3: GET requests": lambda batch: million * S3_GET,
        "CloudWatch Logs: data": lambda batch: million / batch * LINE_BYTES / 1e9 * LOGS_GB,
        "SQS: requests, without those to an empty queue": lambda batch: million * (1 + 2 / batch) * SQS_REQUEST if batch > 1 else 0,
    }
    parts["total"] = lambda batch, parts=tuple(parts.values()): sum(part(batch) for part in parts)
    lines += [f"| {name} | " + " | ".join(dollars(part(batch)) for batch in (1, 10, 100)) + " |" for name, part in parts.items()]
    lines += ["| " + " | ".join(["KMS, if log files have a customer managed key and no Bucket Key", *[dollars(million * KMS_REQUEST)] * 3]) + " |"]
    files = FILES_PER_ACCOUNT * 1000
    lean = {
        "`bucket`, default parameters": variable("bucket", files),
        "`eventbridge-queue`, default parameters": variable("eventbridge-queue", files),
        "`bucket-queue`, default parameters": variable("bucket-queue", files),
        "`bucket-queue`, `BatchSize=100`, `BatchingWindowSeconds=60`": variable("bucket-queue", files, window=60, most=100),
        "`topic-queue`, `BatchSize=100`, `BatchingWindowSeconds=60`": variable("topic-queue", files, window=60, most=100),
        "`eventbridge-queue`, `BatchSize=100`, `BatchingWindowSeconds=60`, `LogKeyPattern=*/CloudTrail/us-east-1/*`": variable("eventbridge-queue", files, BUSY_SHARE_US_EAST_1, 60, 100),
    }
    lines += ["", "| `Trigger` and other parameters | a month, without the fixed part |", "| --- | --- |", *[f"| {name} | {dollars(cost)} |" for name, cost in lean.items()]]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].isdigit():
        for trigger in TRIGGERS:
            print(f"{trigger:42} {dollars(fixed(trigger) + variable(trigger, int(sys.argv[1])))}")
    elif len(sys.argv) == 1:
        print(tables())
    else:
        sys.exit("usage: cost.py [LOG_FILES_A_MONTH]")
