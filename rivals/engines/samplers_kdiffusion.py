"""What a step of k-diffusion's samplers costs beside the model: python samplers_kdiffusion.py BATCH PASSES CASE ...

A CASE is what records call it: `sampler euler, karras, 20 steps, 4x64x64`. The model's answer is a copy; a run draws its
first noise, and what a sampler draws of its own is its default. Samplers that k-diffusion has not are left out.
"""

import importlib.util
import sys
import types
import warnings

import torch

import measure

# The package's own __init__ imports all that training needs; its samplers need none of it.
package = types.ModuleType("k_diffusion")
package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
sys.modules["k_diffusion"] = package
from k_diffusion import sampling  # noqa: E402

LOWEST, HIGHEST = 0.0291675, 14.614642


def copy(x, sigma):
    return x.clone()


@torch.inference_mode()
def main():
    batch, passes, *cases = sys.argv[1:]
    torch.manual_seed(1)
    # torchsde clamps levels that an f32 has moved past the ends of the path, and says so each time.
    warnings.simplefilter("ignore")
    for what in cases:
        name = what.removeprefix("sampler ").split(",")[0]
        steps, *shape = measure.sizes(what.split(",", 1)[1])
        sampler = getattr(sampling, f"sample_{name}", None)
        if sampler is None:
            continue
        sigmas = sampling.get_sigmas_karras(steps, LOWEST, HIGHEST)

        def run(sampler=sampler, shape=shape, sigmas=sigmas):
            sampler(copy, torch.randn(int(batch), *shape) * sigmas[0], sigmas, disable=True)

        measure.passes(what, int(batch), int(passes), run, parts=steps)


if __name__ == "__main__":
    main()
