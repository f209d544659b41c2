use super::linspace::linspace;
use crate::error::Result;
use crate::sampling::ModelSampling;

const RHO: f64 = 7.0;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let root = |sigma: f32| f64::from(sigma).powf(1.0 / RHO);
    let (low, high) = (root(model.sigma_min()), root(model.sigma_max()));
    let (start, slope) = (high as f32, (low - high) as f32);
    let levels = linspace(0.0, 1.0, steps).map(|ramp| (start + ramp * slope).powf(RHO as f32));
    Ok(levels.chain([0.0]).collect())
}
