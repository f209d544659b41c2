"""Each operation of the SD 1.5 UNet by itself.

Rivals are torch, and in f32 candle and, for products, the gemm crate. The cases are those of `noisefork bench ops`.
"""

import turns


def rivals(dtype, batch, passes):
    for form in ("eager", "channels last"):
        command = ("ops_torch.py", form, dtype, batch, passes)
        yield turns.in_python("torch", form, "torch", dtype, *command, cases=True)
    if dtype == "f32":
        yield turns.in_rust("candle", "", "candle-core", dtype, "candle_ops", batch, passes, cases=True)
        yield turns.in_rust("gemm", "", "gemm", dtype, "gemm_ops", batch, passes, cases=True)


def main():
    parser = turns.parser(__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    options = parser.parse_args()
    turns.build(rust=True)
    dtype, batch, passes = options.dtype, options.batch, options.passes
    own = turns.ours(dtype, "ops", "--preset", "sd15", "--batch", batch, "--iterations", passes)
    turns.take(own, rivals(dtype, batch, passes), options)


if __name__ == "__main__":
    main()
