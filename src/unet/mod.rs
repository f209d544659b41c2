//! The denoising network of the Stable Diffusion family: diffusers' `UNet2DConditionModel` (Rombach et al. 2022,
//! arXiv 2112.10752), over any [`Backend`].

mod blocks;
mod conditioning;
mod config;
mod denoiser;
#[cfg(test)]
mod floor;
mod from_weights;
mod layout;
mod outline;
mod plan;
mod preset;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::nn::{
    Conv2d, CrossAttention, GroupNorm, Linear, Run, TimeProjections, TimestepEmbedding, Transformer2D,
    Weights, read_config,
};
use crate::ops::{self, Activation, Backend};
use crate::tensor::Shape;

use blocks::{DownBlock, Given, MidBlock, UpBlock, last};
pub use conditioning::{Added, Conditioning, Times};
pub use config::Config;
pub use denoiser::{Prompt, UNetDenoiser};
pub use from_weights::model_sampling;
use layout::Layout;
pub use plan::Plan;
pub use preset::Preset;

const OP: &str = "unet";

/// A UNet, loaded.
pub struct UNet<B: Backend> {
    /// Tells this model's conditionings from those of another, which may well have the same shapes.
    identity: Arc<()>,
    backend: Arc<B>,
    config: Config,
    conv_in: Conv2d<B>,
    time_embedding: TimestepEmbedding<B>,
    add_embedding: Option<TimestepEmbedding<B>>,
    /// That of every residual block.
    time_emb_proj: Linear<B>,
    down_blocks: Vec<DownBlock<B>>,
    mid_block: MidBlock<B>,
    /// From the coarsest to the finest.
    up_blocks: Vec<UpBlock<B>>,
    conv_norm_out: GroupNorm<B>,
    conv_out: Conv2d<B>,
}

impl<B: Backend> UNet<B> {
    /// Loads a diffusers folder: `config.json` and the weights beside it, as [`Weights::open`] finds them; or a file
    /// of weights alone, whose configuration [`Config::from_weights`] works out: a UNet of diffusers, or a checkpoint in
    /// the layout of the original implementation, whatever else it holds.
    ///
    /// # Errors
    /// Those of [`Weights::open`], [`Config::from_json`], [`Config::from_weights`] and [`UNet::from_parts`];
    /// [`Error::File`] for a configuration that cannot be read.
    pub fn load(backend: Arc<B>, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let config = Config::from_json(&read_config(path)?)?;
            return Self::from_parts(backend, config, &Weights::open(path)?);
        }
        let weights = Weights::open(path)?;
        Self::from_parts(backend, Config::from_weights(&weights)?, &weights)
    }

    /// Loads the model that `config` describes from weights in any layout that [`UNet::load`] takes.
    ///
    /// # Errors
    /// Those of [`Weights::tensor`] and [`Weights::expect_used`], and whatever the backend reports.
    pub fn from_parts(backend: Arc<B>, config: Config, weights: &Weights) -> Result<Self> {
        let layout = Layout::of(weights);
        let in_file = |name: &str| layout.in_file(name);
        let file = weights.renamed(&in_file);
        let b = &*backend;
        let (finest, depth) = (config.levels[0].channels, config.levels.len());
        let time_embed_dim = config.time_embed_dim();
        let embedding = |name, inputs| TimestepEmbedding::load(b, &file.scope(name), inputs, time_embed_dim);
        let add_embedding =
            config.addition.as_ref().map(|a| embedding("add_embedding", a.inputs)).transpose()?;
        let mut projections = TimeProjections::new(time_embed_dim);
        let [down, mid, up] = ["down_blocks", "mid_block", "up_blocks"].map(|name| file.scope(name));
        let load_down = |i| DownBlock::load(b, &down.scope(i), &config, i, &mut projections);
        let down_blocks = (0..depth).map(load_down).collect::<Result<_>>()?;
        let mid_block = MidBlock::load(b, &mid, &config, &mut projections)?;
        let load_up = |i| UpBlock::load(b, &up.scope(i), &config, depth - 1 - i, &mut projections);
        let up_blocks = (0..depth).map(load_up).collect::<Result<_>>()?;
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let unet = UNet {
            conv_in: Conv2d::load(b, &file.scope("conv_in"), config.in_channels, finest)?,
            time_embedding: embedding("time_embedding", finest)?,
            add_embedding,
            time_emb_proj: projections.join(b)?,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::load(b, &file.scope("conv_norm_out"), finest, groups, eps)?,
            conv_out: Conv2d::load(b, &file.scope("conv_out"), finest, config.out_channels)?,
            identity: Arc::new(()),
            backend,
            config,
        };
        weights.expect_used(layout.prefix())?;
        Ok(unet)
    }

    /// What the model was loaded as.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What computes.
    pub fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    /// A prediction from the noisy input `x`, as [`Plan::forward`] describes it; `skips` is left empty.
    fn run(
        &self,
        mut given: Given<'_, B>,
        x: &B::Tensor,
        skips: &mut Vec<B::Tensor>,
        prediction: &mut B::Tensor,
    ) -> Result<()> {
        let backend = given.backend;
        skips.clear();
        skips.push(self.conv_in.of(x).run(backend)?);
        for block in &self.down_blocks {
            block.forward(&mut given, skips)?;
        }
        let mut h = self.mid_block.forward(&mut given, last(skips))?;
        for block in &self.up_blocks {
            h = block.forward(&mut given, h, skips)?;
        }
        let h = ops::GroupNorm { activation: Activation::Silu, ..self.conv_norm_out.of(&h) }.run(backend)?;
        backend.conv2d(&self.conv_out.of(&h), prediction)
    }

    /// Every cross-attention, in the order in which they run.
    fn cross_attentions(&self) -> impl Iterator<Item = &CrossAttention<B>> {
        let down = self.down_blocks.iter().flat_map(|block| &block.attentions);
        let up = self.up_blocks.iter().flat_map(|block| &block.attentions);
        let all = down.chain([&self.mid_block.attention]).chain(up);
        all.flat_map(|transformer: &Transformer2D<B>| &transformer.transformer_blocks)
            .map(|block| &block.attn2)
    }
}

fn misshapen(tensor: &'static str, expected: String, got: Shape) -> Error {
    Error::Shape { op: OP, tensor, expected, got }
}

fn refuse(what: &'static str, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::Value { op: OP, what, expected: expected.into(), got: got.to_string() }
}
