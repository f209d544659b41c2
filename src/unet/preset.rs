use std::fmt;
use std::str::FromStr;

use super::config::{Addition, Config, Level};
use crate::error::{Error, Result};
use crate::nn::Timesteps;

/// A published model whose sizes are known by its name, to build without a file: with [`Weights::synthetic`] for
/// measurements, or to compare a file with.
///
/// [`Weights::synthetic`]: crate::nn::Weights::synthetic
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Stable Diffusion 1.x: 859,520,964 parameters.
    Sd15,
    /// Stable Diffusion 1.x for inpainting, which also sees a mask and the masked picture.
    Sd15Inpaint,
    /// Stable Diffusion 2.x: 865,910,724 parameters.
    Sd21,
    /// Stable Diffusion XL: 2,567,463,684 parameters.
    Sdxl,
    /// The refiner of Stable Diffusion XL: 2,259,526,660 parameters.
    SdxlRefiner,
}

/// A level's channels, the depth of its transformers, and whether it has any besides the middle block's.
type Sizes = (usize, usize, bool);

impl Preset {
    /// Every preset.
    pub const ALL: [Preset; 5] =
        [Preset::Sd15, Preset::Sd15Inpaint, Preset::Sd21, Preset::Sdxl, Preset::SdxlRefiner];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Sd15 => "sd15",
            Preset::Sd15Inpaint => "sd15-inpaint",
            Preset::Sd21 => "sd21",
            Preset::Sdxl => "sdxl",
            Preset::SdxlRefiner => "sdxl-refiner",
        }
    }

    /// The model's configuration.
    pub fn config(self) -> Config {
        const SD: [Sizes; 4] = [(320, 1, true), (640, 1, true), (1280, 1, true), (1280, 1, false)];
        const SDXL: [Sizes; 3] = [(320, 1, false), (640, 2, true), (1280, 10, true)];
        const REFINER: [Sizes; 4] = [(384, 1, false), (768, 4, true), (1536, 4, true), (1536, 4, false)];
        match self {
            Preset::Sd15 => first_generation(4, &SD),
            Preset::Sd15Inpaint => first_generation(9, &SD),
            Preset::Sd21 => later_generation(&SD, 1024, None),
            Preset::Sdxl => later_generation(&SDXL, 2048, Some(2816)),
            Preset::SdxlRefiner => later_generation(&REFINER, 1280, Some(2560)),
        }
    }
}

/// Eight heads everywhere, and projections as convolutions.
fn first_generation(in_channels: usize, sizes: &[Sizes]) -> Config {
    let base = later_generation(sizes, 768, None);
    let levels = base.levels.into_iter().map(|level| Level { heads: 8, ..level }).collect();
    Config { in_channels, levels, use_linear_projection: false, ..base }
}

/// Heads of 64 channels, and projections as linear layers.
fn later_generation(sizes: &[Sizes], cross_attention_dim: usize, addition: Option<usize>) -> Config {
    let level = |&(channels, transformer_layers, attention): &Sizes| Level {
        channels,
        layers: 2,
        heads: channels / 64,
        transformer_layers,
        down_attention: attention,
        up_attention: attention,
    };
    let timesteps = |channels| Timesteps { channels, flip_sin_to_cos: true, freq_shift: 0.0 };
    Config {
        in_channels: 4,
        out_channels: 4,
        levels: sizes.iter().map(level).collect(),
        cross_attention_dim,
        use_linear_projection: true,
        norm_num_groups: 32,
        norm_eps: 1e-5,
        time_proj: timesteps(sizes[0].0),
        addition: addition.map(|inputs| Addition { add_time_proj: timesteps(256), inputs }),
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| Error::unknown_name("model preset", name, Self::ALL.map(Preset::name)))
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
