//! Variations of one composition: the node *KSampler Variations Stochastic* of ComfyUI_essentials (33ff89f), exactly, and
//! its sibling *KSampler Variations with Noise Injection*.
//!
//! The first steps are run once, on one latent; its noise is left in; the latent is copied over the batch, and each copy
//! is finished by a stochastic sampler, so that all share their composition and differ in what comes after.
//!
//! Exactly means that the node's oddities are here too; [`Variations::diagnose`] names those that a run would meet, and
//! [`lineage`](super::lineage) does without them.

mod diagnostics;
mod with_noise;

pub use diagnostics::Diagnostic;
pub use with_noise::VariationsWithNoise;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::denoiser::Denoiser;
use super::ksampler::{KSampler, LatentImage, Model};
use super::noise::{Part, Profile};
use super::run::Observer;
use super::{Sampler, Scheduler};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::tensor::Tensor;

const OP: &str = "variations";

/// The settings of the node, by its names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variations {
    /// Whose noise it is.
    pub profile: Profile,
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
        expect_strength(self.variation_strength)?;
        Ok(((self.steps as f64 * (1.0 - self.variation_strength)) as usize).max(1))
    }

    /// The first stage: the composition as far as the fork, noise left in.
    ///
    /// # Errors
    /// [`Error::Value`] for settings outside their range.
    pub fn composition(&self) -> Result<KSampler> {
        let last_step = Some(self.fork_step()?);
        let profile = self.profile;
        let whole =
            KSampler::new(self.noise_seed, self.steps, self.cfg, self.sampler.clone(), self.scheduler);
        Ok(KSampler { profile, last_step, ..whole })
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
            profile: self.profile,
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
        let latent = latent.into();
        let (items, ..) = latent.check()?;
        self.sample_items(model, latent, 0..items, observe)
    }

    /// As [`Variations::sample`], of the same batch `items` alone, with the bits that they have in it.
    ///
    /// # Errors
    /// Those of [`KSampler::sample`]; [`Error::Value`] for items that the batch does not have, for a latent that is itself
    /// part of a batch, and for a batch index, of which the node would make the square of the batch.
    pub fn sample_items<'l, B: Backend, D: Denoiser<B>>(
        &self,
        model: &mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
        items: Range<usize>,
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        let latent = latent.into();
        let (batch, ..) = latent.check()?;
        if latent.part.is_some() || latent.batch_index.is_some() {
            let (what, expected) = ("latent", "a whole batch without batch_index".into());
            return Err(Error::Value { op: OP, what, expected, got: "one or the other".into() });
        }
        let part = Part { first: items.start, of: batch };
        part.check(items.len())?;
        let (composition, variation) = (self.composition()?, self.variation()?);
        let (first, mask) = latent.items(0..1)?;
        let first = LatentImage { samples: &first, noise_mask: mask.as_ref(), ..latent };
        let fork = composition.sample(model, first, observe)?;
        let (copies, (_, masks)) = (fork.repeated(items.len()), latent.items(items)?);
        let copies = LatentImage { samples: &copies, noise_mask: masks.as_ref(), part: Some(part), ..latent };
        variation.sample(model, copies, observe)
    }
}

/// Refuses a strength outside `[0, 1]`, NaN too.
pub(super) fn expect_strength(strength: f64) -> Result<()> {
    if (0.0..=1.0).contains(&strength) {
        return Ok(());
    }
    let (what, expected) = ("variation_strength", "within [0, 1]".into());
    Err(Error::Value { op: OP, what, expected, got: strength.to_string() })
}
