//! What a file's tensors tell of its model, for files that come without a configuration.

use super::Preset;
use super::config::{Addition, Config, Level, refuse};
use super::layout::Layout;
use crate::error::{Error, Result, first};
use crate::nn::{Scope, Timesteps, Weights};
use crate::sampling::{Betas, Levels, ModelSampling, Prediction};
use crate::tensor::Shape;

/// Heads of the models whose projections are convolutions.
const HEADS: usize = 8;
/// Channels of a head in the models whose projections are linear layers.
const HEAD_DIM: usize = 64;
/// Values that stand for one of SDXL's sizes.
const NUMBER: usize = 256;
/// CosXL's lowest level, where its file does not tell it; ComfyUI's.
const EDM_SIGMA_MIN: f64 = 0.002;
/// The width of SDXL's pooled text with six sizes, and of its refiner's with four and a score.
const ADDITIONS: [usize; 2] = [1280 + 6 * NUMBER, 1280 + 5 * NUMBER];

impl Config {
    /// Works out the configuration from the names and shapes of a UNet's tensors, in diffusers' layout or in that of
    /// the original checkpoints (names that begin with `model.diffusion_model.`, `diffusion_model.` or nothing).
    ///
    /// What no tensor tells is as in all published models: 8 heads where projections are convolutions (SD 1.x), heads
    /// of 64 channels where they are linear layers (SD 2.x, SDXL), 32 groups, an epsilon of 1e-5.
    ///
    /// # Errors
    /// [`Error::File`] if there is no UNet, [`Error::MissingTensor`] and [`Error::FileTensor`] for tensors that no UNet
    /// lacks or has in this shape, [`Error::Value`] for sizes that no published model has and that leave open what no
    /// tensor tells: they need a `config.json`.
    pub fn from_weights(weights: &Weights) -> Result<Self> {
        let layout = Layout::of(weights);
        let in_file = |name: &str| layout.in_file(name);
        let file = weights.renamed(&in_file);
        if !file.contains("conv_in.weight") {
            return Err(no_unet(weights));
        }
        let [_, in_channels, _, _] = file.extents("conv_in.weight")?;
        let [out_channels, _, _, _] = file.extents("conv_out.weight")?;
        let mid = file.scope("mid_block.attentions.0");
        let [_, cross_attention_dim] = mid.extents("transformer_blocks.0.attn2.to_k.weight")?;
        let use_linear_projection = mid.rank("proj_in.weight")? == 2;
        let timesteps = |channels| Timesteps { channels, flip_sin_to_cos: true, freq_shift: 0.0 };
        let levels = levels(&file, use_linear_projection)?;
        Config {
            in_channels,
            out_channels,
            cross_attention_dim,
            use_linear_projection,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            time_proj: timesteps(levels.first().map_or(0, |level| level.channels)),
            addition: addition(&file)?.map(|inputs| Addition { add_time_proj: timesteps(NUMBER), inputs }),
            levels,
        }
        .checked()
    }
}

/// The levels of a Stable Diffusion checkpoint, and what its UNet predicts: velocity if the file has a tensor `v_pred`,
/// as SDXL models that do are marked (with `ztsnr` for levels that end in pure noise), or if it is an SD 2.x of the kind
/// trained on 768 pixels, which is told by one layer's values as ComfyUI tells it; noise otherwise. A model marked by
/// `edm_vpred.sigma_max`, as CosXL is, predicts velocity along all levels from `edm_vpred.sigma_min`, or else 0.002, to that.
///
/// # Errors
/// Those of [`Config::from_weights`], [`Weights::tensor`] and [`ModelSampling::new`]; [`Error::File`] for a model whose
/// latents are standardised by `edm_mean` and `edm_std`, as Playground 2.5's are.
pub fn model_sampling(weights: &Weights) -> Result<ModelSampling> {
    if let Some(mark) = ["edm_mean", "edm_std"].into_iter().find(|mark| weights.contains(mark)) {
        return Err(Error::File {
            path: weights.path().to_owned(),
            expected: "a model whose latents are scaled by one number; standardising is not supported".into(),
            got: format!("a tensor {mark:?}, by which Playground 2.5 standardises its latents"),
        });
    }
    if let Some(sigma_max) = number(weights, "edm_vpred.sigma_max")? {
        let sigma_min = number(weights, "edm_vpred.sigma_min")?.unwrap_or(EDM_SIGMA_MIN);
        return ModelSampling::new(Prediction::V, Levels::ContinuousEdm { sigma_min, sigma_max });
    }
    let marked = weights.contains("v_pred");
    let velocity = marked || is_sd2_768(&Config::from_weights(weights)?, weights)?;
    let prediction = if velocity { Prediction::V } else { Prediction::Eps };
    let zero_terminal_snr = marked && weights.contains("ztsnr");
    ModelSampling::new(prediction, Levels::Discrete { betas: Betas::STABLE_DIFFUSION, zero_terminal_snr })
}

/// The value of a tensor that has one, if it is there.
fn number(weights: &Weights, name: &str) -> Result<Option<f64>> {
    if !weights.contains(name) {
        return Ok(None);
    }
    // Files have it as a scalar or as a vector.
    let shape: Shape = if weights.shape(name)?.is_empty() { [].into() } else { [1].into() };
    Ok(Some(f64::from(weights.tensor(name, shape)?.data()[0])))
}

fn is_sd2_768(config: &Config, weights: &Weights) -> Result<bool> {
    const LAYER: &str = "up_blocks.3.attentions.2.transformer_blocks.0.norm1";
    /// Between the deviations of the two kinds.
    const DEVIATION: f64 = 0.09;
    if *config != Preset::Sd21.config() {
        return Ok(false);
    }
    let layout = Layout::of(weights);
    let in_file = |name: &str| layout.in_file(name);
    let bias = weights.renamed(&in_file).scope(LAYER).tensor("bias", [config.levels[0].channels])?;
    let n = bias.data().len() as f64;
    let mean = bias.data().iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let variance = bias.data().iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n;
    Ok(variance.sqrt() > DEVIATION)
}

fn levels(file: &Scope<'_>, use_linear_projection: bool) -> Result<Vec<Level>> {
    const FIRST_LAYER: &str = "resnets.0.conv1.weight";
    let down = |i: usize| file.scope("down_blocks").scope(i);
    let depth = (0..).take_while(|&i| down(i).contains(FIRST_LAYER)).count();
    let level = |i| {
        let (down, up) = (down(i), file.scope("up_blocks").scope(depth - 1 - i));
        let [channels, _, _, _] = down.extents(FIRST_LAYER)?;
        let depths = [&down, &up].map(|block| transformer_layers(&block.scope("attentions.0")));
        let mid = if i + 1 == depth { transformer_layers(&file.scope("mid_block.attentions.0")) } else { 0 };
        Ok(Level {
            channels,
            layers: (0..).take_while(|j| down.contains(&format!("resnets.{j}.conv1.weight"))).count(),
            heads: heads(channels, use_linear_projection)?,
            transformer_layers: depths.into_iter().chain([mid, 1]).find(|&depth| depth > 0).unwrap_or(1),
            down_attention: depths[0] > 0,
            up_attention: depths[1] > 0,
        })
    };
    (0..depth).map(level).collect()
}

/// How many blocks a transformer has; none if there is no such transformer.
fn transformer_layers(transformer: &Scope<'_>) -> usize {
    let exists = |k: &usize| transformer.contains(&format!("transformer_blocks.{k}.norm1.weight"));
    (0..).take_while(exists).count()
}

fn heads(channels: usize, use_linear_projection: bool) -> Result<usize> {
    match use_linear_projection {
        false => Ok(HEADS),
        true if channels.is_multiple_of(HEAD_DIM) => Ok(channels / HEAD_DIM),
        true => {
            let expected =
                format!("told by a config.json where {HEAD_DIM} does not divide a level's channels");
            Err(refuse("attention_head_dim", expected, format!("{channels} channels")))
        }
    }
}

/// The width of SDXL's second conditioning.
fn addition(file: &Scope<'_>) -> Result<Option<usize>> {
    const LAYER: &str = "add_embedding.linear_1.weight";
    if !file.contains(LAYER) {
        return Ok(None);
    }
    let [_, inputs] = file.extents(LAYER)?;
    if !ADDITIONS.contains(&inputs) {
        let expected = format!("told by a config.json unless it is one of {ADDITIONS:?}");
        return Err(refuse("projection_class_embeddings_input_dim", expected, inputs));
    }
    Ok(Some(inputs))
}

fn no_unet(weights: &Weights) -> Error {
    let names = weights.names();
    Error::File {
        path: weights.path().to_owned(),
        expected: "a UNet's tensors, as diffusers or the original implementation name them".into(),
        got: format!("{} tensors: {}", names.len(), first(&names)),
    }
}
