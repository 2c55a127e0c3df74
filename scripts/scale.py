"""Prints the tables of docs/scale.md: load, delay, throughput, cost and quotas for 1, 1,000 and 50,000 accounts.

`scale.py --write` writes them into the document. A test compares the document with what this script computes. The delays come from the
simulation in queueing.py, prices and measured times from cost.py. All random numbers have fixed seeds.
"""

import functools
import hashlib
import json
import math
import pathlib
import random
import re
import sys

import cost
import queueing

# Assumed, because nothing was measured in AWS.
S3_MEDIAN_SECONDS = 0.040  # until S3 has answered, for a small object
S3_SPREAD = 0.8  # standard deviation of its logarithm: one answer in a hundred takes more than 250 ms
SLOW_S3_MEDIAN_SECONDS = cost.S3_ANSWER_SECONDS  # for the column that shows what a slower S3 changes
COLD_SECONDS = 0.25  # until the handler of a new execution environment begins
IDLE_SECONDS = 240  # Lambda keeps an unused environment for this long, so that each synchronised burst starts with cold ones
NOTIFICATION_SECONDS = 1.0  # from the created object to its notification; AWS: "typically in seconds", at times a minute or longer
ALERT_SECONDS = 0.1  # from a scanned file to its accepted alert: a claim in the ledger, and a publication
BURST_SECONDS = 30  # within which the trails of all accounts write their files, if they are synchronised

# AWS's quotas and rates that the simulation needs; the table of quotas has their sources.
CONCURRENCY = 1000
ENVIRONMENTS_A_SECOND = 100
FIRST_POLLERS, POLLERS_A_SECOND = 5, 300 / 60
MOST_POLLERS = 1250
IN_FLIGHT = 120_000

# template.yaml; a test compares these.
MEMORY_MB = 256
VISIBILITY_SECONDS = 660  # of the delivery queue
REDRIVE = (10, 0, 2)  # BatchSize, MaximumBatchingWindowInSeconds and MaximumConcurrency of the redrive

PERIOD = cost.SECONDS_A_MONTH / cost.FILES_PER_ACCOUNT  # seconds between two log files of one account and Region
OUTAGE = 3600
REGIONS = 3
SIZES = [(1, REGIONS), (1000, REGIONS), (50_000, REGIONS), (50_000, 17)]
DIRECT, DEFAULT, LARGE, WIDE = None, (10, 5, 10), (100, 60, 10), (100, 5, 100)  # BatchSize, BatchingWindowSeconds, MaximumConcurrency
NAMES = {
    DIRECT: "`bucket`",
    DEFAULT: "`bucket-queue`",
    LARGE: "`bucket-queue`, `BatchSize=100`, `BatchingWindowSeconds=60`",
    WIDE: "`bucket-queue`, `BatchSize=100`, `MaximumConcurrency=100`",
}


def rate(accounts, regions):
    """Returns the log files a second."""
    return accounts * regions / PERIOD


def in_flight_if_all_fail(accounts, regions):
    """Returns the messages in flight after every log file has failed for one visibility timeout."""
    return rate(accounts, regions) * VISIBILITY_SECONDS


@functools.cache
def answer_times(median):
    return queueing.lognormal_times(median, S3_SPREAD, seed=1)


def work(memory_mb=MEMORY_MB, s3_median=S3_MEDIAN_SECONDS):
    slower = max(1, 1769 / memory_mb)
    return queueing.Work(answer_times(s3_median), cost.INVOCATION_CPU_SECONDS * slower, cost.FILE_CPU_SECONDS * slower, cost.CONCURRENT_OBJECTS)


def environments(share=1.0):
    return queueing.Environments(CONCURRENCY * share, COLD_SECONDS, IDLE_SECONDS, CONCURRENCY * share, ENVIRONMENTS_A_SECOND * share)


@functools.cache
def arrivals(files, within, periods, begin=0.0):
    """Returns when the notifications arrive: in each period `files` of them, at random times of its first `within` seconds."""
    source = random.Random(files)
    times = []
    for period in range(periods):
        times += sorted(begin + NOTIFICATION_SECONDS + period * PERIOD + within * source.random() for _ in range(files))
    return times


def through(setting, times, **options):
    if setting is DIRECT:
        return queueing.asynchronous(times, NOTIFICATION_SECONDS, work(), environments(), **options)
    return queueing.queued(times, NOTIFICATION_SECONDS, work(), environments(), *setting, FIRST_POLLERS, POLLERS_A_SECOND, **options)


@functools.cache
def figures(accounts, regions, setting, synchronised):
    """Returns the delays in ascending order, the peak concurrency, the most notifications that wait, and the most cold starts in 10 s.

    If log files arrive evenly, the first and the last quarter of a period are left out of the delays: the run begins and ends there.
    """
    files = accounts * regions
    periods = max(1, min(288, 60_000 // files))
    begin, end = (0, float("inf")) if synchronised else (PERIOD / 4, (periods - 0.25) * PERIOD)
    times = arrivals(files, BURST_SECONDS if synchronised else PERIOD, periods)
    run = through(setting, times)
    delays = sorted(done - created + ALERT_SECONDS for created, done in zip(run.created, run.done) if begin <= created < end)
    waiting = run.waiting(range(int(periods * PERIOD)), times)
    return delays, run.environments.peak, max(waiting), run.environments.most_cold_starts(10)


@functools.cache
def files_a_second_at_most(setting, memory_mb=MEMORY_MB, s3_median=S3_MEDIAN_SECONDS):
    """Returns how many log files a second a setting handles, if notifications always wait."""
    if setting is DIRECT:
        times = answer_times(s3_median)
        cpu_seconds = cost.INVOCATION_CPU_SECONDS + cost.FILE_CPU_SECONDS
        return CONCURRENCY / (sum(times) / len(times) + cpu_seconds * max(1, 1769 / memory_mb))
    size, window, most = setting
    backlog = [0.0] * (size * max(3000, 30 * most))  # so many batches that their mean is exact to about a percent
    run = queueing.queued(backlog, 0, work(memory_mb, s3_median), environments(), size, window, most, most, POLLERS_A_SECOND, blocked_until=0.0)
    begin, end = max(run.done) * 0.2, max(run.done) * 0.8
    return sum(begin <= done < end for done in run.done) / (end - begin)


@functools.cache
def recovery_seconds(accounts, regions, setting):
    """Returns the seconds after an outage of an hour until the function has caught up, or None if it never does.

    A queue drains at the rate by which the throughput exceeds the arrivals. The asynchronous queue is simulated, with a fiftieth of the log
    files and of the concurrency: what counts is their ratio.
    """
    if setting is not DIRECT:
        spare = files_a_second_at_most(setting) - rate(accounts, regions)
        return rate(accounts, regions) * OUTAGE / spare if spare > 0 else None
    share = 1 / 50 if accounts * regions >= 1000 else 1
    times = arrivals(max(1, int(accounts * regions * share)), PERIOD, round(OUTAGE / PERIOD) + 2, begin=-float(OUTAGE))
    run = queueing.asynchronous(times, NOTIFICATION_SECONDS, work(), environments(share), outage=(-OUTAGE, 0.0))
    return max(done for created, done in zip(run.created, run.done) if created < 0)


def keeps_up(accounts, regions, setting):
    return rate(accounts, regions) < files_a_second_at_most(setting)


def monthly_files(accounts, regions):
    return accounts * regions * cost.FILES_PER_ACCOUNT


def monthly_cost(accounts, regions, setting):
    files = monthly_files(accounts, regions)
    if setting is DIRECT:
        return cost.fixed("bucket") + cost.variable("bucket", files)
    return cost.fixed("bucket-queue") + cost.variable("bucket-queue", files, window=setting[1], most=setting[0])


# How numbers read.


def seconds(value):
    if value is None:
        return "never"
    if value >= 5400:
        return f"{value / 3600:.1f} h"
    if value >= 120:
        return f"{value / 60:.0f} min"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def number(value):
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def dollars(value):
    return f"{value:,.0f}"


def share(load, quota):
    part = 100 * load / quota
    return "under 0.1%" if part < 0.1 else f"{part:.1f}%" if part < 1 else f"{part:,.0f}%"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def size_name(accounts, regions):
    return f"{accounts:,}" if regions == REGIONS else f"{accounts:,}, in {regions} Regions"


# The tables.


def plan_table():
    rows = []
    for (accounts, regions), setting in zip(SIZES, (DIRECT, DEFAULT, WIDE, WIDE)):
        delays = [seconds(queueing.percentile(figures(accounts, regions, setting, synchronised)[0], 0.99)) for synchronised in (False, True)]
        failing = in_flight_if_all_fail(accounts, regions)
        ask = f"SQS: {math.ceil(failing / 50_000) * 50_000:,} messages in flight" if setting and failing > IN_FLIGHT else "nothing"
        kms = dollars(monthly_files(accounts, regions) * cost.KMS_REQUEST)
        rows.append((size_name(accounts, regions), NAMES[setting], dollars(monthly_cost(accounts, regions, setting)), kms, *delays, ask))
    return table(("accounts", "`Trigger` and other parameters", "dollars a month", "KMS without a Bucket Key, dollars", "p99 delay, evenly spread", "p99 delay, synchronised", "ask AWS for"), rows)


def load_table():
    rows = []
    for accounts in (1, 1000, 50_000):
        cells = [f"{accounts:,}"]
        for regions in (1, REGIONS, 17):
            cells.append(number(rate(accounts, regions)))
        for regions in (1, REGIONS, 17):
            cells.append(number(accounts * regions / BURST_SECONDS))
        rows.append(cells)
    return table(
        ("accounts", "1 Region", f"{REGIONS} Regions", "17 Regions", "1 Region, synchronised", f"{REGIONS} Regions, synchronised", "17 Regions, synchronised"), rows
    )


def delay_table():
    rows = []
    for accounts, regions in SIZES:
        for setting in (DIRECT, DEFAULT, LARGE, WIDE):
            if not keeps_up(accounts, regions, setting):
                continue  # the delays grow without end; the table of throughput says so
            if setting is WIDE and accounts < 50_000:
                continue
            cells = [size_name(accounts, regions), NAMES[setting], dollars(monthly_cost(accounts, regions, setting))]
            for synchronised in (False, True):
                delays, peak, waiting, _ = figures(accounts, regions, setting, synchronised)
                p50, p99 = (queueing.percentile(delays, part) for part in (0.5, 0.99))
                cells += [" / ".join(map(seconds, (p50, p99, delays[-1]))), f"{peak:,} / {waiting:,}"]
            rows.append(cells)
    header = ("accounts", "setting", "dollars a month", "evenly spread: p50 / p99 / max", "concurrency / waiting", "synchronised: p50 / p99 / max", "concurrency / waiting")
    return table(header, rows)


def throughput_table():
    rows = []
    for setting in (DIRECT, DEFAULT, LARGE, WIDE):
        most = (files_a_second_at_most(setting), files_a_second_at_most(setting, 512), files_a_second_at_most(setting, s3_median=SLOW_S3_MEDIAN_SECONDS))
        rows.append((NAMES[setting], *map(number, most), *(seconds(recovery_seconds(*size, setting)) for size in SIZES[1:])))
    most = (files_a_second_at_most(REDRIVE), files_a_second_at_most(REDRIVE, 512), files_a_second_at_most(REDRIVE, s3_median=SLOW_S3_MEDIAN_SECONDS))
    rows.append(("redrive of the failure queue", *map(number, most), *(seconds(rate(*size) * OUTAGE / most[0]) for size in SIZES[1:])))
    header = ("setting", "files a second", "with 512 MB", "with a slow S3", *(f"after an outage, {size_name(*size)}" for size in SIZES[1:]))
    return table(header, rows)


def quota_table():
    """Each quota: its name, its value in words, its value or values as numbers, whether AWS raises it, its source, and the load as a function."""
    lambda_guide, sqs_guide = "https://docs.aws.amazon.com/lambda/latest/dg", "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide"

    def files(accounts, synchronised):
        return accounts * REGIONS / (BURST_SECONDS if synchronised else PERIOD)

    def direct(figure):
        return lambda accounts, synchronised: figures(accounts, REGIONS, DIRECT, synchronised)[figure]

    def mails(accounts, synchronised):
        return accounts / (BURST_SECONDS if synchronised else PERIOD)

    quotas = [
        ("Lambda: concurrent executions of the account, `bucket`", "1,000", (CONCURRENCY,), "yes", f"{lambda_guide}/gettingstarted-limits.html", direct(1)),
        ("Lambda: new execution environments of a function, `bucket`", "1,000 in 10 s", (CONCURRENCY,), "no", f"{lambda_guide}/scaling-behavior.html", direct(3)),
        ("Event source mapping: invocations at a time", "1,250; 300 more a minute", (MOST_POLLERS,), "no", f"{lambda_guide}/services-sqs-scaling.html",
         lambda accounts, synchronised: figures(accounts, REGIONS, DEFAULT if accounts < 50_000 else WIDE, synchronised)[1]),
        ("SQS: messages in flight, after 11 minutes in which every log file failed", "120,000", (IN_FLIGHT,), "yes", f"{sqs_guide}/quotas-queues.html",
         lambda accounts, synchronised: in_flight_if_all_fail(accounts, REGIONS)),
        ("S3: GET, a partitioned prefix", "5,500 a second", (5500,), "scales", "https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html", files),
        ("S3: PUT to the ledger, an action in every account at once", "3,500 a second", (3500,), "scales", "https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html",
         lambda accounts, synchronised: 2 * mails(accounts, synchronised)),
        ("EventBridge: invocations, us-east-1 to the smallest Regions", "18,750 to 750 a second", (18_750, 750), "yes", "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html", files),
        ("SNS: publications, us-east-1 to the smallest Regions", "30,000 to 300 a second", (30_000, 300), "yes", "https://docs.aws.amazon.com/general/latest/gr/sns.html", files),
        ("SNS: emails, an action in every account at once", "10 a second", (10,), "no", "https://docs.aws.amazon.com/general/latest/gr/sns.html", mails),
        ("KMS: requests without a Bucket Key, us-east-1 to the smallest Regions", "100,000 to 10,000 a second", (100_000, 10_000), "yes", "https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html", files),
        ("CloudWatch Logs: PutLogEvents, `bucket`", "5,000 a second", (5000,), "yes", "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html", files),
        ("CloudWatch Logs: CreateLogStream, `bucket`", "50 a second", (50,), "yes", "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html",
         lambda accounts, synchronised: figures(accounts, REGIONS, DIRECT, synchronised)[3] / 10),
    ]
    rows = []
    for name, value, most, adjustable, source, load in quotas:
        loads = []
        for accounts, synchronised in ((1, False), (1000, False), (50_000, False), (50_000, True)):
            shares = [share(load(accounts, synchronised), limit) for limit in most]
            loads.append(" to ".join(dict.fromkeys(shares)))
        rows.append((name, f"[{value}]({source})", adjustable, *loads))
    return table(("quota", "value", "AWS raises it", "1", "1,000", "50,000", "50,000, synchronised"), rows)


def picture():
    """Returns the data of docs/scale.svg: 50,000 accounts whose trails write at the same time."""
    accounts, regions = SIZES[2]
    times = arrivals(accounts * regions, BURST_SECONDS, 1)
    moments = range(0, int(PERIOD), 2)
    curves = []
    for setting in (DIRECT, DEFAULT, LARGE, WIDE):
        run = through(setting, times)
        delays = run.delays()
        shares = [part / 100 for part in range(1, 100)] + [0.999, 1]
        curves.append({
            "name": NAMES[setting].replace("`", ""),
            "waiting": run.waiting(moments, times),
            "delays": [round(queueing.percentile(delays, part) + ALERT_SECONDS, 3) for part in shares],
        })
    return {"seconds": list(moments), "shares": shares, "curves": curves}


def digest(data):
    """Returns a digest of the picture's data; the picture carries it, so that a test can tell whether it is current."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


TABLES = {"plan": plan_table, "load": load_table, "delay": delay_table, "throughput": throughput_table, "quotas": quota_table}


def with_tables(document, tables):
    """Returns the document with each table behind its marker, `<!-- scale.py: NAME -->`, replaced."""
    for name, text in tables.items():
        pattern = rf"(<!-- scale\.py: {name} -->\n)(?:\|[^\n]*\n)*"
        document, found = re.subn(pattern, lambda match: match[1] + text + "\n", document)
        if found != 1:
            raise SystemExit(f"the document needs one line <!-- scale.py: {name} -->")
    return document


def main():
    tables = {name: build() for name, build in TABLES.items()}
    if sys.argv[1:] == ["--write"]:
        path = pathlib.Path(__file__).resolve().parents[1] / "docs/scale.md"
        path.write_text(with_tables(path.read_text(), tables))
    elif len(sys.argv) == 1:
        print("\n\n".join(tables.values()))
    else:
        sys.exit("usage: scale.py [--write]")


if __name__ == "__main__":
    main()
