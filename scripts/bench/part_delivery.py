"""One delivery from end to end: the start, the first invocation, a later one. The release binary beside the handler in Python.

The peer answers at once and without TLS, so that the figures show the function alone.
"""

import statistics

from counts import allocations, instructions, repeated
from function import Function, notification
from paths import FUNCTION, PYTHON_FUNCTION
from results import figure

STARTS = 31
WARM_UP, GROUPS, GROUP = 50, 10, 200
# Deliveries of the two runs whose difference is counted.
FEW, MANY = 5, 25
SMALL = notification("small")


def measure():
    """Returns the figures of both functions, taken in turns."""
    functions = {"billing_watch": [FUNCTION], "python": PYTHON_FUNCTION}
    starts, firsts = ({name: [] for name in functions} for _ in range(2))
    for _ in range(STARTS):
        for name, command in functions.items():
            with Function(command) as function:
                before = function.cpu_seconds()
                function.invoke(SMALL)
                starts[name].append(function.start_ms)
                firsts[name].append((function.cpu_seconds() - before) * 1000)
    figures = {}
    for name, later in later_deliveries(functions).items():
        cpu = statistics.median(later["cpu"])
        figures |= {
            f"{name}.start_ms": figure("ms", starts[name]),
            f"{name}.first_cpu_ms": figure("ms of CPU on top of a later invocation", [max(0, first - cpu) for first in firsts[name]]),
            f"{name}.cpu_ms": figure("ms of CPU", later["cpu"]),
            f"{name}.before_get_ms": figure("ms from the event to the request at S3", later["before"]),
            f"{name}.after_get_ms": figure("ms from S3's answer to the reply", later["after"]),
            f"{name}.peak_mib": figure("MiB", later["peak"]),
        }
    # Of the interpreter one run is enough: its start alone has a billion instructions.
    figures |= counted("billing_watch", [FUNCTION], {}, 3)
    return figures | counted("python", PYTHON_FUNCTION, {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc"}, 1)


def later_deliveries(functions):
    """Returns CPU, phases and peak memory of deliveries to functions that are warm."""
    running = {name: Function(command) for name, command in functions.items()}
    later = {name: {"cpu": [], "before": [], "after": []} for name in functions}
    for function in running.values():
        function.invoke(SMALL, WARM_UP)
    for _ in range(GROUPS):
        for name, function in running.items():
            before = function.cpu_seconds()
            answer = function.invoke(SMALL, GROUP)
            later[name]["cpu"].append((function.cpu_seconds() - before) / GROUP * 1000)
            phases(answer["requests"], later[name])
    for name, function in running.items():
        later[name]["peak"] = function.peak_bytes() / 2**20
        function.stop()
    return later


def phases(requests, later):
    """Adds the milliseconds before and after the request at S3, of each delivery."""
    sent = got = 0
    for kind, arrived, answered in requests:
        if kind == "event":
            sent = answered
        elif kind == "get":
            later["before"].append((arrived - sent) / 1e6)
            got = answered
        elif kind == "reply":
            later["after"].append((arrived - got) / 1e6)


def counted(name, command, variables, times):
    """Returns instructions and allocations of one function."""
    def count(*events):
        return instructions(command, events, variables)

    start, _ = repeated(lambda: count(), times)
    few, _ = repeated(lambda: count((SMALL, FEW)), times)
    many, _ = repeated(lambda: count((SMALL, MANY)), times)
    one, _ = repeated(lambda: count((SMALL, 1)), times)
    later = [(more - less) // (MANY - FEW) for more, less in zip(many, few)]
    blocks = [allocations(command, [(SMALL, deliveries)], variables) for deliveries in (FEW, MANY)]
    return {
        f"{name}.start_instructions": figure("instructions", start),
        f"{name}.first_instructions": figure("instructions on top of a later invocation", [o - s - l for o, s, l in zip(one, start, later)]),
        f"{name}.instructions": figure("instructions", later),
        f"{name}.allocations": figure("allocations", (blocks[1] - blocks[0]) // (MANY - FEW)),
    }
