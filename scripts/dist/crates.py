"""The crates that are linked into a program, and the notices that their licences demand."""

import dataclasses
import json
import pathlib
import subprocess
import tomllib

from project import ROOT

TEXT_NAMES = ("licen", "copying", "copyright", "notice", "unlicense")
RULE = "-" * 100 + "\n"


@dataclasses.dataclass(frozen=True, order=True)
class Crate:
    """A package that is linked into a program."""

    name: str
    version: str
    licence: str  # an SPDX expression
    folder: pathlib.Path
    checksum: str | None  # SHA-256 of the package; None for billing-watch itself


def linked(target, features=()):
    """Returns the crates that are linked into the program of some features for a target: `{crate: crates that it depends on}`."""
    command = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "depth", "--format", "|{p}|", *(f"--features={feature}" for feature in features)]
    packages = {(package["name"], package["version"]): package for package in metadata()["packages"]}
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    graph, ancestors = {}, []
    for line in run(*command).splitlines():
        depth, described = line.split("|")[:2]
        name, version = described.split()[0], described.split()[1].removeprefix("v")
        package = packages[name, version]
        # Older crates write a slash instead of OR.
        licence = (package["license"] or "").replace("/", " OR ") or "NOASSERTION"
        crate = Crate(name, version, licence, pathlib.Path(package["manifest_path"]).parent, checksums[name, version])
        ancestors[int(depth):] = [crate]
        graph.setdefault(crate, set())
        if len(ancestors) > 1:
            graph[ancestors[-2]].add(crate)
    return graph


def notices(graph):
    """Returns the licences and notices of the linked crates. Each text appears once, after the crates that it belongs to."""
    owners = {}
    without_text = []
    for crate in sorted(graph):
        texts = [path for path in sorted(crate.folder.iterdir()) if path.is_file() and path.name.lower().startswith(TEXT_NAMES)]
        for path in texts:
            owners.setdefault(path.read_text(errors="replace").strip().replace("\r\n", "\n"), []).append(f"{crate.name} {crate.version}")
        if not texts:
            without_text.append(f"{crate.name} {crate.version}: {crate.licence}\n")
    parts = ["This program contains the following crates, and Rust's standard library (https://github.com/rust-lang/rust, MIT OR Apache-2.0).\n\n"]
    parts += [f"{crate.name} {crate.version}: {crate.licence}\n" for crate in sorted(graph)]
    parts += ["\nThe packages of these crates hold no licence text:\n\n", *without_text] if without_text else []
    parts += [f"\n{RULE}{', '.join(dict.fromkeys(names))}\n{RULE}\n{text}\n" for text, names in owners.items()]
    return "".join(parts)


def metadata():
    return json.loads(run("cargo", "metadata", "--locked", "--all-features", "--format-version", "1"))


def run(*command):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
