use serde::Deserialize;

use super::lagrange::adams_bashforth;
use super::multistep::multistep;
use super::{Algorithm, Builder, NoiseKind, Properties, Value, expect_order};
use crate::error::Result;
use crate::sampling::ModelSampling;

/// In which variable DEIS takes the slope for a polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeisMode {
    /// In the time of a variance-preserving process: tAB-DEIS.
    Tab,
    /// In sigma: rhoAB-DEIS, which is [`Lms`](super::Lms). ComfyUI 0.3.64 has the option but fails under it.
    Rhoab,
}

/// DEIS of Zhang & Chen 2022 (arXiv 2204.13902): exponential Adams-Bashforth, which here, where the linear part is gone,
/// integrates the polynomial through the last slopes over sigma.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deis {
    /// How many slopes a step takes into account, 1 to 4.
    pub max_order: usize,
    /// The variable.
    pub deis_mode: DeisMode,
}

impl Default for Deis {
    fn default() -> Self {
        Deis { max_order: 3, deis_mode: DeisMode::Tab }
    }
}

impl Algorithm for Deis {
    fn properties(&self) -> Properties {
        Properties::new(self.max_order.min(3) as u32, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        expect_order("deis", "max_order", self.max_order, 1..=4)?;
        let weights = match self.deis_mode {
            DeisMode::Tab => tab,
            DeisMode::Rhoab => adams_bashforth,
        };
        Ok(multistep(p, sigmas, self.max_order, weights))
    }
}

/// The integrals over sigma of the Lagrange polynomials in the time. ComfyUI sums 10,000 rectangles over the time instead,
/// which is 1e-4 off.
fn tab(levels: &[f64], next: f64) -> Vec<f64> {
    let times: Vec<f64> = levels.iter().copied().map(vp_time).collect();
    let basis = |time: f64, node: f64| -> f64 {
        let others = times.iter().filter(|&&other| other != node);
        others.map(|other| (time - other) / (node - other)).product()
    };
    times.iter().map(|&node| simpson(|sigma| basis(vp_time(sigma), node), levels[0], next)).collect()
}

/// The time at which the variance-preserving process of Song et al. 2020 (arXiv 2011.13456), as Karras et al. 2022
/// (arXiv 2206.00364, table 1) set it, has the level `sigma`. Its constants are ComfyUI's: 0.002 at 0.001, 80 at 1.
fn vp_time(sigma: f64) -> f64 {
    const FIRST: f64 = 1e-3;
    let depth = |sigma: f64| (sigma * sigma).ln_1p();
    let beta_d = 2.0 * (depth(0.002) / FIRST - depth(80.0)) / (FIRST - 1.0);
    let beta_min = depth(80.0) - 0.5 * beta_d;
    ((beta_min * beta_min + 2.0 * beta_d * depth(sigma)).sqrt() - beta_min) / beta_d
}

/// Simpson's rule.
fn simpson(f: impl Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    const PANELS: usize = 128;
    let h = (to - from) / PANELS as f64;
    let panel = |k: usize| {
        let start = from + h * k as f64;
        f(start) + 4.0 * f(start + h / 2.0) + f(start + h)
    };
    (0..PANELS).map(panel).sum::<f64>() * h / 6.0
}
