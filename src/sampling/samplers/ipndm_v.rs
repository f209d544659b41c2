use serde::Deserialize;

use super::multistep::multistep;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_order};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// The variable-step form of iPNDM in diff-sampler and ComfyUI 0.3.64, slips included: its weights
/// of three slopes are the Adams-Bashforth ones for even steps only, those of four not even then. What it sets out to be is
/// [`Lms`](super::Lms).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IpndmV {
    /// How many slopes a step takes into account, 1 to 4.
    pub max_order: usize,
}

impl Default for IpndmV {
    fn default() -> Self {
        IpndmV { max_order: 4 }
    }
}

impl Algorithm for IpndmV {
    fn properties(&self) -> Properties {
        Properties::new(if self.max_order == 4 { 1 } else { self.max_order as u32 }, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_order("ipndm_v", "max_order", self.max_order, 1..=4)?;
        Ok(multistep(p, sigmas, self.max_order, weights))
    }
}

/// Each order adds a difference of the slopes to the last one's weights.
fn weights(levels: &[f64], next: f64) -> Vec<f64> {
    let h = next - levels[0];
    let past: Vec<f64> = levels.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let mut weights = vec![1.0];
    let mut add = |difference: &[f64], factor: f64| {
        weights.resize(difference.len(), 0.0);
        weights.iter_mut().zip(difference).for_each(|(weight, d)| *weight += factor * d);
    };
    if let [h1, ..] = *past {
        add(&[1.0, -1.0], h / h1 / 2.0);
    }
    if let [h1, h2, ..] = *past {
        let r = h1 / h2;
        add(&[1.0, -1.0 - r, r], third_order(h, h1, h2));
    }
    if let [h1, h2, h3] = *past {
        let r = h1 / h2;
        let q = h1 * (h1 + h2) / (h2 * (h2 + h3));
        // For a difference, which is 0 for a constant, the last entry would be -q h2 / h3.
        add(&[1.0, -1.0 - r - q, r + q * (1.0 + h2 / h3), -q * r], fourth_order(h, h1, h2, h3));
    }
    weights.into_iter().map(|weight| weight * h).collect()
}

/// The integral is `(1 - h / (3 (h + h1))) / 2` times the last quotient; here the quotient multiplies only the fraction.
fn third_order(h: f64, h1: f64, h2: f64) -> f64 {
    (1.0 - h / (3.0 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2.0
}

/// The integral takes the second part from the first; here they are added.
fn fourth_order(h: f64, h1: f64, h2: f64, h3: f64) -> f64 {
    let share = (1.0 - h / (3.0 * (h + h1))) / 2.0 + (1.0 - h / (2.0 * (h + h1))) * h / (6.0 * (h + h1 + h2));
    share * (h * (h + h1) * (h + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3))
}
