"""The crate's own noise as criterion measures it: python noise_criterion.py

Criterion takes samples of many calls; the seconds of a pass are a sample's mean.
"""

import json
import subprocess
from pathlib import Path

import measure

ROOT = Path(__file__).parents[2]
SHAPES = {1: "4x64x64", 16: "4x128x128"}
GROUPS = {"randn": "randn", "brownian step": "brownian"}


def main():
    command = ["cargo", "bench", "--quiet", "--bench", "noise", "--", "torch cpu", "--measurement-time", "1"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    for group, name in GROUPS.items():
        for batch, shape in SHAPES.items():
            folder = ROOT / "target/criterion" / group / "torch cpu" / f"{batch}x{shape}" / "new"
            sample = json.loads((folder / "sample.json").read_text())
            means = [
                time * 1e-9 / calls for time, calls in zip(sample["times"], sample["iters"], strict=True)
            ]
            # The memory would be that of this process, which only waits.
            measure.report(f"{name} {shape}", batch, means, peak_bytes=None)


if __name__ == "__main__":
    main()
