use serde::Deserialize;

use super::expect_not_negative;
use crate::error::Result;
use crate::sampling::program::{Builder, Expr, Value};
use crate::sampling::{ModelSampling, Prediction};

/// How much noise a stochastic sampler adds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stochastic {
    /// The share of the noise: 0 for none, 1 for all of an ancestral step's, or of the SDE's.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
}

impl Default for Stochastic {
    fn default() -> Self {
        Stochastic { eta: 1.0, s_noise: 1.0 }
    }
}

impl Stochastic {
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        expect_not_negative(op, "eta", self.eta)?;
        expect_not_negative(op, "s_noise", self.s_noise)
    }

    /// The ancestral step of the model's own process: a diffusion's or a rectified flow's.
    pub(super) fn step(&self, model: &ModelSampling, sigma: f64, sigma_next: f64) -> AncestralStep {
        let flow = model.prediction() == Prediction::Flow;
        let step = if flow { flow_step } else { diffusion_step }(sigma, sigma_next, self.eta);
        AncestralStep { up: step.up * self.s_noise, ..step }
    }
}

/// A step split into a deterministic one, down to a level below its goal, and the noise that leads back up.
#[derive(Debug, Clone, Copy)]
pub(super) struct AncestralStep {
    /// The level to step down to.
    pub down: f64,
    /// What the latent is then multiplied by, so that its share is that of the goal.
    pub keep: f64,
    /// The noise's standard deviation.
    pub up: f64,
}

impl AncestralStep {
    /// Climbs from `down` to the goal `sigma_next` of a step that came from `sigma`.
    pub(super) fn renoise(&self, p: &mut Builder, x: Expr, sigma: f64, sigma_next: f64) -> Value {
        if self.up == 0.0 {
            return p.combine(x * self.keep);
        }
        let noise = p.noise(sigma, sigma_next);
        p.combine(x * self.keep + noise * self.up)
    }
}

/// The level to step down to and the noise that leads back up in `x = latent + sigma noise` (Song et al. 2020,
/// arXiv 2011.13456, in the form of k-diffusion). Clamped where rounding, or an `eta` over 1, asks for more noise than
/// the goal has.
pub(super) fn ancestral_step(sigma: f64, sigma_next: f64, eta: f64) -> (f64, f64) {
    let up = (eta * sigma_next * (1.0 - (sigma_next / sigma).powi(2)).sqrt()).min(sigma_next);
    ((sigma_next * sigma_next - up * up).sqrt(), up)
}

fn diffusion_step(sigma: f64, sigma_next: f64, eta: f64) -> AncestralStep {
    let (down, up) = ancestral_step(sigma, sigma_next, eta);
    AncestralStep { down, keep: 1.0, up }
}

/// The same for a rectified flow, as ComfyUI has it.
fn flow_step(sigma: f64, sigma_next: f64, eta: f64) -> AncestralStep {
    let down = (sigma_next * (1.0 + (sigma_next / sigma - 1.0) * eta)).max(0.0);
    let keep = (1.0 - sigma_next) / (1.0 - down);
    let up = (sigma_next * sigma_next - down * down * keep * keep).max(0.0).sqrt();
    AncestralStep { down, keep, up }
}
