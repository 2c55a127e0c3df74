"""The file of checksums, in the format that `sha256sum --check` reads."""

import hashlib

NAME = "SHA256SUMS"


def write(folder):
    """Writes the checksums of the folder's other files."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name != NAME]
    (folder / NAME).write_text("".join(lines))


def read(path):
    """Returns the checksums in a file of `sha256sum`: `{name: checksum}`."""
    return {name: checksum for checksum, name in (line.split(maxsplit=1) for line in path.read_text().splitlines())}
