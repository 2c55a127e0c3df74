"""Counts the records of a source in the log files of a folder, as a script in Python would: `python_scan.py FOLDER SOURCE`."""

import gzip
import json
import pathlib
import sys


def count(folder, source):
    found = 0
    for path in pathlib.Path(folder).iterdir():
        with gzip.open(path) as file:
            found += sum(record["eventSource"] == source for record in json.load(file)["Records"])
    return found


if __name__ == "__main__":
    print(count(*sys.argv[1:]))
