"""`billing-watch scan s3://…` over many small log files in moto, which answers each request late."""

import os
import pathlib
import subprocess
import sys

from part_folder import LAUNCHER
from paths import COMMAND_LINE, FILES, ROOT
from results import figure

OBJECTS, LATENCY_MS = 20_000, 20
PEER = [ROOT / ".venv/bin/python", pathlib.Path(__file__).with_name("moto_history.py"), FILES / "small.json.gz", str(OBJECTS), str(LATENCY_MS)]
SCAN = [COMMAND_LINE, "scan", "--quiet", "--format", "jsonl", "s3://example-trail-logs/AWSLogs/"]


def measure():
    with subprocess.Popen(PEER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        address = peer.stdout.readline().strip()
        if not address:
            raise SystemExit("moto did not start; see its output above")
        environment = {**os.environ, "AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.cpu_count())]
        done = subprocess.run([*launcher, *map(str, SCAN)], capture_output=True, text=True, env=environment, check=False)
        peer.stdin.close()
    if done.returncode != 0:
        raise SystemExit(f"{SCAN} failed: {done.stderr}")
    wall, cpu, peak_kib = map(float, done.stdout.split())
    return {"objects": figure("objects", OBJECTS), "latency_ms": figure("ms", LATENCY_MS), "wall_seconds": figure("s", wall),
            "files_per_second": figure("files/s", OBJECTS / wall), "cpu_seconds": figure("s of CPU", cpu), "peak_mib": figure("MiB", peak_kib / 1024)}
