"""The SD 1.5 UNet, random weights, a 64x64 latent and 77 tokens of context.

Rivals are torch, and on the CPU OpenVINO, candle (f32 alone) and stable-diffusion.cpp (batch 1 alone).
"""

import turns


def rivals(options):
    dtype, sizes = options.dtype, (options.batch, options.passes)
    for form in ("eager", "channels last", "compiled"):
        yield turns.in_python("torch", form, "torch", dtype, "unet_torch.py", form, dtype, *sizes)
    if options.device != "cpu":
        return
    yield turns.in_python("OpenVINO", "", "openvino", dtype, "unet_torch.py", "OpenVINO", dtype, *sizes)
    if dtype == "f32":
        yield turns.in_rust("candle", "", "candle-core", dtype, "candle_unet", *sizes)
    if options.batch == 1:
        package, program = "stable-diffusion-cpp-python", "unet_sdcpp.py"
        yield turns.in_python("stable-diffusion.cpp", "", package, dtype, program, dtype, options.passes)


if __name__ == "__main__":
    turns.of_sd15(__doc__, "unet", rivals)
