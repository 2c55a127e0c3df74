"""The ledger's cost: log files with one alert each, handled without the ledger, with it, and again when it has their records."""

from files import ALERTS
from function import Function, notification
from paths import FUNCTION
from results import figure

LEDGER = {"LEDGER_BUCKET": "measured-ledger"}
SMALL = notification("small")


def measure():
    with Function([FUNCTION]) as without, Function([FUNCTION], LEDGER) as kept:
        # The first alert compiles the rules.
        for function in (without, kept):
            function.invoke(SMALL)
            function.invoke(notification("one"))
        figures = run("none", without, "Published") | run("ledger", kept, "Published") | run("duplicate", kept, "Duplicate")
        sizes = kept.ask({"do": "ledger"})["bytes"]
    return figures | {"entry_bytes": figure("bytes", sizes)}


def run(name, function, counter):
    """Handles every file once. Returns CPU, time and the requests for one file, by kind."""
    requests, cpu, times = {}, [], []
    for number in range(ALERTS):
        before = function.cpu_seconds()
        answer = function.invoke(notification(f"alert{number}"))
        cpu.append((function.cpu_seconds() - before) * 1000)
        if f'"{counter}":1,' not in answer["replies"][0][1]:
            raise SystemExit(f"not one record counts as {counter}: {answer}")
        times.append((next(arrived for kind, arrived, _ in answer["requests"] if kind == "reply")
                      - next(sent for kind, _, sent in answer["requests"] if kind == "event")) / 1e6)
        for kind, _, _ in answer["requests"]:
            requests[kind] = requests.get(kind, 0) + 1
    return {f"{name}.cpu_ms": figure("ms of CPU", cpu), f"{name}.wall_ms": figure("ms from the event to the reply", times)} | {
        f"{name}.{kind}_requests": figure("requests for one file", requests.get(kind, 0) / ALERTS) for kind in ("get", "publish", "put", "read")}
