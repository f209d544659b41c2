//! Variations of one composition: the node *KSampler Variations Stochastic* of ComfyUI_essentials (33ff89f).
//!
//! The first steps are run once, on one latent; its noise is left in; the latent is copied over the batch, and each copy
//! is finished by a stochastic sampler, so that all share their composition and differ in what comes after.

use super::denoiser::Denoiser;
use super::ksampler::{KSampler, LatentImage, Model, expect_latents};
use super::run::Observer;
use super::{Sampler, Scheduler};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::tensor::{Shaped, Tensor};

const OP: &str = "variations";

/// The settings of the node, by its names.
#[derive(Debug, Clone)]
pub struct Variations {
    /// Seeds the composition.
    pub noise_seed: u64,
    /// Steps of the whole schedule.
    pub steps: usize,
    /// The strength of guidance of the composition.
    pub cfg: f64,
    /// The sampler of the composition.
    pub sampler: Sampler,
    /// The schedule of both stages.
    pub scheduler: Scheduler,
    /// Seeds the variations.
    pub variation_seed: u64,
    /// The share of the steps that is left to the variations, `[0, 1]`.
    pub variation_strength: f64,
    /// The variations' guidance is `max(cfg * cfg_scale, 1)`.
    pub cfg_scale: f64,
}

impl Variations {
    /// The step at which the batch forks: `max(int(steps * (1 - strength)), 1)`, truncated in f64 as the node does it.
    ///
    /// # Errors
    /// [`Error::Value`] for a strength outside `[0, 1]`.
    pub fn fork_step(&self) -> Result<usize> {
        if !(0.0..=1.0).contains(&self.variation_strength) {
            return Err(Error::Value {
                op: OP,
                what: "variation_strength",
                expected: "within [0, 1]".into(),
                got: self.variation_strength.to_string(),
            });
        }
        Ok(((self.steps as f64 * (1.0 - self.variation_strength)) as usize).max(1))
    }

    /// The first stage: the composition as far as the fork, noise left in.
    ///
    /// # Errors
    /// [`Error::Value`] for settings outside their range.
    pub fn composition(&self) -> Result<KSampler> {
        let last_step = Some(self.fork_step()?);
        let whole =
            KSampler::new(self.noise_seed, self.steps, self.cfg, self.sampler.clone(), self.scheduler);
        Ok(KSampler { last_step, ..whole })
    }

    /// The second stage: from the fork to the end.
    ///
    /// # Errors
    /// [`Error::Value`] for settings outside their range.
    pub fn variation(&self) -> Result<KSampler> {
        let start_step = self.fork_step()?;
        let cfg = self.cfg * self.cfg_scale;
        if !cfg.is_finite() {
            let (what, expected) = ("cfg * cfg_scale", "finite".into());
            return Err(Error::Value { op: OP, what, expected, got: cfg.to_string() });
        }
        let sampler = "dpmpp_2m_sde".parse()?;
        Ok(KSampler {
            start_step,
            last_step: Some(self.steps),
            force_full_denoise: true,
            disable_noise: true,
            ..KSampler::new(self.variation_seed, self.steps, cfg.max(1.0), sampler, self.scheduler)
        })
    }

    /// Runs both stages: as many variations of the first of `latent`'s items as it has items.
    ///
    /// # Errors
    /// Those of [`KSampler::sample`].
    pub fn sample<'l, B: Backend, D: Denoiser<B>>(
        &self,
        model: &mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        let LatentImage { samples, noise_mask } = latent.into();
        let (composition, variation) = (self.composition()?, self.variation()?);
        expect_latents(samples)?;
        let first = samples.items(0..1)?;
        let fork = composition.sample(model, LatentImage { samples: &first, noise_mask }, observe)?;
        let copies = fork.repeated(samples.shape()[0]);
        variation.sample(model, LatentImage { samples: &copies, noise_mask }, observe)
    }
}
