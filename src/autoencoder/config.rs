use crate::error::Result;
use crate::nn::{Fields, expect_counts, refuse};

/// The model's name in diffusers.
const MODEL: &str = "AutoencoderTiny";

/// What a diffusers `config.json` says of an `AutoencoderTiny`, checked: the sizes agree, and each half has a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) latent_channels: usize,
    pub(super) encoder_channels: usize,
    pub(super) decoder_channels: usize,
    /// Residual blocks of each stage of the encoder, each stage after the first halving the size.
    pub(super) num_encoder_blocks: Vec<usize>,
    /// Residual blocks of each stage of the decoder, each stage after the first doubling the size.
    pub(super) num_decoder_blocks: Vec<usize>,
}

/// The fields of which only some values are implemented.
const ONLY: &[(&str, &[&str])] =
    &[("act_fn", &["\"relu\""]), ("upsample_fn", &["\"nearest\""]), ("upsampling_scaling_factor", &["2"])];

/// The fields that neither encoding nor decoding reads, in diffusers or here: copies of others, and how callers may
/// scale latents.
const IGNORED: &[&str] = &[
    "block_out_channels",
    "force_upcast",
    "latent_magnitude",
    "latent_shift",
    "scaling_factor",
    "shift_factor",
];

/// The most stages: each doubles the size, and sizes must not overflow.
const MOST_STAGES: usize = 8;

impl Config {
    /// Reads the configuration. An absent field has diffusers' default.
    ///
    /// # Errors
    /// [`Error::File`] if it is not a JSON object, [`Error::UnknownName`] for a field that is not known,
    /// [`Error::Value`] for a field's value that is not implemented or makes no sense.
    ///
    /// [`Error::File`]: crate::error::Error::File
    /// [`Error::UnknownName`]: crate::error::Error::UnknownName
    /// [`Error::Value`]: crate::error::Error::Value
    pub fn from_json(json: &str) -> Result<Self> {
        let mut fields = Fields::parse(MODEL, json)?;
        fields.only(ONLY)?;
        fields.ignore(IGNORED);
        let (encoder_channels, num_encoder_blocks) =
            stages(&mut fields, "encoder_block_out_channels", "num_encoder_blocks", [1, 3, 3, 3])?;
        let (decoder_channels, num_decoder_blocks) =
            stages(&mut fields, "decoder_block_out_channels", "num_decoder_blocks", [3, 3, 3, 1])?;
        let config = Config {
            in_channels: fields.take("in_channels", 3)?,
            out_channels: fields.take("out_channels", 3)?,
            latent_channels: fields.take("latent_channels", 4)?,
            encoder_channels,
            decoder_channels,
            num_encoder_blocks,
            num_decoder_blocks,
        };
        fields.finish()?;
        config.checked()
    }

    /// The configuration, if its sizes make sense.
    pub(super) fn checked(self) -> Result<Self> {
        let stages = [
            ("num_encoder_blocks", self.num_encoder_blocks.len()),
            ("num_decoder_blocks", self.num_decoder_blocks.len()),
        ];
        if let Some((name, stages)) =
            stages.into_iter().find(|(_, stages)| !(1..=MOST_STAGES).contains(stages))
        {
            return Err(refuse(MODEL, name, format!("1 to {MOST_STAGES} stages"), stages));
        }
        let counts = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("encoder_block_out_channels", self.encoder_channels),
            ("decoder_block_out_channels", self.decoder_channels),
        ];
        expect_counts(MODEL, counts)?;
        Ok(self)
    }

    /// Channels of an image to encode.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of a decoded image.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Channels of a latent.
    pub fn latent_channels(&self) -> usize {
        self.latent_channels
    }
}

/// The channels and the blocks of the stages of one half. diffusers builds only models of one width: a stage's first
/// convolution takes as many channels as it gives.
fn stages(
    fields: &mut Fields,
    channels: &'static str,
    blocks: &'static str,
    default: [usize; 4],
) -> Result<(usize, Vec<usize>)> {
    let widths = fields.take(channels, vec![64; 4])?;
    let blocks_of = fields.take(blocks, default.to_vec())?;
    let width = widths.first().copied().unwrap_or(0);
    if widths.len() != blocks_of.len() || widths.iter().any(|&other| other != width) {
        let expected = format!("the same number for each of {} stages", blocks_of.len());
        return Err(refuse(MODEL, channels, expected, format!("{widths:?}")));
    }
    Ok((width, blocks_of))
}
