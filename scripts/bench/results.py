"""The raw results: figures with their spread, and the machine and programs that made them."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess

from paths import RESULTS, ROOT

# Fewer digits are noise, and make changes of the file hard to read.
DIGITS = 5
# Memory sizes of a function, in MB. Lambda gives a whole core to 1,769 MB.
MEMORY_SIZES = [128, 256, 512, 1024, 1769]
WHOLE_CORE_MB = 1769


def figure(unit, samples):
    """Returns a figure from one sample or a list of samples."""
    samples = samples if isinstance(samples, list) else [samples]
    return {"unit": unit, "median": rounded(statistics.median(samples)), "min": rounded(min(samples)), "max": rounded(max(samples)),
            "samples": len(samples)}


def rounded(value):
    """Returns a number with five digits; whole numbers as they are."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def output(*command):
    """Returns the first line that a program prints, or "not installed"."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return (done.stdout.strip() or done.stderr.strip()).split("\n")[0]


def package(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def origin():
    """Returns what a part's figures depend on: commit, date, machine and versions."""
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", "src", "rules", "Cargo.toml", "Cargo.lock")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": output("git", "rev-parse", "--short=12", "HEAD") + (" with changes" if changed else ""),
        "machine": {"cpu": processor[1].strip() if processor else platform.machine(), "cores": os.cpu_count(),
                    "architecture": platform.machine(), "kernel": ".".join(platform.release().split(".")[:2]),
                    "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)},
        "versions": {"rustc": output("rustc", "--version"), "python": platform.python_version(), "boto3": package("boto3"),
                     "duckdb": package("duckdb"), "isal": package("isal"), "ripgrep": package("ripgrep"), "jq": output("jq", "--version"),
                     "gzip": output("gzip", "--version"), "valgrind": output("valgrind", "--version")},
    }


def load():
    """Returns the results that are stored: for each part, its origin and its figures."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def store(results):
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
