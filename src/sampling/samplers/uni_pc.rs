use serde::Deserialize;

use super::lagrange;
use super::phi::phi;
use super::{Algorithm, Builder, NoiseKind, Properties, Value};
use crate::error::Result;
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// The `B(h)` of UniPC, which matters only where its weights are rounded off to 1/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// `B(h) = h`.
    Bh1,
    /// `B(h) = exp(h) - 1`.
    Bh2,
}

/// UniPC of Zhao et al. 2023 (arXiv 2302.04867) with data prediction, order 3, on the clock
/// `lambda = -log sigma`. The last two steps are of orders 2 and 1, which is what a run then has.
///
/// One step is too few to correct anything: it returns what it was given, scaled to the variance of the last level, as in
/// ComfyUI 0.3.64.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UniPc {
    /// The function `B(h)`.
    pub variant: Variant,
}

impl Default for UniPc {
    fn default() -> Self {
        UniPc { variant: Variant::Bh1 }
    }
}

impl Algorithm for UniPc {
    fn properties(&self) -> Properties {
        Properties { drops_penultimate: true, fewest_steps: 2, ..Properties::new(2, 1, NoiseKind::None) }
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        const ORDER: usize = 3;
        let mut sigmas = sigmas.to_vec();
        let steps = sigmas.len() - 1;
        let to_zero = sigmas[steps] == 0.0;
        if to_zero {
            // Stands in for 0, which this clock does not reach.
            sigmas[steps] = 0.001;
        }
        let highest_order = ORDER.min(steps - 1);

        let mut x = p.start();
        p.step(sigmas[0]);
        let mut history = vec![(sigmas[0], p.denoise(x, sigmas[0]))];
        if highest_order == 0 {
            return Ok(p.combine(x * (sigmas[steps].hypot(1.0) / sigmas[0].hypot(1.0))));
        }
        for (step, &sigma) in sigmas.iter().enumerate().skip(1) {
            let order = highest_order.min(step).min(steps + 1 - step);
            let known = &history[..order];
            let predicted = p.combine(self.update(x, known, sigma, None));
            if step == steps {
                x = predicted;
                break;
            }
            p.step(sigma);
            let denoised = p.denoise(predicted, sigma);
            x = p.combine(self.update(x, known, sigma, Some(denoised)));
            history.insert(0, (sigma, denoised));
            history.truncate(ORDER);
        }
        // The little noise that is left has taken a little of a flow's latent.
        let share = if to_zero { model.latent_share(sigmas[steps]) } else { 1.0 };
        Ok(p.combine(x / share))
    }
}

impl UniPc {
    /// The step from the first of `known`, levels and predictions with the newest first, to `sigma`: UniP, or, given the
    /// prediction made there, UniC.
    fn update(&self, x: Value, known: &[(f64, Value)], sigma: f64, new: Option<Value>) -> Expr {
        let (sigma_0, denoised_0) = known[0];
        let h = (sigma_0 / sigma).ln();
        let mut points: Vec<(f64, Value)> =
            known[1..].iter().map(|&(level, denoised)| ((sigma_0 / level).ln() / h, denoised)).collect();
        points.extend(new.map(|denoised| (1.0, denoised)));
        let nodes: Vec<f64> = points.iter().map(|&(node, _)| node).collect();

        let weights = if nodes.len() == 1 {
            let b_h = match self.variant {
                Variant::Bh1 => -h,
                Variant::Bh2 => (-h).exp_m1(),
            };
            vec![-0.5 * b_h]
        } else {
            let mut factorial = 1.0;
            let moments: Vec<f64> = (1..=nodes.len() as u32)
                .map(|power| {
                    factorial *= f64::from(power);
                    h * factorial * phi(power + 1, -h)
                })
                .collect();
            lagrange::weights(&nodes, &moments)
        };
        let differences =
            points.iter().zip(weights).fold(Expr::default(), |sum, (&(node, denoised), weight)| {
                sum + (denoised - denoised_0) * (weight / node)
            });
        x * (sigma / sigma_0) - denoised_0 * (-h).exp_m1() + differences
    }
}
