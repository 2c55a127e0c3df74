"""Runs a command that cannot outlive the program that started it.

`supervised` starts this file as a small process between the program and the command. The supervisor leads a process
group that holds the command and everything that the command starts, and it reads a pipe whose other end only the
program holds. The pipe closes when the program is done, and also when the program dies, even by SIGKILL. The supervisor
then ends the group.

`run_supervised` does the same, waits for the command's end and returns its exit status.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 2


@contextlib.contextmanager
def supervised(command, status_file=None, **options):
    """Starts the command and yields its supervisor's process. The command ends with the block, and also when this process is killed.

    The supervisor writes the command's exit status to the file descriptor `status_file`, if it is given.
    """
    # A session of its own is also a process group of its own, and keeps the terminal's Ctrl-C away from the command.
    child = subprocess.Popen(
        [sys.executable, __file__, str(status_file or ""), *command], start_new_session=True, stdin=subprocess.PIPE,
        pass_fds=[status_file] if status_file else [], **options,
    )
    try:
        yield child
    finally:
        child.stdin.close()
        child.wait()


def run_supervised(command, **options):
    """Runs the command to its end and returns its exit status, or `None` if it did not start. It ends, too, when this process is killed."""
    # The supervisor kills itself together with the group, so its own exit status says nothing about the command.
    reader, writer = os.pipe()
    with supervised(command, status_file=writer, **options), open(reader) as statuses:
        os.close(writer)
        status = statuses.read()
    return int(status) if status else None


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


def main(status_file, command):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=end_with_standard_input, args=[child], daemon=True).start()
    status = child.wait()
    if status_file:
        # The program that would read it may be gone.
        with contextlib.suppress(BrokenPipeError):
            os.write(int(status_file), str(status).encode())
    end_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
