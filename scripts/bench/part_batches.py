"""SQS batches of small log files: by batch size and S3's latency, under Lambda's CPU quotas, and with large files among them."""

import sys
import time

from function import Function, batch, notification, quota_kind
from paths import FUNCTION, PYTHON_FUNCTION, ROOT
from results import MEMORY_SIZES, WHOLE_CORE_MB, figure

sys.path.insert(0, str(ROOT / "scripts"))
from cost import LAMBDA_GB_SECOND

SIZES = [1, 10, 100, 1000]
LATENCIES_MS = [5, 40, 150]
QUOTA_LATENCY_MS = 40
SAMPLES = 3
WARM_UP = 100
# A batch that takes longer is measured once.
LONG_SECONDS = 5
# Small files of the mixed batch, and large files of 100 MB.
MIXED = 100, 10


def names(count):
    """Returns distinct names that share one small log file."""
    return [f"small~{number}" for number in range(count)]


def timed(function, event):
    """Returns wall and CPU seconds of one invocation."""
    cpu, began = function.cpu_seconds(), time.monotonic()
    function.invoke(event)
    return time.monotonic() - began, function.cpu_seconds() - cpu


def measure():
    return by_size() | by_memory() | mixed()


def by_size():
    """Returns wall time, CPU, rate and memory by batch size and latency, without a quota and without TLS.

    The first batch opens the connections. It has at most 100 files, because a function with few connections would wait long for more.
    """
    figures = {}
    for latency in LATENCIES_MS:
        for size in SIZES:
            event = batch(names(size))
            with Function([FUNCTION], latency_ms=latency) as function:
                function.invoke(batch(names(min(size, WARM_UP))))
                samples = [timed(function, event)]
                while len(samples) < SAMPLES and samples[0][0] < LONG_SECONDS:
                    samples.append(timed(function, event))
                peak = function.peak_bytes() / 2**20
            key = f"latency_{latency}.files_{size}"
            figures |= {
                f"{key}.wall_ms": figure("ms", [wall * 1000 for wall, _ in samples]),
                f"{key}.files_per_second": figure("files per second", [size / wall for wall, _ in samples]),
                f"{key}.cpu_ms": figure("ms of CPU", [cpu * 1000 for _, cpu in samples]),
                f"{key}.peak_mib": figure("MiB", peak),
            }
    return figures


def by_memory():
    """Returns billed time and its price under the quota of each memory size, through TLS: for one file and for a batch of 100."""
    figures = {}
    for name, command in (("billing_watch", [FUNCTION]), ("python", PYTHON_FUNCTION)):
        for memory in MEMORY_SIZES:
            with Function(command, latency_ms=QUOTA_LATENCY_MS, tls=True, cores=memory / WHOLE_CORE_MB) as function:
                connections = function.invoke(batch(names(WARM_UP)))["connections"]
                for size, event in ((1, notification("small")), (100, batch(names(100)))):
                    walls = [timed(function, event)[0] for _ in range(5 if size == 1 else SAMPLES)]
                    dollars = [1e6 / size * wall * memory / 1024 * LAMBDA_GB_SECOND for wall in walls]
                    key = f"{name}.memory_{memory}.files_{size}"
                    figures |= {f"{key}.wall_ms": figure("ms", [wall * 1000 for wall in walls]),
                                f"{key}.dollars_per_million_files": figure("dollars", dollars)}
                figures[f"{name}.memory_{memory}.connections"] = figure("connections", connections)
                figures[f"{name}.memory_{memory}.peak_mib"] = figure("MiB", function.peak_bytes() / 2**20)
    return figures | {"quota": quota_kind()}


def mixed():
    """Returns the peak memory of a batch of small and large files."""
    small, large = MIXED
    event = batch(names(small) + [f"100mb~{number}" for number in range(large)])
    with Function([FUNCTION], latency_ms=QUOTA_LATENCY_MS) as function:
        wall, cpu = timed(function, event)
        return {"mixed.peak_mib": figure("MiB", function.peak_bytes() / 2**20), "mixed.cpu_seconds": figure("s of CPU", cpu),
                "mixed.wall_seconds": figure("s", wall)}
