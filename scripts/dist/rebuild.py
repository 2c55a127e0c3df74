"""Builds the checked-out commit again, in a clone in another folder, and compares the checksums, for `make dist-verify`.

The checksums to compare with are those of `make dist` in this folder, or of a release that was downloaded. Ends with
status 1 if a file differs. A file for a processor that this machine cannot build for is only named.
"""

import pathlib
import subprocess
import sys
import tempfile

import sums
from project import ROOT


def main():
    given = pathlib.Path(sys.argv[1])
    if not given.is_file():
        sys.exit(f"{given} does not exist: run `make dist` first, or name the SHA256SUMS of a release: make dist-verify SUMS=FILE")
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout:
        print("there are changes that are not committed; they are not built", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="billing-watch-") as folder:
        clone = pathlib.Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        subprocess.run(["make", "dist"], cwd=clone, check=True)
        built = sums.read(clone / "dist" / sums.NAME)
    differing, missing = [], []
    for name, checksum in sums.read(given).items():
        if built.get(name) == checksum:
            print(f"equal: {name}")
        elif name in built:
            differing.append(name)
            print(f"DIFFERS: {name}: {built[name]} was built, {checksum} is in {given}")
        else:
            missing.append(name)
            print(f"not built here: {name}")
    if differing or len(missing) == len(sums.read(given)):
        sys.exit(f"{given} is not what this commit gives")
    print(f"{given} is what this commit gives" + (", as far as this machine can build it" if missing else ""))


if __name__ == "__main__":
    main()
