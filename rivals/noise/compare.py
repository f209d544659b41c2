"""Noise beside torch's and torchsde's, in turns: python compare.py [THREADS] [ROUNDS]

Each round runs the crate's own benchmark and then the reference on the same sizes; printed are the best of the rounds,
since other work on the machine only ever slows either down.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
import torchsde

ROOT = Path(__file__).parents[2]
SHAPES = {"1x4x64x64": (1, 4, 64, 64), "16x4x128x128": (16, 4, 128, 128)}
LOWEST, HIGHEST, STEPS, RHO = 0.0291675, 14.614642, 20, 7


def levels():
    low, high = LOWEST ** (1 / RHO), HIGHEST ** (1 / RHO)
    return [(high + i / (STEPS - 1) * (low - high)) ** RHO for i in range(STEPS)]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def reference_randn(shape):
    generator = torch.Generator().manual_seed(1)
    return min(seconds(lambda: torch.randn(shape, generator=generator)) for _ in range(20))


def reference_brownian(shape):
    """The mean over the steps of a schedule, on a fresh tree as a sampler has it."""
    sigmas = [torch.tensor(sigma) for sigma in levels()]
    tree = torchsde.BrownianTree(sigmas[-1], torch.zeros(shape), sigmas[0], entropy=1)
    steps = list(zip(sigmas, sigmas[1:]))
    return sum(seconds(lambda: tree(after, before)) for before, after in steps) / len(steps)


def ours(group, shape, threads):
    """The median of criterion's samples."""
    subprocess.run(
        ["cargo", "bench", "--quiet", "--bench", "noise", "--", f"{group}/torch cpu/{shape}", "--measurement-time", "2"],
        cwd=ROOT,
        env=os.environ | {"RAYON_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    results = ROOT / "target/criterion" / group / "torch cpu" / shape / "new/estimates.json"
    return json.loads(results.read_text())["median"]["point_estimate"] * 1e-9


def main():
    threads, rounds = (int(value) for value in (sys.argv[1:] + ["2", "3"][len(sys.argv) - 1 :])[:2])
    torch.set_num_threads(threads)
    # torchsde clamps levels that an f32 has moved past the ends of the path, and says so each time.
    warnings.simplefilter("ignore")
    print(f"{threads} threads, torch {torch.__version__}, best of {rounds} rounds")
    for group, reference in [("randn", reference_randn), ("brownian step", reference_brownian)]:
        for name, shape in SHAPES.items():
            pairs = [(ours(group, name, threads), reference(shape)) for _ in range(rounds)]
            mine, theirs = (min(times) for times in zip(*pairs))
            print(f"{group:14} {name:13} {mine * 1e6:10.1f} us  reference {theirs * 1e6:10.1f} us  {theirs / mine:5.1f} x")


if __name__ == "__main__":
    main()
