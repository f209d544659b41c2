"""The SD 1.5 UNet of diffusers, random weights: python unet_torch.py FORM DTYPE BATCH PASSES

FORM is one of FORMS below: eager, channels last, compiled, or OpenVINO, which is given the same model.
"""

import os
import sys

import torch
from diffusers import UNet2DConditionModel

import measure
import sd15


def eager(unet, dtype, inputs):
    return lambda: unet(*inputs).sample


def channels_last(unet, dtype, inputs):
    return eager(unet.to(memory_format=torch.channels_last), dtype, inputs)


def compiled(unet, dtype, inputs):
    # Weights become constants, which the compiler packs: what torch advises for inference on CPUs.
    torch._inductor.config.freezing = True
    return eager(torch.compile(unet.to(memory_format=torch.channels_last)), dtype, inputs)


def openvino(unet, dtype, inputs):
    import openvino as ov

    model = ov.convert_model(Sample(unet), example_input=tuple(inputs))
    model.reshape({port: tuple(t.shape) for port, t in zip(model.inputs, inputs)})
    threads = int(os.environ["OMP_NUM_THREADS"])
    settings = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    ready = ov.Core().compile_model(model, "CPU", settings)
    arrays = [t.numpy() for t in inputs]
    return lambda: ready(arrays)


class Sample(torch.nn.Module):
    """The model without its dictionary of outputs."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, timestep, context):
        return self.unet(x, timestep, context, return_dict=False)[0]


FORMS = {"eager": eager, "channels last": channels_last, "compiled": compiled, "OpenVINO": openvino}


@torch.inference_mode()
def main():
    form, dtype, batch, passes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    # OpenVINO takes a model in f32 and is told what to compute in.
    measure.set_up(torch, "f32" if form == "OpenVINO" else dtype)
    unet = UNet2DConditionModel(**sd15.UNET).eval()
    x = torch.randn(batch, sd15.CHANNELS, sd15.SIDE, sd15.SIDE)
    context = torch.randn(batch, sd15.TOKENS, sd15.CONTEXT)
    forward = FORMS[form](unet, dtype, [x, torch.full((batch,), 500), context])
    measure.passes(sd15.WHAT, batch, passes, forward)


if __name__ == "__main__":
    main()
