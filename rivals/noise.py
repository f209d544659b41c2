"""Noise beside torch's and torchsde's: the same values from the same seeds."""

import turns


def main():
    options = turns.parser(__doc__).parse_args()
    turns.build()
    own = turns.Engine("noisefork", "", turns.own_version(), "f32", turns.python("noise_criterion.py"))
    rival = turns.in_python("torch", "", "torch", "f32", "noise_torch.py", options.passes)
    turns.take(own, [rival], options)


if __name__ == "__main__":
    main()
