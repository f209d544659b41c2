"""What torch itself errs by in f16 and bf16 on every UNet case: python half_errors.py > half_errors.json

Relative L2 against the golden tensors; a list for each model and type, in the order of the cases. Wants torch 2.15.0,
diffusers 0.42.1, safetensors.
"""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open

TYPES = {"f16": torch.float16, "bf16": torch.bfloat16}


def load(folder, dtype):
    unet = UNet2DConditionModel.from_config(json.loads((folder / "config.json").read_text())).eval()
    with safe_open(folder / "diffusion_pytorch_model.safetensors", "pt") as weights:
        unet.load_state_dict({name: weights.get_tensor(name).float() for name in weights.keys()})
    return unet.to(dtype)


@torch.inference_mode()
def errors(folder, dtype):
    unet = load(folder, dtype)
    with safe_open(folder / "reference.safetensors", "pt") as golden:
        for case in range(len(json.loads(golden.metadata()["cases"]))):
            tensors = {n.split("/")[1]: golden.get_tensor(n) for n in golden.keys() if n.startswith(f"{case}/")}
            added = {name: tensors[name].to(dtype) for name in ("text_embeds", "time_ids") if name in tensors}
            x, context = tensors["x"].to(dtype), tensors["context"].to(dtype)
            got = unet(x, tensors["timesteps"], context, added_cond_kwargs=added).sample.double()
            want = tensors["out"].double()
            yield float(f"{(got - want).norm() / want.norm():.3e}")


models = sorted(Path(__file__).parent.glob("unet_*"))
table = {m.name: {name: list(errors(m, dtype)) for name, dtype in TYPES.items()} for m in models}
print(json.dumps(table, indent=2))
