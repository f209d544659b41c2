//! Published models by name, and values for them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::rng::CounterStream;
use noisefork::tensor::{Shape, Shaped, Tensor};
use noisefork::unet::{Added, Config, Preset, Prompt, UNet};

/// Tokens of an encoded prompt.
pub const TOKENS: usize = 77;
/// Width of a pooled text.
const POOLED: usize = 1280;
/// Pixels to a side of a latent's value.
const SCALE: usize = 8;

/// The model and what it is given.
#[derive(Args)]
pub struct Subject {
    /// A published model, with made-up weights: sd15, sd15-inpaint, sd21, sdxl, sdxl-refiner
    #[arg(long, default_value = "sd15", value_name = "NAME")]
    pub preset: Preset,
    /// Pictures in the model's batch; guidance makes two of each
    #[arg(long, default_value_t = 2)]
    pub batch: usize,
    /// Pixels to a side [default: what the model was trained at]
    #[arg(long)]
    size: Option<usize>,
}

impl Subject {
    /// The side of a latent.
    pub fn side(&self) -> Result<usize> {
        let pixels = self.size.unwrap_or(match self.preset {
            Preset::Sd21 => 768,
            Preset::Sdxl | Preset::SdxlRefiner => 1024,
            _ => 512,
        });
        if pixels == 0 || !pixels.is_multiple_of(SCALE) || self.batch == 0 {
            let (what, expected) =
                ("size and batch", format!("a multiple of {SCALE} pixels, 1 picture or more"));
            return Err(Error::Value {
                op: "bench",
                what,
                expected,
                got: format!("{pixels}, {}", self.batch),
            });
        }
        Ok(pixels / SCALE)
    }

    /// A UNet of these sizes, or that of a diffusers folder.
    pub fn unet<B: Backend>(&self, backend: Arc<B>, folder: Option<&PathBuf>) -> Result<Arc<UNet<B>>> {
        let unet = match folder {
            Some(folder) => UNet::load(backend, folder),
            None => UNet::from_parts(backend, self.preset.config(), &Weights::synthetic(0)),
        };
        unet.map(Arc::new)
    }

    /// A prompt that means nothing, for such a UNet.
    pub fn prompt(&self, config: &Config) -> Result<Prompt> {
        // Of the refiner, the last number is a score.
        let numbers = if self.preset == Preset::SdxlRefiner { 5 } else { 6 };
        let added = config
            .wants_added()
            .then(|| Ok(Added { text_embeds: normal([1, POOLED], 2)?, time_ids: normal([1, numbers], 3)? }));
        let context = normal([1, TOKENS, config.cross_attention_dim()], 1)?;
        Ok(Prompt { context, added: added.transpose()? })
    }
}

/// Standard normal values, others for each seed.
pub fn normal(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let mut tensor = Tensor::try_zeros(shape)?;
    CounterStream::new(seed).randn(0, 0, 0, tensor.data_mut());
    Ok(tensor)
}

/// The same on a backend, in its compute type.
pub fn tensor<B: Backend>(backend: &B, shape: impl Into<Shape>, seed: u64) -> Result<B::Tensor> {
    backend.upload(&normal(shape, seed)?)
}

/// The same as a latent.
pub fn latent<B: Backend>(backend: &B, shape: impl Into<Shape>, seed: u64) -> Result<B::Latent> {
    let host = normal(shape, seed)?;
    let mut latent = backend.latent(host.shape())?;
    backend.write_latent(&host, &mut latent)?;
    Ok(latent)
}
