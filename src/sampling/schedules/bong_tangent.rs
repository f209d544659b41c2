use std::f64::consts::FRAC_2_PI;

use crate::error::Result;
use crate::sampling::ModelSampling;

/// Where each arc turns, as a share of the run, and so where the first ends and the second starts.
const PIVOT: f64 = 0.6;
/// How steep the arcs are at their turn, per level of a run of 40.
const SLOPE: f64 = 0.2;

pub(super) fn levels(_: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
    if steps == 1 {
        // RES4LYF divides by 0 here; the right answer goes from the top straight to 0.
        return Ok(vec![1.0, 0.0]);
    }
    // Both ends of both arcs: the level where they meet counts twice.
    let count = steps + 2;
    let pivot = (count as f64 * PIVOT) as usize;
    let slope = SLOPE / (count as f64 / 40.0);
    let mut levels = arc(pivot, slope, pivot, 1.0, 0.5);
    levels.pop();
    levels.extend(arc(count - pivot, slope, 0, 0.5, 0.0));
    Ok(levels.into_iter().map(|level| level as f32).collect())
}

/// `count` levels from `start` to `end` along an arc tangent that turns at `pivot`.
fn arc(count: usize, slope: f64, pivot: usize, start: f64, end: f64) -> Vec<f64> {
    let tangent = |x: usize| (FRAC_2_PI * (-slope * (x as f64 - pivot as f64)).atan() + 1.0) / 2.0;
    let (high, low) = (tangent(0), tangent(count - 1));
    (0..count).map(|x| (tangent(x) - low) / (high - low) * (start - end) + end).collect()
}
