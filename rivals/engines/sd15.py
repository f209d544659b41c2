"""The UNet of Stable Diffusion 1.5, as diffusers describes it."""

UNET = dict(
    sample_size=64,
    block_out_channels=(320, 640, 1280, 1280),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=768,
    attention_head_dim=8,
)
TOKENS, CONTEXT = 77, 768
SIDE, CHANNELS = 64, 4
# What records call an answer of it.
WHAT = f"unet sd15 {SIDE}x{SIDE}"
