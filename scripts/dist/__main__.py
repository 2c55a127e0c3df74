"""Builds what a release consists of, into one folder, for `make dist`.

The folder holds the function and the command line, each as a zip for each processor that this machine can build
for, with its software bill of materials; templates that need no build; and SHA256SUMS. The same commit gives the same bytes in every folder
and on every machine with x86_64 and Linux: compiler, C compiler and tools are pinned, and neither paths nor times
get into the files.
"""

import argparse
import datetime
import pathlib
import shutil
import subprocess
import sys

import archive
import bom
import build
import crates
import sums
import templates
from project import ROOT, VERSION

# What somebody who has only unpacked the command line needs to try it.
BESIDE_COMMAND_LINE = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("examples/logs/*.json"))]
# Files that a release holds as they are.
COPIED = ["LICENSE", "samconfig.toml", "template-chat.yaml", "template-log-account.yaml", "template-member-account.yaml", "scripts/connect.py", "scripts/verify.py", "scripts/verify_paths.py", "examples/terraform/main.tf"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "dist", help="the folder; it is emptied first (default: dist)")
    parser.add_argument("--bootstrap", metavar="ARCHITECTURE=FILE", action="append", help="package this file as both programs, and build nothing")
    arguments = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in arguments.bootstrap or [])
    architectures = list(given) or build.possible_architectures()
    for architecture in build.TARGETS.keys() - set(architectures):
        print(f"not built for {architecture}: `rustup target add {build.TARGETS[architecture]}` makes it possible", file=sys.stderr)
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    for name in COPIED:
        shutil.copyfile(ROOT / name, arguments.output / pathlib.Path(name).name)
    templates.write_for_code_in_a_bucket(arguments.output)
    for architecture in architectures:
        function, command_line = (pathlib.Path(given[architecture]) if given else build.binary(architecture, options) for options in (build.FUNCTION, build.COMMAND_LINE))
        package_function(arguments.output, architecture, function)
        package_command_line(arguments.output, architecture, command_line)
    sums.write(arguments.output)


def package_function(output, architecture, bootstrap):
    """Writes the function's zip for one processor, its bill of materials, and the template that names it."""
    name = f"billing-watch-{VERSION}-{architecture}"
    package(output / f"{name}.zip", crates.linked(build.TARGETS[architecture]), {"bootstrap": (bootstrap.read_bytes(), 0o755)})
    templates.write_for_zip(output, architecture, f"{name}.zip")


def package_command_line(output, architecture, program):
    """Writes the zip of the command line for one processor, with what is needed to try it, and its bill of materials."""
    linked = crates.linked(build.TARGETS[architecture], ["cli"])
    members = {name: ((ROOT / name).read_bytes(), 0o644) for name in BESIDE_COMMAND_LINE}
    package(output / f"billing-watch-cli-{VERSION}-{architecture}.zip", linked, members | {"billing-watch": (program.read_bytes(), 0o755)})


def package(path, linked, members):
    """Writes a zip file with licence and notices, and its bill of materials."""
    texts = {"LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644), "NOTICES": (crates.notices(linked).encode(), 0o644)}
    archive.write(path, texts | members)
    path.with_suffix(".cdx.json").write_text(bom.bill_of_materials(linked, path, commit_time()))


def commit_time():
    """Returns the time of the commit; of sources without a repository, the earliest time of a zip file."""
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return datetime.datetime.fromtimestamp(int(done.stdout), datetime.UTC) if done.returncode == 0 else archive.TIME


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(f"`{' '.join(map(str, failed.cmd))}` failed; its messages are above")
