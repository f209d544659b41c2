//! The denoising network of the Stable Diffusion family: diffusers' `UNet2DConditionModel` (Rombach et al. 2022,
//! arXiv 2112.10752), over any [`Backend`].

mod blocks;
mod config;
mod denoiser;
mod preset;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::nn::{
    Conv2d, CrossAttention, GroupNorm, KeysValues, Run, TimestepEmbedding, Transformer2D, Weights,
    read_config,
};
use crate::ops::{self, Activation, Backend};
use crate::tensor::{Shape, Shaped, Tensor};

use blocks::{DownBlock, Given, MidBlock, UpBlock};
pub use config::Config;
pub use denoiser::{Prompt, UNetDenoiser};
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
    down_blocks: Vec<DownBlock<B>>,
    mid_block: MidBlock<B>,
    /// From the coarsest to the finest.
    up_blocks: Vec<UpBlock<B>>,
    conv_norm_out: GroupNorm<B>,
    conv_out: Conv2d<B>,
}

/// SDXL's second conditioning.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// The pooled text, `[N or 1, width]`.
    pub text_embeds: Tensor,
    /// Original size, crop and target size in pixels, `[N or 1, numbers]`.
    pub time_ids: Tensor,
}

/// Whatever a [`UNet`] computes from its conditioning alone, once for all steps.
pub struct Conditioning<B: Backend> {
    model: Arc<()>,
    batch: usize,
    /// Of every cross-attention, in the order in which they run.
    contexts: Vec<KeysValues<B>>,
    /// What SDXL adds to the time embedding, `[N, time_embed_dim]`.
    aug_emb: Option<B::Tensor>,
}

impl<B: Backend> Conditioning<B> {
    /// How many items it is for.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

impl<B: Backend> UNet<B> {
    /// Loads a diffusers folder: `config.json` and the weights beside it, as [`Weights::open`] finds them.
    ///
    /// # Errors
    /// Those of [`Weights::open`] and [`UNet::from_parts`]; [`Error::File`] for a configuration that cannot be read.
    pub fn load(backend: Arc<B>, folder: impl AsRef<Path>) -> Result<Self> {
        let config = Config::from_json(&read_config(folder.as_ref())?)?;
        Self::from_parts(backend, config, &Weights::open(folder)?)
    }

    /// Loads the model that `config` describes.
    ///
    /// # Errors
    /// Those of [`Weights::tensor`] and [`Weights::expect_all_used`], and whatever the backend reports.
    pub fn from_parts(backend: Arc<B>, config: Config, weights: &Weights) -> Result<Self> {
        let b = &*backend;
        let (finest, depth) = (config.levels[0].channels, config.levels.len());
        let time_embed_dim = config.time_embed_dim();
        let embedding =
            |name, inputs| TimestepEmbedding::load(b, &weights.scope(name), inputs, time_embed_dim);
        let add_embedding =
            config.addition.as_ref().map(|a| embedding("add_embedding", a.inputs)).transpose()?;
        let down = |i| DownBlock::load(b, &weights.scope("down_blocks").scope(i), &config, i);
        let up = |i| UpBlock::load(b, &weights.scope("up_blocks").scope(i), &config, depth - 1 - i);
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let unet = UNet {
            conv_in: Conv2d::load(b, &weights.scope("conv_in"), config.in_channels, finest)?,
            time_embedding: embedding("time_embedding", finest)?,
            add_embedding,
            down_blocks: (0..depth).map(down).collect::<Result<_>>()?,
            mid_block: MidBlock::load(b, &weights.scope("mid_block"), &config)?,
            up_blocks: (0..depth).map(up).collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(b, &weights.scope("conv_norm_out"), finest, groups, eps)?,
            conv_out: Conv2d::load(b, &weights.scope("conv_out"), finest, config.out_channels)?,
            identity: Arc::new(()),
            backend,
            config,
        };
        weights.expect_all_used()?;
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

    /// Computes what depends on the conditioning alone: the keys and values of every cross-attention, and SDXL's
    /// addition to the time embedding. `context` is `[batch or 1, tokens, cross_attention_dim]`; one item stands for
    /// all, and so in `added`.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that do not fit the model or `batch`, [`Error::Value`] for no items, for `added`
    /// that the model does not take, or that it wants and does not get.
    pub fn prepare(&self, context: &Tensor, batch: usize, added: Option<&Added>) -> Result<Conditioning<B>> {
        let backend = &*self.backend;
        if batch == 0 {
            return Err(refuse("batch", "at least 1", 0));
        }
        let width = self.config.cross_attention_dim;
        let context = match *context.shape() {
            [_, tokens, _] if tokens > 0 => for_batch("context", context, batch, [tokens, width])?,
            _ => {
                return Err(misshapen(
                    "context",
                    format!("[{batch} or 1, tokens, {width}]"),
                    context.shape(),
                ));
            }
        };
        let context = backend.upload(&context)?;
        let contexts = self.cross_attentions().map(|attention| attention.keys_values(backend, &context));
        Ok(Conditioning {
            model: self.identity.clone(),
            batch,
            contexts: contexts.collect::<Result<_>>()?,
            aug_emb: self.aug_emb(batch, added)?,
        })
    }

    /// Predicts from the noisy input `x` `[N, H, W, in_channels]` what the model was trained to predict, noise or
    /// velocity, `[N, H, W, out_channels]`. There is one timestep for each item, or one for all.
    ///
    /// # Errors
    /// [`Error::Shape`] for another `x`, [`Error::Value`] for timesteps that are too few, too many or not finite and
    /// for a conditioning that was prepared for another batch or by another model.
    pub fn forward(
        &self,
        x: &B::Tensor,
        timesteps: &[f32],
        conditioning: &Conditioning<B>,
    ) -> Result<B::Tensor> {
        let backend = &*self.backend;
        let batch = self.expect_input(x.shape(), conditioning)?;
        let emb = self.emb(timesteps, batch, conditioning)?;
        let mut given = Given { backend, emb: &emb, contexts: conditioning.contexts.iter() };

        let mut skips = vec![self.conv_in.of(x).run(backend)?];
        for block in &self.down_blocks {
            let outputs = block.forward(&mut given, &skips[skips.len() - 1])?;
            skips.extend(outputs);
        }
        let mut h = self.mid_block.forward(&mut given, &skips[skips.len() - 1])?;
        for block in &self.up_blocks {
            h = block.forward(&mut given, h, &mut skips)?;
        }
        let h = ops::GroupNorm { activation: Activation::Silu, ..self.conv_norm_out.of(&h) }.run(backend)?;
        self.conv_out.of(&h).run(backend)
    }

    /// Every cross-attention, in the order in which they run.
    fn cross_attentions(&self) -> impl Iterator<Item = &CrossAttention<B>> {
        let down = self.down_blocks.iter().flat_map(|block| &block.attentions);
        let up = self.up_blocks.iter().flat_map(|block| &block.attentions);
        let all = down.chain([&self.mid_block.attention]).chain(up);
        all.flat_map(|transformer: &Transformer2D<B>| &transformer.transformer_blocks)
            .map(|block| &block.attn2)
    }

    /// The time embedding, through SiLU.
    fn emb(&self, timesteps: &[f32], batch: usize, conditioning: &Conditioning<B>) -> Result<B::Tensor> {
        if ![1, batch].contains(&timesteps.len()) {
            return Err(refuse("timesteps", format!("{batch} or 1"), timesteps.len()));
        }
        if let Some(timestep) = timesteps.iter().find(|timestep| !timestep.is_finite()) {
            return Err(refuse("timesteps", "finite", timestep));
        }
        let time_proj = self.config.time_proj;
        let t_emb = Tensor::new([timesteps.len(), time_proj.channels], time_proj.embed(timesteps))?;
        let t_emb = t_emb.repeated(batch / timesteps.len());
        self.time_embedding.forward_silu(&self.backend, &t_emb, conditioning.aug_emb.as_ref())
    }

    /// SDXL's addition to the time embedding.
    fn aug_emb(&self, batch: usize, added: Option<&Added>) -> Result<Option<B::Tensor>> {
        let parts = (&self.config.addition, &self.add_embedding, added);
        let (Some(addition), Some(embedding), Some(added)) = parts else {
            return match (&self.config.addition, added) {
                (None, None) => Ok(None),
                (None, Some(_)) => Err(refuse("added", "absent: the model takes none", "some")),
                (Some(_), _) => Err(refuse("added", "text_embeds and time_ids", "none")),
            };
        };
        let numbers = added.time_ids.shape().channels();
        let time_ids = for_batch("time_ids", &added.time_ids, batch, [numbers])?;
        let embedded = addition.add_time_proj.embed(time_ids.data());
        let embedded_width = embedded.len() / batch;
        let Some(width) = addition.inputs.checked_sub(embedded_width) else {
            let expected = format!("as many numbers as {} values can hold", addition.inputs);
            return Err(misshapen("time_ids", expected, added.time_ids.shape()));
        };
        let text = for_batch("text_embeds", &added.text_embeds, batch, [width])?;
        let embedded = Tensor::new([batch, embedded_width], embedded)?;
        let rows = (0..batch).flat_map(|n| {
            let text = &text.data()[n * width..][..width];
            text.iter().chain(&embedded.data()[n * embedded_width..][..embedded_width]).copied()
        });
        let add_embeds = Tensor::new([batch, addition.inputs], rows.collect())?;
        embedding.forward(&self.backend, &add_embeds).map(Some)
    }

    /// Refuses an input that the model does not take; returns its batch.
    fn expect_input(&self, x: Shape, conditioning: &Conditioning<B>) -> Result<usize> {
        let channels = self.config.in_channels;
        let &[batch, _, _, got] = &*x else {
            return Err(misshapen("x", format!("[N, H, W, {channels}]"), x));
        };
        if got != channels || x.contains(&0) {
            return Err(misshapen("x", format!("[N, H, W, {channels}], none of them 0"), x));
        }
        if conditioning.batch != batch {
            return Err(refuse(
                "conditioning",
                format!("prepared for a batch of {batch}"),
                conditioning.batch,
            ));
        }
        if !Arc::ptr_eq(&conditioning.model, &self.identity) {
            return Err(refuse("conditioning", "prepared by this model", "another model's"));
        }
        Ok(batch)
    }
}

/// `tensor` `[batch or 1, item..]` with a single item repeated for the whole batch.
fn for_batch<const RANK: usize>(
    name: &'static str,
    tensor: &Tensor,
    batch: usize,
    item: [usize; RANK],
) -> Result<Tensor> {
    match tensor.shape().split_first() {
        Some((&got, rest)) if *rest == item && got == batch => Ok(tensor.clone()),
        Some((1, rest)) if *rest == item => {
            let mut all = Tensor::try_zeros(tensor.shape().with_batch(batch))?;
            for copy in all.data_mut().chunks_exact_mut(tensor.data().len().max(1)) {
                copy.copy_from_slice(tensor.data());
            }
            Ok(all)
        }
        _ => {
            let item: Vec<String> = item.iter().map(usize::to_string).collect();
            Err(misshapen(name, format!("[{batch} or 1, {}]", item.join(", ")), tensor.shape()))
        }
    }
}

fn misshapen(tensor: &'static str, expected: String, got: Shape) -> Error {
    Error::Shape { op: OP, tensor, expected, got }
}

fn refuse(what: &'static str, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::Value { op: OP, what, expected: expected.into(), got: got.to_string() }
}
