"""`supervised`: a command ends together with the program that started it."""

import subprocess
import sys

import pytest

from stack import ROOT

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from supervisor import supervised
with supervised(sys.argv[2:]):
    sys.stdin.read()
"""
# Like cargo lambda, it starts its child in a session of its own, and ends it on SIGTERM.
LIKE_CARGO_LAMBDA = """
import signal, subprocess, sys
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(child.kill()))
print("started", flush=True)
child.wait()
"""


@pytest.mark.parametrize("command", [
    pytest.param(["sh", "-c", "sleep 300 & echo started; wait"], id="running"),
    pytest.param(["sh", "-c", "sleep 300 & echo started"], id="already ended"),
    pytest.param(["sh", "-c", "trap '' TERM; sleep 300 & echo started; wait"], id="ignores SIGTERM"),
    pytest.param([sys.executable, "-c", LIKE_CARGO_LAMBDA], id="like cargo lambda"),
])
@pytest.mark.parametrize("is_killed", [pytest.param(True, id="killed"), pytest.param(False, id="ended")])
def test_a_supervised_command_and_its_children_end_with_the_program(command, is_killed):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, ROOT / "scripts", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert program.stdout.readline() == "started\n"
    if is_killed:
        program.kill()
    # This closes the program's standard input, which ends its block. Then it reads standard output to its end, which is not
    # reached before the program, the command and the `sleep` are all gone, because each of them holds it open.
    program.communicate(timeout=30)


RUNNER = """
import sys
sys.path.insert(0, sys.argv[1])
from supervisor import run_supervised
print("status", run_supervised(sys.argv[2:]), flush=True)
"""


def run(*command):
    return subprocess.Popen([sys.executable, "-c", RUNNER, ROOT / "scripts", *command], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("command, status", [(["true"], "status 0\n"), (["sh", "-c", "exit 7"], "status 7\n")])
def test_run_supervised_returns_the_exit_status(command, status):
    output, _ = run(*command).communicate(timeout=30)
    assert output == status


def test_a_command_under_run_supervised_ends_when_the_program_is_killed():
    program = run("sh", "-c", "sleep 300 & echo started; wait")
    assert program.stdout.readline() == "started\n"
    program.kill()
    # Standard output ends when program, command and `sleep` are gone.
    program.communicate(timeout=30)
