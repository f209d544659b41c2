"""Single operations by torch, as diffusers' UNet has them: python ops_torch.py FORM DTYPE BATCH PASSES CASE ...

A CASE is what records call an operation on one item (`conv2d 64x64x320, 3x3 to 320, doubled`). Those that torch has no
counterpart of are left out, and of channels last all that is not a picture.
"""

import sys

import torch
from torch.nn import functional as F

import measure

FORMATS = {"eager": torch.contiguous_format, "channels last": torch.channels_last}
PICTURES = ["conv2d", "group_norm", "concat"]
GROUPS, EPS = 32, 1e-5


class Operations:
    """A method for each name: of the batch, the sizes, and the words after the commas it makes what is run."""

    def __init__(self, format):
        self.format = format

    def picture(self, *shape):
        return torch.randn(shape).contiguous(memory_format=self.format)

    def conv2d(self, n, sizes, words):
        h, w, inputs, kernel, _, outputs = sizes
        stride = 2 if "halved" in words else 1
        x, bias = self.picture(n, inputs, h, w), torch.randn(outputs)
        weight = self.picture(outputs, inputs, kernel, kernel) * (kernel * kernel * inputs) ** -0.5
        shift = torch.randn(n, outputs, 1, 1) if "shift" in words else None
        residual = self.picture(n, outputs, h, w) if "residual" in words else None

        def run():
            image = F.interpolate(x, scale_factor=2.0, mode="nearest") if "doubled" in words else x
            y = F.conv2d(image, weight, bias, stride=stride, padding=kernel // 2)
            y = y if shift is None else y + shift
            y = y if residual is None else y + residual
            return F.silu(y) if "SiLU" in words else y

        return run

    def group_norm(self, n, sizes, words):
        h, w, c = sizes
        x, gamma, beta = self.picture(n, c, h, w), torch.randn(c), torch.randn(c)
        norm = lambda: F.group_norm(x, GROUPS, gamma, beta, EPS)
        return lambda: F.silu(norm()) if "SiLU" in words else norm()

    def concat(self, n, sizes, words):
        h, w, *channels = sizes
        parts = [self.picture(n, c, h, w) for c in channels]
        return lambda: torch.cat(parts, dim=1)

    def layer_norm(self, n, sizes, words):
        c = sizes[-1]
        x, gamma, beta = torch.randn(n, *sizes), torch.randn(c), torch.randn(c)
        return lambda: F.layer_norm(x, (c,), gamma, beta, EPS)

    def linear(self, n, sizes, words):
        *tokens, inputs, outputs = sizes
        x, bias = torch.randn(n, *tokens, inputs), torch.randn(outputs)
        weight = torch.randn(outputs, inputs) * inputs**-0.5
        residual = torch.randn(n, *tokens, outputs) if "residual" in words else None

        def run():
            y = F.linear(x, weight, bias)
            y = y if residual is None else y + residual
            if "GEGLU" in words:
                value, gate = y.chunk(2, dim=-1)
                return value * F.gelu(gate)
            return F.silu(y) if "SiLU" in words else y

        return run

    def attention(self, n, sizes, words):
        queries, keys, heads, width = sizes
        q, k, v = (torch.randn(n, tokens, heads * width) for tokens in (queries, keys, keys))
        split = lambda x: x.view(n, -1, heads, width).transpose(1, 2)
        fused = F.scaled_dot_product_attention
        return lambda: fused(split(q), split(k), split(v)).transpose(1, 2).reshape(n, queries, heads * width)


@torch.inference_mode()
def main():
    form, dtype, batch, passes, *cases = sys.argv[1:]
    measure.set_up(torch, dtype)
    operations = Operations(FORMATS[form])
    for what in cases:
        name, *words = what.split(" ", 1)[0], *what.split(", ")[1:]
        if hasattr(operations, name) and (form == "eager" or name in PICTURES):
            run = getattr(operations, name)(int(batch), measure.sizes(what), words)
            measure.passes(what, int(batch), int(passes), run)


if __name__ == "__main__":
    main()
