"""Compares the instructions of two versions: `compare.py BASE` builds the commit BASE and the work tree, and runs both under callgrind.

Prints each count that differs by more than 1%, with the three values of both versions. Ends with status 1 if one has become larger by more
than 1%. The versions are built in target/bench/compare, with a target directory that they share and that the next comparison uses again.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile

import certificates
import files
from counts import core_instructions, instructions, repeated
from files import RULES
from function import notification
from paths import FILES, ROOT, WORK

COMPARED = WORK / "compare"
TOLERANCE = 0.01
# Counts the scan without sockets. It is compiled with the library of either version.
PROGRAM = "src/bin/compared-counts"
SMALL, ONE, CLEAN, FIRST = (notification(name) for name in ("small", "one", "1mb", "1mbfirst"))
FEW, MANY = 5, 25
ALERTS = [(notification(f"alert{number}"), 1) for number in range(20)]
CORE = {"scan of a small file": ("one", "small"), "scan of a clean file of 1 MB": ("one", "1mb"),
        "scan of a clean file of 1 MB, 60 rules on busy sources": ("busy", "1mb"), "scan of a file of 1 MB whose first record matches": ("one", "1mbfirst")}


def main():
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="the commit to compare with")
    base = parser.parse_args().base
    files.make_files()
    certificates.make_certificates()
    programs = {name: build(name, content) for name, content in (("base", committed(base)), ("work", tracked()))}
    counts = {name: count(*built) for name, built in programs.items()}
    sys.exit(1 if report(counts["base"], counts["work"]) else 0)


def committed(commit):
    """Returns the files of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        sys.exit(f"BASE={commit}: {archive.stderr.decode().strip()}; name a commit of this repository")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def tracked():
    """Returns the files of the work tree that git knows, as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    return {name: (ROOT / name).read_bytes() for name in names if name and (ROOT / name).is_file()}


def build(name, content):
    """Builds a version. Returns its function and its counting program; `None` for a program that its library is too old for.

    Both versions are built in the same way: a build with the dev-dependencies would give the libraries other features.
    """
    folder, target = COMPARED / name, COMPARED / "target"
    counting = {f"{PROGRAM}/{file}": (ROOT / "benches" / source).read_bytes()
                for file, source in (("main.rs", "counts.rs"), ("support.rs", "support.rs"), ("busy-pairs.tsv", "busy-pairs.tsv"))}
    update(folder, {**content, **counting})
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    programs = []
    for program in ("billing-watch-function", "compared-counts"):
        command = ["cargo", "build", "--quiet", "--locked", "--release", "--bin", program]
        done = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        # The other version's program replaces this one. Both names have the same length, which a process can notice.
        kept = COMPARED / f"{program}-{name}"
        if done.returncode == 0:
            shutil.copy(target / "release" / program, kept)
        elif not programs:
            sys.exit(f"{name} does not build: {done.stderr}")
        programs.append(kept if done.returncode == 0 else None)
    if not programs[1]:
        print(f"{name}: the library has another interface, so its scan is counted in the function only", file=sys.stderr)
    return programs


def update(folder, content):
    """Makes a folder hold exactly these files. An unchanged file keeps its time, so that cargo compiles only what differs."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in content:
            path.unlink()
    for name, data in content.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def count(function, program):
    """Returns three values of each count, by its name."""
    counts = {name: repeated(lambda: core_instructions(program, pack, FILES / f"{file}.json.gz"))[0]
              for name, (pack, file) in CORE.items()} if program else {}

    def run(*events, rules=False):
        values, _ = repeated(lambda: instructions([function], events, {"RULES_URI": str(RULES)} if rules else None))
        return values

    def difference(more, less, divisor=1):
        return [(a - b) // divisor for a, b in zip(more, less)]

    start, small = run(), run((SMALL, 1))
    counts |= {
        "start": start,
        "first invocation": difference(small, start),
        "later delivery, clean": difference(run((SMALL, MANY)), run((SMALL, FEW)), MANY - FEW),
        "first alert": difference(run((SMALL, 1), (ONE, 1)), small),
        "later delivery, one alert": difference(run((ONE, 1), *ALERTS), run((ONE, 1), *ALERTS[:2]), len(ALERTS) - 2),
        "clean file of 1 MB": difference(run((SMALL, 1), (CLEAN, 5)), run((SMALL, 1), (CLEAN, 1)), 4),
        "clean file of 1 MB, 60 rules on busy sources": difference(run((SMALL, 1), (CLEAN, 5), rules=True), run((SMALL, 1), (CLEAN, 1), rules=True), 4),
        "file of 1 MB whose first record matches": difference(run((ONE, 1), (FIRST, 5)), run((ONE, 1), (FIRST, 1)), 4),
    }
    return counts


def report(base, work):
    """Prints what changed, and the spread of each count. Returns the names of what has become slower."""
    slower = []
    print(f"{'count':56}{'base':>14}{'work':>14}   change   spread of three runs")
    for name in [name for name in work if name in base]:
        before, after = (sorted(values)[1] for values in (base[name], work[name]))
        change = after / before - 1
        spread = max((max(values) - min(values)) / max(values) for values in (base[name], work[name]))
        mark = "" if abs(change) <= TOLERANCE else "  slower" if change > 0 else "  faster"
        print(f"{name:56}{before:14,}{after:14,}  {change:+8.2%}   {spread * 1000:.2f} per mille{mark}")
        if mark:
            print(f"    base {base[name]}\n    work {work[name]}")
        if change > TOLERANCE:
            slower.append(name)
    print(f"slower by more than 1%: {', '.join(slower) or 'nothing'}")
    return slower


if __name__ == "__main__":
    main()
