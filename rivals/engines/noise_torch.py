"""torch's CPU `randn`, and steps of torchsde's Brownian tree: python noise_torch.py PASSES

A tree's passes are whole walks along 20 levels, as a sampler's; what counts is the mean of their steps.
"""

import sys
import warnings
from functools import partial
from itertools import pairwise

import torch
import torchsde

import measure

BATCHES = {1: (4, 64, 64), 16: (4, 128, 128)}
LOWEST, HIGHEST, STEPS, RHO = 0.0291675, 14.614642, 20, 7


def levels():
    low, high = LOWEST ** (1 / RHO), HIGHEST ** (1 / RHO)
    return [torch.tensor((high + i / (STEPS - 1) * (low - high)) ** RHO) for i in range(STEPS)]


def step(shape, sigmas):
    """The mean seconds of a step along a fresh tree, which torchsde has no memory of."""
    tree = torchsde.BrownianTree(sigmas[-1], torch.zeros(shape), sigmas[0], entropy=1)
    steps = [partial(tree, after, before) for before, after in pairwise(sigmas)]
    return sum(measure.seconds(step) for step in steps) / len(steps)


def main():
    # torchsde clamps levels that an f32 has moved past the ends of the path, and says so each time.
    warnings.simplefilter("ignore")
    passes, generator, sigmas = int(sys.argv[1]), torch.Generator().manual_seed(1), levels()
    for batch, item in BATCHES.items():
        name, shape = "x".join(map(str, item)), (batch, *item)
        draw = partial(torch.randn, shape, generator=generator)
        measure.passes(f"randn {name}", batch, passes, draw)
        measure.report(f"brownian {name}", batch, [step(shape, sigmas) for _ in range(passes)])


if __name__ == "__main__":
    main()
