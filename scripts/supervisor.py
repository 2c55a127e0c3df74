"""Runs a command that cannot outlive the program that started it.

`supervised` starts this file as a small process between the program and the command. The supervisor leads a process
group that holds the command and everything that the command starts, and it reads a pipe whose other end only the
program holds. The pipe closes when the program is done, and also when the program dies, even by SIGKILL. The supervisor
then ends the group.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 2


@contextlib.contextmanager
def supervised(command, **options):
    """Starts the command and yields its supervisor's process. The command ends with the block, and also when this process is killed."""
    # A session of its own is also a process group of its own, and keeps the terminal's Ctrl-C away from the command.
    child = subprocess.Popen([sys.executable, __file__, *command], start_new_session=True, stdin=subprocess.PIPE, **options)
    try:
        yield child
    finally:
        child.stdin.close()
        child.wait()


def end_with_standard_input(child):
    sys.stdin.buffer.read()
    # cargo lambda puts the function into a group of its own, and ends it on SIGTERM.
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    end_group()


def end_group():
    """Kills the command, what the command started, and this process."""
    os.killpg(0, signal.SIGKILL)


def main(command):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=end_with_standard_input, args=[child], daemon=True).start()
    child.wait()
    end_group()


if __name__ == "__main__":
    main(sys.argv[1:])
