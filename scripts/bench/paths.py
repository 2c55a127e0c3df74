"""Where the programs, files and results of the benches are."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target/bench"
FILES = WORK / "files"
CERTIFICATES = WORK / "certificates"
EXAMPLES = ROOT / "target/release/examples"
PEER = EXAMPLES / "bench-peer"
FOLDER = EXAMPLES / "bench-folder"
FUNCTION = ROOT / "target/release/billing-watch-function"
COMMAND_LINE = ROOT / "target/release/billing-watch"
PYTHON_FUNCTION = [sys.executable, ROOT / "scripts/bench/python_runtime.py"]
RESULTS = ROOT / "docs/performance.json"
PAGE = ROOT / "docs/performance.md"
