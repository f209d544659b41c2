use super::linspace::linspace;
use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let log = |sigma: f32| f64::from(sigma).ln() as f32;
    let logs = linspace(log(model.sigma_max()), log(model.sigma_min()), steps);
    Ok(logs.map(f32::exp).chain([0.0]).collect())
}
