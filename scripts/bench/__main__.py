"""Measures the parts that are named, or all, then stores the raw results and writes the tables of docs/performance.md.

`make bench` builds the programs first. `--function PATH` measures another binary, and `--no-write` stores nothing.
"""

import argparse
import importlib
import json
import pathlib
import sys
import time

import certificates
import files
import paths
import results
import tables

PARTS = ["scan", "folder", "s3", "delivery", "batches", "ledger", "memory"]


def main():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="?", default=",".join(PARTS), help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--function", type=pathlib.Path, help="the release binary; target/release/billing-watch-function if not given")
    parser.add_argument("--no-write", action="store_true", help="print the figures and store nothing")
    parser.add_argument("--tables", action="store_true", help="only write the tables from the raw results that are stored")
    arguments = parser.parse_args()
    if arguments.tables:
        tables.write(results.load())
        return
    parts = arguments.parts.split(",")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    if arguments.function and not arguments.function.is_file():
        parser.error(f"--function {arguments.function}: no such file")
    if arguments.function:
        paths.FUNCTION = arguments.function.resolve()
    files.make_files()
    certificates.make_certificates()
    began = time.monotonic()
    for part in parts:
        measure(part, store=not arguments.no_write)
    print(f"all: {time.monotonic() - began:.0f} s", file=sys.stderr)


def measure(part, store):
    """Measures a part, prints its figures, and stores them at once, so that a later part that fails loses nothing."""
    began = time.monotonic()
    # Imported here, because a part binds the path of the function when it is imported.
    figures = importlib.import_module(f"part_{part}").measure()
    for name, value in figures.items():
        print(f"{part}.{name}: {json.dumps(value)}", flush=True)
    print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if store:
        stored = results.load()
        stored[part] = {**results.origin(), "seconds": round(time.monotonic() - began), "figures": figures}
        results.store(stored)
        tables.write(stored)


if __name__ == "__main__":
    main()
