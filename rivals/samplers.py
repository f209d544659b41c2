"""What a step of a sampler costs beside the model, a model whose answer is a copy.

The rival is k-diffusion. Both go along the levels of Karras et al. (2022).
"""

import turns

# All of k-diffusion's that go along given levels.
SAMPLERS = [
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
]


def main():
    parser = turns.parser(__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", type=int, default=64, help="of a latent")
    options = parser.parse_args()
    turns.build()
    batch, passes = options.batch, options.passes
    command = (
        "--samplers",
        ",".join(SAMPLERS),
        "--batch",
        batch,
        "--side",
        options.side,
        "--iterations",
        passes,
    )
    own = turns.ours("f32", "sampler", *command)
    rival = ("samplers_kdiffusion.py", batch, passes)
    rival = turns.in_python("k-diffusion", "", "k-diffusion", "f32", *rival, cases=True)
    turns.take(own, [rival], options)


if __name__ == "__main__":
    main()
