"""Fixtures: LocalStack, moto, and stacks deployed into LocalStack. Everything listens on loopback."""

import pathlib
import sys

import pytest

for folder in ("scripts", "scripts/dist"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / folder))

import local_aws
from deployed import Deployed
from stack import LocalStack


@pytest.fixture(scope="session")
def localstack(tmp_path_factory):
    peer = LocalStack(tmp_path_factory.mktemp("localstack"))
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def moto():
    """The address of a running moto."""
    with local_aws.moto() as address:
        yield address


@pytest.fixture(scope="session")
def deployed(localstack):
    """Returns a function that returns the stack of a trigger, and deploys the stack on the first call."""
    stacks = {}

    def get(trigger):
        if trigger not in stacks:
            stacks[trigger] = Deployed(localstack, trigger)
        return stacks[trigger]

    return get
