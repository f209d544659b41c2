"""Passes that are timed, and lines of JSON that turns.py reads: what rust/src/lib.rs is to programs in Rust."""

import json
import re
import time
from pathlib import Path


def passes(what, batch, count, work, parts=1):
    """Reports the seconds of one of the parts of `work`, for each pass after a first that is not counted."""
    work()
    report(what, batch, [seconds(work) / parts for _ in range(count)])


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(what, batch, seconds, **more):
    line = {"what": what, "batch": batch, "seconds": seconds, "peak_bytes": peak_bytes()} | more
    print(json.dumps(line), flush=True)


def peak_bytes():
    """The most memory that the process has had, where the system tells."""
    status = Path("/proc/self/status")
    found = status.exists() and re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else None


def sizes(what):
    """All numbers of what is done, in order."""
    return [int(number) for number in re.findall(r"\d+", what.split(" ", 1)[1])]
