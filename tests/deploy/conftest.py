"""Peers that the tests of the template talk to, all of them on loopback, and stacks deployed there."""

import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from deployed import Deployed
from stack import ROOT, LocalStack


@pytest.fixture(scope="session")
def localstack(tmp_path_factory):
    peer = LocalStack(tmp_path_factory.mktemp("localstack"))
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def moto():
    """Where moto is."""
    child = subprocess.Popen([ROOT / ".venv/bin/python", ROOT / "scripts/moto_peer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield child.stdout.readline().strip()
    child.stdin.close()
    child.wait(10)


@pytest.fixture(scope="session")
def deployed(localstack):
    """Gives the stack of a trigger, deployed when it is first asked for."""
    stacks = {}

    def get(trigger):
        if trigger not in stacks:
            stacks[trigger] = Deployed(localstack, trigger)
        return stacks[trigger]

    return get
