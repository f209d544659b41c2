"""Passes that are timed, and lines of JSON that turns.py reads: what rust/src/lib.rs is to programs in Rust."""

import json
import os
import re
import time
from pathlib import Path


DEVICE = os.environ.get("DEVICE", "cpu")


def passes(what, batch, count, work, parts=1):
    """Reports the seconds of one of the parts of `work`, for each pass after a first that is not counted."""
    work()
    report(what, batch, [seconds(work) / parts for _ in range(count)])


def seconds(work):
    if DEVICE != "cpu":
        return seconds_on_gpu(work)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds_on_gpu(work):
    """By events, after a copy that empties the cache and gives the host time to launch: as ours are timed."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    spare = torch.empty(2, 4 * torch.cuda.get_device_properties(DEVICE).L2_cache_size, dtype=torch.uint8)
    spare[0].copy_(spare[1])
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def set_up(torch, dtype):
    """Has torch make tensors of a type where they are wanted, and compute in that type."""
    torch.manual_seed(1)
    torch.set_default_dtype({"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype])
    torch.set_default_device(DEVICE)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def report(what, batch, seconds, **more):
    line = {"what": what, "batch": batch, "seconds": seconds, "peak_bytes": peak_bytes()} | more
    print(json.dumps(line), flush=True)


def peak_bytes():
    """The most memory that the process has had, where the system tells; of a GPU nothing."""
    if DEVICE != "cpu":
        return None
    status = Path("/proc/self/status")
    found = status.exists() and re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else None


def sizes(what):
    """All numbers of what is done, in order."""
    return [int(number) for number in re.findall(r"\d+", what.split(" ", 1)[1])]
