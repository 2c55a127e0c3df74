"""Peers that the tests of the template talk to, all of them on loopback, and stacks deployed there."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from deployed import Deployed
from stack import LocalStack


@pytest.fixture(scope="session")
def localstack(tmp_path_factory):
    peer = LocalStack(tmp_path_factory.mktemp("localstack"))
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def deployed(localstack):
    """Gives the stack of a trigger, deployed when it is first asked for."""
    stacks = {}

    def get(trigger):
        if trigger not in stacks:
            stacks[trigger] = Deployed(localstack, trigger)
        return stacks[trigger]

    return get
