"""docs/performance.md shows what `make bench` measured."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/bench"))

import paths
import tables


def test_the_tables_are_those_of_the_raw_results():
    page = paths.PAGE.read_text()
    results = json.loads(paths.RESULTS.read_text())
    assert tables.rendered(page, results) == page, "a table differs from docs/performance.json: run `make bench`, or `scripts/bench --tables`"


def test_every_part_was_measured():
    results = json.loads(paths.RESULTS.read_text())
    assert sorted(results) == ["batches", "delivery", "folder", "ledger", "memory", "s3", "scan"]
