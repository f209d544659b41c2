use serde::Deserialize;

use super::phi::phi;
use super::sde::{Path, SdeStep};
use super::snr::{below_pure_noise, level_between};
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, expect_share, steps};
use crate::error::{Error, Result};
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// SEEDS-3 of Gonzalez et al. 2023 (arXiv 2305.14267) with data prediction: exponential steps of three stages for the SDE.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seeds3 {
    /// The share of noise: 0 solves the ODE, 1 the SDE.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// Where between the levels of a step the model is asked a second time, by log SNR; within (0, 1].
    pub r_1: f64,
    /// Where it is asked a third time; within (`r_1`, 1].
    pub r_2: f64,
}

impl Default for Seeds3 {
    fn default() -> Self {
        Seeds3 { eta: 1.0, s_noise: 1.0, r_1: 1.0 / 3.0, r_2: 2.0 / 3.0 }
    }
}

impl Algorithm for Seeds3 {
    fn properties(&self) -> Properties {
        // The weights of the last stage are of third order at two thirds only.
        let order = if (self.r_2 - 2.0 / 3.0).abs() < 1e-9 { 3 } else { 2 };
        Properties::new(order, 3, NoiseKind::Gaussian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_not_negative("seeds_3", "eta", self.eta)?;
        expect_not_negative("seeds_3", "s_noise", self.s_noise)?;
        expect_share("seeds_3", "r_1", self.r_1)?;
        expect_share("seeds_3", "r_2", self.r_2)?;
        if self.r_1 >= self.r_2 {
            let (what, expected) = ("r_2", format!("over r_1 = {}", self.r_1));
            return Err(Error::Value { op: "seeds_3", what, expected, got: self.r_2.to_string() });
        }
        let sigmas = below_pure_noise(model, sigmas);
        let mut x = p.start();
        for (sigma, sigma_next) in steps(&sigmas) {
            p.step(sigma);
            let denoised = p.denoise(x, sigma);
            if sigma_next == 0.0 {
                return Ok(denoised);
            }
            let [sigma_1, sigma_2] = [self.r_1, self.r_2].map(|r| level_between(model, sigma, sigma_next, r));
            let [first, second, whole] =
                [sigma_1, sigma_2, sigma_next].map(|to| SdeStep::new(model, sigma, to, self.eta));
            let mut path = Path::new(self.eta);

            let data = denoised * phi(1, -first.h_eta);
            let x_1 = self.stage(p, x, &first, data, &mut path, (sigma, sigma_1, self.r_1 * whole.h));
            let denoised_1 = p.denoise(x_1, sigma_1);

            let change = (denoised_1 - denoised) * (self.r_2 / self.r_1);
            let data = denoised * phi(1, -second.h_eta) + change * phi(2, -second.h_eta);
            let x_2 = self.stage(
                p,
                x,
                &second,
                data,
                &mut path,
                (sigma_1, sigma_2, (self.r_2 - self.r_1) * whole.h),
            );
            let denoised_2 = p.denoise(x_2, sigma_2);

            let change = (denoised_2 - denoised) / self.r_2;
            let data = denoised * phi(1, -whole.h_eta) + change * phi(2, -whole.h_eta);
            x = self.stage(p, x, &whole, data, &mut path, (sigma_2, sigma_next, (1.0 - self.r_2) * whole.h));
        }
        Ok(x)
    }
}

impl Seeds3 {
    /// Goes from the start of a step to the end of a stage, whose noise from the last stage on is still to be drawn.
    fn stage(
        &self,
        p: &mut Builder,
        x: Value,
        step: &SdeStep,
        data: Expr,
        path: &mut Path,
        (sigma, sigma_next, h): (f64, f64, f64),
    ) -> Value {
        let mut next = x * step.decay + data * (step.alpha * step.h_eta);
        if self.eta > 0.0 && self.s_noise > 0.0 {
            let noise: Expr = path.draw(p, sigma, sigma_next, h).iter().copied().collect();
            next = next + noise * (sigma_next * self.s_noise);
        }
        p.combine(next)
    }
}
