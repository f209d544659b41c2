"""The SD 1.5 UNet beside torch's and OpenVINO's, in turns: python compare.py DTYPE BATCH [ROUNDS] [ENGINE ...]

DTYPE is f32 or bf16; without engines, all of engine.py's. Each round runs every engine in a process of its own, so that
memory is its own too; printed are the best passes, since other work on the machine only ever slows one down.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from engine import ENGINES, THREADS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PASSES = 3
OURS = "noisefork"


def last_line(command):
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    return json.loads(output.splitlines()[-1])


def ours(dtype, batch):
    command = [ROOT / "target/release/noisefork", "bench", "unet", "--preset", "sd15", "--format", "jsonl"]
    options = ["--dtype", dtype, "--batch", str(batch), "--threads", str(THREADS), "--iterations", str(PASSES)]
    record = last_line([*command, *options])
    return min(record["seconds"]), record["peak_bytes"]


def theirs(engine, dtype, batch):
    record = last_line([sys.executable, HERE / "engine.py", engine, dtype, str(batch), str(PASSES)])
    return min(record["seconds"]), record["peak_bytes"]


def main():
    dtype, batch, rounds = sys.argv[1], int(sys.argv[2]), int((sys.argv[3:] or ["1"])[0])
    engines = sys.argv[4:] or list(ENGINES)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    best = {}
    for _ in range(rounds):
        for name in [OURS, *engines]:
            run = ours(dtype, batch) if name == OURS else theirs(name, dtype, batch)
            best[name] = min(run, best.get(name, run))
    print(f"SD 1.5, 64x64, batch {batch}, {dtype}, {THREADS} threads, best of {rounds} rounds of {PASSES} passes")
    for name, (seconds, peak) in best.items():
        print(f"{name:20} {seconds:7.2f} s  {seconds / best[OURS][0]:5.2f} x  peak {peak / 1e9:4.1f} GB")


if __name__ == "__main__":
    os.environ["THREADS"] = str(THREADS)
    main()
