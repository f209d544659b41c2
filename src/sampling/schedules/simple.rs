use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let table = model.sigmas();
    let stride = table.len() as f64 / steps as f64;
    let rows = (0..steps).map(|step| table[table.len() - 1 - (step as f64 * stride) as usize]);
    Ok(rows.chain([0.0]).collect())
}
