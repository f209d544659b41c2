use serde::Deserialize;

use super::dpm_solver::{DpmStep, ancestral, times};
use super::{Algorithm, Builder, NoiseKind, Properties, Stochastic, Value};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// DPM-Solver-fast of Lu et al. 2022 (arXiv 2206.00927): as many calls of the model as there are steps, spent
/// on steps of third order that are even in log sigma. Of the schedule only its ends and its length count; the last level
/// is the lowest above 0.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmFast {
    /// The share of an ancestral step's noise.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
}

impl Default for DpmFast {
    fn default() -> Self {
        DpmFast { eta: 0.0, s_noise: 1.0 }
    }
}

impl Algorithm for DpmFast {
    fn properties(&self) -> Properties {
        let noise = if self.eta > 0.0 { NoiseKind::Gaussian } else { NoiseKind::None };
        Properties { fewest_steps: 2, flow: self.eta == 0.0, ..Properties::new(2, 1, noise) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        let options = Stochastic { eta: self.eta, s_noise: self.s_noise };
        options.check("dpm_fast")?;
        let (start, end) = times("dpm_fast", sigmas)?;
        let calls = sigmas.len() - 1;
        let steps = calls / 3 + 1;
        let time = |step: usize| start + (end - start) * step as f64 / steps as f64;
        let mut x = p.start();
        for step in 0..steps {
            let (t, t_next) = (time(step), time(step + 1));
            let (t_down, up) = ancestral(&options, t, t_next, end);
            p.step((-t).exp());
            let begun = DpmStep::new(p, x, t);
            let euler = begun.first(p, t_down);
            let mut next = match order(calls, steps, step) {
                1 => euler.into(),
                2 => {
                    let change = begun.change(p, t_down, 0.5);
                    begun.second(euler, t_down, 0.5, change)
                }
                _ => {
                    let change = begun.change(p, t_down, 1.0 / 3.0);
                    let change = begun.second_change(p, t_down, change);
                    begun.third(euler, t_down, change)
                }
            };
            if up > 0.0 {
                next = next + p.noise((-t).exp(), (-t_next).exp()) * up;
            }
            x = p.combine(next);
        }
        Ok(x)
    }
}

/// Third order as long as the calls last.
fn order(calls: usize, steps: usize, step: usize) -> usize {
    match (calls % 3, steps - step) {
        (0, 1) => 1,
        (0, 2) => 2,
        (rest, 1) => rest,
        _ => 3,
    }
}
