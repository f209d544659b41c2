use std::fmt;

use super::Variations;
use crate::error::Result;
use crate::sampling::{LatentImage, ModelSampling};
use crate::tensor::Shaped;

/// What the node does that its user would not expect. All of it is silent there.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Diagnostic {
    /// All variations will be the same: between the fork and the end no noise is added.
    NoVariation {
        /// The steps that are left for the variations.
        steps: usize,
    },
    /// The fork lies a step earlier than `steps * (1 - strength)` says, which f64 makes a little less than a whole number.
    TruncatedFork {
        /// The step at which the batch forks.
        used: usize,
        /// The step at which it should.
        exact: usize,
    },
    /// A strength of 1 still shares the first step.
    SharedFirstStep,
    /// The composition's sampler leaves another level at the fork than the variations start from.
    ForkMismatch {
        /// The level that the composition reaches.
        left: f32,
        /// The level that the variations take it for.
        assumed: f32,
    },
    /// The schedule has more steps than were asked for, so the result has noise left in it.
    LeftoverNoise {
        /// Its level.
        sigma: f32,
    },
    /// Where the mask is 0 the result has the noise of the fork, since the noisy latent is what it keeps.
    NoisyKeep {
        /// Its level.
        sigma: f32,
    },
    /// Composition and variations have the same seed.
    SameSeed,
    /// `cfg * cfg_scale` is below 1, and 1 is what is used.
    CfgRaised {
        /// What was asked for.
        asked: f64,
    },
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnostic::NoVariation { steps } => {
                write!(f, "all variations are the same: in their {steps} step(s) no noise is added")
            }
            Diagnostic::TruncatedFork { used, exact } => {
                write!(f, "the fork is at step {used}, not {exact}: rounding in steps * (1 - strength)")
            }
            Diagnostic::SharedFirstStep => write!(f, "the first step is shared even at strength 1"),
            Diagnostic::ForkMismatch { left, assumed } => write!(
                f,
                "the composition's sampler stops at level {left}, the variations start from {assumed}"
            ),
            Diagnostic::LeftoverNoise { sigma } => {
                write!(f, "the schedule is longer than asked, noise of level {sigma} is left in")
            }
            Diagnostic::NoisyKeep { sigma } => {
                write!(f, "what the mask keeps has noise of level {sigma}")
            }
            Diagnostic::SameSeed => write!(f, "composition and variations have the same seed"),
            Diagnostic::CfgRaised { asked } => {
                write!(f, "the variations' guidance is 1, not {asked}: it is never less")
            }
        }
    }
}

impl Variations {
    /// What a run with these settings would meet, in the order in which it does.
    ///
    /// # Errors
    /// [`Error::Value`](crate::error::Error::Value) for settings that no run accepts.
    pub fn diagnose<'l>(
        &self,
        sampling: &ModelSampling,
        latent: impl Into<LatentImage<'l>>,
    ) -> Result<Vec<Diagnostic>> {
        let latent = latent.into();
        let (composition, variation) =
            (self.composition()?.plan(sampling)?, self.variation()?.plan(sampling)?);
        let levels = variation.as_ref().map_or(&[][..], |plan| plan.sigmas());
        let fork = self.fork_step()?;
        let mut found = Vec::new();

        // Sliders move in hundredths: what is meant is the product with the decimal number.
        let hundredths = (self.variation_strength * 100.0).round();
        let exact = (self.steps as f64 * (100.0 - hundredths) / 100.0) as usize;
        if (hundredths / 100.0 - self.variation_strength).abs() < f64::EPSILON && exact > fork {
            found.push(Diagnostic::TruncatedFork { used: fork, exact });
        }
        if self.variation_strength == 1.0 {
            found.push(Diagnostic::SharedFirstStep);
        }
        if latent.samples.shape().first().is_some_and(|&items| items > 1) && levels.len() <= 2 {
            found.push(Diagnostic::NoVariation { steps: levels.len().saturating_sub(1) });
        }
        let left = composition.as_ref().and_then(|plan| plan.sigmas().last()).copied().unwrap_or(0.0);
        match levels.first() {
            Some(&assumed) if assumed != left => found.push(Diagnostic::ForkMismatch { left, assumed }),
            None if left > 0.0 => found.push(Diagnostic::LeftoverNoise { sigma: left }),
            _ => {}
        }
        if latent.noise_mask.is_some() && left > 0.0 {
            found.push(Diagnostic::NoisyKeep { sigma: left });
        }
        if self.noise_seed == self.variation_seed {
            found.push(Diagnostic::SameSeed);
        }
        let asked = self.cfg * self.cfg_scale;
        if asked < 1.0 {
            found.push(Diagnostic::CfgRaised { asked });
        }
        Ok(found)
    }
}
