"""The SD 1.5 UNet, random weights, a 64x64 latent and 77 tokens of context.

Rivals are torch, OpenVINO, candle (f32 alone) and stable-diffusion.cpp (batch 1 alone).
"""

import turns


def rivals(dtype, batch, passes):
    for form in ("eager", "channels last", "compiled"):
        yield turns.in_python("torch", form, "torch", dtype, "unet_torch.py", form, dtype, batch, passes)
    yield turns.in_python(
        "OpenVINO", "", "openvino", dtype, "unet_torch.py", "OpenVINO", dtype, batch, passes
    )
    if dtype == "f32":
        yield turns.in_rust("candle", "", "candle-core", dtype, "candle_unet", batch, passes)
    if batch == 1:
        package, program = "stable-diffusion-cpp-python", "unet_sdcpp.py"
        yield turns.in_python("stable-diffusion.cpp", "", package, dtype, program, dtype, passes)


def main():
    parser = turns.parser(__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    options = parser.parse_args()
    turns.build(rust=True)
    dtype, batch, passes = options.dtype, options.batch, options.passes
    own = turns.ours(dtype, "unet", "--preset", "sd15", "--batch", batch, "--iterations", passes)
    turns.take(own, rivals(dtype, batch, passes), options)


if __name__ == "__main__":
    main()
