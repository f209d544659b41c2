"""One engine's forward passes of the SD 1.5 UNet, timed: python engine.py ENGINE DTYPE BATCH PASSES

Random weights, a 64x64 latent, 77 tokens of context. Prints one JSON line: seconds of each pass after a first one that is
not counted, and the peak memory of the process.
"""

import json
import os
import resource
import sys
import time

import torch
from diffusers import UNet2DConditionModel

THREADS = int(os.environ.get("THREADS", "2"))
SD15 = dict(
    sample_size=64,
    block_out_channels=(320, 640, 1280, 1280),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=768,
    attention_head_dim=8,
)
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def eager(unet, inputs):
    return lambda: unet(*inputs).sample


def channels_last(unet, inputs):
    return eager(unet.to(memory_format=torch.channels_last), inputs)


def compiled(unet, inputs):
    return eager(torch.compile(unet.to(memory_format=torch.channels_last)), inputs)


def openvino(unet, inputs):
    import openvino as ov

    dtype = inputs[0].dtype
    model = ov.convert_model(Sample(unet.float()), example_input=tuple(t.float() for t in inputs))
    model.reshape({port: tuple(t.shape) for port, t in zip(model.inputs, inputs)})
    precision = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1}
    ready = ov.Core().compile_model(model, "CPU", settings)
    arrays = [t.float().numpy() for t in inputs]
    return lambda: ready(arrays)


class Sample(torch.nn.Module):
    """The model without its dictionary of outputs."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, timestep, context):
        return self.unet(x, timestep, context, return_dict=False)[0]


ENGINES = {"torch": eager, "torch channels last": channels_last, "torch compile": compiled, "OpenVINO": openvino}


@torch.inference_mode()
def main():
    engine, dtype, batch, passes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    unet = UNet2DConditionModel(**SD15).eval().to(DTYPES[dtype])
    inputs = [torch.randn(batch, 4, 64, 64), torch.full((batch,), 500), torch.randn(batch, 77, 768)]
    inputs = [t.to(DTYPES[dtype]) if t.is_floating_point() else t for t in inputs]
    forward = ENGINES[engine](unet, inputs)
    seconds = []
    for _ in range(passes + 1):
        start = time.perf_counter()
        forward()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"engine": engine, "dtype": dtype, "batch": batch, "seconds": seconds[1:], "peak_bytes": peak}))


if __name__ == "__main__":
    main()
