"""Prints the section of CHANGELOG.md on a version, for the notes of its release.

usage: release_notes.py TAG. The tag is the version of Cargo.toml after a `v`.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def notes(tag, version, changelog):
    """Returns the section on the version, without its heading. Raises `ValueError` if tag, version and section do not agree."""
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but Cargo.toml has version {version}: tag v{version}, or change the version first")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    found = [section.split("\n", 1) for section in sections if section.split()[0] == version]
    if len(found) != 1:
        raise ValueError(f"CHANGELOG.md has {len(found)} sections on {version}, not one")
    [(heading, text)] = found
    if not re.fullmatch(re.escape(version) + r" - \d{4}-\d\d-\d\d", heading):
        raise ValueError(f"the heading `## {heading}` of CHANGELOG.md does not end in a date, as in `## {version} - 2026-12-31`")
    return text.strip() + "\n"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    try:
        sys.stdout.write(notes(sys.argv[1], version, (ROOT / "CHANGELOG.md").read_text()))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
