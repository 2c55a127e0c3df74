"""The size of the function, and its peak memory with the largest files."""

import json
import zlib

from function import Function, notification
from paths import FUNCTION
from results import figure

GIB = 1 << 30


def measure():
    program = FUNCTION.read_bytes()
    figures = {"binary_bytes": figure("bytes", len(program)), "deflated_bytes": figure("bytes", len(zlib.compress(program, 9)))}
    for name, file in (("clean_1gib", "1gib"), ("matching_128mib", "128mball")):
        with Function([FUNCTION], {"MAX_EXPANDED_BYTES": str(GIB)}) as function:
            cpu = function.cpu_seconds()
            report = json.loads(function.invoke(notification(file))["replies"][0][1])
            figures |= {
                f"{name}.peak_mib": figure("MiB", function.peak_bytes() / 2**20),
                f"{name}.cpu_seconds": figure("s of CPU", function.cpu_seconds() - cpu),
                f"{name}.expanded_bytes": figure("bytes", report["ExpandedBytes"]),
                f"{name}.findings": figure("findings", report["Findings"]),
                f"{name}.messages": figure("messages", report["Messages"]),
            }
    return figures
