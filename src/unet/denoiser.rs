use std::sync::Arc;

use super::{Added, Conditioning, UNet};
use crate::error::{Error, Result};
use crate::nn::Run;
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
    prepared: Option<Prepared<B>>,
}

/// Conditioning for a number of latents under some branches.
struct Prepared<B: Backend> {
    batch: usize,
    branches: Vec<Branch>,
    conditioning: Conditioning<B>,
}

impl<B: Backend> UNetDenoiser<B> {
    /// `unet`, trained on the levels of `sampling`, under two prompts of as many tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] for prompts that do not fit the model or each other.
    pub fn new(
        unet: Arc<UNet<B>>,
        sampling: ModelSampling,
        positive: Prompt,
        negative: Prompt,
    ) -> Result<Self> {
        let width = unet.config().cross_attention_dim();
        let tokens = positive.context.shape().get(1).copied().unwrap_or(0);
        for prompt in [&positive, &negative] {
            expect_items("context", prompt.context.shape(), &[1, tokens.max(1), width])?;
            if let (Some(added), Some(first)) = (&prompt.added, &positive.added) {
                expect_items("text_embeds", added.text_embeds.shape(), &first.text_embeds.shape())?;
                expect_items("time_ids", added.time_ids.shape(), &first.time_ids.shape())?;
            }
        }
        Ok(UNetDenoiser { unet, sampling, positive, negative, prepared: None })
    }

    /// What depends on prompts and batch alone: computed when either changes, which within a run is once.
    fn prepare(&mut self, batch: usize, branches: &[Branch]) -> Result<&Conditioning<B>> {
        let fits = |prepared: &Prepared<B>| prepared.batch == batch && prepared.branches == branches;
        let prepared = match self.prepared.take().filter(fits) {
            Some(prepared) => prepared,
            None => {
                let prompts: Vec<&Prompt> = branches.iter().map(|&branch| self.prompt(branch)).collect();
                let contexts: Vec<&Tensor> = prompts.iter().map(|prompt| &prompt.context).collect();
                let context = stacked(&contexts, batch)?;
                let added: Option<Vec<&Added>> = prompts.iter().map(|prompt| prompt.added.as_ref()).collect();
                let added = added.map(|added| stacked_added(&added, batch)).transpose()?;
                let conditioning = self.unet.prepare(&context, batch * branches.len(), added.as_ref())?;
                Prepared { batch, branches: branches.to_vec(), conditioning }
            }
        };
        Ok(&self.prepared.insert(prepared).conditioning)
    }

    fn prompt(&self, branch: Branch) -> &Prompt {
        match branch {
            Branch::Positive => &self.positive,
            Branch::Negative => &self.negative,
        }
    }
}

/// Refuses a tensor that is not one item of this shape.
fn expect_items(tensor: &'static str, got: Shape, expected: &[usize]) -> Result<()> {
    if got.first() == Some(&1) && *got == *expected {
        return Ok(());
    }
    let expected = format!("{expected:?}, one item");
    Err(Error::Shape { op: "prompt", tensor, expected, got })
}

/// Each part, one item, `batch` times over, one after the other.
fn stacked(parts: &[&Tensor], batch: usize) -> Result<Tensor> {
    let data = parts.iter().flat_map(|part| part.data().repeat(batch)).collect();
    Tensor::new(parts[0].shape().with_batch(parts.len() * batch), data)
}

fn stacked_added(parts: &[&Added], batch: usize) -> Result<Added> {
    let text_embeds: Vec<&Tensor> = parts.iter().map(|added| &added.text_embeds).collect();
    let time_ids: Vec<&Tensor> = parts.iter().map(|added| &added.time_ids).collect();
    Ok(Added { text_embeds: stacked(&text_embeds, batch)?, time_ids: stacked(&time_ids, batch)? })
}

impl<B: Backend> Denoiser<B> for UNetDenoiser<B> {
    fn denoise(
        &mut self,
        x: &B::Latent,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [B::Latent],
    ) -> Result<()> {
        let unet = self.unet.clone();
        let backend = &**unet.backend();
        let parts = [(self.sampling.input_scale(sigma) as f32, x)];
        let input = Enter { parts: &parts, copies: branches.len() }.run(backend)?;
        let timestep = self.sampling.timestep(sigma as f32);
        let (of_x, of_output) = self.sampling.denoised_coefficients(sigma);

        let conditioning = self.prepare(x.shape()[0], branches)?;
        let prediction = unet.forward(&input, &[timestep], conditioning)?;
        for (branch, denoised) in denoised.iter_mut().enumerate() {
            let leave = Leave { x: &prediction, branch, branches: branches.len() };
            let mut output = backend.latent(leave.check()?)?;
            backend.leave(&leave, &mut output)?;
            let terms = [(of_x as f32, x), (of_output as f32, &output)];
            backend.combine(&Combine { terms: &terms }, denoised)?;
        }
        Ok(())
    }
}
