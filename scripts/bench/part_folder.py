"""What people use to search log files, on a folder of small files and on one of large files, beside the scan as a program.

Every program looks for the same event source and must find the same number of records.
"""

import os
import pathlib
import shutil
import subprocess
import sys

from files import FOUND, MATCH
from paths import FOLDER, WORK
from results import figure

SOURCE = MATCH[0]
SAMPLES = 3
HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent
# The shell's part of each command. `$1` is the folder.
JQ = f"""find "$1" -name '*.json.gz' -print0 | xargs -0 zcat | jq -c '.Records[] | select(.eventSource == "{SOURCE}")' | wc -l"""
RIPGREP = f"""rg --search-zip --threads 2 --only-matching --no-filename '"eventSource":"{SOURCE}"' "$1" | wc -l"""


# The kernel counts the memory of the process that starts a program as the program's. So a small process starts it.
LAUNCHER = """
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
wall, usage = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(code)
"""


def programs(folder):
    """Returns the command of each program that is installed, and names those that are not."""
    all_programs = {
        "jq": (shutil.which("jq"), ["sh", "-c", JQ, "sh", folder]),
        "ripgrep": (shutil.which("rg", path=f"{BIN}:{os.environ['PATH']}"), ["sh", "-c", RIPGREP, "sh", folder]),
        "python": (True, [sys.executable, HERE / "python_scan.py", folder, SOURCE]),
        "duckdb": (has_duckdb(), [sys.executable, HERE / "duckdb_scan.py", folder, SOURCE, "2"]),
        "billing_watch_1": (True, [FOLDER, "scan", folder, "1"]),
        "billing_watch_2": (True, [FOLDER, "scan", folder, "2"]),
    }
    for name, (installed, _) in all_programs.items():
        if not installed:
            print(f"{name} is not installed", file=sys.stderr)
    return {name: command for name, (installed, command) in all_programs.items() if installed}


def has_duckdb():
    return subprocess.run([sys.executable, "-c", "import duckdb"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def measure():
    figures = {}
    for kind, found in FOUND.items():
        folder = WORK / "folders" / kind
        commands = programs(folder)
        samples = {name: [] for name in commands}
        for _ in range(SAMPLES):
            for name, command in commands.items():
                samples[name].append(run(command, found))
        for name, taken in samples.items():
            walls, cpus, peaks = map(list, zip(*taken))
            figures |= {f"{kind}.{name}.wall_seconds": figure("s", walls), f"{kind}.{name}.cpu_seconds": figure("s of CPU", cpus),
                        f"{kind}.{name}.peak_mib": figure("MiB, of the largest process", peaks)}
    return figures


def run(command, expected):
    """Runs a program to its end. Returns wall seconds, CPU seconds and peak memory, of its children as well."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, command)], capture_output=True, text=True, env=environment, check=False)
    found, *usage = done.stdout.split() or [""]
    if done.returncode != 0 or found != str(expected):
        raise SystemExit(f"{command} found {found or 'nothing'} instead of {expected} records: {done.stderr}")
    wall, cpu, peak_kib = map(float, usage)
    return wall, cpu, peak_kib / 1024
