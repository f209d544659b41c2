//! Published models by name, and values for them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::rng::CounterStream;
use noisefork::tensor::{Shape, Tensor};
use noisefork::unet::{Added, Conditioning, Config, Plan, Preset, Prompt, Times, UNet};

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

    /// A UNet of these sizes, or that of a diffusers folder, and all that it is given.
    pub fn ready<B: Backend>(&self, backend: Arc<B>, folder: Option<&PathBuf>) -> Result<Ready<B>> {
        let side = self.side()?;
        let unet = Arc::new(match folder {
            Some(folder) => UNet::load(backend.clone(), folder),
            None => UNet::from_parts(backend.clone(), self.preset.config(), &Weights::synthetic(0)),
        }?);
        let prompt = self.prompt(unet.config())?;
        let conditioning = unet.prepare(&prompt.context, self.batch, prompt.added.as_ref())?;
        let times = unet.times(&[[500.0]], &conditioning)?;
        let plan = unet.plan(self.batch, [side, side], TOKENS)?;
        let x = backend.upload(&normal(plan.shape(), 2)?)?;
        Ok(Ready { plan, x, times, conditioning })
    }

    /// A prompt that means nothing, for such a UNet.
    fn prompt(&self, config: &Config) -> Result<Prompt> {
        // Of the refiner, the last number is a score.
        let numbers = if self.preset == Preset::SdxlRefiner { 5 } else { 6 };
        let added = config
            .wants_added()
            .then(|| Ok(Added { text_embeds: normal([1, POOLED], 2)?, time_ids: normal([1, numbers], 3)? }));
        let context = normal([1, TOKENS, config.cross_attention_dim()], 1)?;
        Ok(Prompt { context, added: added.transpose()? })
    }
}

/// A UNet with everything that an answer takes.
pub struct Ready<B: Backend> {
    pub plan: Plan<B>,
    x: B::Tensor,
    times: Times<B>,
    conditioning: Conditioning<B>,
}

impl<B: Backend> Ready<B> {
    /// Answers.
    pub fn forward(&mut self) -> Result<()> {
        self.plan.forward(&self.x, &self.times, 0, &self.conditioning).map(drop)
    }
}

/// Standard normal values, others for each seed.
fn normal(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let mut tensor = Tensor::try_zeros(shape)?;
    CounterStream::new(seed).randn(0, 0, 0, tensor.data_mut());
    Ok(tensor)
}
