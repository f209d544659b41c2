use statrs::distribution::{Beta, ContinuousCDF};

use crate::error::{Error, Result};
use crate::sampling::ModelSampling;

const SHAPE: f64 = 0.6;

pub(super) fn levels(model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    let table = model.sigmas();
    let distribution = Beta::new(SHAPE, SHAPE).map_err(|error| Error::Value {
        op: "beta",
        what: "shape",
        expected: "positive".into(),
        got: error.to_string(),
    })?;
    let mut rows: Vec<usize> = (0..steps)
        .map(|step| {
            let share = 1.0 - step as f64 / steps as f64;
            // The middle lies halfway between two rows, where the last bit would decide; by symmetry it is exact.
            let quantile = if share == 0.5 { 0.5 } else { distribution.inverse_cdf(share) };
            (quantile * (table.len() - 1) as f64).round_ties_even() as usize
        })
        .collect();
    // With many steps neighbours fall on one row; visiting it twice would be a step of no length.
    rows.dedup();
    Ok(rows.into_iter().map(|row| table[row]).chain([0.0]).collect())
}
