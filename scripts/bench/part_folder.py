"""`billing-watch scan` and what people use to search log files, on a folder of small files and on one of large files.

Every program looks for the same event source and must find the same number of records, on one processor and on two.
"""

import os
import pathlib
import shutil
import subprocess
import sys

from files import FOUND, MATCH
from paths import COMMAND_LINE, FOLDER, WORK
from results import figure

SOURCE = MATCH[0]
SAMPLES = 3
HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent
# The shell's part of each command. `$1` is the folder, `$2` the number of processors.
JQ = f"""find "$1" -name '*.json.gz' -print0 | xargs -0 zcat | jq -c '.Records[] | select(.eventSource == "{SOURCE}")' | wc -l"""
RIPGREP = f"""rg --search-zip --threads "$2" --only-matching --no-filename '"eventSource":"{SOURCE}"' "$1" | wc -l"""
SCAN = f"""'{COMMAND_LINE}' scan --quiet --jobs "$2" --format jsonl "$1" | wc -l"""


# The kernel counts the memory of the process that starts a program as the program's. So a small process starts it.
LAUNCHER = """
import os, resource, subprocess, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
began = time.monotonic()
code = subprocess.run(sys.argv[2:]).returncode
wall, usage = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(code)
"""


def programs(folder, processors):
    """Returns the command of each program that is installed, and what it must print; names those that are not."""
    found = FOUND[folder.name]
    all_programs = {
        "billing_watch": (True, ["sh", "-c", SCAN, "sh", folder, processors], found),
        "inflate": (True, [FOLDER, "inflate", folder, processors], 0),
        "jq": (shutil.which("jq"), ["sh", "-c", JQ, "sh", folder], found),
        "ripgrep": (shutil.which("rg", path=f"{BIN}:{os.environ['PATH']}"), ["sh", "-c", RIPGREP, "sh", folder, processors], found),
        "python": (True, [sys.executable, HERE / "python_scan.py", folder, SOURCE], found),
        "duckdb": (has_duckdb(), [sys.executable, HERE / "duckdb_scan.py", folder, SOURCE, processors], found),
    }
    for name, (installed, _, _) in all_programs.items():
        if not installed:
            print(f"{name} is not installed", file=sys.stderr)
    return {name: (command, result) for name, (installed, command, result) in all_programs.items() if installed}


def has_duckdb():
    return subprocess.run([sys.executable, "-c", "import duckdb"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def measure():
    figures = {}
    for kind in FOUND:
        for processors in (1, 2):
            commands = programs(WORK / "folders" / kind, processors)
            samples = {name: [] for name in commands}
            for _ in range(SAMPLES):
                for name, (command, result) in commands.items():
                    samples[name].append(run(command, processors, result))
            for name, taken in samples.items():
                walls, cpus, peaks = map(list, zip(*taken))
                key = f"{kind}.{name}.processors_{processors}"
                figures |= {f"{key}.wall_seconds": figure("s", walls), f"{key}.cpu_seconds": figure("s of CPU", cpus),
                            f"{key}.peak_mib": figure("MiB, of the largest process", peaks)}
    return figures


def run(command, processors, expected):
    """Runs a program to its end on so many processors. Returns wall seconds, CPU seconds and peak memory, of its children as well."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(processors)]
    done = subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, env=environment, check=False)
    found, *usage = done.stdout.split() or [""]
    if done.returncode != 0 or found != str(expected):
        raise SystemExit(f"{command} found {found or 'nothing'} instead of {expected} records: {done.stderr}")
    wall, cpu, peak_kib = map(float, usage)
    return wall, cpu, peak_kib / 1024
