"""Instructions and allocations of a function, counted by valgrind.

A count is the difference of two runs, so that the start and the end of the process cancel out. See `settled` for what makes a run repeatable.
"""

import functools
import pathlib
import re
import statistics
import subprocess
import time

from function import Function
from paths import WORK

CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
DHAT = ["valgrind", "--tool=dhat", "--dhat-out-file=/dev/null"]
# Without randomized addresses, allocations and hash tables lie at the same places in every run.
FIXED_ADDRESSES = ["setarch", "-R"]
# A client may still work for a moment after its request for the next event has left.
SETTLE_SECONDS = 0.2
# Under valgrind a function needs a few milliseconds from its request until it waits for the answer.
PAUSE_MS = 15


def settled(tool, command, events, variables):
    """Runs the function under valgrind, sends it the events with their counts, and returns valgrind's report.

    What would differ from run to run is fixed: addresses, random bytes, the clock (fixed_inputs.c), and by the pauses also whether an answer
    arrives before the function waits for it. Each run ends when the function has asked for the next event.
    """
    function = Function([*FIXED_ADDRESSES, *tool, *command], {"LD_PRELOAD": str(fixed_inputs()), **(variables or {})}, PAUSE_MS, PAUSE_MS)
    for event, count in events:
        function.invoke(event, count)
    time.sleep(SETTLE_SECONDS)
    return function.stop()


@functools.cache
def fixed_inputs():
    """Compiles fixed_inputs.c with the C compiler that the build needs anyway."""
    library = WORK / "fixed_inputs.so"
    source = pathlib.Path(__file__).with_name("fixed_inputs.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def instructions(command, events=(), variables=None):
    """Returns the instructions from the start of the process until all events are handled."""
    return int(re.search(r"Collected : (\d+)", settled(CALLGRIND, command, events, variables))[1])


def allocations(command, events, variables=None):
    """Returns how many blocks were allocated until all events are handled."""
    return int(re.search(r"Total: +[\d,]+ bytes in ([\d,]+) blocks", settled(DHAT, command, events, variables))[1].replace(",", ""))


def core_instructions(program, case, file):
    """Returns the instructions of one scan of `file`, without sockets: of two scans less those of one."""
    one, two = (int(re.search(r"Collected : (\d+)", subprocess.run(
        [*FIXED_ADDRESSES, *CALLGRIND, program, case, file, str(scans)], env={"PATH": "/usr/bin:/bin"}, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True,
    ).stderr)[1]) for scans in (1, 2))
    return two - one


def repeated(count, times=3):
    """Returns the values of several runs of `count`, and their median."""
    values = [count() for _ in range(times)]
    return values, statistics.median(values)
