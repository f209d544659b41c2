use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::{self, Fields, Timesteps, expect_counts};

/// The model's name in diffusers.
const MODEL: &str = "UNet2DConditionModel";

/// What a diffusers `config.json` says of a `UNet2DConditionModel`, checked: the sizes agree, and there is a level.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    /// The levels, from the finest to the coarsest; each halves the size of the one before.
    pub(super) levels: Vec<Level>,
    pub(super) cross_attention_dim: usize,
    /// Whether the file holds the transformers' projections as linear layers.
    pub(super) use_linear_projection: bool,
    /// Groups of every group normalisation.
    pub(super) norm_num_groups: usize,
    /// Epsilon of the group normalisations outside transformers.
    pub(super) norm_eps: f32,
    /// How the time is embedded.
    pub(super) time_proj: Timesteps,
    /// SDXL's second conditioning.
    pub(super) addition: Option<Addition>,
}

/// One level of a UNet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level {
    /// Channels of its blocks' outputs.
    pub(super) channels: usize,
    /// How many residual blocks on the way down; on the way up it is one more.
    pub(super) layers: usize,
    /// Heads of its attentions.
    pub(super) heads: usize,
    /// Blocks in each of its transformers; 1 if it has none.
    pub(super) transformer_layers: usize,
    /// Whether it has transformers on the way down.
    pub(super) down_attention: bool,
    /// Whether it has transformers on the way up.
    pub(super) up_attention: bool,
}

/// What SDXL (Podell et al. 2023, arXiv 2307.01952) adds to the time embedding: pooled text, and sizes as numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Addition {
    /// How each number is embedded.
    pub(super) add_time_proj: Timesteps,
    /// Width of the pooled text and all embedded numbers together.
    pub(super) inputs: usize,
}

/// A number for all levels, or one for each.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum PerLevel {
    Same(usize),
    Each(Vec<usize>),
}

/// The fields of which only some values are implemented.
const ONLY: &[(&str, &[&str])] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &["null"]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["null"]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("mid_block_only_cross_attention", &["null", "false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("num_attention_heads", &["null"]),
    ("num_class_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &["null"]),
    ("time_cond_proj_dim", &["null"]),
    ("time_embedding_act_fn", &["null"]),
    ("time_embedding_dim", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &["null"]),
];

/// The fields that change nothing here: hints, training, the precision of attention, and parts of embeddings that
/// [`ONLY`] rules out.
const IGNORED: &[&str] = &[
    "addition_embed_type_num_heads",
    "decay",
    "dropout",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "sample_size",
    "upcast_attention",
    "update_after_step",
    "use_ema_warmup",
];

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
        let levels = levels(&mut fields)?;
        let flip_sin_to_cos = fields.take("flip_sin_to_cos", true)?;
        let freq_shift = fields.take("freq_shift", 0.0)?;
        let timesteps = |channels| Timesteps { channels, flip_sin_to_cos, freq_shift };
        let config = Config {
            in_channels: fields.take("in_channels", 4)?,
            out_channels: fields.take("out_channels", 4)?,
            time_proj: timesteps(levels.first().map_or(0, |level| level.channels)),
            cross_attention_dim: fields.take("cross_attention_dim", 1280)?,
            use_linear_projection: fields.take("use_linear_projection", false)?,
            norm_num_groups: fields.take("norm_num_groups", 32)?,
            norm_eps: fields.take("norm_eps", 1e-5)?,
            addition: addition(&mut fields, timesteps)?,
            levels,
        };
        fields.finish()?;
        config.checked()
    }

    /// Channels of the input: 4, or 9 for an inpainting model.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Width of the context.
    pub fn cross_attention_dim(&self) -> usize {
        self.cross_attention_dim
    }

    /// Whether the model wants SDXL's second conditioning, [`super::Added`].
    pub fn wants_added(&self) -> bool {
        self.addition.is_some()
    }

    /// Width of the time embedding.
    pub(super) fn time_embed_dim(&self) -> usize {
        4 * self.time_proj.channels
    }

    /// The configuration, if its sizes make sense and agree.
    pub(super) fn checked(self) -> Result<Self> {
        expect_levels(self.levels.len())?;
        expect_counts(MODEL, self.counts())?;
        let groups = self.norm_num_groups;
        for level in &self.levels {
            if !level.channels.is_multiple_of(groups) {
                let expected = format!("a multiple of norm_num_groups = {groups}");
                return Err(refuse("block_out_channels", expected, level.channels));
            }
            if !level.channels.is_multiple_of(level.heads) {
                let expected = format!("a number of heads that divides {} channels", level.channels);
                return Err(refuse("attention_head_dim", expected, level.heads));
            }
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(refuse("norm_eps", "positive and finite", self.norm_eps));
        }
        expect_embeddable("block_out_channels", self.time_proj)?;
        let numbers = self.addition.as_ref().map_or(self.time_proj, |addition| addition.add_time_proj);
        expect_embeddable("addition_time_embed_dim", numbers)?;
        Ok(self)
    }

    /// Whatever is counted, under the name of the field that tells it.
    fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let single = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("cross_attention_dim", self.cross_attention_dim),
            ("norm_num_groups", self.norm_num_groups),
        ];
        let level = |level: &Level| {
            [
                ("block_out_channels", level.channels),
                ("layers_per_block", level.layers),
                ("attention_head_dim", level.heads),
                ("transformer_layers_per_block", level.transformer_layers),
            ]
        };
        let addition = |addition: &Addition| {
            [
                ("addition_time_embed_dim", addition.add_time_proj.channels),
                ("projection_class_embeddings_input_dim", addition.inputs),
            ]
        };
        let levels = self.levels.iter().flat_map(level);
        single.into_iter().chain(levels).chain(self.addition.iter().flat_map(addition))
    }
}

/// The levels, from the lists that describe them.
fn levels(fields: &mut Fields) -> Result<Vec<Level>> {
    let channels = fields.take("block_out_channels", vec![320, 640, 1280, 1280])?;
    let depth = channels.len();
    expect_levels(depth)?;
    let [cross_down, down] = ["CrossAttnDownBlock2D", "DownBlock2D"];
    let [cross_up, up] = ["CrossAttnUpBlock2D", "UpBlock2D"];
    let down_types = [cross_down, cross_down, cross_down, down];
    let up_types = [up, cross_up, cross_up, cross_up];
    let mut up_attention = attention_of(fields, "up_block_types", up_types, cross_up, up, depth)?;
    up_attention.reverse();
    let down_attention = attention_of(fields, "down_block_types", down_types, cross_down, down, depth)?;
    let layers = per_level(fields, "layers_per_block", 2, depth)?;
    let heads = per_level(fields, "attention_head_dim", 8, depth)?;
    let transformer_layers = per_level(fields, "transformer_layers_per_block", 1, depth)?;
    let level = |i: usize| {
        // The middle block's transformer counts as the coarsest level's.
        let transformers = down_attention[i] || up_attention[i] || i + 1 == depth;
        Level {
            channels: channels[i],
            layers: layers[i],
            heads: heads[i],
            transformer_layers: if transformers { transformer_layers[i] } else { 1 },
            down_attention: down_attention[i],
            up_attention: up_attention[i],
        }
    };
    Ok((0..depth).map(level).collect())
}

/// Which of a list of block types are those with attention.
fn attention_of(
    fields: &mut Fields,
    name: &'static str,
    default: [&str; 4],
    with: &str,
    without: &str,
    depth: usize,
) -> Result<Vec<bool>> {
    let types = fields.take(name, default.map(str::to_owned).to_vec())?;
    expect_length(name, types.len(), depth)?;
    let attention = |block: &String| match block {
        block if block == with => Ok(true),
        block if block == without => Ok(false),
        other => Err(refuse(name, format!("{with} or {without}"), other)),
    };
    types.iter().map(attention).collect()
}

/// A field that is one number or a list of one for each level.
fn per_level(fields: &mut Fields, name: &'static str, default: usize, depth: usize) -> Result<Vec<usize>> {
    let each = match fields.take(name, PerLevel::Same(default))? {
        PerLevel::Same(number) => vec![number; depth],
        PerLevel::Each(numbers) => numbers,
    };
    expect_length(name, each.len(), depth)?;
    Ok(each)
}

fn addition(fields: &mut Fields, timesteps: impl Fn(usize) -> Timesteps) -> Result<Option<Addition>> {
    const TYPE: &str = "addition_embed_type";
    const TIME: &str = "addition_time_embed_dim";
    const INPUTS: &str = "projection_class_embeddings_input_dim";
    let kind: Option<String> = fields.take(TYPE, None)?;
    let time: Option<usize> = fields.take(TIME, None)?;
    let inputs: Option<usize> = fields.take(INPUTS, None)?;
    match kind.as_deref() {
        None => Ok(None),
        Some("text_time") => {
            Ok(Some(Addition { add_time_proj: timesteps(time.unwrap_or(0)), inputs: inputs.unwrap_or(0) }))
        }
        Some(other) => Err(refuse(TYPE, "null or \"text_time\"", other)),
    }
}

fn expect_levels(depth: usize) -> Result<()> {
    if depth > 0 {
        return Ok(());
    }
    Err(refuse("block_out_channels", "at least 1 level", "[]"))
}

fn expect_length(name: &'static str, got: usize, depth: usize) -> Result<()> {
    if got == depth {
        return Ok(());
    }
    Err(refuse(name, format!("one for each of {depth} levels"), got))
}

/// Refuses widths that do not hold a sine and a cosine of each angle, and a shift that leaves the angles undefined.
fn expect_embeddable(name: &'static str, embedding: Timesteps) -> Result<()> {
    let Timesteps { channels, freq_shift, .. } = embedding;
    if !channels.is_multiple_of(2) {
        return Err(refuse(name, "even, to hold sines and cosines", channels));
    }
    let half = channels / 2;
    if !(0.0..half as f64).contains(&freq_shift) {
        return Err(refuse("freq_shift", format!("at least 0 and below {half}"), freq_shift));
    }
    Ok(())
}

/// The error for a field's value.
pub(super) fn refuse(name: &'static str, expected: impl Into<String>, got: impl ToString) -> Error {
    nn::refuse(MODEL, name, expected, got)
}
