"""Each operation of the SD 1.5 UNet by itself.

Rivals are torch, on the CPU in f32 candle and, for products, the gemm crate, and on a GPU cuBLASLt for linear layers and
cuDNN for convolutions. The cases are those of `noisefork bench ops`.
"""

import turns


def rivals(options):
    dtype, sizes = options.dtype, (options.batch, options.passes)
    for form in ("eager", "channels last"):
        yield turns.in_python("torch", form, "torch", dtype, "ops_torch.py", form, dtype, *sizes, cases=True)
    if dtype == "f32" and options.device == "cpu":
        yield turns.in_rust("candle", "", "candle-core", dtype, "candle_ops", *sizes, cases=True)
        yield turns.in_rust("gemm", "", "gemm", dtype, "gemm_ops", *sizes, cases=True)
    if options.device != "cpu":
        yield turns.in_gpu("cuBLASLt", "nvidia-cublas", dtype, *sizes)
        yield turns.in_gpu("cuDNN", "nvidia-cudnn", dtype, *sizes)


if __name__ == "__main__":
    turns.of_sd15(__doc__, "ops", rivals)
