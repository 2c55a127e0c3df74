"""Runs `sigma check` with the ATT&CK data of src/alert/attack.json instead of a download.

usage: the options and arguments of `sigma check`. The file holds the tactics, and the techniques that the rules name. Add a
technique to it before a rule names it.
"""

import pathlib
import sys
import tempfile

from sigma.cli.check import check
from sigma.data import mitre_attack

DATA = pathlib.Path(__file__).resolve().parents[1] / "src/alert/attack.json"

if __name__ == "__main__":
    # The cache of the user may hold other data.
    with tempfile.TemporaryDirectory() as cache:
        mitre_attack.set_cache_dir(cache)
        mitre_attack.set_url(str(DATA))
        check(sys.argv[1:])
