"""The tables of docs/cost.md, from prices, measurements and assumptions that stand here, each with its source.

A test compares its output with the document. `cost.py FILES_PER_MONTH` prints one row for a volume of your own.
"""

import sys

# US dollars, list prices in us-east-1, October 2026; free tiers are left out.
LAMBDA_GB_SECOND = 0.0000166667  # x86_64; arm64 0.0000133334
LAMBDA_REQUEST = 0.20 / 1e6
S3_GET = 0.40 / 1e6
S3_PUT = 5.00 / 1e6
SQS_REQUEST = 0.40 / 1e6
SNS_PUBLISH = 0.50 / 1e6
EVENTBRIDGE_EVENT = 1.00 / 1e6  # S3's events are opt-in ones
LOGS_GB = 0.50
METRIC_MONTH = 0.30
ALARM_MONTH = 0.10
DASHBOARD_MONTH = 3.00
KEY_MONTH = 1.00

# Measured: docs/performance.md, tests/deploy.
MEMORY_GB = 0.25
CPU_SECONDS = 0.00124  # a small log file, on a whole core
VCPU = 256 / 1769  # Lambda's share of one at 256 MB
METRICS = 25
LINE_BYTES = 1452 + 350  # the line of metrics; Lambda's own three and CloudWatch's 26 bytes for each of four

# Assumed.
FILES_PER_ACCOUNT = 9_000  # a log file every five minutes of the month, in one Region
S3_ANSWER_SECONDS = 0.15  # "roughly 100-200 milliseconds" for small objects
CONCURRENT_OBJECTS = 4  # of one invocation: src/pipeline/mod.rs
IDLE_REQUESTS = 648_000  # 5 pollers that ask every 20 s, all month
WINDOW_SECONDS, BATCH = 5, 10  # the template's defaults
BUSY_SHARE_US_EAST_1 = 0.25  # of an organization's log files that us-east-1 writes

SECONDS_A_MONTH = 30 * 86400
ALARMS = {"": 15, "queue": 1, "eventbridge": 1, "topic": 1}
TRIGGERS = ["new-…, bucket", "bucket-queue", "eventbridge", "eventbridge-queue", "topic", "topic-queue"]


def fixed(trigger):
    """Dollars a month before the first log file."""
    alarms = ALARMS[""] + sum(count for word, count in ALARMS.items() if word and word in trigger)
    polling = IDLE_REQUESTS * SQS_REQUEST if "queue" in trigger else 0
    return METRICS * METRIC_MONTH + alarms * ALARM_MONTH + DASHBOARD_MONTH + 2 * KEY_MONTH + polling


def batch_size(files, window=WINDOW_SECONDS, most=BATCH):
    """Log files in one invocation from the queue, if they come evenly."""
    return min(most, 1 + files / SECONDS_A_MONTH * window)


def seconds(files_at_once):
    """Billed seconds of an invocation on so many log files."""
    rounds = max(1, files_at_once / CONCURRENT_OBJECTS)
    return rounds * S3_ANSWER_SECONDS + files_at_once * CPU_SECONDS / VCPU


def variable(trigger, files, handled=1.0, window=WINDOW_SECONDS, most=BATCH):
    """Dollars a month for log files, of which a share reaches the function."""
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
    return f"| `{trigger}` | {dollars(fixed(trigger))} | " + " | ".join(dollars(fixed(trigger) + variable(trigger, files)) for files in volumes) + " |"


def tables():
    volumes = [FILES_PER_ACCOUNT * accounts for accounts in (1, 100, 1000)]
    lines = ["| trigger | before the first file | 1 account | 100 accounts | 1,000 accounts |", "| --- | --- | --- | --- | --- |"]
    lines += [row(trigger, volumes) for trigger in TRIGGERS]
    million = 1_000_000
    lines += ["", "| for a million log files | one at a time | in batches of 10 |", "| --- | --- | --- |"]
    parts = {
        "Lambda: invocations": lambda batch: million / batch * LAMBDA_REQUEST,
        "Lambda: time": lambda batch: million / batch * seconds(batch) * MEMORY_GB * LAMBDA_GB_SECOND,
        "S3: GET": lambda batch: million * S3_GET,
        "CloudWatch: log": lambda batch: million / batch * LINE_BYTES / 1e9 * LOGS_GB,
        "SQS: requests, without idle ones": lambda batch: million * (1 + 2 / batch) * SQS_REQUEST if batch > 1 else 0,
    }
    lines += [f"| {name} | {dollars(part(1))} | {dollars(part(10))} |" for name, part in parts.items()]
    lines += [f"| together | {dollars(sum(part(1) for part in parts.values()))} | {dollars(sum(part(10) for part in parts.values()))} |"]
    files = volumes[2]
    lean = {
        "`bucket`, as it comes": variable("bucket", files),
        "`eventbridge-queue`, as it comes": variable("eventbridge-queue", files),
        "`bucket-queue`, as it comes": variable("bucket-queue", files),
        "`bucket-queue`, `BatchSize=100`, `BatchingWindowSeconds=60`": variable("bucket-queue", files, window=60, most=100),
        "`topic-queue`, the same": variable("topic-queue", files, window=60, most=100),
        "`eventbridge-queue`, the same, `LogKeyPattern=*/CloudTrail/us-east-1/*`": variable("eventbridge-queue", files, BUSY_SHARE_US_EAST_1, 60, 100),
    }
    lines += ["", "| 1,000 accounts | a month, without the fixed part |", "| --- | --- |", *[f"| {name} | {dollars(cost)} |" for name, cost in lean.items()]]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].isdigit():
        for trigger in TRIGGERS:
            print(f"{trigger:20} {dollars(fixed(trigger) + variable(trigger, int(sys.argv[1])))}")
    elif len(sys.argv) == 1:
        print(tables())
    else:
        sys.exit("usage: cost.py [LOG FILES A MONTH]")
