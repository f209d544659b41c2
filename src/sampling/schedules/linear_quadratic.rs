use crate::error::Result;
use crate::sampling::ModelSampling;

/// How much noise the linear half removes.
const THRESHOLD: f64 = 0.025;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let linear = steps / 2;
    if linear == 0 {
        return Ok(vec![model.sigma_max(), 0.0]);
    }
    let (linear_steps, quadratic_steps) = (linear as f64, (steps - linear) as f64);
    let slope = THRESHOLD / linear_steps;
    let gap = linear_steps - THRESHOLD * steps as f64;
    let curvature = gap / (linear_steps * quadratic_steps * quadratic_steps);
    let tilt = slope - 2.0 * gap / (quadratic_steps * quadratic_steps);
    let removed = (0..steps).map(|step| {
        let i = step as f64;
        if step < linear {
            i * THRESHOLD / linear_steps
        } else {
            curvature * i * i + tilt * i + curvature * linear_steps * linear_steps
        }
    });
    Ok(removed.chain([1.0]).map(|removed| (1.0 - removed) as f32 * model.sigma_max()).collect())
}
