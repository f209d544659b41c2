use std::sync::Arc;

use super::{Added, Conditioning, Plan, Times, UNet, refuse};
use crate::error::{Error, Result};
use crate::ops::{Backend, Combine, Enter, Leave};
use crate::sampling::{Branch, Denoiser, ModelSampling};
use crate::tensor::{Shape, Shaped, Tensor};

/// What a branch of guidance is conditioned on.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The encoded text, `[1, tokens, cross_attention_dim]`.
    pub context: Tensor,
    /// SDXL's second conditioning.
    pub added: Option<Added>,
}

/// A UNet under a prompt and a negative prompt, as samplers see it. Both branches of guidance are computed as one batch.
pub struct UNetDenoiser<B: Backend> {
    unet: Arc<UNet<B>>,
    sampling: ModelSampling,
    positive: Prompt,
    negative: Prompt,
    /// The timesteps that a run has announced.
    announced: Vec<[f32; 1]>,
    /// For each shape of latents and branches that was asked for last, the latest at the end.
    prepared: Vec<Prepared<B>>,
}

/// All that predicting takes for latents of one shape under some branches.
struct Prepared<B: Backend> {
    shape: Shape,
    branches: Vec<Branch>,
    plan: Plan<B>,
    conditioning: Conditioning<B>,
    timesteps: Vec<[f32; 1]>,
    times: Times<B>,
    input: B::Tensor,
    output: B::Latent,
}

/// How many shapes are kept ready: each has all memory that a run takes. A variation has two, with guidance on and off four.
const MOST_SHAPES: usize = 4;

impl<B: Backend> UNetDenoiser<B> {
    /// `unet`, trained on the levels of `sampling`, under two prompts of as many tokens. The model's input is the latent
    /// alone: an inpainting model's mask and masked image have no place here.
    ///
    /// # Errors
    /// [`Error::Shape`] for prompts that do not fit the model or each other, [`Error::Value`] for `added` that the model
    /// does not take, or that it wants and does not get, and for a model whose input has other channels than its output.
    pub fn new(
        unet: Arc<UNet<B>>,
        sampling: ModelSampling,
        positive: Prompt,
        negative: Prompt,
    ) -> Result<Self> {
        let config = unet.config();
        if config.in_channels() != config.out_channels() {
            let expected =
                format!("out_channels = {} for a denoiser of latents alone", config.out_channels());
            return Err(refuse("in_channels", expected, config.in_channels()));
        }
        let tokens = positive.context.shape().get(1).copied().unwrap_or(0).max(1);
        let numbers = positive.added.as_ref().map_or(1, |added| added.time_ids.shape().channels().max(1));
        for prompt in [&positive, &negative] {
            expect_item("context", &prompt.context, [1, tokens, config.cross_attention_dim()])?;
            if let Some((addition, added)) = config.added(prompt.added.as_ref())? {
                expect_item("time_ids", &added.time_ids, [1, numbers])?;
                let width = addition.text_width(added.time_ids.shape())?;
                expect_item("text_embeds", &added.text_embeds, [1, width])?;
            }
        }
        let (announced, prepared) = (Vec::new(), Vec::new());
        Ok(UNetDenoiser { unet, sampling, positive, negative, announced, prepared })
    }

    /// What predicting takes for latents of this shape, its times being those of a list with `timestep` in it.
    fn prepared(&mut self, shape: Shape, branches: &[Branch], timestep: f32) -> Result<&mut Prepared<B>> {
        let place = self.prepared.iter().position(|p| p.shape == shape && p.branches == branches);
        let timesteps = || match self.announced.contains(&[timestep]) {
            true => self.announced.clone(),
            false => vec![[timestep]],
        };
        let mut prepared = match place {
            Some(place) => self.prepared.remove(place),
            None => {
                self.prepared.drain(..self.prepared.len().saturating_sub(MOST_SHAPES - 1));
                self.prepare(shape, branches, timesteps())?
            }
        };
        if !prepared.timesteps.contains(&[timestep]) {
            prepared.times = self.unet.times(&timesteps(), &prepared.conditioning)?;
            prepared.timesteps = timesteps();
        }
        Ok(self.prepared.push_mut(prepared))
    }

    fn prepare(&self, shape: Shape, branches: &[Branch], timesteps: Vec<[f32; 1]>) -> Result<Prepared<B>> {
        let (unet, backend, batch) = (&self.unet, self.unet.backend(), shape[0] * branches.len());
        let prompts: Vec<&Prompt> = branches.iter().map(|&branch| self.prompt(branch)).collect();
        let context = stacked(prompts.iter().map(|prompt| &prompt.context))?;
        let added: Option<Vec<&Added>> = prompts.iter().map(|prompt| prompt.added.as_ref()).collect();
        let added = added.map(|added| {
            let text_embeds = stacked(added.iter().map(|added| &added.text_embeds))?;
            let time_ids = stacked(added.iter().map(|added| &added.time_ids))?;
            Ok(Added { text_embeds, time_ids })
        });
        let added = added.transpose()?;
        let plan = unet.plan(batch, [shape[2], shape[3]], context.shape()[1])?;
        let conditioning = unet.prepare(&context, batch, added.as_ref())?;
        Ok(Prepared {
            shape,
            branches: branches.to_vec(),
            times: unet.times(&timesteps, &conditioning)?,
            timesteps,
            conditioning,
            input: backend.empty(plan.shape())?,
            output: backend.latent(shape)?,
            plan,
        })
    }

    fn prompt(&self, branch: Branch) -> &Prompt {
        match branch {
            Branch::Positive => &self.positive,
            Branch::Negative => &self.negative,
        }
    }
}

/// Refuses a prompt's tensor that does not have just this shape, none of it 0.
fn expect_item(tensor: &'static str, got: &Tensor, expected: impl Into<Shape>) -> Result<()> {
    let (got, expected) = (got.shape(), expected.into());
    if got == expected && !got.contains(&0) {
        return Ok(());
    }
    Err(Error::Shape { op: "prompt", tensor, expected: format!("{expected}, none of them 0"), got })
}

/// Items of one shape, one after the other.
fn stacked<'a>(items: impl Iterator<Item = &'a Tensor> + Clone) -> Result<Tensor> {
    let shape = items.clone().next().map_or([0].into(), Shaped::shape);
    let data: Vec<f32> = items.clone().flat_map(|item| item.data()).copied().collect();
    Tensor::new(shape.with_batch(items.count()), data)
}

impl<B: Backend> Denoiser<B> for UNetDenoiser<B> {
    fn announce(&mut self, levels: &[f64]) {
        self.announced.clear();
        for &level in levels {
            let timestep = [self.sampling.timestep(level as f32)];
            if !self.announced.contains(&timestep) {
                self.announced.push(timestep);
            }
        }
    }

    fn denoise(
        &mut self,
        x: &B::Latent,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [B::Latent],
    ) -> Result<()> {
        let unet = self.unet.clone();
        let backend = &**unet.backend();
        let timestep = self.sampling.timestep(sigma as f32);
        let input_scale = self.sampling.input_scale(sigma) as f32;
        let (of_x, of_output) = self.sampling.denoised_coefficients(sigma);

        let parts = [(input_scale, x)];
        let enter = Enter { parts: &parts, copies: branches.len() };
        enter.check()?;
        let prepared = self.prepared(x.shape(), branches, timestep)?;
        let Prepared { plan, conditioning, timesteps, times, input, output, .. } = prepared;
        backend.enter(&enter, input)?;
        let step = timesteps.iter().position(|&known| known == [timestep]).unwrap_or(timesteps.len());
        let prediction = plan.forward(input, times, step, conditioning)?;
        for (branch, denoised) in denoised.iter_mut().enumerate() {
            backend.leave(&Leave { x: prediction, branch, branches: branches.len() }, output)?;
            let terms = [(of_x as f32, x), (of_output as f32, &*output)];
            backend.combine(&Combine { terms: &terms }, denoised)?;
        }
        Ok(())
    }
}
