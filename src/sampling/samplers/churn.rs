use serde::Deserialize;

use super::{Builder, NoiseKind, Properties, Value, expect_not_negative};
use crate::error::Result;

/// The stochastic part of Algorithm 2 of Karras et al. 2022 (arXiv 2206.00364): noise is added before a step, and the
/// step starts from the higher level that this makes. Off by default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Churn {
    /// How much noise a whole run adds; 0 for none.
    pub s_churn: f64,
    /// The lowest level at which it is added.
    pub s_tmin: f64,
    /// The highest level at which it is added.
    pub s_tmax: f64,
    /// The noise's standard deviation; a little over 1 makes up for detail that the model loses.
    pub s_noise: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Churn { s_churn: 0.0, s_tmin: 0.0, s_tmax: f64::INFINITY, s_noise: 1.0 }
    }
}

impl Churn {
    /// What can be said of a sampler of this order; the added noise is a diffusion's, not a flow's.
    pub(super) fn properties(&self, order: u32, calls_per_step: u32) -> Properties {
        let noise = if self.s_churn > 0.0 { NoiseKind::Continued } else { NoiseKind::None };
        Properties { flow: self.s_churn == 0.0, ..Properties::new(order, calls_per_step, noise) }
    }

    /// Whether noise may be added at `sigma`.
    pub(super) fn applies(&self, sigma: f64) -> bool {
        (self.s_tmin..=self.s_tmax).contains(&sigma)
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        expect_not_negative(op, "s_churn", self.s_churn)?;
        expect_not_negative(op, "s_noise", self.s_noise)
    }

    /// The latent and the level that the step from `sigma` starts from, in a run of `steps`.
    pub(super) fn apply(&self, p: &mut Builder, x: Value, sigma: f64, steps: usize) -> (Value, f64) {
        let gamma = (self.s_churn / steps as f64).min(2f64.sqrt() - 1.0);
        if gamma == 0.0 || !self.applies(sigma) {
            return (x, sigma);
        }
        let sigma_hat = sigma * (gamma + 1.0);
        let added = (sigma_hat * sigma_hat - sigma * sigma).sqrt();
        let eps = p.noise(sigma, sigma_hat);
        (p.combine(x + eps * (self.s_noise * added)), sigma_hat)
    }
}
