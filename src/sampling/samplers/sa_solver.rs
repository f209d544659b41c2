use serde::Deserialize;

use super::lagrange;
use super::phi::phi;
use super::sde::SdeStep;
use super::snr::below_pure_noise;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_not_negative, expect_order, steps};
use crate::error::{Error, Result};
use crate::sampling::ModelSampling;
use crate::sampling::program::Expr;

/// SA-Solver of Xue et al. 2023 (arXiv 2309.05019): stochastic Adams methods, predictor and corrector, with data
/// prediction.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaSolver {
    /// The paper's tau, how stochastic the process is, between the two fractions below; 0 elsewhere.
    pub eta: f64,
    /// The fraction of the way from noise to image from which on there is noise.
    pub sde_start_percent: f64,
    /// The fraction up to which there is noise.
    pub sde_end_percent: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
    /// How many predictions the predictor takes into account, 1 to 6.
    pub predictor_order: usize,
    /// How many predictions the corrector takes into account, 0 to 6; 0 for no corrector.
    pub corrector_order: usize,
    /// Whether the model is asked again after the corrector.
    pub use_pece: bool,
    /// Whether methods of two predictions are simplified as in the paper's appendix D.
    pub simple_order_2: bool,
}

impl Default for SaSolver {
    fn default() -> Self {
        SaSolver {
            eta: 1.0,
            sde_start_percent: 0.2,
            sde_end_percent: 0.8,
            s_noise: 1.0,
            predictor_order: 3,
            corrector_order: 4,
            use_pece: false,
            simple_order_2: false,
        }
    }
}

/// The last predictor's step, for the corrector to go over again.
struct Predicted {
    step: SdeStep,
    from: f64,
    noise: Expr,
}

impl Algorithm for SaSolver {
    fn properties(&self) -> Properties {
        let order = self.predictor_order.max(self.corrector_order).min(4);
        Properties::new(order as u32, 1 + u32::from(self.use_pece), NoiseKind::Gaussian)
    }

    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.check()?;
        let sigmas = below_pure_noise(model, sigmas);
        let last_step = sigmas.len() - 2;
        let to_zero = sigmas[last_step + 1] == 0.0;
        let mut x = p.start();
        let mut x_predicted = x;
        // Predictions and where they were made, newest first.
        let mut history: Vec<(f64, Value)> = Vec::new();
        let mut last: Option<Predicted> = None;
        for (step, (sigma, sigma_next)) in steps(&sigmas).enumerate() {
            p.step(sigma);
            let lambda = model.half_log_snr(sigma);
            let mut denoised = p.denoise(x_predicted, sigma);
            history.insert(0, (lambda, denoised));
            history.truncate(self.predictor_order.max(self.corrector_order));
            // Orders fall towards the end, for stability.
            let left = if to_zero { last_step - step } else { usize::MAX - 1 };

            let order = self.corrector_order.min(history.len()).min(left + 1);
            let corrects = order > 0 && (sigma_next > 0.0 || self.use_pece);
            match last {
                Some(Predicted { step, from, noise }) if corrects => {
                    x = p.combine(x * step.decay + self.adams(&step, from, &history[..order]) + noise);
                    if self.use_pece {
                        denoised = p.denoise(x, sigma);
                        history[0].1 = denoised;
                    }
                }
                _ => x = x_predicted,
            }
            if sigma_next == 0.0 {
                return Ok(denoised);
            }

            let order = self.predictor_order.min(history.len()).min(left);
            let step = SdeStep::new(model, sigma, sigma_next, self.tau(model, sigma_next).powi(2));
            let noise = if step.deviation > 0.0 && self.s_noise > 0.0 {
                p.noise(sigma, sigma_next) * (step.deviation * self.s_noise)
            } else {
                Expr::default()
            };
            let mean = x * step.decay + self.adams(&step, lambda, &history[..order]);
            x_predicted = p.combine(mean + noise.clone());
            last = Some(Predicted { step, from: lambda, noise });
        }
        Ok(x_predicted)
    }
}

impl SaSolver {
    fn check(&self) -> Result<()> {
        expect_not_negative("sa_solver", "eta", self.eta)?;
        expect_not_negative("sa_solver", "s_noise", self.s_noise)?;
        expect_order("sa_solver", "predictor_order", self.predictor_order, 1..=6)?;
        expect_order("sa_solver", "corrector_order", self.corrector_order, 0..=6)?;
        let percents = [self.sde_start_percent, self.sde_end_percent];
        if percents.iter().all(|percent| (0.0..=1.0).contains(percent)) {
            return Ok(());
        }
        let (what, expected) = ("sde_start_percent and sde_end_percent", "within [0, 1]".into());
        Err(Error::Value { op: "sa_solver", what, expected, got: format!("{percents:?}") })
    }

    fn tau(&self, model: &ModelSampling, sigma: f64) -> f64 {
        let [start, end] = [self.sde_start_percent, self.sde_end_percent].map(|p| model.percent_to_sigma(p));
        if (end..=start).contains(&sigma) { self.eta } else { 0.0 }
    }

    /// What predictions add in a step from the clock's `from`: the integral of the polynomial through them against the
    /// exponential of equations 15 and 18.
    fn adams(&self, step: &SdeStep, from: f64, history: &[(f64, Value)]) -> Expr {
        let nodes: Vec<f64> = history.iter().map(|(lambda, _)| (lambda - from) / step.h).collect();
        let mut factorial = 1.0;
        let mut moments: Vec<f64> = (0..nodes.len() as u32)
            .map(|power| {
                factorial *= f64::from(power.max(1));
                step.alpha * step.h_eta * factorial * phi(power + 1, -step.h_eta)
            })
            .collect();
        if self.simple_order_2
            && let [_, first] = &mut moments[..]
        {
            *first = step.alpha * step.h_eta / 2.0;
        }
        let weights = lagrange::weights(&nodes, &moments);
        weights.into_iter().zip(history.iter().map(|&(_, denoised)| denoised)).collect()
    }
}
