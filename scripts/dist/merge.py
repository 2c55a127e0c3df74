"""Merges what `make dist` has built on several machines: merge.py OUTPUT FOLDER…

A file that several of them have built must be the same in each.
"""

import pathlib
import sys

import sums


def main():
    output, *folders = map(pathlib.Path, sys.argv[1:])
    output.mkdir(parents=True)
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name == sums.NAME:
                continue
            merged = output / path.name
            if merged.exists() and merged.read_bytes() != path.read_bytes():
                sys.exit(f"{path} differs from the file of the same name that another machine has built")
            merged.write_bytes(path.read_bytes())
    sums.write(output)


if __name__ == "__main__":
    main()
