"""Checks docs/scale.md against the simulation behind it, and the simulation against results that are known exactly."""

import itertools
import math
import random
import re

import pytest

import cost
import queueing
import scale
from stack import ROOT, transformed

DOCUMENT = (ROOT / "docs/scale.md").read_text()
UNLIMITED = 10**9


def warm(limit=UNLIMITED):
    """Environments that start at once and are as many as needed."""
    return queueing.Environments(limit, cold_seconds=0.0, idle_seconds=math.inf, burst=UNLIMITED, refill=0)


def poisson(rate, count, seed):
    source = random.Random(seed)
    return list(itertools.accumulate(source.expovariate(rate) for _ in range(count)))


def servers(arrivals, service_times, number):
    """Simulates a queue with `number` servers, each of which takes one message at a time."""
    work = queueing.Work(service_times, begin_seconds=0.0, file_seconds=0.0, at_once=1)
    return queueing.queued(arrivals, 0.0, work, warm(), size=1, window=0, most_pollers=number, first_pollers=number, pollers_a_second=1)


def mean_wait(run):
    return sum(given - created for created, given in zip(run.created, run.given)) / len(run.created)


def constant_answers(seconds):
    begin, file = (cpu / cost.VCPU for cpu in (cost.INVOCATION_CPU_SECONDS, cost.FILE_CPU_SECONDS))
    return queueing.Work([seconds], begin, file, cost.CONCURRENT_OBJECTS)


def test_the_page_has_the_tables_of_scale_py():
    tables = {name: build() for name, build in scale.TABLES.items()}
    assert scale.with_tables(DOCUMENT, tables) == DOCUMENT, "run `make scale`"


def test_the_picture_shows_the_data_of_scale_py():
    assert scale.digest(scale.picture()) in (ROOT / "docs/scale.svg").read_text(), "run `make scale`"


def test_the_page_names_the_limits_of_the_template():
    template = transformed()
    parameters, resources = template["Parameters"], template["Resources"]
    queue, redrive, function = (resources[name]["Properties"] for name in ("DeliveryQueue", "Redrive", "Function"))
    names = ("BatchSize", "BatchingWindowSeconds", "MaximumConcurrency")
    assert scale.DEFAULT == tuple(parameters[name]["Default"] for name in names)
    assert scale.MEMORY_MB == parameters["MemorySize"]["Default"]
    for setting in (scale.LARGE, scale.WIDE):
        assert all(parameters[name]["MinValue"] <= value <= parameters[name]["MaxValue"] for name, value in zip(names, setting))
    for name, value in re.findall(r"`([A-Z]\w+)=(\w[\w-]*)`", DOCUMENT):
        definition = parameters[name]
        assert value in definition["AllowedValues"] if "AllowedValues" in definition else definition["MinValue"] <= int(value) <= definition["MaxValue"]
    assert scale.REDRIVE == (redrive["BatchSize"], redrive.get("MaximumBatchingWindowInSeconds", 0), redrive["ScalingConfig"]["MaximumConcurrency"])
    assert scale.VISIBILITY_SECONDS == queue["VisibilityTimeout"]
    retries = function["EventInvokeConfig"] if "EventInvokeConfig" in function else resources["FunctionEventInvokeConfig"]["Properties"]
    words = " ".join(DOCUMENT.split())
    for sentence in (
        f"visibility timeout, {scale.VISIBILITY_SECONDS} seconds",
        f"after five tries, in {queue['RedrivePolicy']['maxReceiveCount'] * scale.VISIBILITY_SECONDS // 60} minutes or later",
        f"that many log files come in {scale.IN_FLIGHT / scale.rate(50_000, scale.REGIONS) / 60:.0f} minutes",
        f"lasts for {scale.VISIBILITY_SECONDS // 60} minutes",
        f"SQS keeps a message for {queue['MessageRetentionPeriod'] // 86400} days",
        f"[{retries['MaximumEventAgeInSeconds'] // 3600} hours]",
        f"`HandlingDelaySeconds` ({parameters['HandlingDelaySeconds']['Default']})",
        f"S3 answers in {scale.S3_MEDIAN_SECONDS * 1000:.0f} ms (median)",
        f"answers in {scale.SLOW_S3_MEDIAN_SECONDS * 1000:.0f} ms instead of {scale.S3_MEDIAN_SECONDS * 1000:.0f} ms",
        f"A cold start takes {scale.COLD_SECONDS * 1000:.0f} ms",
        f"an unused environment for {scale.IDLE_SECONDS // 60} minutes",
        f"A notification takes {scale.NOTIFICATION_SECONDS:.0f} second.",
        f"An alert takes {scale.ALERT_SECONDS * 1000:.0f} ms more",
        f"within the same {scale.BURST_SECONDS} seconds",
        f"{cost.FILES_PER_ACCOUNT:,} files a month",
    ):
        assert sentence in words, sentence
    assert (queue["RedrivePolicy"]["maxReceiveCount"], retries["MaximumRetryAttempts"]) == (5, 2)


def test_one_answer_of_s3_in_a_hundred_takes_more_than_250_ms():
    assert 0.25 < queueing.percentile(sorted(scale.answer_times(scale.S3_MEDIAN_SECONDS)), 0.99) < 0.26


def test_5000_accounts_in_17_regions_write_295_files_a_second():
    assert round(scale.rate(5000, 17)) == 295


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_server_with_constant_service_waits_as_m_d_1_does(load):
    service = 0.1
    run = servers(poisson(load / service, 200_000, seed=11), [service], number=1)
    assert mean_wait(run) == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("number, load", [(2, 0.7), (10, 0.8)])
def test_servers_with_exponential_service_wait_as_m_m_c_does(number, load):
    service = 0.1
    source = random.Random(5)
    run = servers(poisson(number * load / service, 300_000, seed=12), [source.expovariate(1 / service) for _ in range(300_000)], number)
    # Erlang's C formula: the probability that a message waits.
    busy = number * load
    all_busy = busy**number / math.factorial(number) / (1 - load)
    waits = all_busy / (sum(busy**k / math.factorial(k) for k in range(number)) + all_busy)
    assert mean_wait(run) == pytest.approx(waits * service / (number * (1 - load)), rel=0.05)


def test_littles_law_holds_for_the_notifications_that_wait():
    arrivals = poisson(8, 100_000, seed=13)
    run = servers(arrivals, [0.1], number=1)
    waiting = run.waiting([second / 4 for second in range(int(arrivals[-1]) * 4)], arrivals)
    assert sum(waiting) / len(waiting) == pytest.approx(len(arrivals) / arrivals[-1] * mean_wait(run), rel=0.02)


def test_the_billed_seconds_are_those_of_cost_py():
    arrivals = scale.arrivals(3000, scale.PERIOD, 2)
    one_by_one = queueing.asynchronous(arrivals, 1.0, constant_answers(cost.S3_ANSWER_SECONDS), warm())
    assert one_by_one.environments.billed_seconds == pytest.approx(len(arrivals) * cost.seconds(1), rel=0.001)
    # cost.py adds waiting and CPU time up; in the simulation they overlap.
    for size in (10, 100):
        run = queueing.queued(arrivals, 1.0, constant_answers(cost.S3_ANSWER_SECONDS), warm(), size, 300, 1, 1, 1)
        assert run.environments.invocations == len(arrivals) / size
        assert run.environments.billed_seconds == pytest.approx(len(arrivals) / size * cost.seconds(size), rel=0.2)


def test_files_of_a_batch_are_fetched_side_by_side_and_scanned_one_after_the_other():
    work = queueing.Work([0.1], begin_seconds=0.0, file_seconds=0.01, at_once=2)
    assert work.finish_times(1) == pytest.approx([0.11])
    assert work.finish_times(4) == pytest.approx([0.11, 0.12, 0.22, 0.23])


def test_a_batch_waits_for_its_window_unless_it_is_full():
    work = queueing.Work([0.1], begin_seconds=0.0, file_seconds=0.0, at_once=32)
    run = queueing.queued([0.0, 1.0, 2.0, 3.0], 0.0, work, warm(), size=3, window=5, most_pollers=1, first_pollers=1, pollers_a_second=1)
    assert run.given == [2.0, 2.0, 2.0, 8.0]


def test_pollers_are_added_while_messages_wait_up_to_the_maximum():
    work = queueing.Work([10.0], begin_seconds=0.0, file_seconds=0.0, at_once=1)
    run = queueing.queued([0.0] * 20, 0.0, work, warm(), size=1, window=0, most_pollers=4, first_pollers=2, pollers_a_second=5)
    assert run.given[:6] == pytest.approx([0.0, 0.0, 0.2, 0.4, 10.0, 10.0])
    assert run.environments.peak == 4 and len(run.done) == 20


def test_pollers_are_removed_a_minute_after_messages_waited():
    work = queueing.Work([0.1], begin_seconds=0.0, file_seconds=0.0, at_once=32)
    burst, quiet = [0.0] * 100, [100 + second / 2 for second in range(200)]
    run = queueing.queued(burst + quiet, 0.0, work, warm(), size=10, window=5, most_pollers=4, first_pollers=1, pollers_a_second=5)
    # One poller collects all ten messages of a window's five seconds; four would share them.
    last_batches = [len(list(batch)) for _, batch in itertools.groupby(run.given[-50:])]
    assert max(last_batches) == 10 and len(last_batches) <= 6


def test_lambda_throttles_above_the_concurrency_and_the_scaling_rate():
    work = queueing.Work([0.5], begin_seconds=0.0, file_seconds=0.0, at_once=1)
    limited = queueing.asynchronous([0.0] * 30, 0.0, work, queueing.Environments(10, 0.25, 60, burst=100, refill=100))
    assert limited.environments.peak == 10 and limited.given.count(0.0) == 10 and len(limited.done) == 30
    assert all(0.8 <= given for given in limited.given[10:])
    scaling = queueing.asynchronous([0.0] * 30, 0.0, work, queueing.Environments(100, 0.25, 60, burst=10, refill=1))
    assert scaling.given.count(0.0) == 10 and scaling.environments.most_cold_starts(0.5) == 10 and len(scaling.done) == 30


def test_an_unused_environment_is_kept_for_a_while():
    for pause, cold_starts in ((59.0, 1), (61.0, 2)):
        run = queueing.asynchronous([0.0, 0.5 + pause], 0.0, queueing.Work([0.5], 0.0, 0.0, 1), queueing.Environments(10, 0.0, 60, 10, 10))
        assert len(run.environments.cold_starts) == cold_starts


def test_after_an_outage_a_queue_catches_up_as_computed():
    accounts, regions, setting = 1000, 17, (10, 5, 2)
    computed = scale.recovery_seconds(accounts, regions, setting)
    periods = round((scale.OUTAGE + 1.2 * computed) / scale.PERIOD)
    arrivals = scale.arrivals(accounts * regions, scale.PERIOD, periods, begin=-float(scale.OUTAGE))
    run = scale.through(setting, arrivals, blocked_until=0.0)
    moments = range(0, int(1.2 * computed), 10)
    # A window of 5 s keeps some notifications from being handled at once also without a backlog.
    caught_up = next(moment for moment, waiting in zip(moments, run.waiting(moments, arrivals)) if waiting < 10 * scale.rate(accounts, regions))
    assert caught_up == pytest.approx(computed, rel=0.06)


def test_equal_seeds_give_equal_results():
    arrivals = scale.arrivals(3000, scale.PERIOD, 1)
    for setting in (scale.DIRECT, scale.DEFAULT):
        assert scale.through(setting, arrivals).done == scale.through(setting, arrivals).done


def test_the_advice_for_large_organizations_follows_from_the_throughput():
    advice = (ROOT / "docs/deploy.md").read_text().replace("\n", " ")
    [row] = [line for line in DOCUMENT.splitlines() if re.match(r"\| `bucket-queue` \| \d+ \| \d+ \| \d+ \|", line)]
    fast, _, slow = re.findall(r"\| (\d+)", row)[:3]
    load = scale.rate(5000, 17)
    assert int(slow) < load < int(fast)
    assert f"handle {fast} log files a second" in advice and f"only {slow} if" in advice and f"deliver {load:.0f} a second" in advice
    parameters = transformed()["Parameters"]
    for name, value in zip(("BatchSize", "MaximumConcurrency"), (scale.WIDE[0], scale.WIDE[2])):
        assert f"`{name}={value}`" in advice
        assert parameters[name]["Description"].endswith(f"From 5,000 accounts on, set {value} (docs/scale.md).")
