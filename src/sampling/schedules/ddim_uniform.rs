use crate::error::Result;
use crate::sampling::ModelSampling;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let table = model.sigmas();
    // The bottom row itself is skipped; a table whose next row is nearly 0 needs no 0 of its own.
    let has_zero = table[1].abs() <= 1e-5;
    let stride = (table.len() / (steps + usize::from(has_zero))).max(1);
    let rows = table[1..].iter().copied().step_by(stride);
    let mut levels: Vec<f32> = if has_zero { rows.collect() } else { [0.0].into_iter().chain(rows).collect() };
    levels.reverse();
    Ok(levels)
}
