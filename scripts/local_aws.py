"""Free ports and moto, for every program here that needs an AWS on this machine.

This module imports the standard library only, because LocalStack's virtual environment has neither boto3 of our version nor moto.
"""

import contextlib
import pathlib
import socket
import subprocess
import sys

MOTO_PEER = pathlib.Path(__file__).with_name("moto_peer.py")


def free_port():
    """Returns a TCP port on which nothing listens on the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def moto():
    """Starts moto and yields its address. moto ends with the block, and also when this process is killed."""
    # In a session of its own moto does not receive the terminal's Ctrl-C, which this process handles.
    child = subprocess.Popen([sys.executable, MOTO_PEER], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = child.stdout.readline().strip()
        if not address:
            sys.exit("moto did not start; see its output above")
        yield address
    finally:
        child.kill()
        child.wait()
