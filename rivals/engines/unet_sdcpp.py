"""The SD 1.5 UNet of stable-diffusion.cpp as steps of a run: python unet_sdcpp.py TYPE PASSES [OPTION ...]

TYPE is what the weights, random ones, are kept in: f32, f16 or bf16. An OPTION is one that StableDiffusion has, which
is switched on, such as diffusion_flash_attn. There are no batches: of two pictures one is computed after the other.
"""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import measure
import sd15

FOLDER = Path(__file__).parents[2] / "target/rivals/sd15"
MODEL, AUTOENCODER = FOLDER / "model.safetensors", FOLDER / "autoencoder_tiny.safetensors"


def write_weights():
    """A UNet with diffusers' names, and what a run wants beside it: a text encoder, a tiny autoencoder."""
    import torch
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from safetensors.torch import save_file

    def halves(tensors, prefix=""):
        return {prefix + name: tensor.half().contiguous() for name, tensor in tensors.items()}

    torch.manual_seed(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(halves(AutoencoderTiny().state_dict()), AUTOENCODER)
    unet = halves(UNet2DConditionModel(**sd15.UNET).state_dict(), "unet.")
    save_file(unet | halves(text_encoder(), "te."), MODEL)


def text_encoder():
    """Random weights under the names that transformers has for CLIP's text model of ViT-L/14."""
    import torch

    width, layers, words = 768, 12, 49408
    tensors = {
        "embeddings.token_embedding.weight": torch.randn(words, width) * 0.02,
        "embeddings.position_embedding.weight": torch.randn(sd15.TOKENS, width) * 0.02,
    }

    def linear(name, outputs, inputs):
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs) * inputs**-0.5
        tensors[f"{name}.bias"] = torch.zeros(outputs)

    def norm(name):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(width), torch.zeros(width)

    for layer in (f"encoder.layers.{i}" for i in range(layers)):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{layer}.self_attn.{projection}", width, width)
        linear(f"{layer}.mlp.fc1", 4 * width, width)
        linear(f"{layer}.mlp.fc2", width, 4 * width)
        norm(f"{layer}.layer_norm1")
        norm(f"{layer}.layer_norm2")
    norm("final_layer_norm")
    return {f"text_model.{name}": tensor for name, tensor in tensors.items()}


def main():
    kind, passes, *options = sys.argv[1:]
    if not MODEL.exists():
        # By another process, whose memory does not count as this one's.
        subprocess.run([sys.executable, __file__, "write"], check=True)

    from stable_diffusion_cpp import StableDiffusion

    files = {"model_path": str(MODEL), "taesd_path": str(AUTOENCODER)}
    threads = int(os.environ["OMP_NUM_THREADS"])
    switched_on = dict.fromkeys(options, True)
    model = StableDiffusion(
        **files, **switched_on, n_threads=threads, wtype=kind, vae_decode_only=True, verbose=False
    )
    marks = []
    model.generate_image(
        prompt="a",
        width=8 * sd15.SIDE,
        height=8 * sd15.SIDE,
        cfg_scale=1.0,
        sample_method="euler",
        sample_steps=int(passes) + 1,
        # Called before the first step and after each.
        progress_callback=lambda *_: marks.append(time.perf_counter()),
    )
    steps = [after - before for before, after in pairwise(marks)]
    measure.report(sd15.WHAT, 1, steps[1:])


if __name__ == "__main__":
    write_weights() if sys.argv[1] == "write" else main()
