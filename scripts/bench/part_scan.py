"""The scan beside inflating alone, by file size, share of matching records and rule pack; and igzip as a process beside the scan as a process."""

import json
import subprocess
import sys
import time

from paths import FILES, FOLDER, ROOT
from results import figure

PROCESS_FILES = {"30mb": 9, "1gib": 3}
# Without igzip the other processes are measured all the same.
IGZIP = [sys.executable, "-m", "isal.igzip", "-d", "-c"]


def measure():
    return in_process() | as_processes()


def in_process():
    """Returns the times of benches/scan.rs, and their ratios to inflating alone, sample by sample."""
    done = subprocess.run(["cargo", "bench", "--quiet", "--locked", "--bench", "scan", "--", FILES], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    figures, alone = {}, []
    for line in done.stdout.splitlines():
        measured = json.loads(line)
        key, times = f"{measured['file']}.{measured['case']}", measured["nanoseconds"]
        figures[f"{key}.microseconds"] = figure("µs", [time / 1000 for time in times])
        if measured["case"] == "inflate":
            alone = times
            figures[f"{measured['file']}.expanded"] = figure("bytes", measured["expanded_bytes"])
        elif measured["file"] != "rules":
            figures[f"{key}.ratio"] = figure("times inflating alone", [time / base for time, base in zip(times, alone)])
    return figures


def as_processes():
    """Returns the seconds of whole processes that inflate a file and discard the text, or scan it, taken in turns."""
    figures = {}
    for file, samples in PROCESS_FILES.items():
        path = FILES / f"{file}.json.gz"
        commands = {"inflate": [FOLDER, "inflate", path, "1"], "scan": [FOLDER, "scan", path, "1"], "igzip": [*IGZIP, path]}
        if subprocess.run([*IGZIP, FILES / "small.json.gz"], capture_output=True, check=False).returncode != 0:
            print("igzip is not installed", file=sys.stderr)
            del commands["igzip"]
        seconds = {name: [] for name in commands}
        for _ in range(samples):
            for name, command in commands.items():
                began = time.monotonic()
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                seconds[name].append(time.monotonic() - began)
        for name, taken in seconds.items():
            figures[f"process.{file}.{name}.seconds"] = figure("s", taken)
            figures[f"process.{file}.{name}.ratio"] = figure("times inflating alone", [second / base for second, base in zip(taken, seconds["inflate"])])
    return figures
